"""Columns of the final catalogue that are computed from draws alone.

Separate from `fphojax.results.products.final_catalog`, so that worker processes import little.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from fphojax.results.convergence import convergence, quantiles

from .catalog_columns import ColumnName
from .photometry import (
    ZERO_POINT,
    ab_magnitude,
    central_brightness,
    effective_brightness,
    isophotal_radius,
    kron_radius,
)

__all__ = ["DrawColumns"]

_PROBABILITIES = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class DrawColumns:
    """Function that computes columns of the final catalogue from the draws of sources.

    Attributes
    ----------
    bands : tuple of str
    parameters : tuple of str
        In the order of the draws: the bands come first.
    isophote : float
        Surface brightness at which isophotal radii are taken, AB mag / arcsec^2.
    """

    bands: tuple[str, ...]
    parameters: tuple[str, ...]
    isophote: float

    def __call__(self, draws: np.ndarray) -> dict[ColumnName, np.ndarray]:
        """Compute the columns (S,) from draws (S, parameter, chain, draw)."""
        return self._statistics(draws) | self._derived(draws)

    def _statistics(self, draws):
        """Compute percentiles, moments and convergence of every parameter."""
        shape = draws.shape[:2]
        flat = draws.reshape(-1, *draws.shape[2:])
        samples = flat.reshape(len(flat), -1)
        ordered = np.sort(samples, axis=1)
        low, middle, high = quantiles(ordered, _PROBABILITIES)
        statistics = {"16": low, "84": high, "mean": samples.mean(axis=1), "std": samples.std(axis=1)}
        quality, constant = convergence(flat), ordered[:, 0] == ordered[:, -1]
        for key, values in {
            "ess_bulk": quality.ess_bulk,
            "ess_tail": quality.ess_tail,
            "rhat": quality.r_hat,
        }.items():
            statistics[key] = np.where(constant, np.nan, values)
        statistics = {key: values.reshape(shape) for key, values in statistics.items()}
        middle = middle.reshape(shape)

        first, more = {}, {}
        n_band = len(self.bands)
        for p, name in enumerate(self.parameters):
            more |= {
                ColumnName(f"PARAMETER_{key}", (name,)): values[:, p]
                for key, values in statistics.items()
                if p >= n_band or key != "std"
            }
            if p >= n_band:
                first[ColumnName(name)] = middle[:, p]
        for b, band in enumerate(self.bands):
            first[ColumnName("BAND", (band,))] = middle[:, b]
            scatter = statistics["std"][:, b]
            first[ColumnName("BAND_err", (band,))] = np.where(scatter > 0, scatter, np.nan)
        # over the parameters that vary
        smaller = np.fmin(statistics["ess_bulk"], statistics["ess_tail"])
        more[ColumnName("ess_min")] = np.fmin.reduce(smaller, axis=1)
        more[ColumnName("rhat_max")] = np.fmax.reduce(statistics["rhat"], axis=1)
        return first | more

    def _derived(self, draws):
        """Compute magnitudes, colours, radii, surface brightnesses, and covariances of fluxes and colours."""
        samples = draws.reshape(*draws.shape[:2], -1)
        flux = samples[:, : len(self.bands)]
        q, sersic, rhalf = (samples[:, self.parameters.index(name)] for name in ("q", "sersic", "rhalf"))
        stretch = 1 / np.sqrt(q)
        columns = self._fluxes(flux) | self._colours(flux)
        columns |= _intervals("rhalf_major", (), rhalf * stretch)
        columns |= _intervals("r_kron", (), kron_radius(rhalf, sersic) * stretch)
        level = 10 ** (0.4 * (ZERO_POINT - self.isophote))
        extended = np.where(rhalf > 0, rhalf, np.nan)[:, None]  # a point has no surface brightness
        shape = extended, sersic[:, None]
        radii = isophotal_radius(level, flux, *shape) * stretch[:, None]
        brightness = {
            "mu0_BAND": flux * central_brightness(1.0, *shape),
            "mue_BAND": flux * effective_brightness(1.0, *shape),
        }
        for b, band in enumerate(self.bands):
            columns |= _intervals("r_iso_BAND", (band,), radii[:, b])
            for key, values in brightness.items():
                columns |= _magnitude_intervals(key, (band,), values[:, b])
        return columns

    def _fluxes(self, flux):
        """Compute covariances and magnitudes of fluxes (S, band, n)."""
        bands = self.bands
        columns = {
            ColumnName("cov_BAND_BAND2", (bands[a], bands[b])): _covariance(flux[:, a], flux[:, b])
            for a, b in combinations(range(len(bands)), 2)
        }
        low, middle, high = quantiles(np.sort(flux, axis=-1), _PROBABILITIES)
        for ending, values in (("", middle.T), ("_16", high.T), ("_84", low.T)):
            magnitudes = ab_magnitude(values)
            for b, band in enumerate(bands):
                columns[ColumnName(f"mag_BAND{ending}", (band,))] = magnitudes[:, b]
        return columns

    def _colours(self, flux):
        """Compute colours of adjacent bands from fluxes (S, band, n)."""
        bands = self.bands
        colours = -np.diff(ab_magnitude(flux), axis=1)
        columns = {}
        for c, pair in enumerate(pairwise(bands)):
            columns |= _intervals("colour_BAND_BAND2", pair, colours[:, c])
            columns[ColumnName("colour_BAND_BAND2_std", pair)] = colours[:, c].std(axis=-1)
        for c in range(len(bands) - 2):
            name = ColumnName("colour_cov_BAND_BAND2_BAND3", tuple(bands[c : c + 3]))
            columns[name] = _covariance(colours[:, c], colours[:, c + 1])
        return columns


def _intervals(pattern, parts, draws):
    """Make columns of the median, the 16th and 84th percentile of draws (S, n); NaN where any draw is NaN."""
    ordered = np.sort(draws, axis=1)
    ordered[np.isnan(ordered[:, -1])] = np.nan
    low, middle, high = quantiles(ordered, _PROBABILITIES)
    return {ColumnName(pattern + end, parts): v for end, v in (("", middle), ("_16", low), ("_84", high))}


def _magnitude_intervals(pattern, parts, brightness):
    """Make the same columns for magnitudes of draws (S, n); NaN where any draw is not positive."""
    ordered = np.sort(brightness, axis=1)
    ordered[~(ordered[:, 0] > 0)] = np.nan
    high, middle, low = ab_magnitude(quantiles(ordered, _PROBABILITIES))
    return {ColumnName(pattern + end, parts): v for end, v in (("", middle), ("_16", low), ("_84", high))}


def _covariance(one, other):
    """Compute the covariance of draws (S, n)."""
    centred = one - one.mean(axis=-1, keepdims=True), other - other.mean(axis=-1, keepdims=True)
    return (centred[0] * centred[1]).mean(axis=-1)
