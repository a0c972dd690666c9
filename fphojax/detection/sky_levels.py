"""Residual sky levels of a run: one per exposure, and one per band for the next run.

The level b of an exposure is the mean of its residuals r weighted by w = ierr^2, without the pixels where
|r - b| ierr is more than ``clip`` times its scatter in the exposure (sources that the model lacks or
fits badly; the scatter is a median of absolute deviations, so that errors which are too large or too small, or
correlated noise, do not matter). Clipping is symmetric: faint sources below it raise the level, as they do in the
images.

Residuals of neighbouring pixels are correlated, by the noise of co-adds and by misfit of the models, so an error of
1 / sqrt(sum w) would be too optimistic. The error is that of a ratio of sums over square tiles t, which may be taken
as independent where they are larger than the correlation length,

    b = sum A_t / sum B_t,   A_t = sum w r,   B_t = sum w,
    var b = T / (T - 1) sum (A_t - b B_t)^2 / (sum B_t)^2,

the limit of the variance of a block bootstrap over the T tiles (Cochran, Sampling Techniques, 1977, eq. 6.13).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.stats import mad_std
from astropy.table import QTable
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.source_catalog import SourceCatalog

__all__ = ["ResidualPixels", "mask_sources", "residual_levels", "tweaked_background"]

_FEWEST_TILES = 8
_MOST_CLIPPINGS = 50


@dataclass(frozen=True, eq=False)
class ResidualPixels:
    """Pixels of an exposure, from one patch or from several.

    Attributes
    ----------
    name, band : str
    x, y : ndarray of int, shape (n,)
        Zero-indexed. A pixel that is in several patches may occur several times.
    residual : ndarray, shape (n,)
        Data - model, nJy per pixel.
    ierr : ndarray, shape (n,)
        Inverse standard deviation; 0 where the pixel has no weight.
    """

    name: str
    band: str
    x: np.ndarray
    y: np.ndarray
    residual: np.ndarray
    ierr: np.ndarray

    def __post_init__(self) -> None:
        sizes = {name: np.shape(getattr(self, name)) for name in ("x", "y", "residual", "ierr")}
        if len(set(sizes.values())) > 1 or len(sizes["x"]) != 1:
            raise InputError(f"exposure {self.name}: arrays of the shapes {sizes}, expected (n,) for all")

    def selected(self, keep: np.ndarray) -> "ResidualPixels":
        """Select pixels by a mask."""
        columns = (self.x[keep], self.y[keep], self.residual[keep], self.ierr[keep])
        return ResidualPixels(self.name, self.band, *columns)


def mask_sources(
    pixels: ResidualPixels, wcs: BaseLowLevelWCS, catalog: SourceCatalog, radius: ArrayLike
) -> ResidualPixels:
    """Return the pixels that lie outside circles around sources.

    Parameters
    ----------
    pixels : ResidualPixels
    wcs : APE-14 WCS
        Of the exposure.
    catalog : SourceCatalog
    radius : array_like, shape (N,), or float
        Arcsec.
    """
    if not len(catalog) or not len(pixels.x):
        return pixels
    affine = local_affine(wcs, catalog.ra, catalog.dec, dec0=float(np.mean(catalog.dec)))
    radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), len(catalog))
    x0, y0 = pixels.x.min(), pixels.y.min()
    masked = np.zeros((pixels.y.max() - y0 + 1, pixels.x.max() - x0 + 1), dtype=bool)
    for pixel, jacobian, size in zip(affine.pixel, affine.jacobian, radius, strict=True):
        if not np.isfinite(pixel).all():
            continue
        reach = size * np.linalg.norm(jacobian, 2)
        (left, bottom), (right, top) = (
            np.clip(corner, 0, masked.shape[::-1]).astype(int)
            for corner in (np.floor(pixel - reach) - (x0, y0), np.ceil(pixel + reach) + 1 - (x0, y0))
        )
        y, x = np.mgrid[bottom:top, left:right]
        offset = np.stack([x + x0 - pixel[0], y + y0 - pixel[1]])
        east, north = np.tensordot(np.linalg.inv(jacobian), offset, axes=1)
        masked[bottom:top, left:right] |= np.hypot(east, north) <= size
    return pixels.selected(~masked[pixels.y - y0, pixels.x - x0])


def residual_levels(exposures: Iterable[ResidualPixels], *, clip: float = 3.0, tile: int = 16) -> QTable:
    """Estimate the residual sky level of each exposure.

    Parameters
    ----------
    exposures : iterable of ResidualPixels
        Iterated over once, so that they may be read one by one.
    clip : float
        Pixels beyond this many times the scatter of residual * ierr are excluded.
    tile : int
        Side of the tiles for the error, pixels; halved until there are at least 8 of them. Residuals should not be
        correlated over larger distances.

    Returns
    -------
    QTable
        A row per exposure: ``exposure``, ``band``, ``level`` and its ``error`` (nJy per pixel), ``n_pixel`` (with
        weight, each counted once), ``n_used`` (those not clipped), ``chi2_dof`` (mean of (residual * ierr)^2 of all
        `n_pixel`). Level and error are NaN where fewer than two pixels have any weight.
    """
    rows = [
        (exposure.name, exposure.band, *_level(_unique_pixels(exposure), clip, tile))
        for exposure in exposures
    ]
    names = ("exposure", "band", "level", "error", "n_pixel", "n_used", "chi2_dof")
    types = (str, str, float, float, int, int, float)
    return QTable(rows=rows or None, names=names, dtype=types, units={"level": u.nJy, "error": u.nJy})


def tweaked_background(levels: QTable, present: Mapping[str, float] | None = None) -> dict[str, float]:
    """Combine levels per band, in the form of the configuration block ``tweakbg``.

    Parameters
    ----------
    levels : QTable
        From `residual_levels`.
    present : mapping of str to float, optional
        The block of the run; its levels were already subtracted from the images, so they are added.

    Returns
    -------
    dict of str to float
        nJy per pixel. Each exposure of a band has the weight 1 / error^2. Bands of `present` without a level in the
        table stay as they are.
    """
    tweak = dict(present or {})
    level, error = levels["level"].to_value(u.nJy), levels["error"].to_value(u.nJy)
    measured = np.isfinite(level) & np.isfinite(error) & (error > 0)
    for band in dict.fromkeys(levels["band"][measured].tolist()):
        rows = measured & (levels["band"] == band)
        tweak[band] = tweak.get(band, 0.0) + float(np.average(level[rows], weights=error[rows] ** -2.0))
    return tweak


def _unique_pixels(pixels):
    """Return the pixels with weight, each once, with the mean of the residuals that patches have of it."""
    pixels = pixels.selected((pixels.ierr > 0) & np.isfinite(pixels.residual))
    if not len(pixels.x):
        return pixels
    width = pixels.x.max() + 1
    places, first, place = np.unique(pixels.y * width + pixels.x, return_index=True, return_inverse=True)
    mean = np.bincount(place, pixels.residual) / np.bincount(place)
    x, y = places % width, places // width
    return ResidualPixels(pixels.name, pixels.band, x, y, mean, pixels.ierr[first])


def _level(pixels, clip, tile):
    """Return level, error, number of pixels, number of pixels used, and chi2 / dof."""
    residual, ierr = pixels.residual, pixels.ierr
    if len(residual) < 2:
        return np.nan, np.nan, len(residual), 0, np.nan
    chi2_dof = float(np.mean((residual * ierr) ** 2))
    level, used = np.median(residual), None
    for _ in range(_MOST_CLIPPINGS):
        chi = (residual - level) * ierr
        before, used = used, np.abs(chi) <= clip * mad_std(chi)
        if before is not None and np.array_equal(before, used):
            break
        level = np.average(residual[used], weights=ierr[used] ** 2)
    error = _error(pixels.selected(used), level, tile)
    return float(level), error, len(residual), int(np.count_nonzero(used)), chi2_dof


def _error(pixels, level, tile):
    """Estimate the standard deviation of a level from sums over tiles."""
    if len(pixels.x) < 2:
        return np.nan
    weight = pixels.ierr.astype(np.float64) ** 2
    while True:
        column, row = pixels.x // tile, pixels.y // tile
        _, place = np.unique(row * (column.max() + 1) + column, return_inverse=True)
        count = place.max() + 1
        if count >= _FEWEST_TILES or tile == 1:
            break
        tile = tile // 2
    excess = np.bincount(place, weight * (pixels.residual - level))
    of_tiles = np.sqrt(count / (count - 1) * np.sum(excess**2)) / weight.sum()
    # few tiles may agree by chance, but not better than pixels with independent noise
    of_pixels = mad_std((pixels.residual - level) * pixels.ierr) / np.sqrt(weight.sum())
    return float(max(of_tiles, of_pixels))
