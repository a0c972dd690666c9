"""Maximisation of the posterior density by the Levenberg-Marquardt method, solving for fluxes in every step.

A step solves (H + lambda diag H) step = -gradient in the unconstrained space of the priors' supports, with H the
Gauss-Newton matrix of the pixels plus the curvature of the priors (Marquardt 1963).  At the new point, fluxes and sky
are solved for: given the shapes they are linear, and one pass over the pixels gives all that this needs (variable
projection; Golub & Pereyra 1973, `core.design`).  What the Gauss-Newton matrix leaves out, the curvature of the model
times its residuals, is estimated from changes of the gradient, and used near the optimum as long as it predicts the
gain of a step better: along a weak direction, such as the Sersic index of a faint galaxy, it determines how fast the
search converges.  Convergence is judged by the predicted gain of an undamped step, because the rounding error of
chi-squared can be larger than the remaining gain.  docs/mathematics/inference.md has the formulas.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Uniform

from fphojax.core.model import SceneModel, support_edges
from fphojax.core.programs import program

__all__ = ["SearchResult", "search", "slope"]

LAMBDA_START, LAMBDA_UP, LAMBDA_DOWN = 1e-2, 5.0, 0.15
LAMBDA_LEAST, LAMBDA_MOST = 1e-9, 1e9
LAMBDA_FAILED = 1e-4  # smallest damping after a step that raised the cost
GOOD, POOR = 0.6, 0.2  # ratio of actual to predicted gain above which damping falls, below which it rises
LONGEST_STEP = 2.0  # of any parameter, in unconstrained units, where a box is a few units wide
# predicted gain in log density above which second-order terms are not used: they lead to poor optima
MAX_SECOND_ORDER_GAIN = 30.0
RIDGE = 1e-8  # added to the diagonal of the scaled matrix, for directions without information
STALLED = 0.05  # largest predicted gain at which a search that rounding ended counts as converged
LINEAR = ("flux", "sky")
ROUNDS = 3  # of solving for fluxes, or for a step; each holds those that the one before took to a bound
PINNED = 5e-4  # of the width of a box: closer to its edge, a parameter counts as at the edge
MARGIN = 1e-6  # of the width of a box: the least distance of a parameter from its edge


class _System(NamedTuple):
    """Minus the log density at a point of unconstrained space, and its derivatives."""

    cost: jax.Array
    gradient: jax.Array
    hessian: jax.Array
    chi2: jax.Array
    fisher: jax.Array
    pull: jax.Array  # minus half the gradient of chi-squared by the parameters


class SearchResult(NamedTuple):
    """Result of a search.

    Attributes
    ----------
    point : array (N,)
        In unconstrained space.
    values : dict of array
        The parameters there, with ties and held values applied.
    free : dict of array
        The same without these.
    system : _System
        There.
    remaining_gain : array ()
        Predicted gain in log density of a full Gauss-Newton step, no coordinate of it longer than allowed.
    converged : bool array ()
    n_step : int array ()
        Passes over the pixels.
    """

    point: jax.Array
    values: dict[str, jax.Array]
    free: dict[str, jax.Array]
    system: _System
    remaining_gain: jax.Array
    converged: jax.Array
    n_step: jax.Array


class _Step(NamedTuple):
    move: jax.Array
    predicted: jax.Array  # predicted reduction of the cost
    remaining_gain: jax.Array  # predicted reduction by an undamped step of permitted length
    trusted: jax.Array  # whether the step uses the second-order terms
    omitted: jax.Array  # prediction of the other choice minus this one's


class _State(NamedTuple):
    point: jax.Array
    system: _System
    step: _Step  # from `point` to the next trial
    damping: jax.Array
    second: jax.Array  # estimate of what the Gauss-Newton matrix leaves out of the Hessian
    stalled: jax.Array
    restarted: jax.Array
    n_step: jax.Array


@program
def search(
    model: SceneModel,
    start: Mapping[str, jax.Array],
    with_jacobian: jax.Array,
    max_steps: jax.Array,
    tolerance: jax.Array,
) -> SearchResult:
    """Maximise the density from given parameters.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters inside the supports of their priors.
    with_jacobian : bool array ()
        Whether the density is that of the unconstrained values.
    max_steps : int
    tolerance : float
        The search ends where the predicted gain in log density is below this.

    Returns
    -------
    SearchResult
    """
    flat, unravel = ravel_pytree(model.unconstrain_inside(start))
    size = flat.size
    problem = _Problem(model, unravel, with_jacobian)
    nothing = _System(
        jnp.asarray(jnp.inf),
        jnp.zeros(size),
        jnp.zeros((size, size)),
        jnp.full(model.optics.n_exposure, jnp.nan),
        jnp.zeros((size, size)),
        jnp.zeros(size),
    )
    no = jnp.asarray(False)
    initial = _State(
        point=flat,
        system=nothing,
        step=_Step(jnp.zeros(size), jnp.asarray(jnp.inf), jnp.asarray(jnp.inf), no, jnp.asarray(0.0)),
        damping=jnp.asarray(LAMBDA_START),
        second=jnp.zeros((size, size)),
        stalled=no,
        restarted=no,
        n_step=jnp.asarray(0),
    )

    def proceed(state):
        return (state.n_step < max_steps) & ~ended(state)

    def ended(state):
        return (state.step.remaining_gain < tolerance) | state.stalled | (state.damping >= LAMBDA_MOST)

    def stepped(state):
        step = state.step
        trial, system = problem.at(state.point + step.move)
        gain = state.system.cost - system.cost
        rounding = jnp.finfo(model.patch.data.dtype).eps * jnp.sum(system.chi2)
        first = state.n_step == 0
        # both false for NaN
        better = (gain >= 0) | ((step.predicted < rounding) & (gain > -rounding))
        ratio = jnp.where(first, 0.5 * (GOOD + POOR), gain / step.predicted)
        point = jnp.where(better, trial, state.point)
        accepted = jax.tree.map(lambda new, old: jnp.where(better, new, old), system, state.system)
        factor = jnp.where(ratio > GOOD, LAMBDA_DOWN, 1.0)
        factor = jnp.where(better & (ratio > POOR), factor, LAMBDA_UP)
        least = jnp.where(better, LAMBDA_LEAST, LAMBDA_FAILED)
        damping = jnp.clip(state.damping * factor, least, LAMBDA_MOST)
        stalled = (step.predicted < rounding) & (jnp.abs(gain) < rounding)
        # stalled by damping before convergence: restart from there, once
        again = stalled & (step.remaining_gain > STALLED) & ~state.restarted
        damping = jnp.where(again, LAMBDA_START, damping)
        change = jnp.where(first, 0.0, point - state.point)
        second = _second_order(state.second, state.system, accepted, change)
        closer = jnp.abs(step.predicted + step.omitted - gain) < jnp.abs(step.predicted - gain)
        trusted = (step.trusted ^ closer) & ~again
        return _State(
            point=point,
            system=accepted,
            step=_damped_step(
                accepted, second, damping, problem.at_edge(point), problem.across(point), trusted
            ),
            damping=damping,
            second=second,
            stalled=stalled & ~again,
            restarted=state.restarted | again,
            n_step=state.n_step + 1,
        )

    end = jax.lax.while_loop(proceed, stepped, initial)
    converged = (end.step.remaining_gain < tolerance) | (end.stalled & (end.step.remaining_gain < STALLED))
    converged &= jnp.isfinite(end.system.cost)  # else the density was zero at the start
    values = model.constrain(unravel(end.point))
    return SearchResult(
        end.point, model.effective(values), values, end.system, end.step.remaining_gain, converged, end.n_step
    )


def _second_order(second, before, after, change):
    """Update the Hessian's second-order part from a step (Dennis, Gay & Welsch 1981, ACM TOMS 7, 348)."""
    rise = after.gradient - before.gradient
    target = rise - after.hessian @ change
    along, curvature = change @ rise, change @ second @ change
    size = jnp.minimum(1.0, jnp.abs(change @ target) / jnp.maximum(jnp.abs(curvature), 1e-300))
    missing = target - size * second @ change
    pair = jnp.outer(missing, rise) / along
    learnt = size * second + pair + pair.T - (change @ missing) / along**2 * jnp.outer(rise, rise)
    usable = (along > 1e-12 * jnp.sqrt((change @ change) * (rise @ rise))) & jnp.all(jnp.isfinite(learnt))
    return jnp.where(usable, learnt, second)


