"""Lists of the sources that matter on each tile, at given parameters.

Pair lists (`core.pairs`) are made on the host for a whole box of parameters.  Where parameters are known, the light
of a source ends much sooner: these lists are made on the device, anew for every set of parameters.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .backend import list_lengths, on_device, tiles_per_block
from .gaussians import Gaussians
from .patch import TILE, Patch, coarse_length

__all__ = ["Nearby", "coarsely_padded", "nearby_sources", "over_nearby"]

NEGLIGIBLE = 1e-4  # of the noise of a pixel, for all sources that are left out of a tile together
SMALLEST = 32  # tiles to which patches are padded, 128, 512, ...


class Nearby(NamedTuple):
    """Tiles and the sources on each, sorted so that tiles with lists of equal length are adjacent.

    Attributes
    ----------
    tile : int array (T,)
        Those with pixels come first, the most crowded of them last.
    sources : int array (T, S)
        Sources on each of these tiles, padded with S + 1.
    begin : int array (levels + 1,)
        Where the tiles begin whose lists have the lengths `list_lengths`, the shortest first.
    """

    tile: jax.Array
    sources: jax.Array
    begin: jax.Array


def nearby_sources(gaussians: Gaussians, flux: jax.Array, patch: Patch, least: float = 0.0) -> Nearby:
    """List the sources that matter on each tile.

    Parameters
    ----------
    gaussians : Gaussians
        Of sources of unit flux, arrays of shape (E, S, K, M).
    flux : array (E, S)
    patch : Patch
    least : float
        A source whose peak is fainter is treated as if it were this many times the noise of a pixel.

    Returns
    -------
    Nearby
    """
    n_exposure, n_source = gaussians.x.shape[:2]
    dtype = patch.data.dtype
    amplitude, x, y, fxx, fxy, fyy = (g.reshape(n_exposure, n_source, -1) for g in gaussians)
    # along its major axis a Gaussian falls off with the smallest eigenvalue of its precision matrix
    slowest = (fxx + fyy) / 2 - jnp.hypot((fxx - fyy) / 2, fxy)
    noise = 1 / jnp.maximum(jnp.max(patch.ierr, axis=1), 1e-30)
    amplitude = jnp.abs(amplitude)
    peak = jnp.maximum(jnp.sum(amplitude, axis=-1), 1e-30)
    quietest = jax.ops.segment_min(noise, patch.exposure, n_exposure)
    amplitude = amplitude * jnp.maximum(jnp.abs(flux), least * quietest[:, None] / peak)[..., None]
    centre = patch.centre(jnp.arange(patch.n_tile))

    def add(g, total):
        def on_tiles(values):
            return values[patch.exposure, :, g]

        gap = [
            jnp.maximum(jnp.abs(centre[:, i, None] - on_tiles(c)) - (TILE - 1) / 2, 0.0)
            for i, c in enumerate((x, y))
        ]
        squared = (on_tiles(slowest) * (gap[0] ** 2 + gap[1] ** 2)).astype(dtype)
        return total + on_tiles(amplitude).astype(dtype) * jnp.exp(-0.5 * squared)

    largest = jax.lax.fori_loop(0, x.shape[-1], add, jnp.zeros((patch.n_tile, n_source), dtype))
    listed = largest > NEGLIGIBLE / n_source * noise[:, None]
    count = jnp.sum(listed, axis=1)
    lengths = jnp.asarray(list_lengths(n_source))
    real = jnp.arange(patch.n_tile) < patch.count
    level = jnp.where(real, jnp.sum(count[:, None] > lengths, axis=1), lengths.size)
    order = jnp.argsort(level)
    first = jnp.argsort(~listed, axis=1)
    sources = jnp.where(jnp.arange(n_source) < count[:, None], first, n_source + 1)
    begin = jnp.searchsorted(level[order], jnp.arange(lengths.size + 1))
    return Nearby(order, sources[order], begin)


def over_nearby(step: Callable[[Any, jax.Array, jax.Array], Any], carry: Any, nearby: Nearby) -> Any:
    """Run ``step(carry, tiles, sources)`` over blocks of tiles; padding of the last block is -1."""
    n_source = nearby.sources.shape[1]
    block = tiles_per_block()
    for i, length in enumerate(list_lengths(n_source)):
        begin, end = nearby.begin[i], nearby.begin[i + 1]

        def body(number, carry, begin=begin, end=end, length=length):
            rows = begin + number * block + jnp.arange(block)
            inside = rows < end
            rows = jnp.minimum(rows, nearby.tile.size - 1)
            tile = jnp.where(inside, nearby.tile[rows], -1)
            sources = jnp.where(inside[:, None], nearby.sources[rows, :length], n_source + 1)
            return step(carry, tile, sources)

        carry = jax.lax.fori_loop(0, (end - begin + block - 1) // block, body, carry)
    return carry


def coarsely_padded(patch: Patch) -> Patch:
    """Pad a patch with empty tiles to one of few lengths, so that few programs are compiled."""
    spare = coarse_length(patch.n_tile, smallest=SMALLEST) - patch.n_tile
    if not spare:
        return patch
    names = "data", "ierr", "origin", "exposure"
    arrays = [np.asarray(getattr(patch, name)) for name in names]
    padded = [np.pad(array, ((0, spare),) + ((0, 0),) * (array.ndim - 1)) for array in arrays]
    return dataclasses.replace(patch, **dict(zip(names, map(on_device, padded), strict=True)))
