"""Commands that fit a field, or do what lies between two fits."""

from pathlib import Path
from typing import Annotated

import typer

from fphojax.errors import InputError

from .error_lines import report_problems
from .option_types import (
    Changes,
    Config,
    Quiet,
    Retry,
    RunFolder,
    Scheduler,
    Threshold,
    Workers,
    read_settings,
)
from .printing import print_field, print_report
from .progress_words import bars

__all__ = [
    "background",
    "choose",
    "detect",
    "inject",
    "loop",
    "noise",
    "optimize",
    "postop",
    "sample",
    "warm",
]

_MOST_FLAGGED = 10  # named at the end of a run


def optimize(
    config: Config,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the fit; by default optimize_N in outbase of the settings.")
    ] = None,
    forced: Annotated[
        bool,
        typer.Option(
            "--forced",
            help="Forced photometry: fix positions and shapes, whatever the setting forced_photometry says.",
        ),
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the last optimize_N, or the fit in the folder, if there is one."
        ),
    ] = False,
    retry: Retry = False,
    quiet: Quiet = False,
) -> None:
    """Find the most probable parameters of all sources of a field."""
    from fphojax.app.stages.optimize import optimize as fit

    _refuse_retry_of_nothing(retry, resume)
    print_report(
        fit(
            read_settings(
                "optimize", config, changes, {"forced_photometry": ("--forced", True)} if forced else None
            ),
            out=None if out is None else out.resolve(),
            resume=resume,
            retry=retry,
            workers=workers,
            scheduler=scheduler,
            progress=bars(quiet),
        )
    )


def background(
    config: Config,
    changes: Changes = None,
    fit: RunFolder = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the levels into CONFIG itself, not into a new file in outbase."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Measure the residual sky level of a fit, for the next fit to subtract."""
    from fphojax.app.stages.background import background as measure

    print_report(
        measure(read_settings("background", config, changes), run=fit, write=write, progress=bars(quiet))
    )


def noise(config: Config, changes: Changes = None, fit: RunFolder = None, quiet: Quiet = False) -> None:
    """Measure size and correlation of the noise of every exposure in the residuals of a fit."""
    from fphojax.app.stages.noise import noise as measure

    print_report(measure(read_settings("noise", config, changes), run=fit, progress=bars(quiet)))


def detect(
    config: Config,
    changes: Changes = None,
    fit: RunFolder = None,
    images: Annotated[
        bool, typer.Option("--images", help="Search the images themselves, without a catalogue or a fit.")
    ] = False,
    threshold: Threshold = None,
    background_box: Annotated[
        int | None,
        typer.Option(
            help="With --images: side of the boxes in which the sky level is estimated, in pixels; default: see "
            "detection in the settings.",
            min=8,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Find sources missing from the catalogue in the residuals of a fit; without a catalogue, in the images."""
    from fphojax.app.stages.detect import detect as find

    if images and fit is not None:
        raise InputError("found --images and --run, expected one of them")
    if background_box is not None and not images:
        raise InputError("found --background-box without --images, expected both or none")
    print_report(
        find(
            read_settings("detect", config, changes),
            run=fit,
            images=images,
            threshold=threshold,
            background_box=background_box,
            progress=bars(quiet),
        )
    )


def choose(
    config: Config,
    changes: Changes = None,
    fit: RunFolder = None,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Choose a profile for each source of a fit: point, exponential, ..., bulge and disk."""
    from fphojax.app.stages.choose import choose as compare

    print_report(
        compare(read_settings("choose", config, changes), run=fit, workers=workers, progress=bars(quiet))
    )


def inject(
    config: Config,
    changes: Changes = None,
    fit: RunFolder = None,
    workers: Workers = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace a study with other options; the same one is completed."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Put artificial sources into the images of a fit, and show whether errors can be believed there."""
    from fphojax.app.stages.inject import inject as study

    print_report(
        study(
            read_settings("inject", config, changes),
            run=fit,
            overwrite=overwrite,
            workers=workers,
            progress=bars(quiet),
        )
    )


def loop(
    config: Config,
    changes: Changes = None,
    rounds: Annotated[
        int, typer.Option(help="Number of rounds after the first optimisation.", min=0, max=100)
    ] = 1,
    threshold: Threshold = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
) -> None:
    """Optimise; subtract the residual sky, measure noise, add missing sources, optimise again; then run postop."""
    from fphojax.app.stages.loop import loop as go_round

    settings = read_settings("loop", config, changes)
    print_report(
        go_round(
            settings,
            rounds=rounds,
            threshold=threshold,
            workers=workers,
            scheduler=scheduler,
            progress=bars(quiet),
        )
    )


def postop(
    config: Config,
    changes: Changes = None,
    fit: RunFolder = None,
    quiet: Quiet = False,
) -> None:
    """Write the optimised catalogue with flux uncertainties, and settings for sampling from it."""
    from fphojax.app.stages.postop import postop as hand_over

    print_report(hand_over(read_settings("postop", config, changes), run=fit))


def warm(config: Config, changes: Changes = None, quiet: Quiet = False) -> None:
    """Compile the programs that fits of a field need, so that later processes, such as workers, start at once."""
    from fphojax.app.stages.warm import warm as compile_all

    print_report(compile_all(read_settings("warm", config, changes), progress=bars(quiet)))


def sample(
    config: Config,
    changes: Changes = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run, instead of outbase of the settings.")
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Resume the run in the folder, if there is one; sources given up are skipped, see --retry.",
        ),
    ] = False,
    retry: Retry = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an earlier run, which is kept in previous_N until this one is complete.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Sample a field patch by patch until every source has its draws; exit status 1 if any source was given up."""
    from fphojax.app.stages.sample import sample_field

    if resume and overwrite:
        raise InputError("found --resume and --overwrite, expected one of them")
    _refuse_retry_of_nothing(retry, resume)
    options = {"outbase": ("--out", out.resolve())} if out is not None else None
    finished = sample_field(
        read_settings("sample", config, changes, options),
        overwrite=overwrite,
        resume=resume,
        retry=retry,
        workers=workers,
        scheduler=scheduler,
        progress=bars(quiet),
    )
    print_field(finished)
    if flagged := finished.flagged:
        lines = [f"source {identifier} was given up: {reason}" for identifier, reason in flagged.items()]
        more = len(lines) - _MOST_FLAGGED
        rest = [f"and {more} more: column fit_flag of {finished.directory.scene_path}"] if more > 0 else []
        report_problems(lines[:_MOST_FLAGGED] + rest)
        raise typer.Exit(1)


def _refuse_retry_of_nothing(retry: bool, resume: bool) -> None:
    if retry and not resume:
        raise InputError(
            "found --retry without --resume, expected both: --retry repeats sources that were given up"
        )
