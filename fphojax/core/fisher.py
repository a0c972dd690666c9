"""The Fisher matrix of the model images: J^T W J, with J their derivative by the parameters and W = ierr^2.

It is summed tile by tile, so that no Jacobian of all pixels is ever stored.
"""

import jax
import jax.numpy as jnp

from .gaussians import Sources, project
from .pixels import tile_image

__all__ = ["fisher_matrix"]


def fisher_matrix(sources, optics, table, patch, response=None, basis=None):
    """Fisher matrix of the sources' parameters, exposure by exposure.

    Parameters
    ----------
    sources : Sources
        Parameters of S sources.
    optics : Optics
        How E exposures see them.
    table : callable
        The profile table, as for `project`.
    patch : Patch
        Pixels.
    response : str, optional
        Polynomial pixel response applied to all Gaussians (see `chi2`).
    basis : SkyBasis, optional
        K terms of the sky.

    Returns
    -------
    array (E, S * 7 + K, S * 7 + K)
        In float64; source by source the parameters flux (in the exposure's band), x, y, q, pa, sersic, rhalf, and
        then the coefficients of the sky.
    """
    theta, tangent = _tangents(sources, optics, table)
    n_exposure, n_source = theta.shape[:2]
    size = len(Sources._fields) * n_source
    dtype = patch.data.dtype

    def step(tile, matrix):
        e = patch.exposure[tile]
        centre = patch.centre(tile)

        def derivatives(theta, tangent):
            _, push = jax.linearize(lambda t: tile_image(t, centre, dtype, response), theta)
            return jax.vmap(push)(tangent)

        design = jax.vmap(derivatives)(theta[e], tangent[e]).reshape(size, -1)
        if basis is not None:
            design = jnp.concatenate([design, basis.on_tile(patch, tile)])
        design = design * patch.ierr[tile]
        return matrix.at[e].add((design @ design.T).astype(jnp.float64))

    total = size + (0 if basis is None else basis.n_term)
    return jax.lax.fori_loop(0, patch.count, step, jnp.zeros((n_exposure, total, total)))


def _tangents(sources, optics, table):
    """Gaussians (E, S, G, 6), and their derivatives (E, S, 7, G, 6) by the seven parameters.

    A source's Gaussians depend on its own parameters alone, so one direction serves all sources at once.
    """

    def stacked(s):
        gaussians = project(s, optics, table)
        flat = jnp.stack(gaussians, axis=-1)
        return flat.reshape(*flat.shape[:2], -1, 6)

    fields = Sources._fields
    directions = Sources(
        *(
            jnp.zeros((len(fields), *getattr(sources, name).shape)).at[i].set(1.0)
            for i, name in enumerate(fields)
        )
    )
    value, push = jax.linearize(stacked, sources)
    return value, jax.vmap(push, out_axes=2)(directions)
