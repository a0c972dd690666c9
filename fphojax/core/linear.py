"""Normal equations of the linear parameters, given the shapes (docs/mathematics/inference.md).

The model of an exposure is a sum of templates times numbers: the images of its sources at unit flux times their
fluxes, and, if asked for, a sky.  With T the templates (one a column), d the data and W = ierr^2, everything that
the likelihood knows about these numbers is in T^T W T, T^T W d and d^T W d.

One exponential per pixel and Gaussian serves value and gradient: a function of the normal equations is differentiated
where the exponentials of the forward pass are still there.  Patches of different size share a program, in which
padding must take no time; but the compiler wants arrays of fixed size.  So a program holds the same work for a few
sizes, of which it picks the smallest that is large enough.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .gaussians import Gaussians
from .patch import Patch
from .pixels import LN2, PixelResponse, coefficients, exponentials, flat_table, monomials
from .segments import Segments

__all__ = ["NormalEquations", "normal_equations", "of_normal_equations"]


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
    shares: tuple[int, ...] = (100,),
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
    shares : tuple of int
        Sizes of the padded arrays, in per cent, for which the program holds the work; the last is 100.

    Returns
    -------
    NormalEquations
        In float64, for S sources and C further columns. For derivatives see `of_normal_equations`.
    """
    columns = _no_columns(patch) if columns is None else columns
    return _normal_equations(response, shares, gaussians, patch, segments, columns)


# the two functions below are compiled as part of others, but traced once for all of their calls
@partial(jax.jit, static_argnums=(0, 1))
def _normal_equations(response, shares, gaussians, patch, segments, columns):
    def equations(patch, segments, columns):
        return _evaluate(gaussians, patch, segments, columns, response)[0]

    return _of_gram(_over_sizes(equations, shares, patch, segments, columns))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _number_and_gradient(function, response, shares, parameters, gaussians, patch, segments, columns):
    def number_and_gradient(patch, segments, columns):
        gram, pull = _evaluate(gaussians, patch, segments, columns, response)
        number, by_gram = jax.value_and_grad(lambda gram: function(parameters, _of_gram(gram)))(gram)
        return number, pull(by_gram)

    return _over_sizes(number_and_gradient, shares, patch, segments, columns)


def of_normal_equations(
    function: Callable[[Any, NormalEquations], jax.Array],
    parameters: Any,
    gaussians: Gaussians,
    patch: Patch,
    segments: tuple[Segments, Segments],
    response: PixelResponse = "variance",
    columns: jax.Array | None = None,
    shares: tuple[int, ...] = (100,),
) -> jax.Array:
    """Compute a number from the normal equations, differentiable by the Gaussians in reverse mode.

    Parameters
    ----------
    function : callable
        Takes `parameters` and the normal equations to the number; the same object in every call, as it is part of
        the program.
    parameters : pytree
        The number is not differentiated by them.
    gaussians, patch, segments, response, columns, shares
        As for `normal_equations`.

    Returns
    -------
    array ()

    Notes
    -----
    In the derivative the polynomial of the pixel response is held fixed, which changes it by less than one per cent:
    it only steers trajectories, which that does not disturb.
    """
    columns = _no_columns(patch) if columns is None else columns
    return _number(function, response, shares, parameters, gaussians, patch, segments, columns)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _number(function, response, shares, parameters, gaussians, patch, segments, columns):
    return function(parameters, normal_equations(gaussians, patch, segments, response, columns, shares))


def _number_forward(function, response, shares, parameters, gaussians, patch, segments, columns):
    return _number_and_gradient(function, response, shares, parameters, gaussians, patch, segments, columns)


def _number_backward(function, response, shares, gradient, cotangent):
    scaled = jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradient)
    return None, scaled, None, None, None


_number.defvjp(_number_forward, _number_backward)


def _no_columns(patch):
    return jnp.zeros((*patch.data.shape, 0), patch.data.dtype)


def _of_gram(gram):
    """Return the normal equations in D^T W D (E, L + 1, L + 1), with D the templates and, last, the data."""
    return NormalEquations(gram[:, :-1, :-1], gram[:, :-1, -1], gram[:, -1, -1])


