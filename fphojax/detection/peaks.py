"""Peaks of a map that stand out from their surroundings.

A bright extended source is a plateau on which noise makes many local maxima above any threshold. A peak counts here
only if it rises by a minimum amount above the saddle that joins it to a higher one (its prominence, or persistence;
Edelsbrunner & Harer, Computational Topology, 2010, chapter VII).
"""

import numpy as np

__all__ = ["prominent_peaks"]


def prominent_peaks(values: np.ndarray, threshold: float, prominence: float) -> tuple[np.ndarray, np.ndarray]:
    """Find local maxima above a threshold and a minimum prominence.

    Parameters
    ----------
    values : ndarray, shape (ny, nx)
        Finite numbers.
    threshold : float
    prominence : float
        Least rise above the highest saddle that leads to a higher peak. A peak without a saddle above the threshold
        is always included.

    Returns
    -------
    x, y : ndarray of int, shape (n,)
        The highest first.
    """
    rows = np.flatnonzero(values > threshold)
    if not rows.size:
        return rows, rows
    place = np.full(np.add(values.shape, 2), -1)  # with a rim of no pixels
    place[1:-1, 1:-1].flat[rows] = np.arange(rows.size)
    height = values.ravel()[rows]
    y, x = np.divmod(rows, values.shape[1])
    steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
    neighbours = np.stack([place[y + 1 + dy, x + 1 + dx] for dy, dx in steps])

    basin = _ascend(neighbours, height)
    first, second, saddle = _saddles(neighbours, height, basin)
    minor = _minor_peaks(first, second, saddle, height, prominence)
    peaks = np.array([row for row in np.unique(basin).tolist() if row not in minor])
    peaks = peaks[np.argsort(-height[peaks], kind="stable")]
    return x[peaks], y[peaks]


def _ascend(neighbours, height):
    """Follow the steepest ascent from each pixel to the maximum where it ends."""
    size = height.size
    rank = np.empty(size + 1, dtype=np.intp)  # heights, without ties
    rank[np.argsort(height, kind="stable")] = np.arange(size)
    rank[-1] = -1  # of no pixel
    candidates = np.vstack([np.arange(size), neighbours])
    highest = candidates[np.argmax(rank[candidates], axis=0), np.arange(size)]
    while not np.array_equal(further := highest[highest], highest):
        highest = further
    return highest


def _saddles(neighbours, height, basin):
    """Return pairs of adjacent basins, and the heights of the saddles between them, the highest first."""
    centre = np.tile(np.arange(height.size), (len(neighbours), 1))
    touching = (neighbours >= 0) & (basin[neighbours] != basin[centre])
    a, b = centre[touching], neighbours[touching]
    saddle = np.minimum(height[a], height[b])
    order = np.argsort(-saddle, kind="stable")
    return basin[a][order], basin[b][order], saddle[order]


def _minor_peaks(first, second, saddle, height, prominence):
    """Return the peaks that are not prominent, by joining basins from the highest saddle down."""
    into: dict[int, int] = {}

    def top(row):
        while row in into:
            row = into[row]
        return row

    minor = set()
    _, index = np.unique(
        np.stack([np.minimum(first, second), np.maximum(first, second)]), axis=1, return_index=True
    )
    for k in np.sort(index).tolist():  # each pair of basins at its highest saddle, the highest first
        a, b = top(int(first[k])), top(int(second[k]))
        if a == b:
            continue
        low, high = (a, b) if height[a] < height[b] else (b, a)
        into[low] = high
        if height[low] - saddle[k] < prominence:
            minor.add(low)
    return minor
