"""Correlated noise as a filter: white noise convolved with a kernel has the kernel's autocorrelation.

A measured autocorrelation need not be one: its power spectrum may be negative where it is small. The power is clipped
at zero, and the kernel is the transform of its root, so that whatever is made with the kernel is the covariance of
some noise.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import next_fast_len

__all__ = ["autocorrelation", "noise_kernel"]

_LARGER = (
    4  # times the lags: the grid on which the root is taken, as the kernel reaches farther than the lags
)
_NEGLIGIBLE = 1e-3  # of the norm of the kernel, that its margins may hold and are cut off


def noise_kernel(correlation: ArrayLike) -> np.ndarray:
    """Return the kernel of noise with a given autocorrelation.

    Parameters
    ----------
    correlation : array (2 h + 1, 2 h + 1)
        Covariance of pixels by their distance, that of none in the middle.

    Returns
    -------
    ndarray (2 m + 1, 2 m + 1)
        Symmetric about its middle.
    """
    correlation = np.asarray(correlation, dtype=np.float64)
    correlation = (correlation + correlation[::-1, ::-1]) / 2
    half = correlation.shape[0] // 2
    side = next_fast_len(_LARGER * (2 * half + 1), real=True)
    grid = np.zeros((side, side))
    grid[: 2 * half + 1, : 2 * half + 1] = correlation
    power = np.fft.rfft2(np.roll(grid, (-half, -half), axis=(0, 1))).real
    middle = (side - 1) // 2
    kernel = np.fft.irfft2(np.sqrt(np.maximum(power, 0)), (side, side))
    kernel = np.roll(kernel, (middle, middle), axis=(0, 1))[: 2 * middle + 1, : 2 * middle + 1]
    norm = np.sum(kernel**2)
    for m in range(middle):
        inner = kernel[middle - m : middle + m + 1, middle - m : middle + m + 1]
        if norm - np.sum(inner**2) <= _NEGLIGIBLE**2 * norm:
            return inner
    return kernel


def autocorrelation(kernel: np.ndarray) -> np.ndarray:
    """Return the autocorrelation (4 m + 1, 4 m + 1) of a kernel (2 m + 1, 2 m + 1)."""
    size = 2 * len(kernel) - 1
    power = np.abs(np.fft.rfft2(kernel, (size, size))) ** 2
    return np.roll(np.fft.irfft2(power, (size, size)), (size // 2, size // 2), axis=(0, 1))
