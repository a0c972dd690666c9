"""Normal equations of the model images: what least squares and the Fisher matrix are made of.

With J the derivative of the model image by the sources' parameters and W = ierr^2, one pass over the tiles
gives J^T W J and J^T W (data - model) for every exposure.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .gaussians import Sources, project
from .patch import TILE
from .pixels import tile_image

__all__ = ["NormalEquations", "normal_equations"]


class NormalEquations(NamedTuple):
    """Sums over the pixels of each of E exposures, for the 7 parameters of each of S sources.

    The order of the parameters is flux (in the exposure's band), x, y, q, pa, sersic, rhalf.

    Attributes
    ----------
    chi2 : array (E,)
        Sum of (ierr (data - model))^2.
    vector : array (E, S * 7)
        J^T W (data - model): minus half the gradient of chi2.
    matrix : array (E, S * 7, S * 7)
        J^T W J, the Fisher matrix.
    """

    chi2: jax.Array
    vector: jax.Array
    matrix: jax.Array


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


def normal_equations(sources, optics, table, patch, response=None):
    """Normal equations of the scene, exposure by exposure.

    Parameters
    ----------
    sources : Sources
        Parameters of S sources.
    optics : Optics
        How the exposures see them.
    table : callable
        The profile table, as for `project`.
    patch : Patch
        Pixels.
    response : str, optional
        Polynomial pixel response applied to all Gaussians (see `chi2`).

    Returns
    -------
    NormalEquations
        In float64.
    """
    theta, tangent = _tangents(sources, optics, table)
    n_exposure, n_source = theta.shape[:2]
    size = 7 * n_source
    dtype = patch.data.dtype

    def step(tile, sums):
        e = patch.exposure[tile]
        centre = patch.origin[tile] + (TILE - 1) / 2
        ierr = patch.ierr[tile]

        def one(theta, tangent):
            image, push = jax.linearize(lambda t: tile_image(t, centre, dtype, response), theta)
            return image, jax.vmap(push)(tangent)

        images, derivatives = jax.vmap(one)(theta[e], tangent[e])
        chi = (patch.data[tile] - images.sum(axis=0)) * ierr
        design = derivatives.reshape(size, -1) * ierr
        return NormalEquations(
            sums.chi2.at[e].add(jnp.sum(chi.astype(jnp.float64) ** 2)),
            sums.vector.at[e].add((design @ chi).astype(jnp.float64)),
            sums.matrix.at[e].add((design @ design.T).astype(jnp.float64)),
        )

    start = NormalEquations(
        jnp.zeros(n_exposure), jnp.zeros((n_exposure, size)), jnp.zeros((n_exposure, size, size))
    )
    return jax.lax.fori_loop(0, patch.count, step, start)
