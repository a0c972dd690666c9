"""Coordinates in which a galaxy is one point: the vectors of shape with their angles doubled.

A vector v of `coordinates` and -v are the same galaxy, so that a posterior of S sources has 2^S equal modes, which
overlap where galaxies may be round.  Chains stay in one, or cross between them, and both is right; a density that is
to be covered by a mixture should have one.  The vector of the same length and twice the angle is the same for both,
and its density is that of v but for a constant.
"""

import numpy as np

__all__ = ["doubled", "doubled_slopes", "halved"]


def doubled(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Double the angles of the vectors of shape.

    Parameters
    ----------
    points : ndarray (..., n)
        Coordinates.
    pairs : ndarray of int (S, 2)
        Which of them are the vectors.
    """
    return _turned(points, pairs, 2.0)


def halved(points: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Invert `doubled`, up to the sign of the vectors."""
    return _turned(points, pairs, 0.5)


def doubled_slopes(origin: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the derivatives (n, n) of `doubled` at a point (n,)."""
    slopes = np.eye(len(origin))
    for pair in pairs:
        angle = np.arctan2(origin[pair[1]], origin[pair[0]])
        slopes[np.ix_(pair, pair)] = _rotation(2 * angle) @ np.diag([1.0, 2.0]) @ _rotation(-angle)
    return slopes


def _turned(points, pairs, factor):
    turned = np.array(points, dtype=float)
    x, y = turned[..., pairs[:, 0]], turned[..., pairs[:, 1]]
    length, angle = np.hypot(x, y), factor * np.arctan2(y, x)
    turned[..., pairs[:, 0]], turned[..., pairs[:, 1]] = length * np.cos(angle), length * np.sin(angle)
    return turned


def _rotation(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])
