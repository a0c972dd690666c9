"""First guesses of fluxes and sizes of sources that were found in matched-filter maps.

The flux map N / W of a source with a Gaussian profile of variance s^2 under a Gaussian PSF of variance p^2 is a
Gaussian of variance s^2 + 2 p^2 around it, with the height F 2 p^2 / (s^2 + 2 p^2). Its fall from the peak to a
circle around it therefore gives s, and with it the total flux F. For a given PSF, 2 p^2 follows from the fall of its
autocorrelation to the same circle, where this is about a half.
"""

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve

from fphojax.inputs.astrometry import pixel_scale
from fphojax.inputs.source_catalog import ROI_PER_RHALF, SourceCatalog

from .growth import growth_curves
from .matched_filter import BandMaps

__all__ = ["guess_sources"]

_RHALF_PER_SIGMA = np.sqrt(2 * np.log(2))
_EXTENDED = 3.0  # half-light radii of the filtered PSF; no curve of growth is used if the light ends within
_Q, _PA, _SERSIC = 0.8, 0.0, 1.5  # inside usual bounds


def guess_sources(
    maps: dict[str, BandMaps],
    x: np.ndarray,
    y: np.ndarray,
    grid: WCS,
    spectrum: dict[str, float],
    rhalf_range: tuple[float, float],
    extra: Table,
) -> SourceCatalog:
    """Build a catalogue of sources at given positions, with guesses of their parameters.

    Parameters
    ----------
    maps : dict of str to BandMaps
        By band.
    x, y : ndarray, shape (n,)
        Positions on the grid of the maps.
    grid : WCS
    spectrum : dict of str to float
        Relative fluxes in the bands, from which fluxes in bands without data are guessed.
    rhalf_range : tuple of float
        Arcsec.
    extra : Table
        Further columns.

    Returns
    -------
    SourceCatalog
        Fluxes are positive: at least the standard deviation of the flux of a point source.
    """
    scale = pixel_scale(grid, next(iter(maps.values())).signal.shape)
    radius, psf_width = np.array([part.psf_size for part in maps.values()]).T
    radius, psf_width = radius / scale, psf_width / scale**2  # grid cells
    flux, error = np.stack([_point_flux(part, x, y) for part in maps.values()], axis=-1)
    width = np.zeros(len(x))  # variance of the profile, cells^2
    significance = np.where(error > 0, flux / np.where(error > 0, error, 1), -np.inf)
    best = significance.argmax(axis=1)
    for k, part in enumerate(maps.values()):
        rows = np.flatnonzero(best == k)
        width[rows] = np.maximum(
            _map_variance(part, x[rows], y[rows], flux[rows, k], radius[k]) - psf_width[k], 0
        )
    rhalf = np.clip(_RHALF_PER_SIGMA * scale * np.sqrt(width), *rhalf_range)
    width = (rhalf / scale / _RHALF_PER_SIGMA) ** 2
    total = np.maximum(flux, error) * (1 + width[:, None] / psf_width)
    roi = ROI_PER_RHALF * np.hypot(rhalf, scale * radius.max() / np.sqrt(2))

    order = np.argsort(-significance.max(axis=1, initial=-np.inf), kind="stable")
    growth = growth_curves(maps, x[order], y[order], best[order], scale)
    end, half, grown_flux = (np.empty_like(part) for part in (growth.end, growth.half, growth.flux))
    end[order], half[order], grown_flux[order] = growth.end, growth.half, growth.flux
    extended = end > _EXTENDED * scale * radius[best]
    psf_half = np.array([_half_light(part) for part in maps.values()])[best]
    resolved = np.sqrt(np.maximum(half**2 - psf_half**2, 0))
    rhalf = np.where(extended, np.clip(resolved, *rhalf_range), rhalf)
    use = extended[:, None] & (grown_flux > error)
    total = np.where(use, grown_flux, total)
    roi = np.maximum(roi, np.where(extended, end, 0))

    relative = np.array([spectrum[band] for band in maps])
    absent = ~(error > 0)
    level = np.ma.median(np.ma.array(total / relative, mask=absent), axis=1).filled(0)
    ra, dec = grid.pixel_to_world_values(x, y)
    return SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=np.where(absent, level[:, None] * relative, total),
        q=_Q,
        pa=_PA,
        sersic=_SERSIC,
        rhalf=rhalf,
        roi=roi,
        bands=tuple(maps),
        extra=extra,
    )


def _half_light(part):
    """Return the half-light radius of the PSF's autocorrelation, arcsec."""
    psf = part.psf_image
    correlation = fftconvolve(psf, psf[::-1, ::-1])
    row, column = np.indices(correlation.shape)
    distance = np.hypot(row - psf.shape[0] + 1, column - psf.shape[1] + 1).ravel()
    order = np.argsort(distance)
    growth = np.cumsum(correlation.ravel()[order])
    return float(np.interp(growth[-1] / 2, growth, distance[order])) * part.psf_scale


def _circle(x, y, radius):
    """Return eight points on circles around places."""
    angle = np.arange(8) * np.pi / 4
    return np.add.outer(x, radius * np.cos(angle)), np.add.outer(y, radius * np.sin(angle))


def _interpolate(values, x, y, order):
    return map_coordinates(values, [y, x], order=order, mode="nearest")


def _point_flux(part, x, y):
    """Return the flux of a point source, and its standard deviation; both 0 where there are no data."""
    weight = _interpolate(part.weight, x, y, 1)
    good = weight > 0
    signal = _interpolate(part.signal, x, y, 3)
    weight = np.where(good, weight, 1)
    return np.where(good, signal / weight, 0), np.where(good, 1 / np.sqrt(weight), 0)


def _map_variance(part, x, y, peak, radius):
    """Estimate the variance of the peaks of the flux map from their fall to a circle."""
    around, _ = _point_flux(part, *_circle(x, y, radius))
    # the median, because neighbours lie only on some sides
    fall = np.clip(np.median(around, axis=1) / np.where(peak > 0, peak, np.inf), 0.01, 0.999)
    return radius**2 / 2 / np.log(1 / fall)
