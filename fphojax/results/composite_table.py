"""Composite sources in one row each: total fluxes, shares of the first component, parameters of all components."""

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import QTable

from fphojax.inputs.composites import galaxies_of

from .patch_result import POSTERIOR_UNITS, PatchResult
from .table_text import formatted

__all__ = ["composite_table", "share_and_error", "total_and_error"]

SHAPES = ("q", "pa", "sersic", "rhalf")


def total_and_error(flux: np.ndarray, covariance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return median and standard deviation of the sum of components' fluxes.

    Parameters
    ----------
    flux : ndarray (component, band, n)
        Draws, or a single point.
    covariance : ndarray (band, component, component) or None
        Of a single point.
    """
    total = flux.sum(axis=0)
    error = total.std(axis=-1) if covariance is None else np.sqrt(covariance.sum(axis=(1, 2)))
    return np.median(total, axis=-1), error


def share_and_error(flux: np.ndarray, covariance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return median and standard deviation of the first component's share of the flux; NaN where there is none.

    The standard deviation is half of the central 68 % of the draws, as a total may be near zero in a band.

    Parameters
    ----------
    flux, covariance
        As for `total_and_error`.
    """
    total = flux.sum(axis=0)
    share = flux[0] / np.where(total == 0, np.nan, total)
    if covariance is None:
        low, middle, high = np.quantile(share, (0.16, 0.5, 0.84), axis=-1)
        return middle, (high - low) / 2
    share = share[:, 0]
    # to first order: d(f0 / t) = (df0 - share dt) / t
    slopes = np.concatenate([(1 - share)[:, None], np.tile(-share[:, None], (1, len(flux) - 1))], axis=1)
    slopes = slopes / np.where(total == 0, np.nan, total)
    return share, np.sqrt(np.einsum("bi,bij,bj->b", slopes, covariance, slopes))


def composite_table(result: PatchResult) -> QTable:
    """Make a table with one row per composite source.

    Parameters
    ----------
    result : PatchResult

    Returns
    -------
    QTable
        Columns: id; for every band its total flux, ``bt_BAND``, the share of the first component (bulge over total),
        and for every component ``COMPONENT_BAND`` and ``COMPONENT_q`` (pa, sersic, rhalf); each followed by its
        standard deviation, ``..._err``. NaN where a source has no such component. Empty without composite sources.
    """
    active, rows = result.active, []
    for name, members in galaxies_of(active).items():
        row, flux = {"id": name}, _draws(result, "flux", members)
        covariance = None
        if result.flux_covariance is not None:
            covariance = result.flux_covariance.to_numpy()[:, members][:, :, members]
        for label, (value, error) in {
            "": total_and_error(flux, covariance),
            "bt_": share_and_error(flux, covariance),
        }.items():
            for b, band in enumerate(result.bands):
                row |= {f"{label}{band}": value[b], f"{label}{band}_err": error[b]}
        for member in members:
            component = str(active["component"][member])
            row |= {f"{component}_{key}": value for key, value in _parameters(result, member).items()}
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = QTable({name: [row.get(name, np.nan) for row in rows] for name in names})
    for name in names[1:]:
        table[name].unit = _unit(name, result.bands) or None
    return formatted(table, {}, rest=".5g")


def _draws(result, name, members):
    """Return draws of some sources, (member, ..., n)."""
    draws = result.centred_draws[name].stack(n=("chain", "draw"), create_index=False)
    return draws.transpose("source", ..., "n").to_numpy()[members]


def _parameters(result, member):
    """Return fluxes and shapes of a source, and their errors."""
    found, std = {}, result.optimum_std
    for name in ("flux", *SHAPES):
        values = _draws(result, name, [member])[0]
        errors = values.std(axis=-1) if not std else std[name].to_numpy()[member]
        labels: Sequence[str] = result.bands if name == "flux" else (name,)
        for label, value, error in zip(
            labels, np.atleast_1d(np.median(values, axis=-1)), np.atleast_1d(errors), strict=True
        ):
            found |= {label: float(value), f"{label}_err": float(error)}
    return found


def _unit(name, bands: Sequence[str], units: Mapping[str, str] = POSTERIOR_UNITS) -> str:
    plain = name.removesuffix("_err")
    if plain.startswith("bt_"):
        return ""
    if any(plain == band or plain.endswith(f"_{band}") for band in bands):
        return units["flux"]
    return units[plain.rpartition("_")[2]]
