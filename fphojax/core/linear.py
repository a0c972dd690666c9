"""Normal equations of the linear parameters, given the shapes (docs/mathematics/inference.md).

The model of an exposure is a sum of templates times numbers: the images of its sources at unit flux times their
fluxes, and, if asked for, a sky.  With T the templates (one a column), d the data and W = ierr^2, everything that
the likelihood knows about these numbers is in T^T W T, T^T W d and d^T W d.

One exponential per pixel and Gaussian serves value and gradient: the exponentials of the forward pass are kept for
the moments of the backward pass.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .gaussians import Gaussians
from .patch import Patch
from .pixels import LN2, PixelResponse, coefficients, exponentials, flat_table, monomials
from .segments import Segments

__all__ = ["NormalEquations", "normal_equations"]


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
    states = []
    for part, of_part in zip(segments, (None, response), strict=True):
        if not part.tile.size:
            states.append(None)
            continue
        # the last row of the table, which fills up segments, has no amplitude
        theta = jnp.take(table, part.members.ravel(), axis=0, mode="clip")
        theta = theta.reshape(*part.members.shape, 6)
        amplitude, exponent, polynomial = coefficients(
            theta, patch.centre(part.tile)[:, None], dtype, of_part
        )
        values = exponentials(exponent, polynomial)  # (N, LENGTH, P)
        image = jnp.einsum("ngp,ng->np", values, amplitude)
        templates = templates.at[part.tile * n_source + part.source].add(image, mode="drop")
        states.append((theta, amplitude, values))
    # products in float64: the likelihood is a small difference of large sums
    parts = templates.reshape(patch.n_tile, n_source, -1), jnp.swapaxes(columns, 1, 2), patch.data[:, None]
    design = jnp.concatenate(parts, axis=1).astype(jnp.float64)  # (T, L + 1, P)
    weighted = design * patch.ierr[:, None]
    squares = jnp.einsum("tip,tjp->tij", weighted, weighted)
    gram = jax.ops.segment_sum(squares, patch.exposure, gaussians.x.shape[0])
    return gram, (gaussians, patch, segments, design, states)


def _gram_backward(response, residuals, cotangent):
    gaussians, patch, segments, design, states = residuals
    n_source, dtype = gaussians.x.shape[1], patch.data.dtype
    symmetric = (cotangent + jnp.swapaxes(cotangent, 1, 2))[patch.exposure, :n_source]
    by_template = jnp.einsum("tij,tjp->tip", symmetric, design) * patch.ierr[:, None].astype(jnp.float64) ** 2
    by_template = by_template.astype(dtype).reshape(patch.n_tile * n_source, -1)
    gradient = jnp.zeros((gaussians.x.size + 1, 6))
    basis = monomials(2, dtype)
    for part, state in zip(segments, states, strict=True):
        if state is None:
            continue
        theta, amplitude, values = state
        weight = jnp.take(by_template, part.tile * n_source + part.source, axis=0, mode="clip")
        weighted = (values * weight[:, None]).reshape(-1, values.shape[-1])
        moments = (weighted @ basis.T).reshape(theta.shape)  # (N, LENGTH, 6)
        centre = patch.centre(part.tile)[:, None]
        _, pull = jax.vjp(lambda t, c=centre: coefficients(t, c, dtype, None)[:2], theta)
        by_exponent = jnp.moveaxis(LN2 * amplitude[..., None] * moments, -1, 0)
        (by_theta,) = pull((moments[..., 0], by_exponent))
        gradient = gradient.at[part.members].add(by_theta)
    gradient = gradient[:-1].reshape(*gaussians.x.shape, 6)
    return Gaussians(*(gradient[..., i].astype(g.dtype) for i, g in enumerate(gaussians))), None, None, None


_gram.defvjp(_gram_forward, _gram_backward)
