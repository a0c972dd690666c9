"""A pool of sources from which the next seed is drawn, in time independent of their number."""

import heapq

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["SeedPool"]

LEVELS = 8


class SeedPool:
    """Sources that may be drawn, mostly those with fewer iterations first.

    A source with n of its target number of iterations is on level ``int(8 n / target)``. Each has a random waiting
    time, exponentially distributed, on average twice as long as on the level below, and the one with the shortest is
    drawn: so each level is drawn half as often, per source, as the one below. The time depends only on the seed, the
    source and its iterations. So the next draw depends only on which sources are in the pool, not on how they came
    there: a pool that is rebuilt continues as the one before.

    If sources have an order, nothing is random: on each level they are drawn in that order, and one level after
    the other.

    Parameters
    ----------
    n_iter : ndarray of int, shape (N,)
        Iterations of all sources; those at the target are not added.
    target : int
    seed : int
    order : array_like, shape (N,), optional
        Sources with smaller values are drawn first.
    """

    def __init__(self, n_iter: np.ndarray, target: int, seed: int, order: ArrayLike | None = None):
        self._target = target
        self._place = None
        if order is not None:
            self._place = np.empty(len(n_iter))
            self._place[np.argsort(order, kind="stable")] = np.arange(len(n_iter)) / len(n_iter)
        self._seed = _mixed(np.array([seed % 2**64], dtype=np.uint64))
        self._present = n_iter < target
        self._size = int(np.count_nonzero(self._present))
        self._in_line = self._present.copy()  # queued with the time of `_time`
        self._time = np.full(len(n_iter), np.nan)
        rows = np.flatnonzero(self._present)
        self._time[rows] = self._times(rows, n_iter[rows])
        # two queues: sources that are there at first, and sources that come later
        self._rows = rows[np.argsort(self._time[rows], kind="stable")].astype(np.int32)
        self._row_times, self._next = self._time[self._rows], 0
        self._later: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return self._size

    def add(self, rows: np.ndarray, n_iter: np.ndarray) -> None:
        """Add sources, except those that are in the pool or at their target.

        Parameters
        ----------
        rows, n_iter : ndarray of int, shape (n,)
        """
        new = ~self._present[rows] & (n_iter < self._target)
        rows, n_iter = np.asarray(rows)[new], np.asarray(n_iter)[new]
        for row, time in zip(rows.tolist(), self._times(rows, n_iter).tolist(), strict=True):
            if self._present[row]:
                continue  # it was given twice
            self._present[row] = True
            self._size += 1
            if self._time[row] != time or not self._in_line[row]:
                self._time[row], self._in_line[row] = time, True
                heapq.heappush(self._later, (time, row))

    def discard(self, row: int) -> None:
        """Remove a source if it is in the pool."""
        if self._present[row]:
            self._present[row] = False
            self._size -= 1

    def draw(self) -> int:
        """Return the source with the shortest waiting time; it stays in the pool.

        Raises
        ------
        IndexError
            If the pool is empty.
        """
        # drop from the queues sources that have left the pool, or whose time has changed since
        while self._next < len(self._rows) and not self._waits(*self._first()):
            self._next += 1
        while self._later and not self._waits(*self._later[0]):
            heapq.heappop(self._later)
        ahead = [self._first()] if self._next < len(self._rows) else []
        if not ahead and not self._later:
            raise IndexError("no source to draw")
        return min(ahead + self._later[:1])[1]

    def _first(self):
        """Return time and row of the next entry of the first queue."""
        return float(self._row_times[self._next]), int(self._rows[self._next])

    def _waits(self, time, row):
        """Return whether an entry of a queue is still valid; if not, it is to be dropped."""
        if self._time[row] != time:
            return False
        self._in_line[row] = self._present[row]
        return bool(self._present[row])

    def _times(self, rows, n_iter):
        """Return the waiting times of sources."""
        level = np.asarray(n_iter, dtype=np.int64) * LEVELS // self._target
        if self._place is not None:
            return level + self._place[rows]
        bits = _mixed(
            _mixed(self._seed ^ np.asarray(rows, dtype=np.uint64)) ^ np.asarray(n_iter, dtype=np.uint64)
        )
        uniform = (bits >> np.uint64(11)) * 2.0**-53
        return -np.log1p(-uniform) * 2.0**level


def _mixed(bits):
    """Mix 64-bit integers so that each output bit depends on all input bits (the finalizer of splitmix64)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
