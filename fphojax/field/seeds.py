"""A pool of sources from which the next seed is drawn, in time that does not depend on their number."""

from array import array

import numpy as np

__all__ = ["SeedPool"]

LEVELS = 8


class SeedPool:
    """Sources that may be drawn, those with fewer iterations more often.

    A source that has made n of its target of iterations stands on level ``int(8 n / target)``, and each level
    is drawn half as often, per source, as the one below.

    Parameters
    ----------
    n_iter : ndarray of int, shape (N,)
        Iterations of all sources; those at the target are not put in.
    target : int
    """

    def __init__(self, n_iter, target: int):
        self._target = target
        # where each source stands in the list of its level, -1 if nowhere
        self._place = array("i", np.full(len(n_iter), -1, dtype=np.intc).tobytes())
        self._level = array("b", bytes(len(n_iter)))
        level = n_iter * LEVELS // target
        self._lists = [
            array("i", np.flatnonzero(level == k).astype(np.intc).tobytes()) for k in range(LEVELS)
        ]
        for k, rows in enumerate(self._lists):
            for place, row in enumerate(rows):
                self._place[row] = place
                self._level[row] = k

    def __len__(self) -> int:
        return sum(map(len, self._lists))

    def add(self, row: int, n_iter: int) -> None:
        """Put a source in, if it is not, and not at its target."""
        if n_iter < self._target and self._place[row] < 0:
            level = n_iter * LEVELS // self._target
            self._level[row] = level
            self._place[row] = len(self._lists[level])
            self._lists[level].append(row)

    def discard(self, row: int) -> None:
        """Take a source out, if it is in; the last of its level moves to its place."""
        place = self._place[row]
        if place >= 0:
            rows = self._lists[self._level[row]]
            last = rows.pop()
            if last != row:
                rows[place] = last
                self._place[last] = place
            self._place[row] = -1

    def draw(self, rng: np.random.Generator) -> int:
        """One of the sources, which stays in the pool.

        Raises
        ------
        IndexError
            If the pool is empty.
        """
        levels = [(rows, len(rows) * 0.5**level) for level, rows in enumerate(self._lists) if rows]
        if not levels:
            raise IndexError("no source to draw")
        chosen = rng.random() * sum(weight for _, weight in levels)
        rows, weight = levels.pop(0)
        while chosen >= weight and levels:
            chosen -= weight
            rows, weight = levels.pop(0)
        return rows[min(int(chosen / weight * len(rows)), len(rows) - 1)]
