"""The most probable parameters of a scene, by the method of Levenberg and Marquardt.

The step of Levenberg-Marquardt solves (H + lambda diag H) step = -gradient, with H the Gauss-Newton matrix of
the pixels plus the curvature of the priors (Marquardt 1963).  The gradient is that of the likelihood itself; the
matrix is the Fisher matrix, summed over tiles, so that no Jacobian of all pixels is ever stored.  Steps are taken
in the unconstrained space of the priors' supports: a box never needs to be enforced.
"""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..core.model import SceneModel, support_edges

__all__ = ["Optimum", "at_bound", "optimize"]

AT_BOUND = 1e-3  # of the width of the support
LAMBDA_START, LAMBDA_UP, LAMBDA_DOWN = 1e-2, 4.0, 0.2
LONGEST_STEP = 2.0  # in unconstrained units, where a box is a few units wide


@dataclass(frozen=True, eq=False)
class Optimum:
    """The maximum of the posterior density of a scene.

    Attributes
    ----------
    values : dict of ndarray
        The parameters, in the names and shapes of the model.
    unconstrained : dict of ndarray
        The same point in unconstrained space.
    chi2 : ndarray (E,)
        Chi-squared of every exposure there.
    fisher : ndarray (N, N)
        J^T W J of the pixels, by the parameters themselves, in the order of `ravel_pytree`.
    hessian : ndarray (N, N)
        Gauss-Newton matrix of minus the log posterior in unconstrained space, priors included.
    n_step : int
        Evaluations of likelihood, gradient and Fisher matrix.
    converged : bool
        Whether the last step promised and brought less than the tolerance.
    at_bound : dict of ndarray of bool
        Which parameters ended at an edge of their prior.
    """

    values: dict[str, np.ndarray]
    unconstrained: dict[str, np.ndarray]
    chi2: np.ndarray
    fisher: np.ndarray
    hessian: np.ndarray
    n_step: int
    converged: bool
    at_bound: dict[str, np.ndarray]


class _System(NamedTuple):
    """Minus the log density at a point of unconstrained space, and its derivatives."""

    cost: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    chi2: jax.Array
    fisher: jax.Array


class _State(NamedTuple):
    point: jax.Array
    trial: jax.Array
    system: _System
    damping: jax.Array
    promised: jax.Array
    gain: jax.Array
    n_step: jax.Array


def optimize(
    model: SceneModel, start, *, density: str = "values", max_steps: int = 200, tolerance: float = 1e-4
) -> Optimum:
    """Find the maximum of the posterior density.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters to start from, inside the supports of the priors.
    density : {"values", "unconstrained"}
        Maximise the density of the parameters themselves, or that of the unconstrained values, in which samplers
        move; the latter never lies at a bound.
    max_steps : int
        Largest number of evaluations of the Fisher matrix.
    tolerance : float
        The search ends when a step changes the log density by less than this.

    Returns
    -------
    Optimum
    """
    values, n_step = start, 0
    for _ in range(3):
        begun = model.unconstrain(values)
        result = _search(model, begun, density == "unconstrained", max_steps, tolerance)
        point = ravel_pytree(begun)[1](result.point)
        values = model.constrain(point)
        n_step += int(result.n_step)
        pa = _half_turned(values["pa"], model.priors["pa"])
        if np.allclose(pa, values["pa"]):
            break
        values = {**values, "pa": pa}
    return Optimum(
        values=jax.tree.map(np.asarray, model.effective(values)),
        unconstrained=jax.tree.map(np.asarray, point),
        chi2=np.asarray(result.system.chi2),
        fisher=np.asarray(result.system.fisher),
        hessian=np.asarray(result.system.hessian),
        n_step=n_step,
        converged=bool(_finished(result, tolerance)),
        at_bound=at_bound(model, values),
    )


def _half_turned(pa, prior):
    """Position angles turned by pi where that brings them nearer to the middle of a box of pi or wider.

    A galaxy turned by pi looks the same; a search that ran into the edge of the box goes on from there.
    """
    low, high = (np.asarray(edge) for edge in support_edges(prior))
    if not (np.isfinite(high - low) & (high - low >= np.pi)).all():
        return np.asarray(pa)
    middle = (low + high) / 2
    return np.asarray(pa) - np.pi * np.round((np.asarray(pa) - middle) / np.pi)


