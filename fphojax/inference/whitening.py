"""Linear maps that make a posterior nearly a unit normal: u = origin + factor @ v.

The first one comes from the Fisher matrix at the optimum, or from covariances of an earlier fit; later ones from the
draws of the warm-up.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from fphojax.core.gaussians import Sources
from fphojax.core.model import SceneModel

from .covariance import inverse, places
from .optimum import BestFit
from .posterior import Posterior, culled_around, posterior_at

__all__ = [
    "Whitening",
    "coordinate_covariance",
    "from_draws",
    "mixed_covariance",
    "posterior_around",
    "rescale_to_blocks",
    "whitening",
]

FAR_OFF = 100.0  # ratio of variances beyond which they cannot be those of the same posterior


class Whitening(NamedTuple):
    """Linear map u = origin + factor @ v, with factor @ factor.T the covariance of u."""

    origin: jax.Array
    factor: jax.Array


def coordinate_covariance(posterior: Posterior, optimum: BestFit, origin: np.ndarray) -> np.ndarray:
    """Return the covariance of the coordinates, followed by the linear parameters, at the optimum.

    The Fisher matrix J^T W J of the parameters becomes that of coordinates and linear parameters by the derivatives
    of the former by the latter; the priors add their curvature.

    Parameters
    ----------
    posterior : Posterior
    optimum : BestFit
    origin : array (n,)
        Coordinates of the optimum.
    """
    slopes, curvature = (np.asarray(a) for a in _derivatives(posterior, jnp.asarray(origin)))
    precision = slopes.T @ optimum.fisher @ slopes + np.diag(curvature)
    return inverse(precision)


def posterior_around(
    model: SceneModel, optimum: BestFit, **options: Any
) -> tuple[Posterior, np.ndarray, np.ndarray]:
    """Build the posterior of a model around its optimum, ready for sampling.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit
    **options
        As for `posterior_at`.

    Returns
    -------
    posterior : Posterior
    origin : array (n,)
        Coordinates of the optimum.
    covariance : array (n, n)
        Of the coordinates, by the Fisher matrix.
    """
    posterior, origin = posterior_at(model, optimum, **options)
    covariance = coordinate_covariance(posterior, optimum, origin)
    posterior = culled_around(posterior, optimum, origin, np.sqrt(np.diag(covariance)))
    return posterior, origin, covariance[: len(origin), : len(origin)]


def rescale_to_blocks(
    covariance: np.ndarray, posterior: Posterior, optimum: BestFit, origin: np.ndarray, blocks: ArrayLike
) -> np.ndarray:
    """Rescale the covariance of the coordinates so that each source has its known covariance.

    Correlations between sources stay as they are, in units of the new widths.

    Parameters
    ----------
    covariance : array (n, n)
        Of the coordinates.
    posterior, optimum, origin
        As for `coordinate_covariance`.
    blocks : array (S, B + 6, B + 6)
        Covariances of each source's fluxes, x, y, q, pa, sersic and rhalf, as a super-scene keeps them; NaN where
        there is none.
    """
    n_band = optimum.values["flux"].shape[1]
    slopes, _ = (np.asarray(a) for a in _derivatives(posterior, jnp.asarray(origin)))
    columns = slopes[:, : len(origin)]
    place = places(optimum.values)
    covariance = np.array(covariance)
    for s, block in enumerate(np.asarray(blocks, dtype=float)):
        rows = np.concatenate(
            [
                place[name][s] if name == "flux" else place[name][s : s + 1]
                for name in Sources._fields
                if name != "flux" or posterior.linear is None
            ]
        )
        block = block if posterior.linear is None else block[n_band:, n_band:]
        mine = np.flatnonzero(np.abs(columns[rows]).sum(axis=0) > 0)
        if not np.isfinite(block).all() or not mine.size:
            continue
        back = np.linalg.pinv(columns[np.ix_(rows, mine)])
        index = np.ix_(mine, mine)
        stretch = np.eye(len(covariance))
        stretch[index] = _stretch(covariance[index], back @ block @ back.T)
        covariance = stretch @ covariance @ stretch.T
    return covariance


def _stretch(present, target):
    """Find D with D @ present @ D.T = target, leaving directions in which `target` is far off as they are.

    A parameter that is held has no width at all in `target`, and must not lose its own.
    """
    scale = np.sqrt(np.diag(present))[:, None]
    eigenvalues, vectors = np.linalg.eigh(present / scale / scale.T)
    root = np.sqrt(np.maximum(eigenvalues, 1e-10))
    half, back = scale * (vectors * root) @ vectors.T, (vectors / root) @ vectors.T / scale.T
    ratio, axes = np.linalg.eigh(back @ target @ back.T)
    ratio = np.where((ratio > 1 / FAR_OFF) & (ratio < FAR_OFF), ratio, 1.0)
    return half @ (axes * np.sqrt(ratio) @ axes.T) @ back


def whitening(origin: ArrayLike, covariance: ArrayLike, *, full_cov: bool = True) -> Whitening:
    """Build the whitening of a covariance, or of its diagonal alone."""
    covariance = np.asarray(covariance)
    scale = np.sqrt(np.diag(covariance))
    if not full_cov:
        return Whitening(jnp.asarray(origin), jnp.diag(jnp.asarray(scale)))
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    factor = scale[:, None] * vectors * np.sqrt(np.maximum(eigenvalues, 1e-8))
    return Whitening(jnp.asarray(origin), jnp.asarray(factor))


def from_draws(present: Whitening, draws: np.ndarray, *, full_cov: bool = True) -> Whitening:
    """Build a better whitening from draws of v under the present one.

    Parameters
    ----------
    present : Whitening
    draws : array (m, n)
        Of all chains.

    """
    factor, origin = np.asarray(present.factor), np.asarray(present.origin)
    covariance = factor @ mixed_covariance(draws) @ factor.T
    return whitening(origin + factor @ draws.mean(axis=0), covariance, full_cov=full_cov)


def mixed_covariance(draws: np.ndarray) -> np.ndarray:
    """Return the covariance of draws (m, n), shrunk towards a unit matrix with the weight of n + 5 draws."""
    m, n = draws.shape
    covariance = np.cov(draws.T, ddof=1).reshape(n, n)
    weight = m / (m + n + 5.0)
    return weight * covariance + (1 - weight) * np.eye(n)


@eqx.filter_jit
def _derivatives(posterior, origin):
    """Differentiate all values by coordinates and linear parameters; also return prior curvatures."""
    linear, key = posterior.linear, jax.random.key(0)

    def everything(both):
        values = posterior.coordinates.values(posterior.unravel(both[: origin.size]))
        if linear is not None:
            values = linear.filled(key, posterior.model, values, both[origin.size :])
        return ravel_pytree(values)[0]

    n_linear = 0 if linear is None else linear.mean.size
    slopes = jax.jacfwd(everything)(jnp.concatenate([origin, jnp.zeros(n_linear)]))
    hessian = jax.hessian(lambda u: -posterior.coordinates.log_density(posterior.unravel(u)))(origin)
    curvature = jnp.maximum(jnp.diag(hessian), 0.25)  # a unit normal has 1
    return slopes, curvature if linear is None else jnp.concatenate([curvature, linear.precision])
