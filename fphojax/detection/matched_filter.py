"""Significance maps: residual images filtered with their PSFs, and combined on a common grid on the sky.

Around each pixel of an exposure, with PSF P, weights w = ierr^2, residual r and model m,

    N = sum P w r,   W = sum P^2 w,   M = sum P w m,

N / W is the flux of a point source there, and W its inverse variance, if the noise of pixels is independent and equal
to 1 / ierr (Zackay & Ofek 2017, ApJ 836, 187). It rarely is: the scatter of pixels of co-adds may be a quarter of
their errors, and that of sums over a PSF one and a half times theirs; and a residual level in the image of a fraction
of the noise is several standard deviations of such sums. Level, scale and correlation of the noise are therefore
measured in each exposure (`fphojax.detection.image_noise`): the level is subtracted, and N, W, M are divided by K,
the variance of N / sqrt(W). The map then has unit scatter, thresholds are in true standard deviations, and exposures
are weighted correctly. A model may be wrong by a fraction f; the noise is measured only where that error is less than
the noise, f M < sqrt(W).

Exposures are sampled on a common grid, a tangent plane with the smallest of their pixel sizes, and N, W and M of a
band are sums over its exposures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS
from scipy.ndimage import map_coordinates
from scipy.signal import fftconvolve, oaconvolve

from fphojax.errors import InputError
from fphojax.inputs.astrometry import local_affine, pixel_scale

from .image_noise import ImageNoise, measure_noise

__all__ = ["BandMaps", "ResidualImage", "band_maps", "common_grid"]

_COVERED = 0.5  # least fraction of the PSF that falls on good pixels
_LATTICE = 16  # spacing of the grid cells whose positions are computed with the WCS; others are interpolated


@dataclass(frozen=True, eq=False)
class ResidualImage:
    """Residuals of an exposure under a model, or the exposure itself.

    Attributes
    ----------
    residual : ndarray, shape (ny, nx)
        Data - model, nJy per pixel; NaN where there is none.
    ierr : ndarray, shape (ny, nx)
        Inverse standard deviation; 0 where the pixel has no weight.
    model : ndarray, shape (ny, nx), or None
        Model that was subtracted.
    wcs : APE-14 WCS
    band, name : str
    psf_image : ndarray, shape (my, mx), odd
        Effective PSF, at the image's pixel scale, centred, sum 1.

    Raises
    ------
    InputError
        Images of different shapes, or an even PSF.
    """

    residual: np.ndarray
    ierr: np.ndarray
    model: np.ndarray | None
    wcs: BaseLowLevelWCS
    band: str
    name: str
    psf_image: np.ndarray

    def __post_init__(self) -> None:
        shape = np.shape(self.residual)
        for name in ("ierr", "model"):
            image = getattr(self, name)
            if image is not None and np.shape(image) != shape:
                raise InputError(
                    f"exposure {self.name}: {name} has shape {np.shape(image)}, expected {shape}"
                )
        if any(side % 2 == 0 for side in np.shape(self.psf_image)):
            raise InputError(
                f"exposure {self.name}: PSF image of shape {np.shape(self.psf_image)}, expected odd numbers"
            )


@dataclass(frozen=True, eq=False)
class BandMaps:
    """Sums over the exposures of a band, on the common grid.

    Attributes
    ----------
    signal, weight, model, response : ndarray, shape (ny, nx)
        N, W, M, and sum P w times the area of a pixel (arcsec^2), which is the N of a surface brightness of 1; all
        divided by K; 0 where there is no exposure.
    psf_image : ndarray
        Of the exposure with the largest share in the weight.
    psf_scale : float
        Pixel scale of `psf_image`, arcsec.
    noise : dict of str to ImageNoise
        Of each exposure.
    """

    signal: np.ndarray
    weight: np.ndarray
    model: np.ndarray
    response: np.ndarray
    psf_image: np.ndarray
    psf_scale: float
    noise: dict[str, ImageNoise]

    @cached_property
    def psf_size(self) -> tuple[float, float]:
        """Return half-peak radius (arcsec) and variance 2 p^2 (arcsec^2) of the PSF's autocorrelation."""
        psf = self.psf_image
        correlation = fftconvolve(psf, psf[::-1, ::-1])
        radius = np.sqrt(np.count_nonzero(correlation > correlation.max() / 2) / np.pi)
        angle = np.arange(8) * np.pi / 4
        at = psf.shape[0] - 1 + radius * np.sin(angle), psf.shape[1] - 1 + radius * np.cos(angle)
        around = map_coordinates(correlation, at, order=3, mode="nearest")
        variance = radius**2 / 2 / np.log(correlation.max() / np.median(around))
        return radius * self.psf_scale, variance * self.psf_scale**2


def common_grid(images: Sequence[ResidualImage]) -> tuple[WCS, tuple[int, int]]:
    """Build a tangent plane, north up, that covers all images with the smallest of their pixel scales.

    Returns
    -------
    wcs : WCS
    shape : tuple of int
        (ny, nx).
    """
    scale = min(pixel_scale(image.wcs, image.residual.shape) for image in images)
    rims = [np.stack(image.wcs.pixel_to_world_values(*_rim(image.residual.shape))) for image in images]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    wcs.wcs.crval, wcs.wcs.crpix = rims[0].mean(axis=1) if np.ptp(rims[0][0]) < 180 else rims[0][:, 0], [1, 1]
    corners = np.concatenate([np.stack(wcs.world_to_pixel_values(*rim)) for rim in rims], axis=1)
    low, high = np.floor(corners.min(axis=1)), np.ceil(corners.max(axis=1))
    wcs.wcs.crpix = 1 - low
    nx, ny = (high - low).astype(int) + 1
    return wcs, (int(ny), int(nx))


