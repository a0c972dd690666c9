"""The table of parameters as a person reads it: rounded to what is known, with what should be looked at."""

import numpy as np
from astropy.table import Table

from fphojax.inputs.source_catalog import SourceCatalog

from .patch_result import PatchResult
from .summary import decimals, summary_table
from .table_text import formatted

__all__ = ["parameter_table", "rounded"]

_POOR_RHAT = 1.02
_AT_BOUND = 0.05  # of the draws


def parameter_table(result: PatchResult, truth: SourceCatalog | None = None) -> Table:
    """Tabulate median, 68 % interval, convergence and flags of every parameter, beside the truth if known.

    Parameters
    ----------
    result : PatchResult
    truth : SourceCatalog, optional
        The true parameters of sources with the same ``id``.

    Returns
    -------
    Table
        Of text; `summary_table` has the numbers. See `rounded`.

    Raises
    ------
    InputError
        If `truth` lacks a source or a band.
    """
    return rounded(summary_table(result, truth))


def rounded(summary: Table) -> Table:
    """Round a summary, or rows of it, to two digits of each parameter's uncertainty.

    Parameters
    ----------
    summary : Table
        Of `summary_table`.

    Returns
    -------
    Table
        Of text: source, parameter, unit, truth (if there is one), value, the interval by its distances from the value
        (those of ra and dec are coordinate differences), and for draws r_hat, ESS and flags.
    """
    digits = [decimals(*limits) for limits in zip(summary["lower"], summary["upper"], strict=True)]
    columns = {
        "source": np.asarray(summary["id"]),
        "parameter": [f"{row['parameter']} {row['band']}".strip() for row in summary],
        "unit": [str(unit) for unit in summary["unit"]],
    }
    for name in ("truth", "value"):
        if name in summary.colnames:
            columns[name] = [_text(number, n) for number, n in zip(summary[name], digits, strict=True)]
    columns["68 % interval"] = [_interval(row, n) for row, n in zip(summary, digits, strict=True)]
    drawn = np.isfinite(summary["r_hat"]).any()
    if drawn:
        for name, of in (("r_hat", "r_hat"), ("ESS", "ess_bulk")):
            columns[name] = list(summary[of].info.iter_str_vals())
    columns["flags"] = [", ".join(_flags(row, drawn)) for row in summary]
    numbers = [name for name in columns if name not in ("source", "parameter", "unit", "flags")]
    return formatted(Table(columns), dict.fromkeys(numbers, ">"))


def _flags(row, drawn):
    """Yield what should be looked at."""
    if not row["upper"] > row["lower"]:
        return
    if row["at_bound"] > _AT_BOUND:
        yield "at bound"
    if drawn and not row["r_hat"] <= _POOR_RHAT:  # NaN, too
        yield "r_hat"


def _interval(row, digits):
    """Format the distances from the median to the limits; those of positions in milliarcseconds."""
    if not row["upper"] > row["lower"]:
        return "held"
    if row["parameter"] in ("ra", "dec"):
        low, high = ((row[side] - row["value"]) * 3.6e6 for side in ("lower", "upper"))
        return f"{low:+.2f} {high:+.2f} mas"
    low, high = (row[side] - row["value"] for side in ("lower", "upper"))
    return f"{_text(low, digits, '+')} {_text(high, digits, '+')}"


def _text(number, digits, sign=""):
    """Format a number with a number of decimals, which may be negative."""
    return f"{round(float(number), digits):{sign}.{max(digits, 0)}f}"
