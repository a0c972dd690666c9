"""Position angles: conversion to and from forcepho's convention, and radians mistaken for degrees.

A plain number is degrees wherever the package takes a ``pa``; inside the model it is radians.
"""

import numpy as np

__all__ = ["from_forcepho", "looks_like_radians", "to_forcepho"]

_MANY = 8  # different angles
_WHOLE = 1e-11  # degrees


def to_forcepho(q: np.ndarray, pa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert axis ratio and position angle to forcepho's convention.

    Parameters
    ----------
    q : array
        b/a.
    pa : array
        East of north, degrees.

    Returns
    -------
    q, pa : array
        sqrt(b/a), and the angle from +RA towards +Dec in radians; half turns are taken off where it would lie
        beyond two pi, which nobody reads as radians.
    """
    theirs = np.pi / 2 - np.deg2rad(pa)
    far = np.abs(theirs) > 2 * np.pi
    return np.sqrt(q), np.where(far, theirs - np.pi * np.round(theirs / np.pi), theirs)


def from_forcepho(q: np.ndarray, pa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert axis ratio and position angle from forcepho's convention; the inverse of `to_forcepho`."""
    return q**2, np.rad2deg(np.pi / 2 - pa)


def looks_like_radians(pa: np.ndarray) -> bool:
    """Return whether numbers that should be in degrees look like radians.

    They are taken for radians where at least eight of them differ and none is beyond pi (galaxies that are
    oriented at random in degrees do so with a probability of (2 pi / 180)^8 = 2e-12), and where all that are not
    zero are whole degrees in radians, to 1e-11 degrees (for any other number, 2e-11).

    Parameters
    ----------
    pa : array_like, shape (N,), or float
    """
    pa = np.ravel(pa)
    pa = pa[np.isfinite(pa) & (pa != 0)]
    if not pa.size:
        return False
    if np.abs(pa).max() <= np.pi and np.unique(pa).size >= _MANY:
        return True
    degrees = np.rad2deg(pa)
    whole = np.round(degrees)
    return bool(
        (np.abs(degrees - whole) < _WHOLE).all() and (whole != 0).all() and np.abs(whole).max() <= 360
    )
