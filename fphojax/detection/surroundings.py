"""Rise of a peak of a map above the light around it.

In the halo of a bright galaxy, noise peaks exceed any threshold. The light around a peak is therefore measured as
the median of the map on circles around it. The first has twice the half-light radius of the filtered PSF, and each
is twice as large as the one before, up to a third of the way to the nearest more significant peak; the smallest
median counts, or zero if it is negative. In a halo, all are as bright as the peak itself. On larger circles, up to
the one through the other peak, medians are taken separately for the half towards it and the half away from it, and
the larger one counts: a halo is brighter on the near side, whereas a galaxy, however large, is fainter on both sides
of its centre. Medians ignore narrow features: a neighbour, or an arm.

The light is no better known than that median. The median of n independent values has an error of 1.25 / sqrt(n) of
theirs, and a circle of radius r has about pi r / R of them, with R the half-light radius of the filtered PSF.
"""

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree

__all__ = ["light_around", "nearest_higher", "select_separated"]

_POINTS = 16  # points of half a circle
_FULL_CIRCLE = (
    1 / 3
)  # of the way to a more significant peak; up to there the median on a circle is within a tenth of its centre's value
_MEDIAN = 1.25  # error of a median over that of a mean
_NEIGHBOURS = 32  # number of nearest peaks among which a more significant one is sought


def light_around(
    values: np.ndarray, x: np.ndarray, y: np.ndarray, smallest: float, higher: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the light around positions in a map from medians on circles; not negative.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
        NaN where there are no data.
    x, y : ndarray, shape (n,)
    smallest : float
        Radius of the first circle, pixels.
    higher : tuple of ndarray, shape (n,)
        Distance, which no circle but the first exceeds, and direction to the nearest more significant position.

    Returns
    -------
    light : ndarray, shape (n,)
    error : ndarray, shape (n,)
        In units of the standard deviation of the values; 0 where no circle is covered.
    """
    distance, direction = higher
    least, error = np.full(len(x), np.inf), np.zeros(len(x))
    finite = np.isfinite(values)
    filled, finite = np.where(finite, values, 0), finite.astype(np.float32)
    step = (np.arange(2 * _POINTS) + 0.5) * np.pi / _POINTS - np.pi / 2  # the near half first
    radius, rows = smallest, np.arange(len(x))
    while rows.size and radius < max(values.shape):
        angle = direction[rows, None] + step
        at = y[rows, None] + radius * np.sin(angle), x[rows, None] + radius * np.cos(angle)
        covered = map_coordinates(finite, at, order=1, cval=0.0) > 0.99
        light = np.where(covered, map_coordinates(filled, at, order=1), np.nan).reshape(-1, 2, _POINTS)
        enough = np.count_nonzero(np.isfinite(light), axis=2) >= _POINTS // 4
        light[~enough] = -np.inf  # beyond the edge
        use_circle = (radius == smallest) | (radius <= _FULL_CIRCLE * distance[rows])
        halves = np.nanmedian(light, axis=2).max(axis=1)
        light[np.isinf(light)] = np.nan
        light[~enough.any(axis=1)] = np.inf
        median = np.where(use_circle, np.nanmedian(light, axis=(1, 2)), halves)
        lower = np.isfinite(median) & (median < least[rows])
        n_independent = np.where(use_circle, 2, 1) * np.pi * radius / smallest
        least[rows[lower]] = median[lower]
        error[rows[lower]] = _MEDIAN / np.sqrt(n_independent[lower])
        radius *= 2
        rows = rows[distance[rows] >= radius]
    return np.where(np.isfinite(least), np.maximum(least, 0), 0), error


def nearest_higher(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distance and direction from each place to the nearest more significant one.

    Returns
    -------
    distance : ndarray, shape (n,)
        Infinite for the first; the distance to the farthest of the 32 nearest positions if none is more significant.
    direction : ndarray, shape (n,)
        Radians from the x axis towards the y axis.
    """
    size = len(x)
    if size < 2:
        return np.full(size, np.inf), np.zeros(size)
    places = np.column_stack([x, y]).astype(np.float64)
    distance, row = KDTree(places).query(places, k=min(_NEIGHBOURS, size - 1) + 1)
    before = row < np.arange(size)[:, None]
    first = np.where(before.any(axis=1), before.argmax(axis=1), -1)
    every = np.arange(size)
    nearest, (to_x, to_y) = distance[every, first], (places[row[every, first]] - places).T
    if size <= _NEIGHBOURS + 1:
        nearest[0] = np.inf
    return nearest, np.arctan2(to_y, to_x)


def select_separated(x: np.ndarray, y: np.ndarray, separation: float, n_fixed: int = 0) -> np.ndarray:
    """Select, in order of significance, places farther than a distance from all those selected before.

    Parameters
    ----------
    x, y : ndarray, shape (n,)
    separation : float
    n_fixed : int
        This many at the beginning are always selected.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    selected = np.ones(len(x), dtype=bool)
    if separation > 0 and len(x):
        pairs = KDTree(np.column_stack([x, y])).query_pairs(separation, output_type="ndarray")
        for first, second in np.sort(pairs, axis=1)[np.lexsort(np.sort(pairs, axis=1).T[::-1])].tolist():
            if selected[first] and second >= n_fixed:
                selected[second] = False
    return selected
