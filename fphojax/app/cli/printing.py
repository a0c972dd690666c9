"""What commands print on the standard output: reports of stages, tables of a run, and where the files are."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from fphojax.app.run.run_all import FinishedStages
    from fphojax.app.settings.schema import Settings
    from fphojax.app.stages.stage_report import StageReport
    from fphojax.field.field_fit import FinishedField

__all__ = ["plain_console", "print_field", "print_report", "print_stages"]


def plain_console() -> "Console":
    """Make a console that prints names as they are: no markup, no emoji."""
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:  # a log file has no width
        console.width = 120
    return console


def print_report(report: "StageReport") -> None:
    """Print what a stage found, and where its files are."""
    from fphojax.app.terminal_table import table_shown

    console = plain_console()
    for title, table in report.tables.items():
        console.print(table_shown(title, table))
        console.print()
    console.print(report.verdict)
    for what, path in report.files.items():
        console.print(f"{what}: {path}", soft_wrap=True)


def print_stages(settings: "Settings", finished: "FinishedStages") -> None:
    """Print how every stage ended, and where its files are."""
    from astropy.table import Table

    from fphojax.app.terminal_table import table_shown
    from fphojax.results.table_text import formatted

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
    console = plain_console()
    console.print(table_shown("Stages", formatted(table, {"seconds": ">"})))
    if finished.index is not None:
        console.print(f"notebooks: {finished.index}", soft_wrap=True)
    for outcome in finished.steps.values():
        if "report" in outcome.files:
            console.print(f"report: {outcome.files['report']}", soft_wrap=True)
    console.print(f"run directory: {settings.outbase}", soft_wrap=True)


def print_field(finished: "FinishedField") -> None:
    """Print the tables of a fitted field, and where its files are."""
    from fphojax.app.tables import exposures_shown, field_summary, parameters_shown, patches_shown

    console = plain_console()
    result = finished.result
    if result is not None:
        console.print(exposures_shown(result))
        console.print()
        console.print(parameters_shown(result))
    else:
        console.print(patches_shown(finished.scene))
    console.print(f"\n{field_summary(finished)}")
    figures, n_patch = finished.figures, len(finished.directory.patches())
    for figure in figures:
        console.print(f"figure: {figure}", soft_wrap=True)
    if figures and n_patch > len(figures):
        console.print(
            f"figures of all {n_patch} patches: fphojax report {finished.directory.path} --pdf",
            soft_wrap=True,
        )
    console.print(f"run directory: {finished.directory.path}", soft_wrap=True)
