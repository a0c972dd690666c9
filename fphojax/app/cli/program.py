"""The program `fphojax`: its commands in the order in which one needs them, each with an example.

Commands import what they need when they run, so that help is shown without delay.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import fphojax

from .error_lines import OneLineErrors, one_line_error, report_problems
from .fit_commands import background, choose, detect, inject, loop, noise, optimize, postop, sample, warm
from .input_commands import convert, mixtures, preprocess, psf
from .result_commands import postprocess, report
from .start_commands import check, demo, init, run

__all__ = ["app", "main"]

_STORY = """Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once.

For a first look, run `fphojax demo`. For your own images, `fphojax init FOLDER` writes settings to edit,
`fphojax check SETTINGS` reports every problem with them, and `fphojax run SETTINGS` runs all stages, from images to
catalogue.

The other commands do one thing each. `fphojax COMMAND --help` ends with an example.
"""

# Groups of commands, in order, with an example of each command.
_COMMANDS: dict[str, dict[Callable, str]] = {
    "From images to catalogue": {
        demo: "fphojax demo",
        init: "fphojax init field --instrument nircam",
        check: "fphojax check field/run.yml",
        run: "fphojax run field/run.yml --workers 4",
        report: "fphojax report field/run",
    },
    "Before the fit": {
        psf: "fphojax psf psf_F200W.fits --band F200W --out psfs.h5",
        convert: "fphojax convert galfit.01 --band F200W --image f200w.fits --out start.ecsv",
        preprocess: "fphojax preprocess field/run.yml",
        warm: "fphojax warm field/run.yml",
    },
    "Fits and what lies between them, in this order": {
        optimize: "fphojax optimize field/run.yml --set bounds_kwargs.n_pix=3",
        background: "fphojax background field/run.yml",
        noise: "fphojax noise field/run.yml",
        detect: "fphojax detect field/run.yml --threshold 4",
        loop: "fphojax loop field/run.yml --rounds 2",
        postop: "fphojax postop field/run.yml",
        choose: "fphojax choose field/run/postop.yml --set choose.margin=2",
        sample: "fphojax sample field/run/postop.yml --workers 8 --resume",
    },
    "After the fit": {
        postprocess: "fphojax postprocess field/run --format votable --format parquet --cutout 17",
        inject: "fphojax inject field/run.yml --set injections.places=[empty,random] --workers 4",
    },
}

app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=_STORY,
)
for _group, _examples in _COMMANDS.items():
    for _command, _example in _examples.items():
        app.command(rich_help_panel=_group, epilog=f"Example: `{_example}`")(_command)
app.add_typer(mixtures, name="mixtures", rich_help_panel="Tables of the package")


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
        report_problems([str(one_line_error(error))])
        sys.exit(1)