def _damped_step(system, second, damping, at_edge, across, trusted):
    """Return the damped step, with second-order terms if trusted and the matrix stays positive.

    Parameters at the lower or the upper edge of a box (two arrays of bool, (N,)) stay there where the gradient or the
    step itself would take them beyond: there the values hardly change however far the unconstrained ones go.

    A parameter that would go farther than the longest step goes exactly that far, and the step of the others is
    optimised given that: the position angle of a point source, which the pixels do not constrain, would go anywhere,
    and must not shorten the steps of all others. The remaining gain is that of an undamped step in which no
    parameter goes farther than across its box (`across`, an array (N,)): near an edge, that may be a long way.
    """
    diagonal = jnp.diag(system.hessian)
    scale = 1 / jnp.sqrt(jnp.maximum(diagonal, 1e-12 * jnp.max(diagonal) + 1e-300))

    def beyond(direction):
        return (at_edge[0] & (direction < 0)) | (at_edge[1] & (direction > 0))

    def solved(scaled, pinned, ridge, longest=LONGEST_STEP, rounds=ROUNDS):
        """Solve for the step in units of the scale, with no element longer than allowed."""
        slope, most = scale * system.gradient, longest / scale

        def shortened(_, state):
            step, clamped = state
            matrix = jnp.where(clamped[:, None] | clamped, 0.0, scaled) + jnp.diag(
                jnp.where(clamped, 1.0, ridge)
            )
            rhs = jnp.where(clamped, 0.0, -slope - scaled @ jnp.where(clamped, step, 0.0))
            solution = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(matrix), rhs)
            step = jnp.where(clamped, step, jnp.clip(solution, -most, most))
            return step, clamped | (jnp.abs(solution) > most)

        return jax.lax.fori_loop(0, rounds, shortened, (jnp.zeros_like(slope), pinned))[0]

    def limited(hessian):
        scaled = hessian * scale[:, None] * scale[None, :]

        def gain(step):
            return -(scale * system.gradient @ step + 0.5 * step @ scaled @ step)

        pinned = beyond(-system.gradient)
        pinned |= beyond(solved(scaled, pinned, damping + RIDGE))
        step = solved(scaled, pinned, damping + RIDGE)
        remaining_gain = gain(solved(scaled, pinned, RIDGE, across))
        # where the rounds did not suffice, the step that was cut last may lead uphill, and tells nothing
        uncut = solved(scaled, pinned, RIDGE, jnp.inf, rounds=1)
        return scale * step, gain(step), jnp.where(remaining_gain > 0, remaining_gain, gain(uncut))

    full, plain = limited(system.hessian + second), limited(system.hessian)
    trusted = trusted & jnp.isfinite(full[2]) & (full[1] > 0) & (plain[2] < MAX_SECOND_ORDER_GAIN)
    move, predicted, remaining_gain = (jnp.where(trusted, *pair) for pair in zip(full, plain, strict=True))
    omitted = 0.5 * move @ second @ move * jnp.where(trusted, 1.0, -1.0)
    return _Step(move, predicted, remaining_gain, trusted, omitted)


