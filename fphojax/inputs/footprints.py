"""Spatial index over the footprints of exposures, to find those that may touch a region of sky."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from .cutouts import on_sphere

__all__ = ["Footprints"]


class Footprints:
    """Circles on the sky around exposures, in a tree.

    Parameters
    ----------
    circles : sequence of (ra, dec, radius)
        Degrees and arcsec, as `fphojax.inputs.astrometry.footprint` gives them.
    """

    def __init__(self, circles: Sequence[tuple[float, float, float]]):
        ra, dec, radius = np.array(circles, dtype=np.float64).reshape(-1, 3).T
        self._radius = np.deg2rad(radius / 3600)
        self._tree = KDTree(on_sphere(ra, dec))

    def __len__(self) -> int:
        return self._tree.n

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
        if not len(self):
            return np.zeros(0, dtype=int)
        centre = on_sphere(ra, dec)
        reach = np.deg2rad(radius / 3600)
        near = np.array(
            self._tree.query_ball_point(centre, _chord(reach + self._radius.max()), return_sorted=True),
            dtype=int,
        )
        distance = np.linalg.norm(self._tree.data[near] - centre, axis=-1)
        return near[distance <= _chord(reach + self._radius[near])]


def _chord(angle):
    """Return the distance of unit vectors at an angle in radians, rounded up a little."""
    return 2 * np.sin(np.minimum(angle, np.pi) / 2) + 1e-12