def _over_sizes(function, shares, patch, segments, columns):
    """Call a function with the first segments, in arrays of the smallest size that holds all real ones.

    All tiles are worked on, padding too: each costs much less than its segments.
    """
    sizes = [[-(-part.tile.size * share // 100) for part in segments] for share in shares]
    counts = jnp.stack([part.n_real for part in segments])
    enough = (jnp.asarray(sizes) >= counts).all(axis=1)

    def branch(size, patch, segments, columns):
        parts = tuple(
            jax.tree.map(lambda array, length=length: array[:length] if array.ndim else array, part)
            for part, length in zip(segments, size, strict=True)
        )
        return function(patch, parts, columns)

    branches = [partial(branch, size) for size in sizes]
    return jax.lax.switch(jnp.argmax(enough), branches, patch, segments, columns)


def _evaluate(gaussians, patch, segments, columns, response):
    """Compute D^T W D of every exposure, and the function that takes derivatives by it to those by the Gaussians."""
    # if fused with what follows, the numbers of a Gaussian would be recomputed for each of its pixels
    table = jax.lax.optimization_barrier(flat_table(gaussians))
    n_source, dtype = gaussians.x.shape[1], patch.data.dtype
    templates = jnp.zeros((patch.n_tile * n_source, patch.data.shape[1]), dtype)
    states = []
    for part, of_part in zip(segments, (None, response), strict=True):
        # the last row of the table, which fills up segments, has no amplitude
        theta = jnp.take(table, part.members.ravel(), axis=0, mode="clip").reshape(*part.members.shape, 6)
        centre = patch.centre(jnp.minimum(part.tile, patch.n_tile - 1))[:, None]
        of_part = None if response == "variance" else of_part
        amplitude, exponent, polynomial = coefficients(theta, centre, dtype, of_part)
        values = exponentials(exponent, polynomial)  # (N, LENGTH, P)
        image = jnp.einsum("ngp,ng->np", values, amplitude)
        templates = templates.at[part.tile * n_source + part.source].add(image, mode="drop")
        states.append((part, theta, centre, amplitude, values))
    # products in float64: the likelihood is a small difference of large sums
    parts = templates.reshape(patch.n_tile, n_source, -1), jnp.swapaxes(columns, 1, 2), patch.data[:, None]
    design = jnp.concatenate(parts, axis=1).astype(jnp.float64) * patch.ierr[:, None]  # (T, L + 1, P)
    squares = jnp.einsum("tip,tjp->tij", design, design)
    gram = jax.ops.segment_sum(squares, patch.exposure, gaussians.x.shape[0])

    def pull(by_gram):
        symmetric = (by_gram + jnp.swapaxes(by_gram, 1, 2))[patch.exposure, :n_source]
        by_template = jnp.einsum("tij,tjp->tip", symmetric, design) * patch.ierr[:, None]
        by_template = by_template.astype(dtype).reshape(patch.n_tile * n_source, -1)
        gradient = jnp.zeros((gaussians.x.size + 1, 6))
        basis = monomials(2, dtype)
        for part, theta, centre, amplitude, values in states:
            # the padding points beyond the tiles, or to an empty one
            weight = jnp.take(
                by_template, part.tile * n_source + part.source, axis=0, mode="fill", fill_value=0
            )
            weighted = (values * weight[:, None]).reshape(-1, values.shape[-1])
            moments = (weighted @ basis.T).reshape(theta.shape)  # (N, LENGTH, 6)
            _, back = jax.vjp(lambda t, c=centre: coefficients(t, c, dtype, None)[:2], theta)
            by_exponent = jnp.moveaxis(LN2 * amplitude[..., None] * moments, -1, 0)
            (by_theta,) = back((moments[..., 0], by_exponent))
            gradient = gradient.at[part.members].add(by_theta)
        gradient = gradient[:-1].reshape(*gaussians.x.shape, 6)
        return Gaussians(*(gradient[..., i].astype(g.dtype) for i, g in enumerate(gaussians)))

    return gram, pull
