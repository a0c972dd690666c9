"""Groups of sources that are fitted together with a given one."""

import heapq
from collections.abc import Callable

import numpy as np
from scipy.sparse.csgraph import connected_components

from fphojax.inputs.sphere import CircleIndex, enclosing_circle, separation

__all__ = ["LinkedGroups", "NearGroups"]


class NearGroups:
    """The sources around a seed, by distance in units of half-light radii.

    Sources i with d <= nscale (rhalf_i + rhalf_seed) belong to the group, those with the smallest
    d / (rhalf_i + rhalf_seed) first.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Unit vectors of the sources.
    roi, rhalf : ndarray, shape (N,)
        Radii of influence, and half-light radii, arcsec.
    nscale : float
    maxactive : int
        Most sources of a group.
    maxradius : float
        Members' circles of influence lie within this distance of the seed, arcsec.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        roi: np.ndarray,
        rhalf: np.ndarray,
        *,
        nscale: float,
        maxactive: int,
        maxradius: float,
    ):
        self._roi, self._rhalf = roi, rhalf
        self._nscale, self._maxactive, self._maxradius = nscale, maxactive, maxradius
        self._index = CircleIndex(vectors, nscale * rhalf)

    def is_alone(self, row: int) -> bool:
        """Return whether a source is known to overlap no other's circle of influence; always False here."""
        return False

    def members(self, seed: int, excluded: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the rows of a group, the seed first.

        Parameters
        ----------
        seed : int
        excluded : callable
            Returns for rows (ndarray) which of them cannot be members; the seed always is one.
        """
        index = self._index
        rows, distance = index.overlapping(index.vectors[seed], self._nscale * self._rhalf[seed])
        fits = (distance + self._roi[rows] <= self._maxradius) & ~excluded(rows) & (rows != seed)
        rows, distance = rows[fits], distance[fits]
        size = np.maximum(self._rhalf[rows] + self._rhalf[seed], np.finfo(float).tiny)  # points have size 0
        nearest = np.argsort(distance / size, kind="stable")
        return np.concatenate([[seed], rows[nearest[: self._maxactive - 1]]])


class LinkedGroups:
    """Friends-of-friends groups: sources whose circles of influence overlap are linked, d <= roi_i + roi_j.

    All sources linked to the seed, directly or through others, form its group, if they are no more than
    `maxactive` in a circle of `maxradius`. Otherwise the group is cut: it grows from the seed along the links,
    nearest sources first, as far as both limits allow.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Unit vectors of the sources.
    roi : ndarray, shape (N,)
        Radii of influence, arcsec.
    maxactive : int
        Most sources of a group.
    maxradius : float
        Arcsec.
    """

    def __init__(self, vectors: np.ndarray, roi: np.ndarray, *, maxactive: int, maxradius: float):
        self._vectors, self._roi = vectors, roi
        self._maxactive, self._maxradius = maxactive, maxradius
        links = CircleIndex(vectors, roi).links()
        self._first, self._friends = links.indptr, links.indices
        count, label = connected_components(links, directed=False)
        self.label = label
        self._sizes = np.bincount(label, minlength=count)
        self._sorted = np.argsort(label, kind="stable").astype(np.int32)
        self._start = np.concatenate([[0], np.cumsum(self._sizes)])

    def is_alone(self, row: int) -> bool:
        """Return whether a source's circle of influence overlaps no other."""
        return self._sizes[self.label[row]] == 1

    def friends(self, row: int) -> np.ndarray:
        """Return the rows of the sources directly linked to a source."""
        return self._friends[self._first[row] : self._first[row + 1]]

    def members(self, seed: int, excluded: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the rows of a group, the seed first.

        Parameters
        ----------
        seed : int
        excluded : callable
            Returns for rows (ndarray) which of them cannot be members, nor pass on links; the seed always is a
            member.
        """
        label = self.label[seed]
        if self.is_alone(seed):
            return np.array([seed])
        if self._sizes[label] <= self._maxactive:
            rows = self._sorted[self._start[label] : self._start[label + 1]]
            rows = np.concatenate([[seed], rows[(rows != seed) & ~excluded(rows)]])
            if enclosing_circle(self._vectors[rows], self._roi[rows])[1] <= self._maxradius:
                return rows
        return self._grown(seed, excluded)

    def _grown(self, seed, excluded):
        rows, reached = [], {seed}
        front = [(0.0, seed)]
        while front and len(rows) < self._maxactive:
            row = heapq.heappop(front)[1]
            rows.append(row)
            friends = self.friends(row)
            distance = separation(self._vectors[friends], self._vectors[seed])
            fits = (distance + self._roi[friends] <= self._maxradius) & ~excluded(friends)
            for friend, far in zip(friends[fits].tolist(), distance[fits].tolist(), strict=True):
                if friend not in reached:
                    reached.add(friend)
                    heapq.heappush(front, (far, friend))
        return np.array(rows)
