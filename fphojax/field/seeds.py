"""A pool of sources from which the next seed is taken, in time that does not depend on their number."""

import heapq

import numpy as np

__all__ = ["SeedPool"]

LEVELS = 8


class SeedPool:
    """Sources that may be drawn, by and large those with fewer iterations first.

    A source that has made n of its target of iterations stands on level ``int(8 n / target)``. Each waits a random
    time, exponentially distributed, on average twice as long as on the level below, and the one that waits least is
    drawn: so each level is drawn half as often, per source, as the one below. The time follows from the seed, the
    source and its iterations alone. What is drawn next depends on which sources are in the pool, then, and not on how
    they came there: a pool that is made anew goes on as the one before.

    Where sources have an order, nothing is random: on each level they are drawn in that order, and those of a level
    before those of the next.

    Parameters
    ----------
    n_iter : ndarray of int, shape (N,)
        Iterations of all sources; those at the target are not put in.
    target : int
    seed : int
    order : array_like, shape (N,), optional
        Sources with smaller values are drawn first.
    """

    def __init__(self, n_iter, target: int, seed: int, order=None):
        self._target = target
        self._place = None
        if order is not None:
            self._place = np.empty(len(n_iter))
            self._place[np.argsort(order, kind="stable")] = np.arange(len(n_iter)) / len(n_iter)
        self._seed = _mixed(np.array([seed % 2**64], dtype=np.uint64))
        self._present = n_iter < target
        self._size = int(np.count_nonzero(self._present))
        self._in_line = self._present.copy()  # with the time of `_time`
        self._time = np.full(len(n_iter), np.nan)
        rows = np.flatnonzero(self._present)
        self._time[rows] = self._times(rows, n_iter[rows])
        # two lines: those who are there at first, and those who come later
        self._rows = rows[np.argsort(self._time[rows], kind="stable")].astype(np.int32)
        self._row_times, self._next = self._time[self._rows], 0
        self._later: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return self._size

    def add(self, rows, n_iter) -> None:
        """Put sources in, unless they are in, or at their target.

        Parameters
        ----------
        rows, n_iter : ndarray of int, shape (n,)
        """
        new = ~self._present[rows] & (n_iter < self._target)
        rows, n_iter = np.asarray(rows)[new], np.asarray(n_iter)[new]
        for row, time in zip(rows.tolist(), self._times(rows, n_iter).tolist(), strict=True):
            if self._present[row]:
                continue  # it was twice among them
            self._present[row] = True
            self._size += 1
            if self._time[row] != time or not self._in_line[row]:
                self._time[row], self._in_line[row] = time, True
                heapq.heappush(self._later, (time, row))

    def discard(self, row: int) -> None:
        """Take a source out, if it is in."""
        if self._present[row]:
            self._present[row] = False
            self._size -= 1

    def draw(self) -> int:
        """The source that waits least; it stays in the pool.

        Raises
        ------
        IndexError
            If the pool is empty.
        """
        # here those leave the lines who left the pool, or whose time is another one since
        while self._next < len(self._rows) and not self._waits(*self._first()):
            self._next += 1
        while self._later and not self._waits(*self._later[0]):
            heapq.heappop(self._later)
        ahead = [self._first()] if self._next < len(self._rows) else []
        if not ahead and not self._later:
            raise IndexError("no source to draw")
        return min(ahead + self._later[:1])[1]

    def _first(self):
        """Time and row of the next in the first line."""
        return float(self._row_times[self._next]), int(self._rows[self._next])

    def _waits(self, time, row):
        """Whether this place in a line still counts; it is given up if not."""
        if self._time[row] != time:
            return False
        self._in_line[row] = self._present[row]
        return bool(self._present[row])

    def _times(self, rows, n_iter):
        """How long sources wait."""
        level = np.asarray(n_iter, dtype=np.int64) * LEVELS // self._target
        if self._place is not None:
            return level + self._place[rows]
        bits = _mixed(
            _mixed(self._seed ^ np.asarray(rows, dtype=np.uint64)) ^ np.asarray(n_iter, dtype=np.uint64)
        )
        uniform = (bits >> np.uint64(11)) * 2.0**-53
        return -np.log1p(-uniform) * 2.0**level


def _mixed(bits):
    """Integers of 64 bits whose bits all depend on all bits of those given (the finalizer of splitmix64)."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
