"""numpyro's NUTS in whitened coordinates, in batches of draws, its step size adapted by dual averaging."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.hmc_util import dual_averaging
from numpyro.infer.util import ParamInfo

from .posterior import Draw, Posterior
from .whitening import Whitening

__all__ = ["MOST", "ChainState", "Kernel", "advance", "complete", "initial_state", "moved"]

MOST = 100  # draws made by one call
FIRST_STEP = 1.0  # of a leapfrog; the posterior is nearly a unit normal
SHORT_DEPTH = 6  # largest tree depth while the whitening may be poor: deeper ones cost more than they gain

_start_averaging, _average = dual_averaging()


def _averaging(log_step):
    """Start dual averaging at a log step size, which is also the value that it shrinks towards."""
    return (log_step, log_step, *_start_averaging(log_step)[2:])


class ChainState(NamedTuple):
    """A chain between two draws."""

    hmc: HMCState
    averaging: tuple  # of the logarithm of the step size


@dataclass(frozen=True)
class Kernel:
    """Settings that are fixed when the sampler is compiled."""

    max_treedepth: int
    target_accept: float

    def build(
        self, posterior: Posterior, whitening: Whitening, start: jax.Array | ParamInfo, key: jax.Array
    ) -> tuple[HMCState, Callable[[HMCState], HMCState]]:
        """Return the initial state of a chain, and the function that makes the next state."""

        def potential_of(posterior, whitening):
            return lambda v: posterior.potential(whitening.origin + whitening.factor @ v)

        first, following = hmc(potential_fn_gen=potential_of, algo="NUTS")
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
        return state, lambda state: following(state, model_args=(posterior, whitening))


@eqx.filter_jit
def initial_state(
    kernel: Kernel,
    posterior: Posterior,
    whitening: Whitening,
    position: jax.Array,
    key: jax.Array,
    step_size: ArrayLike = FIRST_STEP,
) -> ChainState:
    """Initialise a chain at a position v."""
    state, _ = kernel.build(posterior, whitening, position, key)
    return _of_fixed_types(ChainState(state, _averaging(jnp.log(step_size))))


@eqx.filter_jit
def advance(
    kernel: Kernel,
    posterior: Posterior,
    whitening: Whitening,
    state: ChainState,
    n: jax.Array,
    adapting: jax.Array,
    short: jax.Array,
) -> tuple[ChainState, dict[str, jax.Array]]:
    """Advance a chain by `n` draws (`MOST` at most), optionally adapting its step size or with short trees.

    Returns
    -------
    ChainState
    draws : dict of array
        ``vector`` (the coordinates u) and ``v``, shape (MOST, size), and statistics, shape (MOST,); the first `n` of
        each are filled.
    """
    hmc_state = state.hmc
    parameters = ParamInfo(hmc_state.z, hmc_state.potential_energy, hmc_state.z_grad)
    _, following = kernel.build(posterior, whitening, parameters, hmc_state.rng_key)

    def one(state):
        last, averaging = state
        step_size = jnp.exp(jnp.where(adapting, averaging[0], averaging[1]))
        last = last._replace(
            i=jnp.where(short, 0, 1), adapt_state=last.adapt_state._replace(step_size=step_size)
        )
        new = following(last)
        adapted = _average(kernel.target_accept - new.accept_prob, averaging)
        averaging = jax.tree.map(lambda a, b: jnp.where(adapting, a, b), adapted, averaging)
        draw = {
            "vector": whitening.origin + whitening.factor @ new.z,
            "v": new.z,
            "energy": new.energy,
            "n_steps": new.num_steps,
            "tree_depth": jnp.ceil(jnp.log2(new.num_steps + 1)).astype(int),
            "at_max_depth": new.num_steps >= 2**kernel.max_treedepth - 1,
            "acceptance_rate": new.accept_prob,
            "diverging": new.diverging,
            "step_size": step_size,
        }
        return ChainState(new, averaging), draw

    def body(i, carry):
        state, draw = one(carry[0])
        return state, jax.tree.map(lambda all_, new: all_.at[i].set(new), carry[1], draw)

    shapes = jax.eval_shape(one, state)[1]
    empty = jax.tree.map(lambda shape: jnp.zeros((MOST, *shape.shape), shape.dtype), shapes)
    state, draws = jax.lax.fori_loop(0, n, body, (state, empty))
    return _of_fixed_types(state), draws


@eqx.filter_jit
def complete(
    posterior: Posterior, key: jax.Array, first: jax.Array, vectors: jax.Array, n: jax.Array
) -> Draw:
    """Complete the first `n` of coordinates (MOST, size) to full draws (`Draw`), numbered from `first` on."""

    def one(i):
        return posterior.draw(jax.random.fold_in(key, first + i), vectors[i])

    empty = jax.tree.map(lambda s: jnp.zeros((MOST, *s.shape), s.dtype), jax.eval_shape(one, 0))
    return jax.lax.fori_loop(
        0, n, lambda i, draws: jax.tree.map(lambda all_, new: all_.at[i].set(new), draws, one(i)), empty
    )


def moved(state: ChainState, present: Whitening, new: Whitening) -> ChainState:
    """Express a chain's state under another whitening, and restart dual averaging at its step size."""
    hmc_state = state.hmc
    back = jnp.linalg.inv(new.factor)
    z = back @ (present.origin + present.factor @ hmc_state.z - new.origin)
    gradient = new.factor.T @ jnp.linalg.solve(present.factor.T, hmc_state.z_grad)
    moved = ChainState(hmc_state._replace(z=z, z_grad=gradient), _averaging(state.averaging[1]))
    return _of_fixed_types(moved)


def _of_fixed_types(state):
    """Make the types of the state strong: weakly typed numbers would make `advance` compile again."""

    def fixed(array):
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        return array if is_key else jax.lax.convert_element_type(array, array.dtype)

    return jax.tree.map(fixed, state)
