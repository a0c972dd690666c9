"""The command line: `fphojax COMMAND`.

Commands import what they need when they run, so that help is shown without delay.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup

import fphojax
from fphojax.errors import InputError, MachineError, StorageError
from fphojax.system.files import storage_fault
from fphojax.system.interrupts import Interruptions

__all__ = ["app", "main"]

_MOST_FIGURES, _MOST_FLAGGED = 3, 10  # named at the end of a run
_UsageError = typer.BadParameter.__base__  # typer exports no name for it


_STORY = """Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once.

For a first look, run `fphojax demo`. For your own images, `fphojax init FOLDER` writes settings to edit,
`fphojax check SETTINGS` reports every problem with them, and `fphojax run SETTINGS` runs all stages, from images to
catalogue.

The other commands run single stages. Before any fit: preprocess and psf. Before sampling: optimize, background and
detect (loop repeats these three), and postop. Then sample, and after it postprocess and report.
"""


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line each, unless --debug asks for the trace.

    The exit status is 2 where the input or the command line is at fault, 130 after Ctrl-C, 143 after SIGTERM and 129
    after SIGHUP, which act like it, and 1 for anything else, such as a full disk. An unexpected exception is a
    fault of the program, and is reported as such.
    """

    def make_context(self, *args, **kwargs):
        try:
            return super().make_context(*args, **kwargs)
        except _UsageError as error:
            _refuse_usage(error)

    def invoke(self, ctx):
        with Interruptions(terminations=True) as interruptions:
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt as error:
                interruptions.hold_to_end()
                if ctx.params["debug"]:
                    raise
                report_problems([str(error) or "interrupted"])
                raise typer.Exit(128 + (interruptions.last_signal or signal.SIGINT)) from None
            except _UsageError as error:
                _refuse_usage(error, ctx.invoked_subcommand)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except Exception as error:
                if ctx.params["debug"]:
                    raise
                reported = _one_line_error(error)
                lines = str(reported).split("\n")
                if isinstance(reported, MachineError):
                    lines[-1] += (
                        f"; the same command {_GO_ON.get(ctx.invoked_subcommand, 'can be run again')}"
                    )
                report_problems(lines)
                raise typer.Exit(
                    1 if reported is not error or isinstance(reported, MachineError) else 2
                ) from None


def _refuse_usage(error: Exception, command: str | None = None) -> NoReturn:
    """Report in one line a command line that cannot be understood; show help where it says nothing at all."""
    from .usage import asks_for_help, usage_line

    if asks_for_help(error):
        raise error
    report_problems([usage_line(error, command)])
    raise typer.Exit(2) from None


# How to resume a command: those that begin anew unless told otherwise, and those that resume by themselves.
_GO_ON = dict.fromkeys(("sample", "optimize"), "with --resume continues")
_GO_ON |= dict.fromkeys(("run", "demo", "preprocess", "psf"), "continues")


def _one_line_error(error: Exception) -> Exception:
    """Convert an error to one with a one-line message; a fault of the disk is reported as such."""
    if isinstance(error, InputError):
        return error
    if (fault := storage_fault(error, of_place=True)) is not None:
        name = getattr(error, "filename", None)
        return StorageError(fault if name is None else f"{name}: {fault}")
    message = " ".join(str(error).split())
    return RuntimeError(
        f"internal error: {type(error).__name__}: {message}; please report it; "
        "`fphojax --debug COMMAND` shows the traceback"
    )


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=_STORY,
)


Config = Annotated[Path, typer.Argument(help="YAML file of settings.", show_default=False)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars.")]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="Folder of the fit; the latest one by default.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes on this machine that fit patches in parallel.", min=1, max=1024),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Minimum significance of a detection, in standard deviations; default: see detection in the settings.",
        min=0,
        max=1e6,
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a dask scheduler whose workers fit the patches.")
]
Retry = Annotated[bool, typer.Option("--retry", help="With --resume: retry sources that were given up.")]


