"""Magnitudes, radii and surface brightnesses of Sersic profiles, for arrays of draws.

Formulae of Graham & Driver (2005, PASA 22, 118) for I(r) = I_0 exp(-b (r / r_h)^(1/n)), with b such that r_h holds
half of the flux. Radii are circularised like r_h; the semi-major ones are larger by 1 / sqrt(q).
"""

from functools import cache

import numpy as np
from scipy.special import gammaincinv, gammaln

__all__ = [
    "KRON",
    "ZERO_POINT",
    "ab_magnitude",
    "central_brightness",
    "effective_brightness",
    "isophotal_radius",
    "kron_radius",
]

ZERO_POINT = 31.4  # AB magnitude of 1 nJy
KRON = 2.5  # Kron radii in units of the first moment of the light, as SExtractor's
_GRID = np.linspace(0.1, 12.0, 4761)  # Sersic indices; linear interpolation between them is accurate to 1e-6


def ab_magnitude(flux: np.ndarray) -> np.ndarray:
    """Compute the AB magnitude of a flux in nJy, or mag / arcsec^2 of nJy / arcsec^2; NaN unless positive."""
    flux = np.asarray(flux, dtype=np.float64)
    return ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))


def central_brightness(flux: np.ndarray, rhalf: np.ndarray, sersic: np.ndarray) -> np.ndarray:
    """Compute I_0 in nJy / arcsec^2, of the profile itself and not of its image.

    Parameters
    ----------
    flux : array
        nJy.
    rhalf : array
        Circularised half-light radius, arcsec.
    sersic : array
    """
    return flux / rhalf**2 * np.exp(_interpolate("central", sersic))


def effective_brightness(flux: np.ndarray, rhalf: np.ndarray, sersic: np.ndarray) -> np.ndarray:
    """Compute the brightness at the half-light radius, nJy / arcsec^2; see `central_brightness`."""
    return flux / rhalf**2 * np.exp(_interpolate("effective", sersic))


def isophotal_radius(level: float, flux: np.ndarray, rhalf: np.ndarray, sersic: np.ndarray) -> np.ndarray:
    """Compute the radius at which the profile falls to `level`; 0 where it is fainter throughout.

    Parameters
    ----------
    level : float
        nJy / arcsec^2.
    flux, rhalf, sersic : array
        As in `central_brightness`.

    Returns
    -------
    ndarray
        Circularised, arcsec.
    """
    contrast = np.log(np.maximum(central_brightness(flux, rhalf, sersic) / level, 1.0))
    return rhalf * (contrast / _interpolate("b", sersic)) ** sersic


def kron_radius(rhalf: np.ndarray, sersic: np.ndarray) -> np.ndarray:
    """Compute `KRON` times the first moment of the light to infinity, circularised, arcsec."""
    return KRON * rhalf * np.exp(_interpolate("moment", sersic))


def _interpolate(what, sersic):
    """Interpolate on the even grid of Sersic indices, ten times as fast as `numpy.interp`."""
    table = _tables()[what]
    place = (np.clip(sersic, _GRID[0], _GRID[-1]) - _GRID[0]) * ((_GRID.size - 1) / (_GRID[-1] - _GRID[0]))
    below = np.minimum(place.astype(np.int64), _GRID.size - 2)
    return table[below] + (place - below) * (table[below + 1] - table[below])


@cache
def _tables():
    """Tabulate functions of the Sersic index; logarithms, except for b."""
    n = _GRID
    b = gammaincinv(2 * n, 0.5)
    central = 2 * n * np.log(b) - np.log(2 * np.pi * n) - gammaln(2 * n)
    return {
        "b": b,
        "central": central,
        "effective": central - b,
        "moment": gammaln(3 * n) - gammaln(2 * n) - n * np.log(b),
    }
