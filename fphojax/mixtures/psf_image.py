"""Effective PSFs from images: checked, centred, and integrated over the pixels of the exposure."""

import dataclasses

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from fphojax.errors import InputError

__all__ = ["EffectivePSF", "effective_psf", "half_light_radius", "windowed_moments"]

# Largest mean along the border, in units of the peak, of an image that is large enough for the core of its PSF.
_MAX_BORDER = 0.1
# Smallest peak that stands out of the noise, in units of the robust scatter of the pixels.
_MIN_PEAK = 6.0
# Smallest side of an image [native pixels].
_MIN_SIDE = 3
# An odd-sized image whose core is closer to its central pixel than this [native pixels] counts as centred.
_MAX_OFFSET = 0.5


@dataclasses.dataclass(frozen=True)
class EffectivePSF:
    """Image of a point source as the pixels of an exposure see it, on a grid at least as fine as they are.

    Attributes
    ----------
    values : ndarray (ny, nx)
        Flux in a native pixel centred at each grid point; the sum over the grid is ``oversample**2`` times
        the flux in the image.
    x, y : ndarray (nx,), (ny,)
        Offsets of the columns and rows from the source, in native pixels.
    good : ndarray of bool (ny, nx)
        Pixels to be used.
    oversample : float
        Grid points per native pixel and axis.
    offset : tuple of float
        Centroid (x, y) of the core minus the geometric centre of the image, in native pixels.
    shift : tuple of float
        Part of it that was removed: position (x, y) of the source minus the geometric centre of the image, in native
        pixels; zero if the image counts as centred.
    scale : float
        Factor by which the image was multiplied.
    half_light_radius : float
        About the brightest pixel, in native pixels.
    """

    values: np.ndarray
    x: np.ndarray
    y: np.ndarray
    good: np.ndarray
    oversample: float
    offset: tuple[float, float]
    shift: tuple[float, float]
    scale: float
    half_light_radius: float


def half_light_radius(values: np.ndarray, x: np.ndarray, y: np.ndarray, good: np.ndarray) -> float:
    """Return the radius around the brightest pixel that encloses half of the flux, in units of x and y."""
    xx, yy = np.meshgrid(x, y)
    flux, peak = values[good], np.argmax(values[good])
    r = np.hypot(xx[good] - xx[good][peak], yy[good] - yy[good][peak])
    order = np.argsort(r)
    curve = np.cumsum(flux[order]) / flux.sum()
    # the area of the pixels so far gives a radius that is smooth where single pixels hold much flux
    area = np.arange(1, r.size + 1) * abs(x[1] - x[0]) * abs(y[1] - y[0])
    crossing = np.argmax(curve >= 0.5)
    below = curve[crossing - 1] if crossing else 0.0
    fraction = (0.5 - below) / (curve[crossing] - below)
    return float(np.sqrt((area[crossing] - (1 - fraction) * area[0]) / np.pi))


