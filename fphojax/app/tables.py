"""Tables of a finished run, for the terminal."""

import json

from astropy.table import Table
from rich.table import Table as RichTable

from fphojax.field.field_fit import FinishedField
from fphojax.field.superscene import SuperScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import decimals, exposure_table, summary_table
from fphojax.results.table_text import formatted

from .terminal_table import table_shown

__all__ = ["exposures_shown", "field_summary", "parameters_shown", "patches_shown"]

POOR_RHAT = 1.02
AT_BOUND = 0.05  # of the draws
_MOST_PATCHES = 40  # shown


def parameters_shown(result: PatchResult, truth: SourceCatalog | None = None) -> RichTable:
    """Tabulate median, 68 % interval, convergence and flags of every parameter, beside the truth if known.

    The interval is given by its distances from the median; those of ra and dec are coordinate differences.
    """
    summary = summary_table(result, truth)
    digits = [decimals(*limits) for limits in zip(summary["lower"], summary["upper"], strict=True)]
    columns = {
        "source": summary["id"],
        "parameter": [f"{row['parameter']} {row['band']}".strip() for row in summary],
        "unit": [str(unit) for unit in summary["unit"]],
    }
    for name in ("value",) if truth is None else ("truth", "value"):
        columns[name] = [f"{number:.{n}f}" for number, n in zip(summary[name], digits, strict=True)]
    columns["68 % interval"] = [_interval(row, n) for row, n in zip(summary, digits, strict=True)]
    for name, of in (("r_hat", "r_hat"), ("ESS", "ess_bulk")):
        columns[name] = list(summary[of].info.iter_str_vals())
    columns["flags"] = [", ".join(_flags(row)) for row in summary]
    numbers = [name for name in columns if name not in ("source", "parameter", "unit", "flags")]
    table = formatted(Table(columns), dict.fromkeys(numbers, ">"))
    # without frames, and sources as headings: fits into 80 columns
    no_wrap = ["parameter", "unit", *numbers]
    return table_shown("Parameters", table, spacing=1, no_wrap=no_wrap, groups="source")


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


def exposures_shown(result: PatchResult) -> RichTable:
    """Tabulate used pixels and chi-squared per degree of freedom of every exposure."""
    table = exposure_table(result)
    table.rename_columns(("n_pixel", "chi2_dof"), ("pixels", "chi2/dof"))
    return table_shown("Exposures at the optimum", table)


def patches_shown(scene: SuperScene) -> RichTable:
    """Tabulate the patches of a field: sources, likelihood calls, divergent draws, time; the last if many."""
    entries = [json.loads(entry) for entry in scene.patchlog]
    more = f", the last {_MOST_PATCHES} of {len(entries)}" if len(entries) > _MOST_PATCHES else ""
    rows = []
    for entry in entries[-_MOST_PATCHES:]:
        summary = entry.get("summary", {})
        notes = entry.get("flag", "" if summary.get("converged", True) else "the optimum did not converge")
        numbers = (summary.get(key, 0) for key in ("n_calls", "n_divergent", "wall_time"))
        rows.append((entry["taskID"], len(entry["sources"]), entry["n_iter"], *numbers, notes))
    names = ("patch", "sources", "draws", "calls", "divergent", "seconds", "notes")
    table = Table(rows=rows or None, names=names, dtype=(int, int, int, float, float, float, str))
    return table_shown(f"Patches{more}", formatted(table, {}, rest=".0f"))


def field_summary(finished: FinishedField) -> str:
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
