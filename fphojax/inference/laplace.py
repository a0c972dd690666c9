"""A fast posterior: the normal distribution at the optimum, with importance weights that tell how far to trust it.

Draws u from q = N(u_0, H^-1) in unconstrained space, with H the Gauss-Newton matrix at the optimum u_0, are weighted
by p(u) / q(u), the weights' tail smoothed by a Pareto distribution (Vehtari et al. 2024).  Its shape k-hat says how
good the approximation is: up to 0.7 the weighted draws can be used as draws from the posterior.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats
from jax.flatten_util import ravel_pytree

from ..core.model import SceneModel
from .optimize import optimize
from .sample import Chains

__all__ = ["TRUSTED", "laplace"]

TRUSTED = 0.7  # k-hat up to which importance sampling is reliable
OVERSAMPLED = 4  # weighted draws for every one that is kept
LEAST_PRECISION = 0.1  # of an unconstrained value; that of a box prior is 0.3


def laplace(model: SceneModel, start, *, draws: int = 256, chains: int = 4, seed: int = 0) -> Chains:
    """Draws from the posterior of a scene by the Laplace approximation and importance sampling.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws, chains : int
        As many as of NUTS; the chains differ in nothing but their name.
    seed : int

    Returns
    -------
    Chains
        ``method`` is "laplace"; of the statistics there are ``lp``, ``diverging`` (never) and ``pareto_k``, the k-hat
        of all draws together: where it is above `TRUSTED`, sample with NUTS.
    """
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    origin, unravel = ravel_pytree(optimum.unconstrained)
    covariance, factor = _normal(optimum.hessian)
    size = OVERSAMPLED * draws * chains
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(size, origin.size))
    points = np.asarray(origin) + normal @ factor.T
    potential, values = _evaluated(model, unravel, jnp.asarray(points))
    log_ratio = 0.5 * np.sum(normal**2, axis=1) - np.asarray(potential)
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    least = log_ratio[np.isfinite(log_ratio)].min()
    smoothed, k_hat = array_stats.psislw(-np.maximum(log_ratio, least))
    weight = np.exp(smoothed - smoothed.max())
    # systematic resampling: no draw comes more than one time more often or more rarely than its weight says
    ladder = (np.arange(draws * chains) + rng.uniform()) / (draws * chains)
    chosen = np.searchsorted(np.cumsum(weight) / weight.sum(), ladder).clip(max=size - 1)
    chosen = rng.permutation(chosen).reshape(chains, draws)
    values = {name: np.asarray(value)[chosen] for name, value in values.items()}
    return Chains(
        values={name: values[name] for name in optimum.values},
        statistics={
            "lp": values["lp"],
            "diverging": np.zeros((chains, draws), dtype=bool),
            "pareto_k": np.full((chains, draws), float(k_hat)),
        },
        optimum=optimum,
        covariance=covariance,
        n_warmup=0,
        n_calls=size + optimum.n_step,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=0,
        method="laplace",
    )


def _normal(hessian):
    """Covariance, and a factor L with L L^T equal to it."""
    values, vectors = np.linalg.eigh(hessian)
    factor = vectors / np.sqrt(np.maximum(values, LEAST_PRECISION))
    return factor @ factor.T, factor


@eqx.filter_jit
def _evaluated(model, unravel, points):
    """Minus the log density of unconstrained points, and the parameters and log density of the parameters there."""

    def one(point):
        unconstrained = unravel(point)
        values = model.constrain(unconstrained)
        lp = model.log_likelihood(values) + model.log_prior(values)
        return model.potential(unconstrained), {**model.effective(values), "lp": lp}

    return jax.lax.map(one, points)
