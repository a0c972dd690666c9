"""Tables of a finished run, for the terminal."""

import json

from astropy.table import Table
from rich.table import Table as RichTable

from fphojax.field.field_fit import FinishedField
from fphojax.field.superscene import SuperScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.parameter_table import parameter_table
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import exposure_table
from fphojax.results.table_text import formatted

from .terminal_table import table_shown

__all__ = ["exposures_shown", "field_summary", "parameters_shown", "patches_shown"]

_MOST_PATCHES = 40  # shown


def parameters_shown(result: PatchResult, truth: SourceCatalog | None = None) -> RichTable:
    """Tabulate the parameters (`parameter_table`), with sources as headings: that fits into 80 columns."""
    table = parameter_table(result, truth)
    no_wrap = [name for name in table.colnames if name not in ("source", "flags")]
    return table_shown("Parameters", table, spacing=1, no_wrap=no_wrap, groups="source")


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