def report_problems(problems: list[str]) -> None:
    """Print problems, one line each, to the standard error."""
    for problem in problems:
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in problem)
        typer.echo(f"error: {line}", err=True)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"fphojax {fphojax.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
) -> None:
    """Options that precede the command."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    instrument: Annotated[
        str, typer.Option(help="Instrument to take defaults from: nircam, hst, hsc, decam or generic.")
    ] = "generic",
) -> None:
    """Write a commented settings file for an instrument, and copies of the notebooks of all stages."""
    from fphojax.app.settings.starter import write_starter

    config, *notebooks = write_starter(folder, instrument)
    typer.echo(f"wrote {config} and {len(notebooks)} notebooks in {folder / 'templates'}")
    typer.echo(f"next: edit {config}, then fphojax check {config}")


@app.command()
def check(
    config: Config,
) -> None:
    """Show the exposures and the catalogue that the settings name, and every problem with them."""
    from fphojax.app.stages.input_checks import check_inputs
    from fphojax.inputs.stores.stored_exposures import StoredExposure

    from .store_table import store_table
    from .terminal_table import table_shown

    settings = _settings(config)
    needed = settings.raw_catalog is not None  # without one, the images give it
    report = check_inputs(settings, progress=sys.stderr.isatty(), verify=True, needs_catalog=needed)
    console = _console()
    if exposures := [*report.exposures, *report.left_out]:
        if settings.pixelstorefile is not None:
            title = f"Pixel store {settings.pixelstorefile.name}"
            stored = [exposure for exposure in exposures if isinstance(exposure, StoredExposure)]
            console.print(table_shown(title, store_table(stored), frame=True))
        no_wrap = ("band", "scale", "masked")
        console.print(table_shown("Exposures", report.exposure_table(), frame=True, no_wrap=no_wrap))
    if report.catalog is not None:
        title = f"Catalogue, number of sources: {len(report.catalog)}"
        console.print(table_shown(title, report.catalog_table(), frame=True))
    if report.exposures and not report.problems:
        console.print(report.psf_meaning(), markup=False, highlight=False)
    for note in report.notes:
        typer.echo(f"note: {note}")
    if report.problems:
        raise InputError("\n".join(report.problems))
    if report.catalog is None:
        typer.echo(
            "note: no source catalogue; `fphojax run` detects sources in the images (settings: detection)"
        )
    console.print("No problems found.")


@app.command()
def preprocess(
    config: Config,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing stores, and discard an unfinished build.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Write all images into one pixel store and their headers into one meta file; resumes an interrupted build."""
    from fphojax.app.stages.store_build import preprocess as make_stores

    settings = _settings(config)
    report = make_stores(settings, overwrite=overwrite, progress=not quiet and sys.stderr.isatty())
    typer.echo(str(report))
    typer.echo(f"wrote {settings.pixelstorefile} and {settings.metastorefile}")


