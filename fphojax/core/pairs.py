"""Lists of the Gaussians that are evaluated on each tile."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .backend import on_device
from .patch import Patch, padded_length

__all__ = ["PairList", "all_pairs", "listed_pairs"]

LEVELS = (1.0, 0.7, 0.45, 0.28, 0.15)  # lengths of lists, as fractions of the longest


class PairList(eqx.Module):
    """The Gaussians that are evaluated on each tile.

    The lists of all tiles stand one after another in flat arrays.  A tile is processed with a list of fixed
    length, one of a few levels; tiles of one level follow each other, the longest first.

    Attributes
    ----------
    tile : int array (N,)
        Tiles that have a list; the padding points to the patch's last, empty tile.
    level : int array (len(LEVELS) + 1,)
        Where in `tile` each level begins; the last number is how many tiles are real.
    plain : int array (P,)
        Flat indices into `Gaussians` (exposure, source, profile, PSF component).
    corrected : int array (C,)
        The same for Gaussians that are multiplied by the polynomial of a pixel response.
    begin_plain, begin_corrected : int array (N + 1,)
        Where each tile's lists begin and end.
    longest : tuple of int
        Padded lengths of the longest lists, plain and corrected.
    """

    tile: jax.Array
    level: jax.Array
    plain: jax.Array
    corrected: jax.Array
    begin_plain: jax.Array
    begin_corrected: jax.Array
    longest: tuple[int, int] = eqx.field(static=True)

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Lengths of the two lists at each level."""
        return [tuple(_length_at_level(longest, level) for longest in self.longest) for level in LEVELS]

    @property
    def n_pair(self) -> int:
        """Number of all pairs of a tile and a Gaussian."""
        return int(self.begin_plain[-1] + self.begin_corrected[-1])

    def row(
        self, i: jax.Array | int, lengths: tuple[int, int], n_gauss: int
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return a tile and its two lists, of the given lengths, padded with the number of Gaussians."""

        def window(flat, begin, length):
            position = jnp.arange(length)
            entries = jax.lax.dynamic_slice_in_dim(flat, begin[i], length)
            return jnp.where(position < begin[i + 1] - begin[i], entries, n_gauss)

        plain = window(self.plain, self.begin_plain, lengths[0])
        return self.tile[i], plain, window(self.corrected, self.begin_corrected, lengths[1])


def all_pairs(
    patch: Patch, amplitudes: jax.Array | np.ndarray, corrected: jax.Array | np.ndarray | None = None
) -> PairList:
    """Pair every tile with every Gaussian of its exposure.

    Parameters
    ----------
    patch : Patch
        The tiles.
    amplitudes : array (E, S, K, M)
        Only Gaussians whose amplitude is zero are left out: the padding of PSFs.
    corrected : bool array (E, S), optional
        Which sources' Gaussians are multiplied by the polynomial of a pixel response.

    Returns
    -------
    PairList
        With all tiles that have weight.
    """
    used = np.asarray(amplitudes) != 0
    if corrected is None:
        corrected = np.zeros(used.shape[:2], bool)
    corrected = np.broadcast_to(np.asarray(corrected)[:, :, None, None], used.shape)
    tiles = np.flatnonzero(np.any(np.asarray(patch.ierr) > 0, axis=1))
    exposure = np.asarray(patch.exposure)[tiles]

    def rows(mask):
        flat = mask.reshape(len(mask), -1)
        lists = [e * flat.shape[1] + np.flatnonzero(row) for e, row in enumerate(flat)]
        return [lists[e] for e in exposure]

    return listed_pairs(patch, tiles, rows(used & ~corrected), rows(used & corrected))


def listed_pairs(
    patch: Patch, tiles: np.ndarray, plain: Sequence[np.ndarray], corrected: Sequence[np.ndarray]
) -> PairList:
    """Make the pair lists of given tiles.

    Parameters
    ----------
    patch : Patch
    tiles : int array (N,)
        Tiles to list.
    plain, corrected : list of N int arrays
        Flat indices of the Gaussians of each of these tiles.

    Returns
    -------
    PairList
        All lengths are padded, so that similar patches share a compiled program; tiles without Gaussians are left
        out.
    """
    counts = np.array([[len(p), len(c)] for p, c in zip(plain, corrected, strict=True)], dtype=int).reshape(
        -1, 2
    )
    longest = tuple(padded_length(n, smallest=16) if n else 0 for n in counts.max(axis=0, initial=0))
    lengths = np.array([[_length_at_level(n, level) for n in longest] for level in LEVELS])
    level = (counts[:, None] <= lengths).all(axis=-1).sum(axis=1) - 1
    order = np.argsort(level, kind="stable")
    order = order[counts[order].sum(axis=1) > 0]

    size = padded_length(order.size, smallest=16)
    tile = np.full(size, patch.n_tile - 1)
    tile[: order.size] = np.asarray(tiles)[order]
    flat, begin = zip(
        *(
            _flat([lists[i] for i in order], size, n)
            for lists, n in zip((plain, corrected), longest, strict=True)
        ),
        strict=True,
    )
    return PairList(
        tile=on_device(tile, np.int32),
        level=on_device(np.searchsorted(level[order], range(len(LEVELS) + 1)), np.int32),
        plain=flat[0],
        corrected=flat[1],
        begin_plain=begin[0],
        begin_corrected=begin[1],
        longest=(longest[0], longest[1]),
    )


def _length_at_level(longest, level):
    """Return the length of a level's list, a multiple of 4."""
    return -(-int(longest * level) // 4) * 4


def _flat(rows, n_row, longest):
    """Concatenate lists, with room for a window of the longest at the end; return also where they begin."""
    ends = np.cumsum([len(row) for row in rows], dtype=int)
    begin = np.concatenate([[0], ends, np.full(n_row - len(rows), ends[-1] if len(rows) else 0)])
    flat = np.zeros(padded_length(begin[-1] + longest, smallest=16) if longest else 0)
    flat[: begin[-1]] = np.concatenate(rows) if rows else []
    return on_device(flat, np.int32), on_device(begin, np.int32)