def band_maps(
    images: Sequence[ResidualImage],
    grid: WCS,
    shape: tuple[int, int],
    *,
    model_error: float,
    sources: np.ndarray | None = None,
) -> BandMaps:
    """Compute the maps of a band.

    Parameters
    ----------
    images : sequence of ResidualImage
        Of one band.
    grid : WCS
    shape : tuple of int
        (ny, nx) of the grid.
    model_error : float
        Fraction f by which models may be wrong.
    sources : ndarray of bool, shape (ny, nx), optional
        Cells of the grid that are on sources, where the noise is not measured.
    """
    total = np.zeros((4, *shape))
    noise, shares = {}, []
    for image in images:
        signal, weight, model, response, covered = _sums(image)
        plain = covered & (image.ierr > 0) & np.isfinite(image.residual)
        plain &= model_error * np.abs(model) < np.sqrt(np.maximum(weight, 0))
        window, pixel = _pixels_of_grid(image, grid, shape)
        on_sources = None if sources is None else _mask_of(pixel[:, sources[window]], plain.shape)
        sums = signal, weight, response
        measured = measure_noise(image.residual, image.ierr, image.psf_image, sums, plain, on_sources)
        noise[image.name] = measured
        area = pixel_scale(image.wcs, image.residual.shape) ** 2
        maps = np.stack([signal - measured.level * response, weight, model, area * response]) / measured.power
        good = map_coordinates(covered.astype(np.float32), pixel, order=1) > 0.99
        # cubic for N and M, which may have narrow peaks; linear for the others, which must not become negative
        for out, values, order in zip(total, maps, (3, 1, 3, 1), strict=True):
            out[window] += np.where(good, map_coordinates(values, pixel, order=order), 0)
        shares.append(float(maps[1][covered].sum()))
    main = images[int(np.argmax(shares))]
    scale = pixel_scale(main.wcs, main.residual.shape)
    signal, weight, model, response = total
    return BandMaps(signal, weight, model, response, main.psf_image, scale, noise)


def _sums(image):
    """Compute N, W, M, sum P w, and where enough of the PSF falls on good pixels."""
    good = (image.ierr > 0) & np.isfinite(image.residual)
    weight = np.where(good, image.ierr, 0).astype(np.float64) ** 2
    psf = np.asarray(image.psf_image, dtype=np.float64)
    flipped = psf[::-1, ::-1]

    def summed(values, kernel):
        return oaconvolve(values, kernel, mode="same")

    signal = summed(np.where(good, image.residual, 0) * weight, flipped)
    model = 0 * signal if image.model is None else summed(np.where(good, image.model, 0) * weight, flipped)
    variance = summed(weight, flipped**2)
    covered = (summed(good.astype(np.float64), flipped) > _COVERED * psf.sum()) & (variance > 0)
    return signal, variance, model, summed(weight, flipped), covered


def _rim(shape):
    """Return points along the edges of an image: x, y."""
    ny, nx = shape
    x, y = np.linspace(-0.5, nx - 0.5, 17), np.linspace(-0.5, ny - 0.5, 17)
    sides = [np.stack([np.full_like(y, corner), y]) for corner in (x[0], x[-1])]
    sides += [np.stack([x, np.full_like(x, corner)]) for corner in (y[0], y[-1])]
    return np.concatenate(sides, axis=1)


def _mask_of(places, shape):
    """Mark the pixels nearest to given places (y, x)."""
    mask = np.zeros(shape, dtype=bool)
    row, column = np.round(places).astype(int)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    mask[row[inside], column[inside]] = True
    return mask


def _pixels_of_grid(image, grid, shape):
    """Return the slices of the grid that an image may cover, and the image positions (y, x) of its cells."""
    rim = np.stack(grid.world_to_pixel_values(*image.wcs.pixel_to_world_values(*_rim(image.residual.shape))))
    low = np.maximum(np.floor(rim.min(axis=1)), 0).astype(int)
    high = np.minimum(np.ceil(rim.max(axis=1)) + 1, shape[::-1]).astype(int)
    x, y = (np.arange(a, b) for a, b in zip(low, high, strict=True))
    nodes = [np.arange(axis[0], axis[-1] + _LATTICE + 1, _LATTICE) for axis in (y, x)]
    node_y, node_x = np.meshgrid(*nodes, indexing="ij")
    ra, dec = grid.pixel_to_world_values(node_x.ravel(), node_y.ravel())
    pixel = local_affine(image.wcs, ra, dec, dec0=float(dec.mean())).pixel
    pixel[~np.isfinite(pixel)] = -1e6  # outside the image, where the WCS gives no pixel
    cells = np.meshgrid((y - y[0]) / _LATTICE, (x - x[0]) / _LATTICE, indexing="ij")
    places = [map_coordinates(axis.reshape(node_x.shape), cells, order=1) for axis in pixel.T[::-1]]
    return np.s_[y[0] : y[-1] + 1, x[0] : x[-1] + 1], np.stack(places)
