"""The pixels of one region of sky, as padded arrays ready for the device."""

import equinox as eqx
import jax
from jax.typing import DTypeLike

__all__ = ["TILE", "Patch", "coarse_length", "padded_length", "source_slots"]

TILE = 8  # pixels on a side of a tile


class Patch(eqx.Module):
    """All pixels of all exposures in one region, cut into square tiles.

    Attributes
    ----------
    data : array (T, TILE * TILE)
        Pixel values, tile by tile, rows within a tile one after another; 0 where there is no weight.
    ierr : array (T, TILE * TILE)
        Inverse standard deviations; 0 means that the pixel is not used.
    origin : int array (T, 2)
        Pixel (x, y) of each tile's first pixel in its exposure.
    exposure : int array (T,)
        Index of each tile's exposure.
    count : int array ()
        Number of real tiles; they come first, and at least one empty tile follows, so that padded lists
        of tiles can point to the last.

    Notes
    -----
    ``data`` and ``ierr`` set the precision of all pixel work: float32 as a rule, float64 for tests.
    """

    data: jax.Array
    ierr: jax.Array
    origin: jax.Array
    exposure: jax.Array
    count: jax.Array

    @property
    def n_tile(self) -> int:
        """Number of tiles, padding included."""
        return self.data.shape[0]

    def centre(self, tile: jax.Array | slice | int) -> jax.Array:
        """Return the pixel (x, y) of the centre of a tile, or of many."""
        return self.origin[tile] + (TILE - 1) / 2

    def astype(self, dtype: DTypeLike) -> "Patch":
        """Return the same patch with pixel work done in another floating-point type."""
        return eqx.tree_at(
            lambda p: (p.data, p.ierr), self, (self.data.astype(dtype), self.ierr.astype(dtype))
        )


def padded_length(n: int, *, smallest: int = 2) -> int:
    """Return the smallest length among 1, 1.5, 2, 3, 4, 6, 8, ... times `smallest` (even) that holds `n`.

    Arrays are padded to these lengths, so that patches of similar size share a compiled program.
    """
    length = smallest
    while length < n:
        if length + length // 2 >= n:
            return length + length // 2
        length *= 2
    return length


def source_slots(n: int) -> int:
    """Return the number to which sources are padded: the smallest power of two that holds `n`, at least two."""
    return max(2, 1 << (n - 1).bit_length())


def coarse_length(n: int, *, smallest: int) -> int:
    """Return the smallest length among 1, 4, 16, ... times `smallest` that holds `n`.

    For arrays whose padding takes no time, so that even fewer programs are compiled.
    """
    length = smallest
    while length < n:
        length *= 4
    return length
