"""Normal equations of the linear parameters, given the shapes (docs/mathematics/inference.md).

The model of an exposure is a sum of templates times numbers: the images of its sources at unit flux times their
fluxes, and, if asked for, a sky.  With T the templates (one a column), d the data and W = ierr^2, everything that
the likelihood knows about these numbers is in T^T W T, T^T W d and d^T W d.

One exponential per pixel and Gaussian serves value and gradient: the exponentials of the forward pass are kept for
the moments of the backward pass.  Loops run over as many blocks of tiles and chunks of segments as there are, so that
padding, which lets patches of different size share a program, takes no time.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .gaussians import Gaussians
from .patch import Patch
from .pixels import LN2, PixelResponse, coefficients, exponentials, flat_table, monomials
from .segments import CHUNK, Segments

__all__ = ["NormalEquations", "normal_equations"]

BLOCKS = 1, 8, 16, 32  # tiles whose products may be computed in one operation


class NormalEquations(NamedTuple):
    """Normal equations of L linear parameters in each of E exposures: the sources, then the further columns.

    Attributes
    ----------
    matrix : array (E, L, L)
        T^T W T.
    vector : array (E, L)
        T^T W d.
    data2 : array (E,)
        d^T W d; chi-squared of the parameters f is ``data2 - 2 f @ vector + f @ matrix @ f``.
    """

    matrix: jax.Array
    vector: jax.Array
    data2: jax.Array


def normal_equations(
    gaussians: Gaussians,
    patch: Patch,
    segments: tuple[Segments, Segments],
    response: PixelResponse = "variance",
    columns: jax.Array | None = None,
) -> NormalEquations:
    """Compute the normal equations of fluxes and sky levels.

    Parameters
    ----------
    gaussians : Gaussians
        Sources of unit flux, arrays of shape (E, S, K, M).
    patch : Patch
        Pixels of E exposures.
    segments : tuple of two Segments
        Which Gaussians touch which tiles, plain and corrected; see `segments_of`.
    response : {"variance", "quartic", "second_order"}
        As for `chi2`.
    columns : array (T, TILE * TILE, C), optional
        Further templates, on all tiles, each with a linear parameter of its own in every exposure; see `SkyBasis`.

    Returns
    -------
    NormalEquations
        In float64, for S sources and C further columns; differentiable by the Gaussians in reverse mode.

    Notes
    -----
    In the derivative the polynomial of the pixel response is held fixed, which changes it by less than one per cent:
    it only steers trajectories, which that does not disturb.
    """
    if columns is None:
        columns = jnp.zeros((*patch.data.shape, 0), patch.data.dtype)
    gram = _gram(gaussians, patch, segments, columns, response)
    return NormalEquations(gram[:, :-1, :-1], gram[:, :-1, -1], gram[:, -1, -1])


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _gram(gaussians, patch, segments, columns, response):
    """Compute D^T W D of every exposure (E, L + 1, L + 1), with D the templates and, last, the data."""
    return _gram_forward(gaussians, patch, segments, columns, response)[0]


def _gram_forward(gaussians, patch, segments, columns, response):
    # if fused with what follows, the numbers of a Gaussian would be recomputed for each of its pixels
    table = jax.lax.optimization_barrier(flat_table(gaussians))
    n_source, dtype = gaussians.x.shape[1], patch.data.dtype
    templates = jnp.zeros((patch.n_tile * n_source, patch.data.shape[1]), dtype)
    for part, of_part in _parts(segments, response):

        def evaluate(i, templates, part=part, of_part=of_part):
            tile, source, _, theta = _chunk(part, table, i)
            amplitude, exponent, polynomial = coefficients(theta, patch.centre(tile)[:, None], dtype, of_part)
            image = jnp.einsum("ngp,ng->np", exponentials(exponent, polynomial), amplitude)
            return templates.at[tile * n_source + source].add(image, mode="drop")

        templates = _over(part.n_chunk, part.tile.size // CHUNK, evaluate, templates)

    def add(i, gram):
        exposure, design, _ = _design(patch, templates, columns, i)
        squares = jnp.einsum("tip,tjp->tij", design, design)
        return gram.at[exposure].add(squares)

    size = n_source + columns.shape[2] + 1
    gram = jnp.zeros((gaussians.x.shape[0], size, size))
    gram = _over_tiles(patch, add, gram)
    return gram, (gaussians, patch, segments, columns, table, templates)


def _gram_backward(response, residuals, cotangent):
    gaussians, patch, segments, columns, table, templates = residuals
    n_source, dtype = gaussians.x.shape[1], patch.data.dtype
    symmetric = (cotangent + jnp.swapaxes(cotangent, 1, 2))[:, :n_source]

    def pull_templates(i, by_template):
        exposure, design, ierr = _design(patch, templates, columns, i)
        pulled = jnp.einsum("tij,tjp->tip", symmetric[exposure], design)
        pulled = (pulled * ierr).astype(dtype)
        return jax.lax.dynamic_update_slice_in_dim(by_template, pulled, i * _block(patch), 0)

    empty = jax.lax.empty((patch.n_tile, n_source, patch.data.shape[1]), dtype)
    by_template = _over_tiles(patch, pull_templates, empty)
    by_template = by_template.reshape(patch.n_tile * n_source, -1)
    gradient = jnp.zeros((gaussians.x.size + 1, 6))
    basis = monomials(2, dtype)
    for part, of_part in _parts(segments, response):

        def pull_segments(i, gradient, part=part, of_part=of_part):
            tile, source, members, theta = _chunk(part, table, i)
            centre = patch.centre(tile)[:, None]
            (amplitude, exponent), pull = jax.vjp(lambda t: coefficients(t, centre, dtype, None)[:2], theta)
            values = exponentials(exponent, coefficients(theta, centre, dtype, of_part)[2])
            # the padding points to the last tile, beyond the blocks that are filled
            weight = jnp.where((tile < patch.count)[:, None], by_template[tile * n_source + source], 0)
            weighted = (values * weight[:, None]).reshape(-1, values.shape[-1])
            moments = (weighted @ basis.T).reshape(theta.shape)  # (CHUNK, LENGTH, 6)
            by_exponent = jnp.moveaxis(LN2 * amplitude[..., None] * moments, -1, 0)
            (by_theta,) = pull((moments[..., 0], by_exponent))
            return gradient.at[members].add(by_theta)

        gradient = _over(part.n_chunk, part.tile.size // CHUNK, pull_segments, gradient)
    gradient = gradient[:-1].reshape(*gaussians.x.shape, 6)
    return Gaussians(*(gradient[..., i].astype(g.dtype) for i, g in enumerate(gaussians))), None, None, None


_gram.defvjp(_gram_forward, _gram_backward)


def _chunk(part, table, i):
    """Return tiles, sources, members and the Gaussians' numbers of a chunk of segments."""
    tile, source, members = (jax.lax.dynamic_slice_in_dim(a, i * CHUNK, CHUNK, 0) for a in part[:3])
    # the last row of the table, which fills up segments, has no amplitude
    theta = jnp.take(table, members.ravel(), axis=0, mode="clip").reshape(*members.shape, 6)
    return tile, source, members, theta


