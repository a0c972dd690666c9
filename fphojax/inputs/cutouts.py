"""Pixels of an image in a circle on the sky, found with few calls of a WCS."""

from collections.abc import Callable

import numpy as np

from .sphere import unit_vectors

__all__ = ["disc_mask"]

_KNOTS = 16  # pixels between the points where the WCS is evaluated, at most
_SMALL = 48 * 48  # boxes of fewer pixels are evaluated throughout
_RIM = 0.1  # pixels; distortions given as tables may have kinks of this size between the knots


def disc_mask(
    sky: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    contains: Callable[[np.ndarray, np.ndarray], np.ndarray],
    box: tuple[int, int, int, int],
    centre: tuple[float, float],
    radius: float,
) -> np.ndarray:
    """Find the pixels whose centres lie in a circle on the sky.

    The position on the sphere is interpolated linearly between knots. The error of that is bounded by the
    second differences of the knots; only pixels closer to the rim than the bound are evaluated exactly.

    Parameters
    ----------
    sky : callable
        Pixels (x, y) to (ra, dec) in degrees.
    contains : callable
        Whether (ra, dec) lie in the circle: the exact criterion.
    box : tuple of int
        (x0, x1, y0, y1), half-open pixel ranges.
    centre : tuple of float
        (ra, dec) of the circle, degrees.
    radius : float
        Arcsec.

    Returns
    -------
    ndarray of bool, shape (y1 - y0, x1 - x0)
    """
    x0, x1, y0, y1 = box
    shape = y1 - y0, x1 - x0
    if shape[0] * shape[1] <= _SMALL or min(shape) < 3:
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float64)
        return contains(*sky(x, y))
    x_knots, x_weights = _linear(x0, x1)
    y_knots, y_weights = _linear(y0, y1)
    knots = unit_vectors(*sky(*np.meshgrid(x_knots, y_knots))) - unit_vectors(*centre)
    if not np.isfinite(knots).all():  # part of the box is off the projection
        y, x = np.mgrid[y0:y1, x0:x1].astype(np.float64)
        return contains(*sky(x, y))

    square = np.zeros(shape)  # of the chord to the centre
    for component in np.ascontiguousarray(np.moveaxis(knots, -1, 0)):
        between = (y_weights @ component) @ x_weights.T
        between *= between
        square += between
    limit = 2 * np.sin(np.deg2rad(min(radius / 3600, 180.0)) / 2)
    margin = 0.5 * (_largest_difference(knots, 2, 0) + _largest_difference(knots, 2, 1))  # bound: 1/8
    margin += _RIM * max(
        _largest_difference(knots, 1, 1) / (x_knots[1] - x_knots[0]),
        _largest_difference(knots, 1, 0) / (y_knots[1] - y_knots[0]),
    )
    inside = square <= limit**2
    uncertain = (square >= max(limit - margin, 0.0) ** 2) & (square <= (limit + margin) ** 2)
    rows, columns = np.nonzero(uncertain)
    if rows.size:
        inside[rows, columns] = contains(*sky(columns + float(x0), rows + float(y0)))
    return inside


def _linear(start, stop):
    """Space knots evenly over [start, stop); return also weights (pixel, knot) of linear interpolation."""
    pixel = np.arange(start, stop, dtype=np.float64)
    knots = np.linspace(start, stop - 1, max(3, -(-(stop - 1 - start) // _KNOTS) + 1))
    step = knots[1] - knots[0]
    return knots, np.clip(1 - np.abs(pixel[:, None] - knots) / step, 0, None)


def _largest_difference(knots, order, axis):
    return np.linalg.norm(np.diff(knots, n=order, axis=axis), axis=-1).max()
