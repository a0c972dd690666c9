"""Significance of point sources for one spectrum, from the matched-filter maps of all bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from astropy.stats import mad_std

from .matched_filter import BandMaps
from .surroundings import light_around

__all__ = ["Statistic", "expected_maxima"]

_SURE = 2.0  # errors of the light around, below which it counts as noise


@dataclass(frozen=True, eq=False)
class Statistic:
    """Sums over bands, weighted with a spectrum t.

    Attributes
    ----------
    signal, variance, model : ndarray, shape (ny, nx)
        sum t N, sum t^2 W and sum t M.
    model_error : float
        Fraction f by which models may be wrong.
    radius : float
        Half-light radius of the widest filtered PSF, in cells of the grid.
    """

    signal: np.ndarray
    variance: np.ndarray
    model: np.ndarray
    model_error: float
    radius: float

    @classmethod
    def of(
        cls, maps: Sequence[BandMaps], spectrum: Sequence[float], model_error: float, scale: float
    ) -> "Statistic":
        """Combine the maps of bands by their relative fluxes; `scale` is the size of a cell, arcsec."""
        pairs = list(zip(spectrum, maps, strict=True))
        return cls(
            reduce(np.add, (t * part.signal for t, part in pairs)),
            reduce(np.add, (t**2 * part.weight for t, part in pairs)),
            reduce(np.add, (t * part.model for t, part in pairs)),
            model_error,
            max(part.psf_size[0] for part in maps) / scale,
        )

    @property
    def values(self) -> np.ndarray:
        """Significance S at every cell; 0 where there are no data."""
        noise = np.sqrt(self.variance + (self.model_error * self.model) ** 2)
        return np.divide(self.signal, noise, out=np.zeros_like(noise), where=self.variance > 0)

    def rise(
        self, x: np.ndarray, y: np.ndarray, higher: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Measure how much peaks stand out from the light around them.

        Parameters
        ----------
        x, y : ndarray of int, shape (n,)
        higher : tuple of ndarray
            See `light_around`.

        Returns
        -------
        significance : ndarray, shape (n,)
            S of the excess over the light around, which is treated as a model with an error of its own.
        contrast : ndarray, shape (n,)
            Ratio of the excess to that light plus the light of the model; infinite where both are zero.
        """
        covered = self.variance > 0
        flux = np.divide(self.signal, self.variance, out=np.full(covered.shape, np.nan), where=covered)
        variance = self.variance[y, x]
        around, error = light_around(flux, x, y, 2 * self.radius, higher)
        around = around * variance
        subtracted = around > _SURE * error * np.sqrt(variance)
        around, error = np.where(subtracted, around, 0), np.where(subtracted, error, 0)
        more = self.signal[y, x] - around
        light = np.maximum(self.model[y, x], 0) + around
        noise = np.sqrt((1 + error**2) * variance + (self.model_error * light) ** 2)
        return (
            np.divide(more, noise, out=np.zeros_like(noise), where=variance > 0),
            np.divide(more, light, out=np.full(len(x), np.inf), where=light > 0),
        )


def expected_maxima(values: np.ndarray, threshold: float) -> float:
    """Return the expected number of maxima of noise in a map above a threshold; see `source_search`.

    Scatter beyond 1, that of the noise, is light, and does not make the noise smoother.
    """
    good = values != 0
    variance = min(mad_std(values[good]) ** 2, 1.0) if good.any() else 0.0
    if not variance > 0:
        return 0.0
    gradients = []
    for one, shifted in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        difference = (values[one] - values[shifted])[good[one] & good[shifted]]
        # for noise without any correlation this ratio would be 2
        gradients.append(-2 * np.log(1 - min(mad_std(difference) ** 2 / variance, 1.9) / 2))
    density = np.sqrt(gradients[0] * gradients[1]) * threshold * np.exp(-(threshold**2) / 2)
    return float(np.count_nonzero(good) * density / (2 * np.pi) ** 1.5)
