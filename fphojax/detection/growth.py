"""Profiles and curves of growth of sources in matched-filter maps, the brightest first.

With the response R = sum P w a of `fphojax.detection.matched_filter` (a: area of a pixel), N / R is the surface
brightness, smoothed with the PSF, nJy / arcsec^2, and its standard deviation sqrt(W) / R. The profile of a source is
the median on circles, which is insensitive to neighbours on one side; its light ends where the profile drops to the
noise of such a median. The profile inside is subtracted from the map before the next fainter source is measured, so
that the halo of a galaxy is not counted with the sources that lie in it. Because galaxies are not round, a fifth of
the light subtracted at the position of a fainter source is added to its noise. The flux is the integral of the
profile; if this ends at a fraction of its peak, as for a faint source, the rest is added as for a Gaussian.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from .matched_filter import BandMaps

__all__ = ["Growth", "growth_curves"]

_POINTS = 32  # points of a circle
_STEP = 1.2  # ratio of the radii of consecutive circles
_END_LEVEL = 1.5  # standard deviations of a circle's median, below which the light ends
_NOT_ROUND = 0.2  # fraction of the light of a galaxy that is not in its circular profile
_MIN_COVERAGE = 0.3  # fraction of a circle that has to be in the image


@dataclass(frozen=True, eq=False)
class Growth:
    """Curves of growth of sources.

    Attributes
    ----------
    flux : ndarray, shape (n, n_band)
        nJy; NaN where there are no data.
    half, end : ndarray, shape (n,)
        Radius of half the flux (smoothed twice with the PSF), and radius where the light ends, arcsec; in the band
        in which the source is most significant.
    """

    flux: np.ndarray
    half: np.ndarray
    end: np.ndarray


def growth_curves(
    maps: dict[str, BandMaps], x: np.ndarray, y: np.ndarray, band: np.ndarray, scale: float
) -> Growth:
    """Measure curves of growth of sources.

    Parameters
    ----------
    maps : dict of str to BandMaps
    x, y : ndarray, shape (n,)
        Positions on the grid, the brightest source first.
    band : ndarray of int, shape (n,)
        Band in which each source is most significant.
    scale : float
        Size of a cell of the grid, arcsec.
    """
    light, noise = [], []
    for part in maps.values():
        covered = part.response > 0
        safe = np.where(covered, part.response, 1)
        light.append(np.where(covered, part.signal / safe, np.nan))
        noise.append(np.where(covered, np.sqrt(part.weight) / safe, np.nan))
    first = [image.copy() for image in light]
    width = [part.psf_size[0] / scale for part in maps.values()]  # over which noise is correlated
    largest = max(light[0].shape) / 2
    radius = np.concatenate([[0], 0.25 * min(width) * _STEP ** np.arange(200)])
    radius = radius[radius < max(largest, 2 * min(width))]
    flux = np.full((len(x), len(light)), np.nan)
    half, end = np.zeros(len(x)), np.zeros(len(x))
    for i in range(len(x)):
        last = None
        for k in (band[i], *(k for k in range(len(light)) if k != band[i])):
            profile = _profile(light[k], x[i], y[i], radius)
            column, row = int(np.rint(x[i])), int(np.rint(y[i]))
            if not (np.isfinite(profile[0]) and np.isfinite(noise[k][row, column])):
                continue
            if last is None:
                error = noise[k][row, column] * 1.25 / np.sqrt(np.maximum(1, np.pi * radius / width[k]))
                error = error + _NOT_ROUND * np.abs(first[k][row, column] - light[k][row, column])
                below_noise = np.flatnonzero(~(profile > _END_LEVEL * error))
                last = max(below_noise[0] if below_noise.size else len(radius) - 1, 1)
                end[i] = radius[last] * scale
                growth = _integral(radius, profile)[: last + 1]
                half[i] = np.interp(growth[-1] / 2, growth, radius[: last + 1]) * scale
            growth = _integral(radius, profile)[last]
            tail = np.clip(profile[last] / profile[0], 0, 0.7) if profile[0] > 0 else 0
            flux[i, k] = growth * scale**2 / (1 - tail)
            _subtract_profile(light[k], x[i], y[i], radius[: last + 1], profile[: last + 1])
    return Growth(flux, half, end)


def _profile(light, x, y, radius):
    """Return medians on circles; 0 if too little of one is in the image, NaN at a centre without data."""
    angle = (np.arange(_POINTS) + 0.5) * 2 * np.pi / _POINTS
    at = y + np.outer(radius, np.sin(angle)), x + np.outer(radius, np.cos(angle))
    values = map_coordinates(light, at, order=1, cval=np.nan)
    n_covered = np.count_nonzero(np.isfinite(values), axis=1)
    values[n_covered == 0] = 0
    profile = np.where(n_covered > _MIN_COVERAGE * _POINTS, np.nanmedian(values, axis=1), 0)
    profile[0] = values[0, 0] if n_covered[0] else np.nan
    return profile


def _integral(radius, profile):
    """Integrate a profile, linear between radii, to the light within each radius, in cells."""
    outer, inner = radius[1:], radius[:-1]
    slope = np.diff(profile) / (outer - inner)
    level = profile[:-1] - slope * inner
    rings = 2 * np.pi * (level * (outer**2 - inner**2) / 2 + slope * (outer**3 - inner**3) / 3)
    return np.concatenate([[0], np.cumsum(rings)])


def _subtract_profile(light, x, y, radius, profile):
    """Subtract a profile from a map."""
    low = np.maximum(np.floor([y - radius[-1], x - radius[-1]]).astype(int), 0)
    high = np.minimum(np.ceil([y + radius[-1], x + radius[-1]]).astype(int) + 1, light.shape)
    row, column = np.ogrid[low[0] : high[0], low[1] : high[1]]
    distance = np.hypot(row - y, column - x)
    light[low[0] : high[0], low[1] : high[1]] -= np.interp(distance, radius, profile, right=0)
