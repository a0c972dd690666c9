"""Error of the flux of a bright point source that is fitted with a mixture as the PSF."""

import math

import numpy as np

from .psf_image import EffectivePSF
from .psf_solver import gaussians

__all__ = ["format_flux_error", "point_flux_errors"]

# Radius of the pixels that are fitted, in half-light radii of the PSF.
_REACH = 8.0
# Variance of the source's own photons in its brightest pixel, over that of the sky.
_PHOTONS = (0.0, 10.0, 100.0)
# Largest number of steps of the fit of flux and position, and the step [native pixels] below which it ends.
_MAX_ITER, _ENOUGH = 20, 1e-6


def point_flux_errors(
    effective: EffectivePSF,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    response: float,
    background: float = 0.0,
) -> np.ndarray:
    """Compute relative errors of a point source's flux fitted with a mixture in place of the PSF.

    The effective PSF is taken as the noiseless image of a source at native pixels; flux and position are fitted by
    least squares. The weights of the pixels are those of sky alone, and of sky plus the source's own photons in
    several ratios, since the errors of an image may or may not include these. An oversampled PSF gives one image for
    every sub-pixel position on its grid.

    Parameters
    ----------
    effective : EffectivePSF
    parts : (amplitudes (K,), means (K, 2), covariances (K, 3))
        The mixture.
    response : float
        Variance per axis added to each covariance (pixel response).
    background : float
        Constant that is part of the image and not of the PSF.

    Returns
    -------
    ndarray (n_position, n_ratio)
        Fitted flux over true flux, less 1. The true flux is the sum of the amplitudes; the first ratio is that of sky
        alone, with equal weights for all pixels.
    """
    amplitudes, means, covariances = parts
    mixture = amplitudes / amplitudes.sum(), means, covariances + np.array([response, response, 0.0])
    step = max(round(effective.oversample), 1)
    if step != effective.oversample:
        step = 1  # the grid holds no native pixels: all of it at once
    x, y = np.meshgrid(effective.x, effective.y)
    used = effective.good & (np.hypot(x, y) < _REACH * effective.half_light_radius)
    data = (effective.values - background) / amplitudes.sum()
    photons = np.maximum(data, 0) / data[used].max()
    errors = []
    for first in np.ndindex(step, step):
        at = tuple(slice(start, None, step) for start in first)
        pixels = [values[at][used[at]] for values in (data, x, y, photons)]
        errors.append(_errors_at(mixture, *pixels))
    return np.array(errors)


def _errors_at(mixture, data, x, y, photons):
    """Return the flux errors at one sub-pixel position, by Gauss-Newton steps in flux and position."""
    amplitudes, means, covariances = mixture
    flux, place, errors = 1.0, np.zeros(2), []
    for ratio in _PHOTONS:
        weight = 1 / np.sqrt(1 + ratio * photons)
        for _ in range(_MAX_ITER):
            density, u, v, _ = gaussians(x - place[0], y - place[1], means, covariances)
            model = [amplitudes @ density, *(flux * (amplitudes @ (density * d)) for d in (u, v))]
            flux, *move = np.linalg.lstsq(np.stack(model, axis=1) * weight[:, None], data * weight)[0]
            place = place + move
            if np.abs(move).max() < _ENOUGH:
                break
        errors.append(flux - 1)
    return errors


def format_flux_error(error: float) -> str:
    """Describe in words what an error of the fluxes of point sources means.

    Parameters
    ----------
    error : float
        Relative; only its absolute value is used.

    Returns
    -------
    str
        Without a full stop: by how much the flux of a bright point source is off, and the signal-to-noise ratio above
        which the error exceeds the noise.
    """
    error = abs(error)
    if not error > 0:
        return "exact"
    digits = 2 - math.ceil(math.log10(1 / error))  # two of the ratio
    return f"off by up to {100 * error:.2g} %, more than its noise above S/N {round(1 / error, digits):.0f}"
