"""Commands from images to catalogue: a first look, settings, their check, and the run of all stages."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from fphojax.errors import InputError

from .completions import complete_instrument, complete_stage, complete_stages
from .option_types import Changes, Config, Quiet, Workers, changed_settings, read_settings
from .printing import plain_console, print_stages
from .progress_words import bars

__all__ = ["check", "demo", "init", "run"]

logger = logging.getLogger(__name__)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the mock data and the run.")] = Path("demo"),
    quiet: Quiet = False,
) -> None:
    """Simulate a blend of three galaxies in two bands, run all stages on it, and compare with the truth."""
    from fphojax.app.demo import run_demo
    from fphojax.app.tables import exposures_shown, parameters_shown

    finished = run_demo(out, progress=bars(quiet))
    console = plain_console()
    for table in (exposures_shown(finished.result), parameters_shown(finished.result, finished.truth)):
        console.print(table)
        console.print()
    for figure in finished.figures:
        console.print(f"figure: {figure}", soft_wrap=True)
    print_stages(finished.settings, finished.stages)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.", show_default=False)],
    instrument: Annotated[
        str,
        typer.Option(
            help="Instrument to take defaults from: nircam, hst, hsc, decam or generic.",
            autocompletion=complete_instrument,
        ),
    ] = "generic",
) -> None:
    """Write a commented settings file for an instrument, and copies of the notebooks of all stages."""
    from fphojax.app.settings.starter import write_starter

    config, *notebooks = write_starter(folder, instrument)
    typer.echo(f"wrote {config} and {len(notebooks)} notebooks in {folder / 'templates'}")
    typer.echo(f"next: edit {config}, then fphojax check {config}")


def check(
    config: Config,
    changes: Changes = None,
    quiet: Quiet = False,
) -> None:
    """Show the exposures and the catalogue that the settings name, and every problem with them."""
    from fphojax.app.settings.schema import Settings
    from fphojax.app.stage_list import first_read_after
    from fphojax.app.stages.input_checks import check_inputs
    from fphojax.app.store_table import store_table
    from fphojax.app.terminal_table import table_shown
    from fphojax.inputs.stores.stored_exposures import StoredExposure

    logger.info("check: %s", config)
    without = first_read_after("catalog") | {
        "fitsfiles"
    }  # what is checked of the others does not depend on it
    settings, problems = Settings.from_yaml_in_part(config, changed_settings(changes), without=without)
    if settings is None:
        raise InputError("\n".join(problems))
    needed = settings.raw_catalog is not None  # without one, the images give it
    report = check_inputs(settings, progress=bars(quiet), verify=True, needs_catalog=needed)
    console = plain_console()
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
    problems += report.problems
    if report.exposures and not problems:
        console.print(report.psf_meaning(), markup=False, highlight=False)
    for note in report.notes:
        typer.echo(f"note: {note}")
    if problems:
        raise InputError("\n".join(problems))
    if report.catalog is None:
        typer.echo(
            "note: no source catalogue; `fphojax run` detects sources in the images (settings: detection)"
        )
    console.print("No problems found.")


def run(
    config: Config,
    changes: Changes = None,
    stages: Annotated[
        list[str] | None,
        typer.Option(
            "--stages",
            metavar="STAGES",
            help="Run only these stages: names, a,b, or a range, optimize..sample; repeatable. What they replace "
            "makes later stages out of date.",
            autocompletion=complete_stages,
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STAGE",
            help="Repeat this stage and all later ones in any case.",
            autocompletion=complete_stage,
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry sources that were given up.")] = False,
    workers: Workers = None,
    notebooks: Annotated[
        bool,
        typer.Option(
            "--notebooks/--no-notebooks",
            help="Keep an executed notebook of every stage that is run.",
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
    from fphojax.app.stage_list import stages_named

    settings = read_settings("run", config, changes)
    finished = run_all(
        settings,
        stages=stages_named(stages) if stages else None,
        start=start,
        retry=retry,
        workers=workers,
        notebooks=notebooks,
        progress=bars(quiet),
    )
    print_stages(settings, finished)
