"""The pixels of one region of sky, as padded arrays ready for the device."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["TILE", "PairList", "Patch", "all_pairs", "padded_length"]

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
    def n_tile(self):
        """Number of tiles, padding included."""
        return self.data.shape[0]

    def astype(self, dtype):
        """The same patch with pixel work done in another floating-point type."""
        return eqx.tree_at(
            lambda p: (p.data, p.ierr), self, (self.data.astype(dtype), self.ierr.astype(dtype))
        )


class PairList(eqx.Module):
    """Which Gaussians are evaluated on which tiles.

    Attributes
    ----------
    tile : int array (N,)
        Tiles of this list; the padding points to the patch's last, empty tile.
    count : int array ()
        How many of them are real.
    plain : int array (N, L)
        Flat indices into `Gaussians` (exposure, source, profile, PSF component); the padding is the
        number of Gaussians, one past the end.
    corrected : int array (N, L')
        The same for Gaussians that are multiplied by the polynomial of a pixel response.
    """

    tile: jax.Array
    count: jax.Array
    plain: jax.Array
    corrected: jax.Array


def padded_length(n, *, smallest=2):
    """Smallest length of the series 1, 1.5, 2, 3, 4, 6, 8, ... times `smallest` (even) that holds `n`.

    Arrays are padded to these lengths, so that patches of similar size share a compiled program.
    """
    length = smallest
    while length < n:
        if length + length // 2 >= n:
            return length + length // 2
        length *= 2
    return length


def all_pairs(patch, amplitudes, corrected=None):
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
    tuple of PairList
        One list with all tiles that have weight.
    """
    used = np.asarray(amplitudes) != 0
    if corrected is None:
        corrected = np.zeros(used.shape[:2], bool)
    corrected = np.broadcast_to(np.asarray(corrected)[:, :, None, None], used.shape)

    weighted = np.flatnonzero(np.any(np.asarray(patch.ierr) > 0, axis=1))
    tile = np.full(padded_length(weighted.size, smallest=64), patch.n_tile - 1, dtype=np.int32)
    tile[: weighted.size] = weighted
    exposure = np.asarray(patch.exposure)[tile]
    plain, poly = (_listed(used & chosen)[exposure] for chosen in (~corrected, corrected))
    return (
        PairList(
            tile=jnp.asarray(tile),
            count=jnp.asarray(weighted.size, dtype=np.int32),
            plain=jnp.asarray(plain),
            corrected=jnp.asarray(poly),
        ),
    )


def _listed(chosen):
    """Flat indices of the chosen Gaussians (E, S, K, M), exposure by exposure, padded to one length."""
    rows = chosen.reshape(chosen.shape[0], -1)
    table = np.full((len(rows), rows.sum(axis=1).max(initial=0)), rows.size, dtype=np.int32)
    for e, row in enumerate(rows):
        index = np.flatnonzero(row)
        table[e, : index.size] = e * row.size + index
    return table