class _Problem:
    """Cost and derivatives of a model, in unconstrained space."""

    def __init__(self, model: SceneModel, unravel: Callable, with_jacobian: jax.Array) -> None:
        self.model, self.unravel, self.with_jacobian = model, unravel, with_jacobian

    def at(self, flat):
        """Solve for the linear parameters at a point; return the new point and the system there."""
        values = self._half_turned(self.model.constrain(self.unravel(flat)))
        # on a bound itself the unconstrained value would be infinite
        inside = self._supports(values)
        values = {name: jnp.clip(value, inside[0][name], inside[1][name]) for name, value in values.items()}
        design = self.model.design(values)
        solved = self._solved(values, design)
        better = self._cost(solved, design) < self._cost(values, design)
        values = {name: jnp.where(better, solved[name], values[name]) for name in values}
        return self._system(values, design)

    def _cost(self, values, design):
        chi2 = self.model.equations(design, values)[0]
        return 0.5 * jnp.sum(chi2) + self._prior_cost(self._flat(values))

    def at_edge(self, flat):
        """Return which parameters are at the lower edge of a box, and which at the upper.

        None can be at an edge if the density is that of the unconstrained values.
        """
        values = self.model.constrain(self.unravel(flat))
        sides = {}, {}
        for name, value in values.items():
            low, high = support_edges(self.model.priors[name])
            width = jnp.where(jnp.isfinite(high - low) & ~self.with_jacobian, PINNED * (high - low), 0.0)
            for side, distance in zip(sides, (value - low, high - value), strict=True):
                side[name] = jnp.broadcast_to(distance < width, value.shape)
        return tuple(ravel_pytree(side)[0] for side in sides)

    def across(self, flat):
        """Return how far each parameter is from crossing its box, to first order; infinite without a box."""
        width = {}
        for name, value in self.unravel(flat).items():
            low, high = support_edges(self.model.priors[name])
            width[name] = jnp.broadcast_to(high - low, value.shape)
        return ravel_pytree(width)[0] / jnp.maximum(jnp.abs(slope(self._values_of, flat)), 1e-300)

    def _system(self, values, design):
        flat = self._flat(values)
        slopes, curvature = slope(self._values_of, flat), slope(lambda u: slope(self._values_of, u), flat)
        chi2, rhs, fisher = self.model.equations(design, values)
        prior_gradient = jax.grad(self._prior_cost)(flat)
        prior_curvature = slope(jax.grad(self._prior_cost), flat)
        # only those second-order terms that keep the matrix positive
        diagonal = jnp.maximum(prior_curvature, 0) + jnp.maximum(-rhs * curvature, 0)
        return flat, _System(
            cost=0.5 * jnp.sum(chi2) + self._prior_cost(flat),
            gradient=-rhs * slopes + prior_gradient,
            hessian=fisher * slopes[:, None] * slopes[None, :] + jnp.diag(diagonal),
            chi2=chi2,
            fisher=fisher,
            pull=rhs,
        )

    def _flat(self, values):
        """Return unconstrained values of parameters inside their supports, and 0 for held ones."""
        return ravel_pytree(self.model.unconstrain_inside(values))[0]

    def _values_of(self, flat):
        return ravel_pytree(self.model.constrain(self.unravel(flat)))[0]

    def _prior_cost(self, flat):
        cost = -self.model.log_prior(self.model.constrain(self.unravel(flat)))
        jacobian = jnp.sum(jnp.log(jnp.abs(slope(self._values_of, flat))))
        return cost - jnp.where(self.with_jacobian, jacobian, 0.0)

    def _solved(self, values, design):
        """Set fluxes and sky to their optimum given the other parameters, inside their supports."""
        linear = {name: values[name] for name in LINEAR if name in values}
        flat, unravel = ravel_pytree(linear)
        which = [np.full(np.size(values[name]), name in LINEAR) for name in sorted(values)]
        place = np.flatnonzero(np.concatenate(which))
        _, rhs, fisher = self.model.equations(design, values)
        rhs, matrix = rhs[place], fisher[place[:, None], place]
        low, high = (ravel_pytree(side)[0] for side in self._supports(linear))

        def pull(values):
            """Return the derivative of the log density of the priors."""
            priors, transforms = self.model.priors, self.model.transforms
            total = jnp.zeros(())
            for name, value in unravel(values).items():
                total += jnp.sum(priors[name].log_prob(value))
                jacobian = jnp.sum(jnp.log(jnp.abs(slope(transforms[name].inv, value))))
                total -= jnp.where(self.with_jacobian, jacobian, 0.0)
            return total

        by_prior = jax.grad(pull)(flat)
        curvature = jnp.maximum(-slope(jax.grad(pull), flat), 0)
        diagonal = jnp.diag(matrix) + curvature
        scale = 1 / jnp.sqrt(jnp.maximum(diagonal, 1e-12 * jnp.max(diagonal) + 1e-300))
        scaled = (matrix + jnp.diag(curvature)) * scale[:, None] * scale
        free, change = jnp.ones(flat.size, bool), jnp.zeros(flat.size)
        for _ in range(ROUNDS):
            residual = scale * (rhs + by_prior) - scaled @ jnp.where(free, 0, change / scale)
            regular = jnp.where(free[:, None] & free, scaled, 0) + jnp.diag(jnp.where(free, RIDGE, 1.0))
            factor = jax.scipy.linalg.cho_factor(regular)
            step = scale * jax.scipy.linalg.cho_solve(factor, jnp.where(free, residual, 0))
            change = jnp.where(free, step, change)
            inside = jnp.clip(flat + change, low, high)
            free = free & (inside == flat + change)
            change = inside - flat
        return {**values, **unravel(flat + change)}

    def _supports(self, values):
        """Return lower and upper limits of parameters, slightly inside the supports of their priors."""
        sides = {}, {}
        for name, value in values.items():
            low, high = (
                jnp.broadcast_to(edge, value.shape) for edge in support_edges(self.model.priors[name])
            )
            margin = jnp.where(jnp.isfinite(high - low), MARGIN * (high - low), 0.0)
            sides[0][name], sides[1][name] = low + margin, high - margin
        return sides

    def _half_turned(self, values):
        """Turn position angles by pi where that is nearer the middle of a box of width pi or more.

        A galaxy turned by pi looks the same; a search that reached the edge of the box can then continue.
        """
        prior = self.model.priors["pa"]
        if not isinstance(prior, Uniform):
            return values
        width, middle = prior.high - prior.low, (prior.low + prior.high) / 2
        wide = jnp.all(width >= np.pi - 1e-9)
        turned = values["pa"] - np.pi * jnp.round((values["pa"] - middle) / np.pi)
        # in a box of width pi: from one edge to the other, far enough inside that the search can move away
        aside = turned - middle
        other = middle - (0.5 - 2 * PINNED) * width * jnp.sign(aside)
        turned = jnp.where(jnp.abs(aside) > (0.5 - PINNED) * width, other, turned)
        return {**values, "pa": jnp.where(wide, turned, values["pa"])}


def slope(function: Callable[[jax.Array], jax.Array], point: jax.Array) -> jax.Array:
    """Differentiate a function that acts on every element of an array separately."""
    return jax.jvp(function, (point,), (jnp.ones_like(point),))[1]