def windowed_moments(
    values: np.ndarray, x: np.ndarray, y: np.ndarray, good: np.ndarray, *, radius: float, max_iter: int = 100
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Measure centroid and shape with a round Gaussian window that follows the centroid.

    The window has the half-light radius of the PSF, as SExtractor's windowed positions do (Bertin's manual,
    "windowed parameters"): noise in the wings is left out. For a Gaussian PSF window and image have the same
    width, and the window halves the second moments; twice the moments are returned.

    Parameters
    ----------
    values : ndarray (ny, nx)
    x, y : ndarray (nx,), (ny,)
        Coordinates of columns and rows.
    good : ndarray of bool (ny, nx)
    radius : float
        Half-light radius of the window, in the units of x and y.
    max_iter : int

    Returns
    -------
    centre : ndarray (2,) or None
    covariance : ndarray (2, 2) or None
        None where there is no peak.
    """
    xx, yy = np.meshgrid(x, y)
    xx, yy, flux = xx[good], yy[good], values[good]
    peak = np.argmax(flux)
    centre = np.array([xx[peak], yy[peak]])
    variance = radius**2 / (2 * np.log(2))
    inside = np.hypot(xx - centre[0], yy - centre[1]) < 8 * radius
    xx, yy, flux = xx[inside], yy[inside], flux[inside]
    for _ in range(max_iter):
        dx, dy = xx - centre[0], yy - centre[1]
        w = flux * np.exp(-0.5 * (dx * dx + dy * dy) / variance)
        if not w.sum() > 0:
            return None, None
        mean = np.array([w @ dx, w @ dy]) / w.sum()
        moments = np.array([[w @ (dx * dx), w @ (dx * dy)], [w @ (dx * dy), w @ (dy * dy)]]) / w.sum()
        moments -= np.outer(mean, mean)
        # window and image multiply: the mean has moved only half of the way
        centre = centre + 2 * mean
        if not (x[0] <= centre[0] <= x[-1] and y[0] <= centre[1] <= y[-1]):
            return None, None
        if np.abs(mean).max() < 1e-9 * radius:
            break
    if not np.all(np.linalg.eigvalsh(moments) > 0):
        return None, None
    return centre, 2 * moments


def effective_psf(
    image: ArrayLike,
    *,
    oversample: float = 1,
    includes_pixel: bool = True,
    mask: ArrayLike | None = None,
    total: float | None = None,
    recentre: bool = False,
    name: str = "PSF image",
) -> EffectivePSF:
    """Compute the effective PSF from an image of a point source.

    An oversampled image without the pixel response is summed over all boxes of ``oversample`` pixels on a
    side, which is the integral over a native pixel at every sub-pixel position of the source.

    Parameters
    ----------
    image : array (ny, nx)
        Flux in each pixel of the image.
    oversample : float
        Pixels of the image per native pixel and axis; a whole number if the pixel is not included.
    includes_pixel : bool
        Whether the image is integrated over native pixels already; at ``oversample=1`` it always is.
    mask : array of bool (ny, nx), optional
        True where a pixel is not to be used.
    total : float, optional
        The image is scaled so that its pixels sum to this.
    recentre : bool
        Take the centroid of the core as the position of the source in any case. Otherwise, an odd-sized image whose
        core is within half a native pixel of its central pixel is taken as it is: the source is at that pixel.
    name : str
        Name of the image in error messages.

    Returns
    -------
    EffectivePSF

    Raises
    ------
    InputError
        For an image that is not two-dimensional, has unmasked non-finite pixels, no positive flux, no clear
        peak, or a peak that is wider than the image.
    """
    image, good = _check_image(image, mask, name)
    s = oversample
    if not 0 < s < np.inf or (not includes_pixel and s != int(s)):
        expected = (
            "a positive number"
            if includes_pixel
            else "a whole number >= 1, to sum over native pixels (or an image that includes the pixel response)"
        )
        raise InputError(f"{name}: oversample is {s:.6g}, expected {expected}")
    image = np.where(good, image, 0.0)
    flux = image.sum()
    if not flux > 0:
        raise InputError(f"{name}: total flux is {flux:.6g}, expected a positive one")
    scale = 1.0 if total is None else total / flux
    ny, nx = image.shape
    if min(image.shape) < _MIN_SIDE * s:
        raise InputError(
            f"{name}: shape is {image.shape} at {s:.6g} pixels per native pixel, expected {_MIN_SIDE} or more native "
            "pixels on a side"
        )
    if s > 1 and not includes_pixel:
        box = (int(s), int(s))
        values = sliding_window_view(image, box).sum(axis=(2, 3))
        good = sliding_window_view(good, box).all(axis=(2, 3))
    else:
        values = image * s**2
    values = values * scale
    # offsets from the geometric centre, which summing over boxes preserves
    x = (np.arange(values.shape[1]) - (values.shape[1] - 1) / 2) / s
    y = (np.arange(values.shape[0]) - (values.shape[0] - 1) / 2) / s
    _check_peak(values, good, name)
    radius = half_light_radius(values, x, y, good)
    centre, _ = windowed_moments(values, x, y, good, radius=radius)
    if centre is None:
        raise InputError(
            f"{name}: no clear peak (the flux around the brightest pixel has no centre), expected one"
        )
    edges = x[-1] + 0.5 / s, y[-1] + 0.5 / s
    if any(abs(place) + radius > edge for place, edge in zip(centre, edges, strict=True)):
        raise InputError(
            f"{name}: core is ({centre[0]:.1f}, {centre[1]:.1f}) pixels off the centre of the image, expected the "
            "circle with half of the flux inside of it"
        )
    offset = centre
    if not recentre and nx % 2 == 1 and ny % 2 == 1 and np.hypot(*centre) <= _MAX_OFFSET:
        centre = np.zeros(2)
    return EffectivePSF(
        values=values,
        x=x - centre[0],
        y=y - centre[1],
        good=good,
        oversample=s,
        offset=(float(offset[0]), float(offset[1])),
        shift=(float(centre[0]), float(centre[1])),
        scale=float(scale),
        half_light_radius=radius,
    )


def _check_image(image, mask, name):
    """Check an image; return it in float64, and its good pixels."""
    image = np.asarray(image)
    if image.dtype.kind not in "biuf":
        raise InputError(f"{name}: holds {image.dtype}, expected real numbers")
    image = image.astype(np.float64)
    if image.ndim != 2 or min(image.shape) < 5:
        raise InputError(f"{name}: shape is {image.shape}, expected two axes of at least 5 pixels")
    good = np.ones(image.shape, bool) if mask is None else ~np.asarray(mask, dtype=bool)
    if good.shape != image.shape:
        raise InputError(f"{name}: shape of the mask is {good.shape}, expected {image.shape}")
    n_bad = np.count_nonzero(~np.isfinite(image[good]))
    if n_bad:
        raise InputError(
            f"{name}: {n_bad} of {good.sum()} unmasked pixels are not finite, expected none (mask them)"
        )
    if not np.any(image[good]):
        raise InputError(f"{name}: all {good.sum()} unmasked pixels are zero, expected a PSF")
    return image, good


def _check_peak(values, good, name):
    """Raise an error unless a peak stands out of the noise and falls off inside the image."""
    peak = values[good].max()
    border = np.ones(values.shape, bool)
    border[1:-1, 1:-1] = False
    edge = values[border & good]
    if edge.size and edge.mean() > _MAX_BORDER * peak:
        raise InputError(
            f"{name}: smaller than the core of its PSF: mean of the border is {edge.mean() / peak:.2f} of "
            f"the peak, expected < {_MAX_BORDER}"
        )
    scatter = 1.4826 * np.median(np.abs(values[good] - np.median(values[good])))
    if peak < _MIN_PEAK * scatter:
        raise InputError(
            f"{name}: no clear peak: brightest pixel is {peak / scatter:.1f} times the scatter of the "
            f"pixels, expected > {_MIN_PEAK:g}"
        )
