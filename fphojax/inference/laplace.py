"""The posterior as a Gaussian around its maximum: the method of Laplace.

In the unconstrained space in which the chains move, minus the log density is expanded to second order around its
minimum; the matrix is the Gauss-Newton matrix that the search for it ends with (Tierney & Kadane 1986).  Brought back
through the transforms, draws keep to the bounds and need not be symmetric.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..core.model import SceneModel
from .optimize import optimize
from .sample import Chains

__all__ = ["laplace"]


def laplace(model: SceneModel, start, *, draws: int = 256, chains: int = 4, seed: int = 0) -> Chains:
    """Draw from the Gaussian approximation of the posterior of a scene.

    It takes as long as the search for the optimum, and is right where the data determine all parameters well; with
    little signal, next to a bound, or where galaxies can be exchanged, chains of `sample` tell what it misses.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws, chains : int
        Independent draws, in as many sets as there would be chains.
    seed : int

    Returns
    -------
    Chains
        With ``method`` "laplace".
    """
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    origin, unravel = ravel_pytree(optimum.unconstrained)
    factor = _factor(optimum.hessian)
    normal = jax.random.normal(jax.random.key(seed), (chains, draws, len(origin)))
    points = jnp.asarray(origin) + normal @ jnp.asarray(factor).T
    values = jax.vmap(jax.vmap(lambda point: model.effective(model.constrain(unravel(point)))))(points)
    return Chains(
        values=jax.tree.map(np.asarray, values),
        statistics={"diverging": np.zeros((chains, draws), dtype=bool)},
        optimum=optimum,
        covariance=factor @ factor.T,
        n_warmup=0,
        n_calls=optimum.n_step,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=0,
        method="laplace",
    )


def _factor(hessian):
    """L with L L^T the inverse of a positive matrix, worked out in units of its diagonal."""
    scale = 1 / np.sqrt(np.diag(hessian))
    lower = np.linalg.cholesky(hessian * np.outer(scale, scale))
    return scale[:, None] * np.linalg.inv(lower).T