def _design(patch, templates, columns, i):
    """Return a block of tiles: their exposures, the columns (block, L + 1, P) of their design times ierr, and ierr.

    In float64: the likelihood is a small difference of large sums.
    """

    def block(array):
        return jax.lax.dynamic_slice_in_dim(array, i * _block(patch), _block(patch), 0)

    of_sources = block(templates.reshape(patch.n_tile, -1, patch.data.shape[1]))
    parts = of_sources, jnp.swapaxes(block(columns), 1, 2), block(patch.data)[:, None]
    ierr = block(patch.ierr)[:, None]
    return block(patch.exposure), jnp.concatenate(parts, axis=1).astype(jnp.float64) * ierr, ierr


def _parts(segments, response):
    """Pair segments with the pixel response of their Gaussians."""
    plain, corrected = segments
    return [(plain, None)] if response == "variance" else [(plain, None), (corrected, response)]


def _block(patch):
    """Return the number of tiles whose products are computed in one operation."""
    return max(size for size in BLOCKS if patch.n_tile % size == 0)


def _over_tiles(patch, body, carry):
    """Run a loop over the blocks that hold the real tiles."""
    block = _block(patch)
    return _over((patch.count + block - 1) // block, patch.n_tile // block, body, carry)


def _over(n, most, body, carry):
    """Run a loop of `n` passes; where there can be one at most, without the loop, which takes time of its own."""
    return body(0, carry) if most == 1 else jax.lax.fori_loop(0, n, body, carry)
