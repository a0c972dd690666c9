"""Noise of an exposure from its own pixels: level, scale and correlation, from pixels without sources.

Errors that come with images are often wrong by some factor, co-adds have correlated noise, and many have a residual
pedestal. With chi = (r - c) ierr, c the residual level and C(l) the mean of chi(x) chi(x + l) over pairs of
pixels without sources, a filter P on noise that is the same everywhere except for its scale 1 / ierr has

    var sum P chi = sum P^2 K,   K = sum over l of A(l) C(l),   A(l) = sum P(x) P(x + l) / sum P^2.

With independent pixels and correct errors C is 1 at l = 0 and 0 elsewhere, and K = 1. In general the sums N and W of
`fphojax.detection.matched_filter` have to be divided by K: N / K then has the variance W / K.

Pixels without sources are those where N / sqrt(W K), minus the level, is within 4 standard deviations, and that are
not next to pixels where it is not, nor to a source that is known from all exposures together (pure noise loses 0.01 %
of its pixels that way); and where a model that is wrong by a fraction f contributes no more than one standard
deviation. Level and K are measured from them, and they are selected with level and K, in turn.

Variations over many times the width of the PSF, such as the halo of a bright galaxy or a sky that is not flat, are
not noise of its sums, so C is that of chi minus its mean in a surrounding box. The box is so large that this lowers K
by only 2 %, for which K is corrected.

All this needs sky. If less than half of the pixels are without sources, or if the scatter of these above their median
is half as large again as that below, a level cannot be distinguished from light, and none is subtracted. In these
cases, and if K is not known to 20 % (the scale of the map to 10 %), K is that of the negative deviations of the map,
below its median or below 0, whichever gives less, but at least 1: errors are trusted unless evidently too small.

Errors of fits need C for sources of any size (`fphojax.inputs.noise_model`): it is measured once more out to 16
pixels, with chi less its mean in a box of eight times that, so that what varies over the size of a galaxy is part of
it. Light of sources that are too faint to be detected is noise to a fit, which does not model them: only pixels where
the exposure by itself shows more than 5 standard deviations, and those next to them, are left out.
"""

from dataclasses import dataclass, field

import numpy as np
from astropy.nddata import block_reduce
from astropy.stats import mad_std
from scipy.fft import next_fast_len
from scipy.ndimage import binary_dilation, uniform_filter
from scipy.signal import fftconvolve

__all__ = ["LAGS", "SOURCE_FREE", "ImageNoise", "measure_noise"]

LAGS = 16  # pixels out to which the correlation is measured

SOURCE_FREE = 4.0  # significance below which a pixel counts as without sources
_DETECTED = (
    5.0  # significance above which a source is likely to be modelled: the default threshold of detection
)
_OUTLIER = 5.0  # standard deviations at which pixels are clipped
_MAX_POWER_ERROR = 0.2  # relative error of K up to which it is trusted
_LEAST_SKY = 0.5  # fraction of pixels without sources below which no level is measured
_BOX_SHARE = 0.02  # share of the noise of a sum over the PSF that subtracting the mean of the box removes
_TILE = 16  # pixels: largest side of a tile for the error of a level, beyond the correlation length
_SKEW = 1.5  # ratio of the scatter above and below the median beyond which there is light
_WIDE = 8  # lags: side of the box whose mean is subtracted before the correlation is measured out to LAGS
_ROUNDS = 12
_CONVERGED = 1e-3  # fraction of the pixels that may still change between sky and source at convergence


@dataclass(frozen=True)
class ImageNoise:
    """Noise of an exposure as measured from its pixels.

    Attributes
    ----------
    level : float
        Residual level of the image, nJy per pixel; 0 if it cannot be measured.
    level_error : float
        Its standard deviation; infinite if it cannot be measured.
    scale : float
        Standard deviation of chi; NaN if it cannot be measured.
    power : float
        K, the factor by which the variance of sums over the PSF exceeds that from the image's errors.
    n_pixel : int
        Number of pixels without sources from which this was measured.
    correlation : ndarray, shape (2 LAGS + 1, 2 LAGS + 1), or None
        C at every lag, that of 0 in the middle; None if it cannot be measured.
    """

    level: float
    level_error: float
    scale: float
    power: float
    n_pixel: int
    correlation: np.ndarray | None = field(default=None, compare=False, repr=False)


