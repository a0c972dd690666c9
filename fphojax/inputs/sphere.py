"""Circles on the sphere: positions as unit vectors, and overlaps of circles, of sources as of exposures.

Unit vectors are singular neither at the poles nor at ra = 0, and the chord 2 sin(d/2) between two of them resolves
separations d down to 1e-10 arcsec.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_matrix, csr_matrix
from scipy.spatial import cKDTree

__all__ = ["CircleIndex", "Footprints", "enclosing_circle", "separation", "unit_vectors"]

ARCSEC = np.pi / 180 / 3600  # radians


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
    """Convert positions in degrees to unit vectors, shape (..., 3)."""
    ra, dec = np.deg2rad(ra), np.deg2rad(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def separation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the angles between unit vectors, arcsec; accurate for small ones, too."""
    difference = a - b
    chord = np.sqrt(np.einsum("...i,...i->...", difference, difference))
    return 2 * np.arcsin(np.minimum(chord / 2, 1)) / ARCSEC


def enclosing_circle(vectors: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, float]:
    """Enclose circles by a circle, centred on their bounding box along the meridian of the first.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Centres, within a few degrees of each other.
    radius : ndarray, shape (N,)
        Arcsec.

    Returns
    -------
    centre : ndarray, shape (3,)
    radius : float
        Arcsec. Not the smallest possible circle, but at most sqrt(2) times as large.
    """
    first = vectors[0]
    if len(vectors) == 1:
        return first, float(radius[0])
    x, y, z = first.tolist()
    cosine = math.hypot(x, y)  # of the declination
    east_x, east_y = (-y / cosine, x / cosine) if cosine > 0 else (0.0, 1.0)
    north = (-z * east_y, z * east_x, x * east_y - y * east_x)
    axes = np.array([(east_x, east_y, 0.0), north])
    offset = vectors @ axes.T / (vectors @ first)[:, None]
    half = (radius * ARCSEC)[:, None]
    middle = ((offset - half).min(axis=0) + (offset + half).max(axis=0)) / 2
    centre = first + middle @ axes
    centre /= np.sqrt(centre @ centre)
    return centre, float((separation(vectors, centre) + radius).max())


class CircleIndex:
    """Circles with fast search for overlaps.

    They are kept in one KD-tree per class of radius (factors of four), so that one large circle does not make
    the search radius around every small one large.

    Parameters
    ----------
    vectors : ndarray, shape (N, 3)
        Unit vectors of the centres.
    radius : ndarray, shape (N,)
        Arcsec, positive.
    """

    def __init__(self, vectors: np.ndarray, radius: np.ndarray):
        self.vectors = vectors
        self.radius = np.asarray(radius, dtype=np.float64)
        self._classes = []
        if not len(vectors):
            return
        size = np.floor(np.log2(self.radius) / 2).astype(int)
        for value in np.unique(size):
            rows = np.flatnonzero(size == value)
            self._classes.append((cKDTree(vectors[rows]), rows, float(self.radius[rows].max())))

    def overlapping(self, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Find the circles that overlap a circle.

        Parameters
        ----------
        centre : ndarray, shape (3,)
        radius : float
            Arcsec.

        Returns
        -------
        rows : ndarray of int, shape (n,)
            In an order that depends only on the circles.
        distance : ndarray, shape (n,)
            Of their centres, arcsec.
        """
        parts = [np.empty(0, dtype=int)]
        for tree, rows, largest in self._classes:
            if candidates := tree.query_ball_point(centre, _chord(radius + largest)):
                parts.append(rows[candidates])
        rows = np.concatenate(parts)
        distance = separation(self.vectors[rows], centre)
        candidates = distance <= radius + self.radius[rows]
        return rows[candidates], distance[candidates]

    def links(self) -> csr_matrix:
        """Return the adjacency matrix of overlapping circles, (N, N), symmetric, without the diagonal."""
        size = len(self.radius)
        pairs = [np.empty((0, 2), dtype=np.int32)]
        for a, (tree, rows, largest) in enumerate(self._classes):
            matches = tree.query_pairs(_chord(2 * largest), output_type="ndarray")
            pairs.append(self._overlapping_pairs(rows[matches[:, 0]], rows[matches[:, 1]]))
            for other, other_rows, other_largest in self._classes[:a]:
                reach = _chord(largest + other_largest)
                matches = tree.sparse_distance_matrix(other, reach, output_type="ndarray")
                pairs.append(self._overlapping_pairs(rows[matches["i"]], other_rows[matches["j"]]))
        i, j = np.concatenate(pairs).T
        both = np.concatenate([i, j]), np.concatenate([j, i])
        return coo_matrix((np.ones(len(both[0]), dtype=np.int8), both), shape=(size, size)).tocsr()

    def _overlapping_pairs(self, i, j):
        distance = separation(self.vectors[i], self.vectors[j])
        return np.stack([i, j], axis=1)[distance <= self.radius[i] + self.radius[j]].astype(np.int32)


class Footprints:
    """Circles around exposures, to find those that may touch a region of sky.

    Parameters
    ----------
    circles : sequence of (ra, dec, radius)
        Degrees and arcsec, as `fphojax.inputs.astrometry.footprint` gives them.
    """

    def __init__(self, circles: Sequence[tuple[float, float, float]]):
        ra, dec, radius = np.array(circles, dtype=np.float64).reshape(-1, 3).T
        self._index = CircleIndex(unit_vectors(ra, dec), radius)

    def touching(self, ra: float, dec: float, radius: float) -> np.ndarray:
        """Find the circles that overlap a circle.

        Parameters
        ----------
        ra, dec : float
            Degrees.
        radius : float
            Arcsec.

        Returns
        -------
        ndarray of int
            Their indices, in increasing order.
        """
        rows, _ = self._index.overlapping(unit_vectors(ra, dec), radius)
        return np.sort(rows)


def _chord(angle):
    """Return the chord of an angle in arcsec, slightly lengthened so that rounding loses nothing."""
    return 2 * math.sin(min(angle * ARCSEC, math.pi) / 2) * (1 + 1e-9) + 1e-15
