"""numpyro's NUTS in whitened coordinates, in batches of draws, its step size adapted by dual averaging."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.hmc_util import dual_averaging
from numpyro.infer.util import ParamInfo

from fphojax.core.programs import program

from .posterior import Draw, Posterior
from .whitening import Whitening

__all__ = ["MOST", "ChainState", "Fates", "Kernel", "advance", "averaging_from", "moved"]

MOST = 100  # draws made by one call
FIRST_STEP = 1.0  # of a leapfrog; the posterior is nearly a unit normal
SHORT_DEPTH = 6  # largest tree depth while the whitening may be poor: deeper ones cost more than they gain

_, _average = dual_averaging()


class ChainState(NamedTuple):
    """A chain between two draws; all coordinates, also those that do not move.

    Attributes
    ----------
    position, gradient : array (m,)
        v, and the derivative of the potential by it.
    potential : array ()
    key : uint32 array (2,)
        Of the random numbers of the moves.
    averaging : tuple of array ()
        Dual averaging of the logarithm of the step size.
    """

    position: jax.Array | np.ndarray
    gradient: jax.Array | np.ndarray
    potential: jax.Array | np.ndarray
    key: jax.Array | np.ndarray
    averaging: tuple

    @classmethod
    def start(cls, position: np.ndarray, key: np.ndarray, step_size: float = FIRST_STEP) -> "ChainState":
        """Return the state of a chain at a position, before its density is known."""
        zeros = np.zeros(len(position))
        return cls(position, zeros, np.zeros(()), key, averaging_from(np.log(step_size)))


class Fates(NamedTuple):
    """What becomes of the draws of a call of `advance`; arrays (), so that all share a program.

    Attributes
    ----------
    n : int
        Draws to make, `MOST` at most.
    fresh : bool
        Whether the density at the chain's position is yet to be computed.
    adapting : bool
        Whether the step size is adapted.
    short : bool
        Whether trees are short.
    complete : bool
        Whether they are completed to draws of all parameters.
    first : int
        Number of the first of these.
    key : uint32 array (2,)
        Of their random numbers.
    """

    n: jax.Array | np.ndarray
    fresh: jax.Array | np.ndarray
    adapting: jax.Array | np.ndarray
    short: jax.Array | np.ndarray
    complete: jax.Array | np.ndarray
    first: jax.Array | np.ndarray
    key: jax.Array | np.ndarray


def averaging_from(log_step: ArrayLike) -> tuple:
    """Start dual averaging at a log step size, which is also the value that it shrinks towards."""
    log_step = np.asarray(log_step, dtype=float)
    return log_step, log_step, np.zeros(()), np.zeros((), dtype=int), log_step


@dataclass(frozen=True)
class Kernel:
    """Settings that are fixed when the sampler is compiled."""

    max_treedepth: int
    target_accept: float

    def build(
        self, posterior: Posterior, whitening: Whitening, start: ParamInfo, key: jax.Array
    ) -> tuple[HMCState, Callable[[HMCState], HMCState]]:
        """Return the state of a chain, and the function that makes the next state."""
        first, following = hmc(potential_fn_gen=Posterior.potential_of, algo="NUTS")
        state = first(
            start,
            num_warmup=1,  # to numpyro, draw 0 is warm-up, with short trees; `advance` sets which draws count as that
            step_size=FIRST_STEP,
            adapt_step_size=False,
            adapt_mass_matrix=False,
            max_tree_depth=(min(SHORT_DEPTH, self.max_treedepth), self.max_treedepth),
            model_args=(posterior, whitening),
            rng_key=key,
        )
        # coordinates without momentum stay where they are, and have no part in where a trajectory turns
        adapted = state.adapt_state._replace(mass_matrix_sqrt=jnp.where(posterior.active, 1.0, 0.0))
        state = state._replace(rng_key=key, adapt_state=adapted)
        return state, lambda state: following(state, model_args=(posterior, whitening))


@program
def advance(
    kernel: Kernel, posterior: Posterior, whitening: Whitening, state: ChainState, fates: Fates
) -> tuple[ChainState, dict[str, jax.Array], Draw]:
    """Advance a chain by some draws, optionally adapting its step size or with short trees.

    Returns
    -------
    ChainState
    draws : dict of array
        ``vector`` (the coordinates u) and ``v``, shape (MOST, m), and statistics, shape (MOST,); the first `n` of
        each are filled.
    completed : Draw
        Of them, if asked for.
    """
    position = state.position

    def density(_):
        return jax.value_and_grad(posterior.of_one_size().potential_of(whitening))(position)

    potential, gradient = jax.lax.cond(
        fates.fresh, density, lambda _: (state.potential, state.gradient), None
    )
    parameters = ParamInfo(position, potential, gradient)
    moves = jax.random.wrap_key_data(jnp.asarray(state.key))
    current, following = kernel.build(posterior, whitening, parameters, moves)
    key = jax.random.wrap_key_data(jnp.asarray(fates.key))

    def one(i, current, averaging):
        step_size = jnp.exp(jnp.where(fates.adapting, averaging[0], averaging[1]))
        current = current._replace(
            i=jnp.where(fates.short, 0, 1), adapt_state=current.adapt_state._replace(step_size=step_size)
        )
        new = following(current)
        adapted = _average(kernel.target_accept - new.accept_prob, averaging)
        averaging = jax.tree.map(lambda a, b: jnp.where(fates.adapting, a, b), adapted, averaging)
        vector = whitening.origin + whitening.factor @ new.z
        draw = {
            "vector": vector,
            "v": new.z,
            "energy": new.energy,
            "n_steps": new.num_steps,
            "tree_depth": jnp.ceil(jnp.log2(new.num_steps + 1)).astype(int),
            "at_max_depth": new.num_steps >= 2**kernel.max_treedepth - 1,
            "acceptance_rate": new.accept_prob,
            "diverging": new.diverging,
            "step_size": step_size,
        }

        def completed(_):
            return posterior.of_one_size().draw(jax.random.fold_in(key, fates.first + i), vector)

        nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(completed, None))
        full = jax.lax.cond(fates.complete, completed, lambda _: nothing, None)
        return new, averaging, (draw, full)

    def body(i, carry):
        current, averaging, draw = one(i, *carry[:2])
        return current, averaging, jax.tree.map(lambda all_, new: all_.at[i].set(new), carry[2], draw)

    shapes = jax.eval_shape(one, 0, current, state.averaging)[2]
    empty = jax.tree.map(lambda shape: jnp.zeros((MOST, *shape.shape), shape.dtype), shapes)
    start = _of_fixed_types((current, state.averaging, empty))
    current, averaging, (draws, full) = jax.lax.fori_loop(
        0, fates.n, lambda i, carry: _of_fixed_types(body(i, carry)), start
    )
    state = ChainState(
        current.z, current.z_grad, current.potential_energy, jax.random.key_data(current.rng_key), averaging
    )
    return state, draws, full


def moved(state: ChainState, present: Whitening, new: Whitening, active: np.ndarray) -> ChainState:
    """Express a chain's state under another whitening, and restart dual averaging at its step size."""
    active = np.asarray(active)
    position, gradient = np.array(state.position), np.array(state.gradient)
    vector = present.origin + present.factor @ position[active]
    position[active] = np.linalg.solve(new.factor, vector - new.origin)
    gradient[active] = new.factor.T @ np.linalg.solve(present.factor.T, gradient[active])
    return state._replace(position=position, gradient=gradient, averaging=averaging_from(state.averaging[1]))


def _of_fixed_types(state):
    """Make the types of the state strong: weakly typed numbers would make `advance` compile again."""

    def fixed(array):
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        return array if is_key else jax.lax.convert_element_type(array, array.dtype)

    return jax.tree.map(fixed, state)