def measure_noise(
    residual: np.ndarray,
    ierr: np.ndarray,
    psf: np.ndarray,
    sums: tuple[np.ndarray, ...],
    usable: np.ndarray,
    sources: np.ndarray | None = None,
) -> ImageNoise:
    """Measure the noise of an exposure.

    Parameters
    ----------
    residual, ierr : ndarray, shape (ny, nx)
        Data - model, nJy per pixel, and its inverse standard deviation.
    psf : ndarray, shape (my, mx)
        The filter.
    sums : tuple of ndarray, shape (ny, nx)
        Of the filter: sum P w r, sum P^2 w, sum P w, with w = ierr^2.
    usable : ndarray of bool, shape (ny, nx)
        Pixels with weight where the error of the model does not matter.
    sources : ndarray of bool, shape (ny, nx), optional
        Pixels on known sources.

    Returns
    -------
    ImageNoise
    """
    signal, weight, response = sums
    usable = usable & (weight > 0)
    root = np.sqrt(np.where(usable, weight, 1))
    overlap = fftconvolve(psf, psf[::-1, ::-1]) / np.sum(psf**2)
    footprint = _trim(overlap > 0.5)  # about how far a source extends from its significant pixels
    box = int(np.ceil(np.sqrt(overlap.sum() / _BOX_SHARE)))
    free = usable if sources is None else usable & ~binary_dilation(sources, footprint)
    sky, most = free, np.count_nonzero(usable)
    for _ in range(_ROUNDS):
        measurable = np.count_nonzero(sky) > max(_LEAST_SKY * most, 1)
        if not measurable:
            break
        level = _level(residual[sky], ierr[sky])
        power, scale, correlation = _power((residual - level) * ierr, sky, overlap, box)
        if not power > 0:
            measurable = False
            break
        places = usable & (np.abs(signal - level * response) > SOURCE_FREE * root * np.sqrt(power))
        before, sky = sky, free & ~binary_dilation(places, footprint)
        if np.count_nonzero(sky != before) <= _CONVERGED * most:
            break
    measurable = measurable and _is_symmetric((signal - level * response)[sky] / root[sky])
    if not measurable:
        return ImageNoise(0.0, np.inf, np.nan, _power_of_lower_half(signal[usable] / root[usable]), 0)
    n_pixel = np.count_nonzero(sky)
    # N at a distance l is correlated by (A * C)(l) / K
    error = np.sqrt(2 * np.sum((fftconvolve(overlap, correlation, mode="same") / power) ** 2) / n_pixel)
    if error > _MAX_POWER_ERROR:
        power = _power_of_lower_half((signal - level * response)[usable] / root[usable])
    error = _level_error(np.where(sky, residual - level, 0), np.where(sky, ierr, 0) ** 2)
    wide = 2 * LAGS + 1
    places = usable & (np.abs(signal - level * response) > _DETECTED * root * np.sqrt(power))
    unmodelled = usable & ~binary_dilation(places, footprint)
    _, correlation = _correlation((residual - level) * ierr, unmodelled, (wide, wide), _WIDE * LAGS + 1)
    return ImageNoise(float(level), error, float(scale), float(power), int(n_pixel), correlation)


def _is_symmetric(values):
    """Return whether values scatter as much above their median as below, as noise does but light does not."""
    deviations = values - np.median(values)
    return np.median(deviations[deviations > 0]) < _SKEW * np.median(-deviations[deviations < 0])


def _power_of_lower_half(values):
    """Return the robust variance of a map from its negative deviations; at least 1."""
    if not values.size:
        return 1.0
    middle = np.median(values)
    deviations = (middle - values[values <= middle], -values[values < 0])
    scatter = 1.4826 * float(min(np.median(part) if part.size else 0.0 for part in deviations))
    return max(1.0, scatter) ** 2


def _level(residual, ierr):
    """Return the mean of pixels weighted with w = ierr^2, without outliers."""
    level = np.median(residual)
    for _ in range(5):
        chi = (residual - level) * ierr
        # sources are positive: the scale is that of the lower half
        below = chi[chi < 0]
        unclipped = np.abs(chi) <= 3 * 1.4826 * np.median(-below) if below.size else chi == chi
        if not unclipped.any():
            break
        level = np.average(residual[unclipped], weights=ierr[unclipped] ** 2)
    return level


def _level_error(residual, weight):
    """Return the standard deviation of a weighted mean, from sums over tiles (`fphojax.detection.sky_levels`)."""
    tile = min(_TILE, *(side // 3 for side in weight.shape))
    excess, share = (block_reduce(values, max(tile, 1)) for values in (weight * residual, weight))
    count = np.count_nonzero(share)
    return float(np.sqrt(count / max(count - 1, 1) * np.sum(excess**2)) / share.sum())


def _power(chi, sky, overlap, box):
    """Return K, the standard deviation of chi, and C at the lags of A."""
    scale, correlation = _correlation(chi, sky, overlap.shape, box)
    return np.sum(overlap * correlation) / (1 - _BOX_SHARE), scale, correlation


def _correlation(chi, sky, shape, box):
    """Return the standard deviation of chi less its mean in a box, and C at the lags of a window with odd sides."""
    scale = mad_std(chi[sky])
    limit = _OUTLIER * scale if scale > 0 else np.inf
    chi = np.where(sky, np.clip(np.nan_to_num(chi), -limit, limit), 0)
    local, share = (uniform_filter(values, box, mode="constant") for values in (chi, sky.astype(np.float64)))
    chi -= np.where(sky, local / np.maximum(share, 1e-9), 0)
    correlation, pairs = (_products(values, shape) for values in (chi, sky.astype(np.float64)))
    correlation = np.divide(correlation, pairs, out=np.zeros_like(pairs), where=pairs > 0.5)
    middle = tuple(side // 2 for side in shape)
    return np.sqrt(correlation[middle]), correlation


def _products(values, shape):
    """Sum products of values at each lag of a window with odd sides, with lag 0 in its middle."""
    sides = [next_fast_len(n + m, real=True) for n, m in zip(values.shape, shape, strict=True)]
    power = np.abs(np.fft.rfft2(values, sides)) ** 2
    lags = np.fft.irfft2(power, sides)
    halves = [side // 2 for side in shape]
    return np.roll(lags, halves, axis=(0, 1))[: shape[0], : shape[1]]


def _trim(mask):
    """Trim the empty margins of a mask, with its centre kept in the middle."""
    half = [int(np.abs(np.flatnonzero(mask.any(axis=1 - k)) - mask.shape[k] // 2).max()) for k in (0, 1)]
    centre = [side // 2 for side in mask.shape]
    return mask[tuple(slice(c - h, c + h + 1) for c, h in zip(centre, half, strict=True))]
