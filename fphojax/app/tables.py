"""Tables of a finished run, for the terminal."""

import numpy as np
from rich.table import Table

from fphojax.inputs.catalog import SourceCatalog
from fphojax.outputs.results import PatchResult
from fphojax.outputs.summary import exposure_table, summary_table

__all__ = ["exposures_shown", "parameters_shown"]

POOR_RHAT = 1.02
AT_BOUND = 0.05  # of the draws


def parameters_shown(result: PatchResult, truth: SourceCatalog | None = None) -> Table:
    """Median, 68 % interval, convergence and flags of every parameter, beside the truth if it is known.

    The interval is given by its distances from the median; those of ra and dec are coordinate differences.
    """
    found = summary_table(result, truth)
    table = Table(title="Parameters", title_justify="left")
    left = ("source", "parameter", "unit", "flags")
    names = ("source", "parameter", "unit", "truth", "value", "68 % interval", "r_hat", "ESS", "flags")
    for name in names:
        if name != "truth" or truth is not None:
            table.add_column(name, justify="left" if name in left else "right", no_wrap=True)
    previous = None
    for row in found:
        digits = _digits(row["lower"], row["upper"])
        numbers = [f"{row['value']:.{digits}f}", _interval(row, digits)]
        if truth is not None:
            numbers.insert(0, f"{row['truth']:.{digits}f}")
        flags = []
        if row["at_bound"] > AT_BOUND:
            flags.append("at bound")
        if not row["r_hat"] <= POOR_RHAT:  # NaN, too
            flags.append("not converged")
        table.add_row(
            str(row["id"]) if row["id"] != previous else "",
            f"{row['parameter']} {row['band']}".strip(),
            str(row["unit"]),
            *numbers,
            f"{row['r_hat']:.3f}",
            f"{row['ess_bulk']:.0f}",
            ", ".join(flags),
        )
        previous = row["id"]
    return table


def _interval(row, digits):
    """Distances from the median to the limits; those of positions in milliarcseconds."""
    if row["parameter"] in ("ra", "dec"):
        low, high = ((row[side] - row["value"]) * 3.6e6 for side in ("lower", "upper"))
        return f"{low:+.2f} {high:+.2f} mas"
    low, high = (row[side] - row["value"] for side in ("lower", "upper"))
    return f"{low:+.{digits}f} {high:+.{digits}f}"


def exposures_shown(result: PatchResult) -> Table:
    """Used pixels and chi-squared per degree of freedom of every exposure."""
    table = Table(title="Exposures at the optimum", title_justify="left")
    for name in ("band", "exposure", "pixels", "chi2", "chi2/dof"):
        table.add_column(name, justify="left" if name in ("band", "exposure") else "right")
    for row in exposure_table(result):
        table.add_row(
            row["band"], row["exposure"], str(row["n_pixel"]), f"{row['chi2']:.1f}", f"{row['chi2_dof']:.3f}"
        )
    return table


def _digits(lower, upper):
    """Decimals that show an interval's width to two digits."""
    width = float(upper - lower)
    return int(np.clip(1 - np.floor(np.log10(width)), 0, 9)) if width > 0 else 3
