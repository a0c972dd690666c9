"""The sky of an exposure inside a patch: a constant, or a plane."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .patch import TILE, Patch

__all__ = ["SkyBasis", "sky_basis"]

_ROW, _COLUMN = np.mgrid[:TILE, :TILE].reshape(2, -1) - (TILE - 1) / 2


class SkyBasis(eqx.Module):
    """Terms whose sum, each times a coefficient, is the sky: 1, and for a plane u and v.

    u and v run along columns and rows, from -1 to 1 across the pixels that the patch has of the exposure; so all
    coefficients are in the units of the image.

    Attributes
    ----------
    centre : array (E, 2)
        Pixel (x, y) where u and v vanish.
    half_width : array (E, 2)
        Pixels from there to where they are 1.
    n_term : int
        1 for a constant, 3 for a plane.
    """

    centre: jax.Array
    half_width: jax.Array
    n_term: int = eqx.field(static=True)

    def on_tile(self, patch: Patch, tile: jax.Array) -> jax.Array:
        """Evaluate the terms on the pixels of a tile, array (K, TILE * TILE)."""
        e = patch.exposure[tile]
        ones = jnp.ones(TILE * TILE)
        if self.n_term == 1:
            return ones[None].astype(patch.data.dtype)
        offset = patch.centre(tile) - self.centre[e]
        u = (_COLUMN + offset[0]) / self.half_width[e, 0]
        v = (_ROW + offset[1]) / self.half_width[e, 1]
        return jnp.stack([ones, u, v]).astype(patch.data.dtype)

    def columns(self, patch: Patch) -> jax.Array:
        """Evaluate the terms on all tiles, array (T, TILE * TILE, K), as `normal_equations` takes them."""
        terms = jax.vmap(lambda tile: self.on_tile(patch, tile))(jnp.arange(patch.n_tile))
        return jnp.swapaxes(terms, 1, 2)

    def image(self, level: jax.Array, patch: Patch) -> jax.Array:
        """Evaluate the sky of coefficients (E, K) on every tile, array (T, TILE * TILE)."""
        coefficients = level[patch.exposure].astype(patch.data.dtype)
        return jax.vmap(lambda tile, c: c @ self.on_tile(patch, tile))(jnp.arange(patch.n_tile), coefficients)


def sky_basis(patch: Patch, n_exposure: int, n_term: int) -> SkyBasis:
    """Build the basis of the sky for the pixels of a patch.

    Parameters
    ----------
    patch : Patch
    n_exposure : int
    n_term : {1, 3}

    Returns
    -------
    SkyBasis
    """
    centre, half_width = np.zeros((n_exposure, 2)), np.ones((n_exposure, 2))
    used = np.asarray(patch.ierr) > 0
    for e in range(n_exposure):
        tile, pixel = np.nonzero(used & (np.asarray(patch.exposure) == e)[:, None])
        if tile.size:
            position = np.asarray(patch.origin)[tile] + np.stack([pixel % TILE, pixel // TILE], axis=1)
            low, high = position.min(axis=0), position.max(axis=0)
            centre[e], half_width[e] = (low + high) / 2, np.maximum(high - low, 1) / 2
    return SkyBasis(jnp.asarray(centre), jnp.asarray(half_width), n_term)
