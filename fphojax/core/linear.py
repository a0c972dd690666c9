"""Normal equations of the linear parameters, given the shapes (DESIGN 5.5).

The model of an exposure is a sum of templates times numbers: the images of its sources at unit flux times their
fluxes, and, if asked for, a sky.  With T the templates (one a column), d the data and W = ierr^2, everything that
the likelihood knows about these numbers is in T^T W T, T^T W d and d^T W d.  They are summed tile by tile, over the
same pairs as chi-squared.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .gaussians import Gaussians
from .pixels import flat_table, over_tiles, unpaired_tiles, values_and_pullback

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


def normal_equations(gaussians, patch, pairs, response="variance", columns=None):
    """Normal equations of fluxes and sky levels.

    Differentiable by the Gaussians in reverse mode, at the price of a second exponential per pixel and Gaussian.

    Parameters
    ----------
    gaussians : Gaussians
        Sources of unit flux, arrays of shape (E, S, K, M).
    patch : Patch
        Pixels of E exposures.
    pairs : PairList
        Which Gaussians touch which tiles.
    response : {"variance", "quartic", "second_order"}
        As for `chi2`.
    columns : array (T, TILE * TILE, C), optional
        Further templates, on all tiles, each linear parameter of its own in every exposure; see `SkyBasis`.

    Returns
    -------
    NormalEquations
        In float64, for S sources and C further columns.
    """
    if columns is None:
        columns = jnp.zeros((*patch.data.shape, 0), patch.data.dtype)
    gram = _gram(gaussians, patch, pairs, columns, response)
    return NormalEquations(gram[:, :-1, :-1], gram[:, :-1, -1], gram[:, -1, -1])


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _gram(gaussians, patch, pairs, columns, response):
    """D^T W D of every exposure (E, L + 1, L + 1), with D the templates and, last, the data."""
    design_of = _designs(gaussians, patch, pairs, columns, response)

    def step(gram, tile, plain, corrected):
        design = jax.vmap(lambda *lists: design_of(*lists)[0])(tile, plain, corrected)
        return gram.at[patch.exposure[tile]].add(_squares(design, patch.ierr[tile]))

    start = _unpaired_gram(gaussians, patch, pairs, columns)
    return over_tiles(step, start, pairs, gaussians.x.size)


def _designs(gaussians, patch, pairs, columns, response):
    """Function of a tile and its two lists: its design D (P, L + 1) in float64, and the way back.

    The way back takes the cotangent (P, L + 1) of D to gradients (length of the list, 6) of the two lists.  The
    products of templates are taken in float64, as what the likelihood tells is the small difference of large sums.
    """
    table = flat_table(gaussians)
    dtype = patch.data.dtype
    n_source, per_source = gaussians.x.shape[1], gaussians.x[0, 0].size

    def part(centre, members, response):
        amplitude, values, pullback = values_and_pullback(table[members], centre, dtype, response)
        # 1 where a Gaussian (row) belongs to a source: matrix products with it are faster than gathers
        owner = jax.nn.one_hot(members // per_source % n_source, n_source, dtype=dtype)

        def back(weights):
            return pullback(weights @ owner.T)

        return values @ (amplitude[:, None] * owner), back

    def design(tile, plain, corrected):
        centre = patch.centre(tile)
        image, back_plain = part(centre, plain, None)
        back_corrected = None
        if corrected.size:
            more, back_corrected = part(centre, corrected, response)
            image = image + more
        full = jnp.concatenate([image, columns[tile], patch.data[tile][:, None]], axis=1)

        def back(cotangent):
            weights = cotangent[:, :n_source].astype(dtype)
            return back_plain(weights), back_corrected(weights) if corrected.size else jnp.zeros((0, 6))

        return full.astype(jnp.float64), back

    return design


def _squares(design, ierr):
    """D^T W D of tiles: designs (..., P, L), inverse errors (..., P)."""
    weighted = design * ierr[..., None]
    return jnp.einsum("...pi,...pj->...ij", weighted, weighted)


def _unpaired_gram(gaussians, patch, pairs, columns):
    """What the tiles in no list contribute: the sources are not there, but the other columns and the data are."""
    n_exposure, n_source = gaussians.x.shape[:2]
    rest = jnp.concatenate([columns, patch.data[..., None]], axis=-1).astype(jnp.float64)
    weight = jnp.where(unpaired_tiles(patch, pairs)[:, None], patch.ierr, 0)
    squares = jax.ops.segment_sum(_squares(rest, weight), patch.exposure, n_exposure)
    size = n_source + rest.shape[-1]
    return jnp.zeros((n_exposure, size, size)).at[:, n_source:, n_source:].set(squares)


def _gram_forward(gaussians, patch, pairs, columns, response):
    return _gram(gaussians, patch, pairs, columns, response), (gaussians, patch, pairs, columns)


def _gram_backward(response, kept, cotangent):
    gaussians, patch, pairs, columns = kept
    design_of = _designs(gaussians, patch, pairs, columns, response)
    symmetric = cotangent + jnp.swapaxes(cotangent, 1, 2)

    def one(tile, plain, corrected):
        design, back = design_of(tile, plain, corrected)
        weight = patch.ierr[tile].astype(jnp.float64)[:, None] ** 2
        return back(weight * (design @ symmetric[patch.exposure[tile]]))

    def step(gradient, tile, plain, corrected):
        by_plain, by_corrected = jax.vmap(one)(tile, plain, corrected)
        gradient = gradient.at[plain].add(by_plain)
        return gradient.at[corrected].add(by_corrected) if corrected.size else gradient

    start = jnp.zeros((gaussians.x.size + 1, 6))
    gradient = over_tiles(step, start, pairs, gaussians.x.size)[:-1].reshape(*gaussians.x.shape, 6)
    return Gaussians(*(gradient[..., i].astype(g.dtype) for i, g in enumerate(gaussians))), None, None, None


_gram.defvjp(_gram_forward, _gram_backward)
