"""A fast posterior: a normal distribution at the optimum, with importance weights as a check of it.

Draws u from q = N(u_0, H^-1) in the coordinates of the chains (`coordinates`), with H the Gauss-Newton matrix at the
optimum u_0, are weighted by p(u) / q(u), the weights' tail smoothed by a Pareto distribution (Vehtari et al. 2024).
The shape parameter k-hat of that tail measures how good the approximation is: up to 0.7 the weighted draws can be
used as draws from the posterior.  Fluxes and sky levels are integrated out and drawn afterwards where `sample` does
so.
"""

import time
from collections.abc import Mapping

import jax
import numpy as np
from jax.typing import ArrayLike

from fphojax.core.model import SceneModel
from fphojax.core.programs import program

from .chains import Chains
from .covariance import inverse
from .interruptible import interruptible
from .optimum import optimize
from .posterior import posterior_around
from .sampling import OUTSIDE
from .weights import TRUSTED, resampled, smoothed
from .whitening import whitening

__all__ = ["laplace"]

OVERSAMPLED = 4  # weighted draws for every one that is kept


def laplace(
    model: SceneModel,
    start: Mapping[str, ArrayLike],
    *,
    draws: int = 256,
    chains: int = 4,
    seed: int = 0,
) -> Chains:
    """Draw from the posterior of a scene by the Laplace approximation and importance sampling.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws, chains : int
        Numbers as for NUTS; the chains differ only in their index.
    seed : int

    Returns
    -------
    Chains
        ``method`` is "laplace"; of the statistics there are ``lp``, ``diverging`` (never), ``outside_box`` and, the
        same for all draws, ``pareto_k`` (k-hat of the weights) and ``trusted``: where this is False, because k-hat is
        above `fphojax.inference.weights.TRUSTED`, sample with NUTS.
    """
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    size, n_draw = OVERSAMPLED * draws * chains, draws * chains
    for integrated in (True, False):
        posterior, origin, covariance, _ = interruptible(
            posterior_around, model, optimum, integrate_fluxes=integrated
        )
        white = whitening(origin, covariance)
        normal = np.random.default_rng(seed).normal(size=(size, origin.size))
        points = white.origin + normal @ white.factor.T
        log_ratio = 0.5 * np.sum(normal**2, axis=1) - np.asarray(
            interruptible(_potential, posterior, posterior.expanded(np.asarray(points)))
        )
        weight, k_hat = smoothed(log_ratio)
        chosen = resampled(weight, n_draw, np.random.default_rng([seed, 1]))
        chosen_points = posterior.expanded(np.asarray(points[chosen]))
        completed = interruptible(_complete_draws, posterior, jax.random.key(seed), chosen_points)
        completed = posterior.real(completed)
        outside = np.asarray(completed.outside)
        if posterior.linear is None or outside.mean() <= OUTSIDE:
            break
    completed = jax.tree.map(
        lambda array: np.asarray(array).reshape(chains, draws, *array.shape[1:]), completed
    )
    return Chains(
        model=model,
        values={name: completed.values[name] for name in optimum.values},
        statistics={
            "lp": completed.lp,
            "diverging": np.zeros((chains, draws), dtype=bool),
            "outside_box": completed.outside,
            "pareto_k": np.full((chains, draws), k_hat),
            "trusted": np.full((chains, draws), k_hat <= TRUSTED),
        },
        optimum=optimum,
        covariance=inverse(optimum.hessian),
        n_warmup=0,
        n_calls=size + optimum.n_step,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=0,
        method="laplace",
        fluxes="sampled" if posterior.linear is None else "integrated",
    )


@program
def _potential(posterior, points):
    """Return minus the log density at each point."""
    return jax.lax.map(posterior.potential, points)


@program
def _complete_draws(posterior, key, points):
    """Complete coordinates to full draws, each with its own random key."""
    keys = jax.random.split(key, len(points))
    return jax.lax.map(lambda one: posterior.draw(*one), (keys, points))
