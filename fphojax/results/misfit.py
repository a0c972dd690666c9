"""Misfit of the model in a source's own pixels, and what it means for the error of the flux.

If the errors of the images are right, the chi-squared of n pixels is n with a scatter of sqrt(2 n). For a bright
galaxy that is not a Sersic profile, or with a slightly wrong PSF, it is far larger. The error of the flux, which only
accounts for noise, is then too small: by about the square root of chi-squared per pixel if residuals are as
correlated as noise, and by more if they are more correlated.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["error_scale", "is_model_limited", "per_band"]

LEAST = 1.5  # lowest chi-squared per pixel that counts as a misfit
SURE = 5.0  # standard deviations of chi-squared above the number of pixels


def per_band(values: ArrayLike, exposure_bands: Sequence[str], bands: Sequence[str]) -> np.ndarray:
    """Sum values over the exposures of each band.

    Parameters
    ----------
    values : array_like, shape (S, E)
        Of each source in each exposure; see `fphojax.results.own_pixels`.
    exposure_bands : sequence of str
        E of them.
    bands : sequence of str

    Returns
    -------
    ndarray, shape (S, n_band)
    """
    member = np.asarray(exposure_bands)[:, None] == np.asarray(bands)
    return np.asarray(values) @ member


def error_scale(chi2: ArrayLike, n_pixel: ArrayLike) -> np.ndarray:
    """Compute the factor by which misfit enlarges errors: sqrt(max(1, chi2 / n_pixel)).

    Parameters
    ----------
    chi2, n_pixel : array_like
        Of own pixels.

    Returns
    -------
    ndarray
        1 without pixels; NaN where chi2 is.
    """
    chi2, n_pixel = np.asarray(chi2, dtype=np.float64), np.asarray(n_pixel)
    return np.sqrt(np.maximum(1.0, chi2 / np.maximum(n_pixel, 1)))


def is_model_limited(chi2: ArrayLike, n_pixel: ArrayLike) -> np.ndarray:
    """Return whether misfit, not noise, limits a flux: chi2 above both 1.5 n and n + 5 sqrt(2 n), for n pixels.

    Parameters
    ----------
    chi2, n_pixel : array_like
        Of own pixels.

    Returns
    -------
    ndarray of bool
        False where chi2 is NaN.
    """
    chi2, n_pixel = np.asarray(chi2, dtype=np.float64), np.asarray(n_pixel)
    return (chi2 > LEAST * n_pixel) & (chi2 > n_pixel + SURE * np.sqrt(2 * n_pixel))
