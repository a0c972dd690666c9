"""Pairs of tiles and Gaussians, a few Gaussians of one source at a time."""

from typing import NamedTuple

import jax
import numpy as np

from .backend import on_device
from .pairs import PairList
from .patch import coarse_length

__all__ = ["Segments", "segments_of"]

LENGTH = 8  # Gaussians of a segment
SMALLEST = 64  # segments to which lists are padded


class Segments(NamedTuple):
    """Parts of equal length of the lists of a `PairList`, each on one tile and of one source.

    Unlike lists of whole tiles they need no levels of length.

    Attributes
    ----------
    tile : int array (N,)
        The tile of each; the padding points to the patch's last, empty tile.
    source : int array (N,)
    members : int array (N, LENGTH)
        Flat indices into `Gaussians`; segments are padded with the number of Gaussians.
    n_real : int array ()
        Number of real ones; they come first.
    """

    tile: jax.Array
    source: jax.Array
    members: jax.Array
    n_real: jax.Array


def segments_of(pairs: PairList, n_tile: int, shape: tuple[int, ...]) -> tuple[Segments, Segments]:
    """Divide the lists of all tiles, plain and corrected, into segments.

    Parameters
    ----------
    pairs : PairList
    n_tile : int
        Tiles of the patch, padding included.
    shape : tuple of int
        That of the Gaussians, (E, S, K, M).

    Returns
    -------
    plain, corrected : Segments
        Numbers of segments are padded, so that similar patches share a compiled program.
    """
    n_real = int(np.asarray(pairs.level)[-1])
    tiles = np.asarray(pairs.tile)[:n_real]
    segments = []
    for flat, begin in ((pairs.plain, pairs.begin_plain), (pairs.corrected, pairs.begin_corrected)):
        begin = np.asarray(begin)
        flat = np.asarray(flat)[: begin[n_real]]
        tile = np.repeat(tiles, np.diff(begin[: n_real + 1]))
        source = flat // (shape[2] * shape[3]) % shape[1]
        segments.append(_segments(tile, source, flat, n_tile, int(np.prod(shape))))
    return tuple(segments)


def _segments(tile, source, gaussian, n_tile, n_gauss):
    """Group pairs, given by three arrays of equal length, into segments."""
    order = np.lexsort((gaussian, source, tile))
    tile, source, gaussian = tile[order], source[order], gaussian[order]
    new = np.ones(len(tile), dtype=bool)
    new[1:] = (np.diff(tile) != 0) | (np.diff(source) != 0)
    first = np.flatnonzero(new)
    position = np.arange(len(tile)) - np.repeat(first, np.diff(np.append(first, len(tile))))
    number = np.cumsum(position % LENGTH == 0) - 1
    count = int(number[-1]) + 1 if len(number) else 0
    size = coarse_length(count, smallest=SMALLEST) if count else 0
    segments = Segments(
        np.full(size, n_tile - 1),
        np.zeros(size, dtype=int),
        np.full((size, LENGTH), n_gauss),
        np.array(count),
    )
    segments.tile[number], segments.source[number] = tile, source
    segments.members[number, position % LENGTH] = gaussian
    return Segments(*(on_device(array, np.int32) for array in segments))
