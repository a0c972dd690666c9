"""What artificial sources say: biases, pulls, coverage, completeness, and a floor of errors."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from astropy.table import Table

from fphojax.results.table_text import formatted

__all__ = ["completeness_table", "error_floor", "pull_table"]

EDGES = (0.0, 5.0, 10.0, 20.0, 50.0, np.inf)  # of signal-to-noise ratios
FARTHEST = 10.0  # a pull beyond counts as this in means and standard deviations
LARGEST_FLOOR = 1.0


def pull_table(
    sources: Table, *, by: Sequence[str] = ("mode", "place", "band"), edges: Sequence[float] = ()
) -> Table:
    """Tabulate how measured fluxes differ from the truth, in their errors.

    Parameters
    ----------
    sources : Table
        See `fphojax.simulate.injection_study.InjectionStudy`.
    by : sequence of str
        Columns whose values make a row each.
    edges : sequence of float
        Limits of signal-to-noise ratios that make a row each; by default all together.

    Returns
    -------
    Table
        The columns `by`, ``snr`` if there are edges, n; mean and standard deviation of the flux pulls with their
        standard errors, the standard deviation without the noise model (``sd_alone``), each pull counted as 10 at
        most; percentages within 1 and 2 errors (``within_1`` and ``within_2``, 68.3 and 95.4 expected) and beyond 2
        and 3; median and scatter (68 %) of relative flux and size errors; standard deviation of the pulls of
        position and size, NaN where they are held.
    """
    rows = []
    limits = list(pairwise(edges)) or [(-np.inf, np.inf)]
    for key, group in _groups(sources, by):
        for low, high in limits:
            chosen = group[(group["snr"] >= low) & (group["snr"] < high)]
            if len(chosen):
                label = {"snr": f"{low:g} to {high:g}"} if len(edges) else {}
                rows.append(key | label | _figures(chosen))
    formats = {"within_1": ".0f", "within_2": ".0f", "beyond_2": ".1f", "beyond_3": ".1f", "n": "d"}
    return formatted(Table(rows), formats, rest=".3g") if rows else Table()


def _figures(rows):
    difference = np.asarray(rows["flux"]) - np.asarray(rows["truth"])
    pull, alone = (
        np.clip(difference / np.asarray(rows[name]), -FARTHEST, FARTHEST) for name in ("err", "err_alone")
    )
    n = len(rows)
    lit = np.asarray(rows["truth"]) > 0
    flux = difference[lit] / np.asarray(rows["truth"])[lit]
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.asarray(rows["rhalf"]) / np.asarray(rows["rhalf_true"]) - 1
        free = np.isfinite(rows["rhalf_err"]) & (np.asarray(rows["rhalf_err"]) > 0)
        position = [
            np.asarray(rows[f"shift_{axis}"]) / np.asarray(rows[f"shift_{axis}_err"]) for axis in "xy"
        ]
        size_pull = (np.asarray(rows["rhalf"]) - rows["rhalf_true"])[free] / np.asarray(rows["rhalf_err"])[
            free
        ]
    return {
        "n": n,
        "mean": pull.mean(),
        "mean_err": pull.std() / np.sqrt(n),
        "sd": pull.std(),
        "sd_err": pull.std() / np.sqrt(2 * n),
        "sd_alone": alone.std(),
        "within_1": 100 * np.mean(np.abs(pull) < 1),
        "within_2": 100 * np.mean(np.abs(pull) < 2),
        "beyond_2": 100 * np.mean(np.abs(pull) > 2),
        "beyond_3": 100 * np.mean(np.abs(pull) > 3),
        "flux_bias": np.median(flux) if lit.any() else np.nan,
        "flux_scatter": _scatter(flux),
        "size_bias": np.median(size[free]) if free.any() else np.nan,
        "size_scatter": _scatter(size[free]),
        "position_sd": _sd(np.concatenate(position)),
        "size_sd": _sd(size_pull),
    }


def completeness_table(
    detections: Table, *, edges: Sequence[float] = (2, 3, 4, 5, 6, 8, 10, 15, 25, 50)
) -> Table:
    """Tabulate the fraction of artificial sources that were found, without those at earlier detections.

    Parameters
    ----------
    detections : Table
        See `fphojax.simulate.injection_study.InjectionStudy`.
    edges : sequence of float
        Limits of signal-to-noise ratios.

    Returns
    -------
    Table
        place, snr_low, snr_high, n, found (fraction), its standard error, and the median magnitude in each band.
    """
    rows: list[dict] = []
    if not len(detections):
        return Table()
    bands = [name.removeprefix("mag_") for name in detections.colnames if name.startswith("mag_")]
    for key, group in _groups(detections[~np.asarray(detections["confused"], bool)], ("place",)):
        for low, high in pairwise(edges):
            chosen = group[(group["snr"] >= low) & (group["snr"] < high)]
            if not len(chosen):
                continue
            found, n = np.mean(np.asarray(chosen["found"], bool)), len(chosen)
            # of a beta distribution: not zero where all or none were found
            error = np.sqrt((found * n + 1) * (n - found * n + 1) / ((n + 2) ** 2 * (n + 3)))
            row = key | {"snr_low": low, "snr_high": high, "n": n, "found": found, "found_err": error}
            rows.append(row | {f"mag_{band}": np.median(chosen[f"mag_{band}"]) for band in bands})
    return formatted(Table(rows), {"n": "d"}, rest=".3g") if rows else Table()


def error_floor(sources: Table) -> float:
    """Return the fraction of the flux that, added to errors in quadrature, gives pulls a standard deviation of one.

    Parameters
    ----------
    sources : Table
        Of free fits, if there are any; fits with known shape do not know what limits bright sources.

    Returns
    -------
    float
        0 if the pulls scatter by less than one error already, at most 1; NaN without a source that has flux. Errors
        are bounded by four, so that a few failed fits do not rule it.
    """
    rows = sources[np.asarray(sources["truth"]) > 0]
    free = rows[rows["mode"] == "free"]
    rows = free if len(free) else rows
    if not len(rows):
        return np.nan
    difference, err, truth = (
        np.asarray(column, float) for column in (rows["flux"] - rows["truth"], rows["err"], rows["truth"])
    )

    def spread(floor):
        return np.sqrt(np.mean(np.clip(difference / np.hypot(err, floor * truth), -4, 4) ** 2))

    low, high = 0.0, LARGEST_FLOOR
    if spread(low) <= 1:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if spread(middle) <= 1 else (middle, high)
    return float(high)


def _groups(rows, names):
    """Yield the rows with the same values of some columns, in the order in which they come first."""
    keys = list(zip(*(np.asarray(rows[name]).tolist() for name in names), strict=True))
    for key in dict.fromkeys(keys):
        chosen = np.array([other == key for other in keys])
        yield dict(zip(names, key, strict=True)), rows[chosen]


def _scatter(values):
    """Return half of the central 68 %."""
    return float(np.diff(np.quantile(values, (0.16, 0.84)))[0] / 2) if len(values) else np.nan


def _sd(pulls):
    known = pulls[np.isfinite(pulls)]
    return float(np.clip(known, -FARTHEST, FARTHEST).std()) if len(known) else np.nan
