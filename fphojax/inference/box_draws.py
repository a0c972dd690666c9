"""Draws of linear parameters inside their box, and the share of their conditional that lies there."""

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp, ndtr, ndtri

from .coordinates import LEAST
from .fluxes import Integral

__all__ = ["drawn_inside"]

MOST_CERTAIN = 1 - 1e-15  # largest probability that is mapped to a normal deviate


def drawn_inside(
    uniform: jax.Array,
    offset: jax.Array,
    normal: jax.Array,
    integral: Integral,
    low: jax.Array,
    high: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw linear parameters from their conditional, inside a box, and estimate the probability of the box.

    Parameters are drawn one after the other inside their edges, given those before, and the probabilities of these
    are multiplied (Geweke, Hajivassiliou & Keane; see Genz 1992): where they are independent, that is exact. A draw
    of the normal distribution that lies outside is replaced by one of these, chosen by its probability.

    Parameters
    ----------
    uniform : array (n, TRIES)
        Draws between 0 and 1, for as many estimates of the probability.
    offset : array ()
        Another, for the choice among these.
    normal : array (m, n)
        Draws of a unit normal, for as many draws of the parameters.
    integral : Integral
        Of n linear parameters.
    low, high : array (n,)
        Edges of the box.

    Returns
    -------
    log_share : array ()
        Logarithm of an unbiased estimate of the probability.
    draws : array (m, n)
    outside : bool array (m,)
        Whether the draw of the normal distribution lay outside.
    """
    (n, tries), factor = uniform.shape, integral.factor

    def following(i, carry):
        offsets, log_share = carry
        row = n - 1 - i
        shift, scale = factor[:, row] @ offsets, factor[row, row]
        below, above = (scale * (edge[row] - integral.mean[row]) + shift for edge in (low, high))
        turned = below > 0  # the smaller tail is the more accurate one
        below, above = jnp.where(turned, -above, below), jnp.where(turned, -below, above)
        least = ndtr(below)
        share = ndtr(above) - least
        z = ndtri(jnp.clip(least + uniform[row] * share, LEAST, MOST_CERTAIN))
        offsets = offsets.at[row].set((jnp.where(turned, -z, z) - shift) / scale)
        return offsets, log_share + jnp.log(share)

    offsets, log_share = jax.lax.fori_loop(0, n, following, (jnp.zeros((n, tries)), jnp.zeros(tries)))
    total = logsumexp(log_share)
    free = solve_triangular(factor, normal.T, lower=True, trans=1).T + integral.mean
    outside = ((free < low) | (free > high)).any(axis=1)
    # systematic resampling, so that each draw by itself has the tries' probabilities too
    ladder = (jnp.arange(len(normal)) / len(normal) + offset) % 1
    chosen = jnp.searchsorted(jnp.cumsum(jnp.exp(log_share - total)), ladder).clip(max=tries - 1)
    inside = jnp.clip(integral.mean + offsets.T[chosen], low, high)  # up to rounding it is inside
    return total - jnp.log(tries), jnp.where(outside[:, None], inside, free), outside