@app.command()
def run(
    config: Config,
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stages",
            help="Run only this stage; repeatable. What it replaces makes later stages out of date.",
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Repeat this stage and all later ones in any case.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of the file; repeatable."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry sources that were given up.")] = False,
    workers: Workers = None,
    notebooks: Annotated[
        bool,
        typer.Option(
            "--notebooks/--no-notebooks",
            help="Keep an executed notebook of every stage; a change of this repeats all stages.",
        ),
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Run all stages of a field, from check to final catalogue, each as a notebook; finished stages are skipped.

    Stages: check, psf, preprocess (if the settings name stores), catalog, optimize; then background, detect and
    optimize, as many times as the setting rounds says; then sample and postprocess. After an interruption or an error
    the same command resumes. If a setting has changed, the first stage that reads it and all later ones are repeated.
    """
    from fphojax.app.run.run_all import run_all
    from fphojax.app.settings.settings_file import assigned

    settings = _settings(config, assigned(changes or []))
    finished = run_all(
        settings,
        stages=stages,
        start=start,
        retry=retry,
        workers=workers,
        notebooks=notebooks,
        progress=_bars(quiet),
    )
    _show_stages(settings, finished)


@app.command()
def sample(
    config: Config,
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
    overrides = {"outbase": out.resolve()} if out is not None else None
    finished = sample_field(
        _settings(config, overrides),
        overwrite=overwrite,
        resume=resume,
        retry=retry,
        workers=workers,
        scheduler=scheduler,
        progress=_bars(quiet),
    )
    _show(finished)
    if flagged := finished.flagged:
        lines = [f"source {identifier} was given up: {reason}" for identifier, reason in flagged.items()]
        more = len(lines) - _MOST_FLAGGED
        rest = [f"and {more} more: column fit_flag of {finished.directory.scene_path}"] if more > 0 else []
        report_problems(lines[:_MOST_FLAGGED] + rest)
        raise typer.Exit(1)


@app.command()
def optimize(
    config: Config,
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
    _report(
        fit(
            _settings(config, {"forced_photometry": True} if forced else None),
            out=None if out is None else out.resolve(),
            resume=resume,
            retry=retry,
            workers=workers,
            scheduler=scheduler,
            progress=_bars(quiet),
        )
    )


@app.command()
def background(
    config: Config,
    fit: RunFolder = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Write the levels into CONFIG itself, not into a new file in outbase."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Measure the residual sky level of a fit, for the next fit to subtract."""
    from fphojax.app.stages.background import background as measure

    _report(measure(_settings(config), run=fit, write=write, progress=_bars(quiet)))


@app.command()
def detect(
    config: Config,
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
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Find sources missing from the catalogue in the residuals of a fit; without a catalogue, in the images."""
    from fphojax.app.stages.detect import detect as find

    if images and fit is not None:
        raise InputError("found --images and --run, expected one of them")
    if background_box is not None and not images:
        raise InputError("found --background-box without --images, expected both or none")
    _report(
        find(
            _settings(config),
            run=fit,
            images=images,
            threshold=threshold,
            background_box=background_box,
            progress=_bars(quiet),
        )
    )


@app.command()
def postop(
    config: Config,
    fit: RunFolder = None,
) -> None:
    """Write the optimised catalogue with flux uncertainties, and settings for sampling from it."""
    from fphojax.app.stages.postop import postop as hand_over

    _report(hand_over(_settings(config), run=fit))


@app.command()
def loop(
    config: Config,
    rounds: Annotated[
        int, typer.Option(help="Number of rounds after the first optimisation.", min=0, max=100)
    ] = 1,
    threshold: Threshold = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    quiet: Quiet = False,
) -> None:
    """Optimise; then subtract the residual sky, add missing sources, and optimise again; then run postop."""
    from fphojax.app.stages.loop import loop as go_round

    settings = _settings(config)
    _report(
        go_round(
            settings,
            rounds=rounds,
            threshold=threshold,
            workers=workers,
            scheduler=scheduler,
            progress=_bars(quiet),
        )
    )


@app.command()
def postprocess(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="fits, ecsv or parquet; repeatable.")
    ] = None,
    chains: Annotated[
        bool, typer.Option(help="Write the catalogue of all draws, which is as large as the chains.")
    ] = True,
    images: Annotated[
        bool, typer.Option(help="Write data, model, residual and chi of all exposures.")
    ] = True,
    draw: Annotated[
        str, typer.Option(help="Draw that the images show: median, last, best or mean.")
    ] = "median",
    cutout: Annotated[
        list[str] | None, typer.Option(help="Id of a source to write cutouts of; repeatable.")
    ] = None,
    isophote: Annotated[
        float,
        typer.Option(
            help="Surface brightness that defines isophotal radii, AB mag / arcsec^2.", min=-100, max=100
        ),
    ] = 25.0,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that compute the catalogues, useful for hundreds of patches.", min=1, max=1024
        ),
    ] = 1,
    quiet: Quiet = False,
) -> None:
    """Write the catalogues, region files and images of a run into its folder."""
    from fphojax.app.stages.product_summary import postprocess as write_products

    lines = write_products(
        run,
        formats=formats or ["fits"],
        chains=chains,
        images=images,
        kind=draw,
        cutouts=cutout or [],
        isophote=isophote,
        workers=workers,
        progress=_bars(quiet),
    )
    typer.echo("\n".join(lines))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="HTML file, instead of report.html in the folder.")] = None,
    patches: Annotated[
        int, typer.Option(help="Number of patches to show in detail, the worst first.", min=0)
    ] = 3,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also write figures/chains.pdf and residuals.pdf.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the main tables and figures of a run as one HTML page."""
    from fphojax.figures.field_plots import chain_pdf, residual_pdf
    from fphojax.figures.html_report import write_report
    from fphojax.results.run_directory import RunDirectory

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out: found {out}, expected a name that ends in .html")
    directory, bars = RunDirectory.open(run), _bars(quiet)
    typer.echo(f"wrote {write_report(directory, out, n_patch=patches, progress=bars)}")
    if pdf:
        for write in (chain_pdf, residual_pdf):
            typer.echo(f"wrote {write(directory, progress=bars)}")


@app.command()
def psf(
    images: Annotated[
        list[Path], typer.Argument(help="PSF images (FITS), or one PSFEx file.", show_default=False)
    ],
    band: Annotated[str, typer.Option(help="Band of the PSF.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Store (HDF5) to create or add to.", show_default=False)],
    ngauss: Annotated[
        int | None,
        typer.Option(help="Number of Gaussians; by default the fewest that reach --residual, at most 8."),
    ] = None,
    residual: Annotated[
        float,
        typer.Option(
            help="Largest norm of the residual, relative to the norm of the image.",
            min=1e-6,
            max=0.999,
        ),
    ] = 0.01,
    negative: Annotated[int, typer.Option(help="Number of Gaussians that may be negative.", min=0)] = 0,
    extension: Annotated[
        str | None,
        typer.Option(
            help="Name or number of the extension; by default PSF, else the first image.", show_default=False
        ),
    ] = None,
    oversample: Annotated[
        float | None,
        typer.Option(
            help="Pixels of the image per pixel of the exposures; by default OVERSAMP of the header, else 1.",
            show_default=False,
            min=1,
        ),
    ] = None,
    pixel_scale: Annotated[
        float | None,
        typer.Option(
            help="Pixel scale of the exposures [arcsec], to be compared with that of the image (PIXELSCL or WCS).",
            show_default=False,
            min=1e-6,
        ),
    ] = None,
    includes_pixel: Annotated[
        bool | None,
        typer.Option(
            help="Whether the image includes the pixel response; by default PIXRESP of the header, else true only "
            "for an image at the scale of the exposures.",
            show_default=False,
        ),
    ] = None,
    recentre: Annotated[
        bool,
        typer.Option(
            "--recentre/--as-it-is",
            help="If the core is less than half a pixel from the central pixel: remove the offset, or keep it.",
        ),
    ] = False,
    location: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Detector position X Y of the image; added to those in the store.", show_default=False
        ),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for a figure of each fit.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace PSFs in the store that were made from other images or with other options.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Fit mixtures of Gaussians to PSF images, and report how these were read and how good the fits are.

    Each mixture is stored as soon as it is fitted: after Ctrl-C, the same command fits those that are missing.
    """
    from fphojax.app.stages.psf_files import (
        fit_files,
        meaning_shown,
        notes_shown,
        readings_shown,
        verdicts_shown,
    )
    from fphojax.system.locks import file_lock

    from .terminal_table import table_shown

    with file_lock(out):
        fitted_files = fit_files(
            images,
            band,
            out,
            extension=int(extension) if extension is not None and extension.isdecimal() else extension,
            oversample=oversample,
            pixel_scale=pixel_scale,
            includes_pixel=includes_pixel,
            recentre=recentre,
            n_gauss=ngauss,
            residual=residual,
            n_negative=negative,
            location=location,
            figures=figures,
            overwrite=overwrite,
            workers=workers,
            progress=_bars(quiet),
        )
    if fitted_files:
        console = _console()
        for title, table in (
            ("PSF images, as they were read", readings_shown(fitted_files)),
            ("PSF mixtures", verdicts_shown(fitted_files)),
        ):
            console.print(table_shown(title, table, fold=True))
            console.print()
        typer.echo(meaning_shown(fitted_files))
    for note in notes_shown(fitted_files):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {out}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the mock data and the run.")] = Path("demo"),
    quiet: Quiet = False,
) -> None:
    """Simulate a blend of three galaxies in two bands, run all stages on it, and compare with the truth."""
    from .demo import run_demo
    from .tables import exposures_shown, parameters_shown

    finished = run_demo(out, progress=_bars(quiet))
    console = _console()
    for table in (exposures_shown(finished.result), parameters_shown(finished.result, finished.truth)):
        console.print(table)
        console.print()
    for figure in finished.figures:
        console.print(f"figure: {figure}", soft_wrap=True)
    _show_stages(finished.settings, finished.stages)


mixtures = typer.Typer(no_args_is_help=True, help="Make mixtures of Gaussians.")
app.add_typer(mixtures, name="mixtures")


@mixtures.command()
def sersic(
    out: Annotated[Path, typer.Option(help="HDF5 file to write.", show_default=False)],
    order: Annotated[int, typer.Option(help="Number of Gaussians.", min=2, max=16)] = 10,
) -> None:
    """Fit the table of Gaussian mixtures for Sersic profiles."""
    from fphojax.mixtures.sersic import load_sersic_table
    from fphojax.mixtures.sersic_fit import fit_sersic_table
    from fphojax.system.locks import file_lock

    with file_lock(out):  # an unusable path is refused before the fit
        if out.exists():
            load_sersic_table(out)  # nothing but such a table may be replaced
        fit_sersic_table(order=order).write(out)
    typer.echo(f"wrote {out}")


def _settings(config: Path, changes=None):
    """Read settings; see `fphojax.app.settings.schema.Settings.from_yaml`."""
    from fphojax.app.settings.schema import Settings

    return Settings.from_yaml(config, changes)


def _refuse_retry_of_nothing(retry: bool, resume: bool) -> None:
    if retry and not resume:
        raise InputError(
            "found --retry without --resume, expected both: --retry repeats sources that were given up"
        )


def _bars(quiet: bool) -> bool:
    """Return whether to show progress bars, which belong on a terminal, not in a log."""
    return sys.stderr.isatty() and not quiet


def _report(report) -> None:
    """Print what a stage found, and where its files are."""
    from .terminal_table import table_shown

    console = _console()
    for title, table in report.tables.items():
        console.print(table_shown(title, table))
        console.print()
    console.print(report.verdict)
    for what, path in report.files.items():
        console.print(f"{what}: {path}", soft_wrap=True)


def _show_stages(settings, finished) -> None:
    """Print how every stage ended, and where its files are."""
    from astropy.table import Table

    from fphojax.results.table_text import formatted

    from .terminal_table import table_shown

    rows = [
        (
            name,
            result.level,
            result.verdict,
            f"{result.seconds:.0f}" if name in finished.repeated else "unchanged",
        )
        for name, result in finished.steps.items()
    ]
    table = Table(rows=rows or None, names=("stage", " ", "verdict", "seconds"), dtype=4 * (str,))
    console = _console()
    console.print(table_shown("Stages", formatted(table, {"seconds": ">"})))
    if finished.index is not None:
        console.print(f"notebooks: {finished.index}", soft_wrap=True)
    for outcome in finished.steps.values():
        if "report" in outcome.files:
            console.print(f"report: {outcome.files['report']}", soft_wrap=True)
    console.print(f"run directory: {settings.outbase}", soft_wrap=True)


def _console():
    """Make a console that prints names as they are: no markup, no emoji."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:  # a log file has no width
        console.width = 120
    return console


def _show(finished) -> None:
    """Print the tables of a finished run, and where its files are."""
    from .tables import exposures_shown, field_summary, parameters_shown, patches_shown

    console = _console()
    result = finished.result
    if result is not None:
        console.print(exposures_shown(result))
        console.print()
        console.print(parameters_shown(result))
    else:
        console.print(patches_shown(finished.scene))
    console.print(f"\n{field_summary(finished)}")
    for figure in finished.figures[:_MOST_FIGURES]:
        console.print(f"figure: {figure}", soft_wrap=True)
    if len(finished.figures) > _MOST_FIGURES:
        console.print(f"{len(finished.figures) - _MOST_FIGURES} more figures beside these")
    console.print(f"run directory: {finished.directory.path}", soft_wrap=True)


def main() -> None:
    """Run the command `fphojax`."""
    from fphojax.inference.interruptible import programs_running

    try:
        app()
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            if programs_running():  # Python would wait for their threads at its exit
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code)
        raise
    except OSError as error:  # typer's own output, such as help, on a full disk
        report_problems([str(_one_line_error(error))])
        sys.exit(1)
