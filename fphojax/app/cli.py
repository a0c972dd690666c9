"""The command line: `fphojax COMMAND`.

Commands import what they need when they run, so that help comes at once.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

import fphojax
from fphojax.inputs.errors import InputError

__all__ = ["app", "main"]


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line each, unless --debug asks for the trace.

    The exit status is 2 where the input is at fault, and 1 for anything else.
    """

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except InputError as error:
            if ctx.params["debug"]:
                raise
            report_problems(str(error).splitlines())
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=OneLineErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once.",
)


def report_problems(problems: list[str]) -> None:
    """Print problems, one line each, to the standard error."""
    for problem in problems:
        typer.echo(f"error: {problem}", err=True)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fphojax {fphojax.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full trace of an error.")] = False,
) -> None:
    """Options that stand before the command."""


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="YAML file of settings.", show_default=False)],
) -> None:
    """Show the exposures and the catalogue of a configuration, and every problem with them."""
    from rich.console import Console

    from .check import check_inputs
    from .config import Settings

    report = check_inputs(Settings.from_yaml(config), progress=sys.stderr.isatty())
    console = Console()
    if report.exposures or report.left_out:
        console.print(report.exposure_table())
    if report.catalog is not None:
        console.print(report.catalog_table())
    if report.problems:
        raise InputError("\n".join(report.problems))
    console.print("No problems found.")


def main() -> None:
    """Entry point of the command `fphojax`."""
    app()
