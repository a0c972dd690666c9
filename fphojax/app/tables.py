"""Tables of a finished run, for the terminal."""

import json

import numpy as np
from astropy.table import Table

from fphojax.app.stages.pipeline import FinishedRun
from fphojax.field.superscene import SuperScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import decimals, exposure_table, summary_table

from .plain_table import PlainTable

__all__ = ["exposures_shown", "field_summary", "parameters_shown", "patches_shown", "table_shown"]

POOR_RHAT = 1.02
AT_BOUND = 0.05  # of the draws
_MOST_PATCHES = 40  # shown


def parameters_shown(result: PatchResult, truth: SourceCatalog | None = None) -> PlainTable:
    """Tabulate median, 68 % interval, convergence and flags of every parameter, beside the truth if known.

    The interval is given by its distances from the median; those of ra and dec are coordinate differences.
    """
    found = summary_table(result, truth)
    # without frames, and sources as headings: fits into 80 columns
    table = PlainTable("Parameters", spacing=1)
    names = ["parameter", "unit", "value", "68 % interval", "r_hat", "ESS", "flags"]
    if truth is not None:
        names.insert(2, "truth")
    for name in names:
        left = name in ("parameter", "unit", "flags")
        table.add_column(name, justify="left" if left else "right", no_wrap=name != "flags")
    previous = None
    for row in found:
        if row["id"] != previous:
            previous = row["id"]
            table.add_row()
            table.add_row(f"source {previous}", style="bold")
        digits = decimals(row["lower"], row["upper"])
        numbers = [f"{row['value']:.{digits}f}", _interval(row, digits)]
        if truth is not None:
            numbers.insert(0, f"{row['truth']:.{digits}f}")
        table.add_row(
            f"{row['parameter']} {row['band']}".strip(),
            str(row["unit"]),
            *numbers,
            f"{row['r_hat']:.3f}",
            f"{row['ess_bulk']:.0f}",
            ", ".join(_flags(row)),
        )
    return table


def _flags(row):
    """Yield what should be looked at."""
    if row["at_bound"] > AT_BOUND:
        yield "at bound"
    if not row["r_hat"] <= POOR_RHAT:  # NaN, too
        yield "r_hat"


def _interval(row, digits):
    """Format the distances from the median to the limits; those of positions in milliarcseconds."""
    if row["parameter"] in ("ra", "dec"):
        low, high = ((row[side] - row["value"]) * 3.6e6 for side in ("lower", "upper"))
        return f"{low:+.2f} {high:+.2f} mas"
    low, high = (row[side] - row["value"] for side in ("lower", "upper"))
    return f"{low:+.{digits}f} {high:+.{digits}f}"


def exposures_shown(result: PatchResult) -> PlainTable:
    """Tabulate used pixels and chi-squared per degree of freedom of every exposure."""
    table = PlainTable("Exposures at the optimum")
    for name in ("band", "exposure", "pixels", "chi2", "chi2/dof"):
        table.add_column(name, justify="left" if name in ("band", "exposure") else "right")
    for row in exposure_table(result):
        table.add_row(
            row["band"], row["exposure"], str(row["n_pixel"]), f"{row['chi2']:.1f}", f"{row['chi2_dof']:.3f}"
        )
    return table


def table_shown(title: str, found: Table) -> PlainTable:
    """Convert an astropy table for the terminal, with units in the headings and the formats of its columns."""
    table = PlainTable(title)
    for name in found.colnames:
        column = found[name]
        unit = f" [{column.unit}]" if getattr(column, "unit", None) else ""
        text = np.asarray(column).dtype.kind in "US"
        table.add_column(name + unit, justify="left" if text else "right")
    for row in found:
        table.add_row(*(_cell(found, row, name) for name in found.colnames))
    return table


def _cell(found, row, name):
    """Format a value by the format of its column, else numbers to four digits."""
    value = getattr(row[name], "value", row[name])
    if isinstance(value, np.floating | float):
        if np.isnan(value):
            return ""
        return format(value, found[name].info.format or ".4g")
    return str(value)


def patches_shown(scene: SuperScene) -> PlainTable:
    """Tabulate the patches of a field: sources, likelihood calls, divergent draws, time; the last if many."""
    entries = [json.loads(entry) for entry in scene.patchlog]
    more = f", the last {_MOST_PATCHES} of {len(entries)}" if len(entries) > _MOST_PATCHES else ""
    table = PlainTable(f"Patches{more}")
    for name in ("patch", "sources", "draws", "calls", "divergent", "seconds", "notes"):
        table.add_column(name, justify="left" if name == "notes" else "right")
    for entry in entries[-_MOST_PATCHES:]:
        summary = entry.get("summary", {})
        notes = entry.get("flag", "" if summary.get("converged", True) else "the optimum did not converge")
        numbers = (summary.get(key, 0) for key in ("n_calls", "n_divergent", "wall_time"))
        table.add_row(
            str(entry["taskID"]),
            str(len(entry["sources"])),
            str(entry["n_iter"]),
            *(f"{number:.0f}" for number in numbers),
            notes,
        )
    return table


def field_summary(finished: FinishedRun) -> str:
    """Summarise the results of a field in a few lines."""
    scene, report, result = finished.scene, finished.report, finished.result
    total = {key: sum(s[key] for s in report.summaries) for key in ("n_calls", "n_divergent")}
    if result is not None:
        sizes = result.draws.sizes
        lines = [
            f"{sizes['chain']} chains of {sizes['draw']} draws, {total['n_divergent']} divergent; "
            f"{total['n_calls']} likelihood calls in {report.wall_time:.0f} s"
        ]
    else:
        lines = [
            f"{len(scene) - scene.n_undone - scene.n_flagged} of {len(scene)} sources done in "
            f"{len(scene.patchlog)} patches; now {len(report.patches)} patches, {total['n_calls']} likelihood calls, "
            f"{total['n_divergent']} divergent draws in {report.wall_time:.0f} s"
        ]
    if not all(summary["converged"] for summary in report.summaries):
        lines.append("warning: an optimisation did not converge")
    if scene.n_flagged:
        lines.append(f"warning: {scene.n_flagged} sources were given up")
    return "\n".join(lines)