def at_bound(model: SceneModel, values) -> dict[str, np.ndarray]:
    """Which parameters lie within a thousandth of an edge of their prior's support.

    Parameters
    ----------
    model : SceneModel
    values : dict of array (..., S) or (..., S, B)

    Returns
    -------
    dict of ndarray of bool
        Always False where the support has no edge.
    """
    found = {}
    for name, value in values.items():
        low, high = support_edges(model.priors[name])
        near = np.minimum(np.asarray(value) - low, high - np.asarray(value))
        with np.errstate(invalid="ignore"):
            width = np.where(np.isfinite(high - low), high - low, 0.0)
        free = np.isnan(np.asarray(model.held.get(name, np.nan)))
        found[name] = (near < AT_BOUND * width) & free
    return found


@eqx.filter_jit
def _search(model, start, with_jacobian, max_steps, tolerance):
    flat, unravel = ravel_pytree(start)
    size = flat.size
    nothing = _System(
        jnp.inf,
        jnp.zeros(size),
        jnp.zeros((size, size)),
        jnp.zeros(model.optics.n_exposure),
        jnp.zeros((size, size)),
    )
    initial = _State(flat, flat, nothing, jnp.asarray(LAMBDA_START), jnp.inf, jnp.inf, jnp.asarray(0))

    def proceed(state):
        return (state.n_step < max_steps) & ~_finished(state, tolerance)

    def step(state):
        system = _evaluate(model, unravel(state.trial), with_jacobian)
        gain = state.system.cost - system.cost
        better = gain >= 0  # False for NaN, too
        point = jnp.where(better, state.trial, state.point)
        kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), system, state.system)
        first = state.n_step == 0
        factor = jnp.where(first, 1.0, jnp.where(better, LAMBDA_DOWN, LAMBDA_UP))
        damping = jnp.clip(state.damping * factor, 1e-9, 1e9)
        move, promised = _damped_step(kept, damping)
        return _State(
            point=point,
            trial=point + move,
            system=kept,
            damping=damping,
            promised=promised,
            gain=jnp.where(first, jnp.inf, gain),
            n_step=state.n_step + 1,
        )

    return jax.lax.while_loop(proceed, step, initial)


def _finished(state, tolerance):
    """A step was accepted that gained next to nothing, or nothing is left to gain, or no step is short enough."""
    settled = (state.gain >= 0) & (state.gain < tolerance)
    return settled | (state.promised < 0.01 * tolerance) | (state.damping >= 1e9)


def _damped_step(system, damping):
    """Solution of the damped equations, and the reduction of the cost that they promise."""
    diagonal = jnp.diag(system.hessian)
    scale = 1 / jnp.sqrt(jnp.maximum(diagonal, 1e-12 * jnp.max(diagonal) + 1e-300))
    scaled = system.hessian * scale[:, None] * scale[None, :]
    factor = jax.scipy.linalg.cho_factor(scaled + (damping + 1e-10) * jnp.eye(scale.size))
    move = -scale * jax.scipy.linalg.cho_solve(factor, scale * system.gradient)
    move = move * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(jnp.max(jnp.abs(move)), 1e-300))
    promised = -(system.gradient @ move + 0.5 * move @ system.hessian @ move)
    return move, promised


def _evaluate(model, unconstrained, with_jacobian):
    """Cost, gradient and Gauss-Newton matrix in unconstrained space."""
    flat, unravel = ravel_pytree(unconstrained)

    def values_of(u):
        return ravel_pytree(model.constrain(unravel(u)))[0]

    def prior_cost(u):
        cost = -model.log_prior(model.constrain(unravel(u)))
        if with_jacobian:
            cost = cost - jnp.sum(jnp.log(jnp.abs(_slope(values_of, u))))
        return cost

    slope = _slope(values_of, flat)
    curvature = _slope(lambda u: _slope(values_of, u), flat)

    values = model.constrain(unconstrained)
    chi2, pull = jax.vjp(model.chi2, values)
    downhill = -0.5 * ravel_pytree(pull(jnp.ones_like(chi2))[0])[0]
    fisher = model.fisher(values)

    prior_gradient = jax.grad(prior_cost)(flat)
    prior_curvature = _slope(jax.grad(prior_cost), flat)
    # of the second-order terms only those that keep the matrix positive
    diagonal = jnp.maximum(prior_curvature, 0) + jnp.maximum(-downhill * curvature, 0)
    return _System(
        cost=0.5 * jnp.sum(chi2) + prior_cost(flat),
        gradient=-downhill * slope + prior_gradient,
        hessian=fisher * slope[:, None] * slope[None, :] + jnp.diag(diagonal),
        chi2=chi2,
        fisher=fisher,
    )


def _slope(function, point):
    """Derivative of a function that acts on every element of a vector by itself."""
    return jax.jvp(function, (point,), (jnp.ones_like(point),))[1]
