"""Tables of a result: parameters with intervals and convergence, exposures with chi-squared."""

from typing import Any

import numpy as np
from astropy.table import QTable
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.inputs.source_catalog import SourceCatalog

from .patch_result import POSTERIOR_UNITS, PatchResult
from .table_text import formatted

__all__ = ["decimals", "degrees_of_freedom", "exposure_table", "summary_table", "true_values"]

_QUANTILES = (0.16, 0.5, 0.84)
_LEAST_DRAWS = 4  # of each chain, for statistics of convergence


def summary_table(result: PatchResult, truth: SourceCatalog | None = None) -> QTable:
    """Make a table with one row per source and parameter.

    Parameters
    ----------
    result : PatchResult
    truth : SourceCatalog, optional
        The true parameters of sources with the same ``id``.

    Returns
    -------
    QTable
        Sources are in the order of the catalogue. Columns: id, parameter, band (empty but for fluxes), unit; value
        (median), lower and upper (limits of the central 68 %, from 0.16 to 0.84; of an optimum, one standard
        deviation) in that unit; r_hat (rank-normalised) and ess_bulk (Vehtari et al. 2021), NaN where there are no
        draws, and for draws by weights at most the effective number of points; at_bound, the fraction of draws
        within a thousandth of an edge of the prior; truth, if given. Angles are as in ``result.centred_draws``, and
        the truth is on the same turn.

    Raises
    ------
    InputError
        If `truth` lacks a source or a band.
    """
    draws = result.centred_draws
    low, value, high = (draws.quantile(q, ("chain", "draw")) for q in _QUANTILES)
    if result.optimum_std:
        low, high = value - result.optimum_std, value + result.optimum_std
    columns: dict[str, Any] = {"value": value, "lower": low, "upper": high}
    columns |= _convergence(draws)
    columns["ess_bulk"] = np.fmin(columns["ess_bulk"], result.effective_size)
    columns["at_bound"] = result.at_bound
    if truth is not None:
        columns["truth"] = true_values(result, truth)

    rows = []
    for s in _catalogue_order(result.active):
        source = result.active.id[s]
        for name, unit in POSTERIOR_UNITS.items():
            for b, band in enumerate(result.bands if name == "flux" else ("",)):
                at = (s, b) if name == "flux" else (s,)
                numbers = {key: float(np.asarray(table[name])[at]) for key, table in columns.items()}
                rows.append({"id": source, "parameter": name, "band": band, "unit": unit} | numbers)
    formats = {"r_hat": ".3f", "ess_bulk": ".0f", "at_bound": ".3f"}
    return formatted(QTable(rows), formats, rest=".10g")  # positions need as many digits


def _convergence(draws):
    """Return rank-normalised R-hat and the bulk's effective sample size; NaN for too few draws, as of an optimum."""
    if draws.sizes["draw"] < _LEAST_DRAWS:
        nothing = draws.isel(chain=0, draw=0) * np.nan
        return {"r_hat": nothing, "ess_bulk": nothing}
    import arviz  # takes seconds: it imports its plotting

    with np.errstate(invalid="ignore"):  # parameters that are held have no variance
        return {"r_hat": arviz.rhat(draws), "ess_bulk": arviz.ess(draws, method="bulk")}


def _catalogue_order(active):
    """Return the rows of a patch's sources in the order of the field's catalogue: a patch starts with its seed."""
    if "source_index" not in active.extra.colnames:
        return np.arange(len(active))
    return np.argsort(active["source_index"], kind="stable")


def decimals(lower: float, upper: float) -> int:
    """Return the number of decimals that show the width of an interval to two digits, 9 at most.

    It is negative where digits before the point are not known.
    """
    width = float(upper - lower)
    return int(min(1 - np.floor(np.log10(width)), 9)) if width > 0 else 3


def exposure_table(result: PatchResult) -> QTable:
    """Make a table with one row per exposure: band, exposure, n_pixel, chi2 and chi2_dof at the optimum.

    Parameters
    ----------
    result : PatchResult

    Returns
    -------
    QTable
        For the degrees of freedom see `degrees_of_freedom`.
    """
    table = result.exposures
    n_pixel, chi2 = table["n_pixel"].to_numpy(), table["chi2"].to_numpy()
    columns = {
        "band": table["band"].to_numpy(),
        "exposure": table["exposure"].to_numpy(),
        "n_pixel": n_pixel,
        "chi2": chi2,
        "chi2_dof": chi2 / degrees_of_freedom(n_pixel, result.mass_matrix.shape[0]),
    }
    return formatted(QTable(columns), {"chi2": ".1f", "chi2_dof": ".3f"})


def degrees_of_freedom(n_pixel: ArrayLike, n_parameter: int) -> np.ndarray:
    """Compute the pixels of every exposure less its share, by pixels, of the parameters.

    Parameters
    ----------
    n_pixel : array (E,)
    n_parameter : int

    Returns
    -------
    ndarray (E,)
    """
    n_pixel = np.asarray(n_pixel)
    return n_pixel * (1 - n_parameter / n_pixel.sum())


def true_values(result: PatchResult, truth: SourceCatalog) -> dict[str, np.ndarray]:
    """Return the true parameters of the fitted sources, in the units and the order of the posterior.

    Parameters
    ----------
    result : PatchResult
    truth : SourceCatalog
        Its rows are matched by ``id``.

    Returns
    -------
    dict of ndarray
        Position angles are within 90 degrees of the median of the draws, and ra as `centred_draws` has it.

    Raises
    ------
    InputError
        If `truth` lacks a source or a band.
    """
    row = {identifier: i for i, identifier in enumerate(truth.id.tolist())}
    missing = [str(i) for i in result.active.id.tolist() if i not in row]
    if missing:
        raise InputError(f"truth has no source {', '.join(missing)}, expected all fitted sources by their id")
    truth = truth[[row[i] for i in result.active.id.tolist()]].select_bands(result.bands)
    values = {name: getattr(truth, name) for name in POSTERIOR_UNITS}
    ra = truth.ra - 360 * np.round((truth.ra - result.region.ra) / 360)
    median = result.centred_draws["pa"].median(("chain", "draw")).to_numpy()
    return values | {"ra": ra, "pa": median + (truth.pa - median + 90) % 180 - 90}
