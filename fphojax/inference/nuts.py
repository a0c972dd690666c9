"""numpyro's NUTS in whitened coordinates, some draws at a time, its step size adapted by dual averaging."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.infer.hmc import HMCState, hmc
from numpyro.infer.hmc_util import dual_averaging
from numpyro.infer.util import ParamInfo

from .posterior import Posterior
from .whitening import Whitening

__all__ = ["MOST", "ChainState", "Kernel", "advance", "begin", "complete", "moved"]

MOST = 100  # draws made at once
FIRST_STEP = 1.0  # of a leapfrog; the posterior is nearly a unit normal
SHORT_DEPTH = 6  # of trees while the whitening may be far off: longer ones would cost more than they bring

_start_averaging, _average = dual_averaging()


def _averaging(log_step):
    """Dual averaging that begins, and is drawn back, to a step size."""
    return (log_step, log_step, *_start_averaging(log_step)[2:])


class ChainState(NamedTuple):
    """A chain between two draws."""

    hmc: HMCState
    averaging: tuple  # of the logarithm of the step size


@dataclass(frozen=True)
class Kernel:
    """What is fixed when the sampler is compiled."""

    max_treedepth: int
    target_accept: float

    def build(self, posterior, whitening, start, key):
        """State of a chain at its start, and the function that makes the next."""

        def potential_of(posterior, whitening):
            return lambda v: posterior.potential(whitening.origin + whitening.factor @ v)

        first, following = hmc(potential_fn_gen=potential_of, algo="NUTS")
        state = first(
            start,
            num_warmup=1,  # numpyro's warm-up is that draw 0 has short trees; `advance` says which draws are such
            step_size=FIRST_STEP,
            adapt_step_size=False,
            adapt_mass_matrix=False,
            max_tree_depth=(min(SHORT_DEPTH, self.max_treedepth), self.max_treedepth),
            model_args=(posterior, whitening),
            rng_key=key,
        )
        return state, lambda state: following(state, model_args=(posterior, whitening))


@eqx.filter_jit
def begin(kernel: Kernel, posterior: Posterior, whitening: Whitening, position, key, step_size=FIRST_STEP):
    """State of a chain at a position v."""
    state, _ = kernel.build(posterior, whitening, position, key)
    return _of_fixed_types(ChainState(state, _averaging(jnp.log(step_size))))


@eqx.filter_jit
def advance(
    kernel: Kernel, posterior: Posterior, whitening: Whitening, state: ChainState, n, adapting, short
):
    """The chain after `n` draws, `MOST` at most, its step size adapted on the way or not, with short trees or not.

    Returns
    -------
    ChainState
    draws : dict of array
        ``vector`` (the coordinates u) and ``v``, shape (MOST, size), and statistics, shape (MOST,); the first `n` of
        each are filled.
    """
    hmc_state = state.hmc
    known = ParamInfo(hmc_state.z, hmc_state.potential_energy, hmc_state.z_grad)
    _, following = kernel.build(posterior, whitening, known, hmc_state.rng_key)

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
def complete(posterior: Posterior, key, first, vectors, n):
    """Full draws (`Draw`) of the first `n` of coordinates (MOST, size), which are numbered from `first` on."""

    def one(i):
        return posterior.draw(jax.random.fold_in(key, first + i), vectors[i])

    empty = jax.tree.map(lambda s: jnp.zeros((MOST, *s.shape), s.dtype), jax.eval_shape(one, 0))
    return jax.lax.fori_loop(
        0, n, lambda i, found: jax.tree.map(lambda all_, new: all_.at[i].set(new), found, one(i)), empty
    )


def moved(state: ChainState, present: Whitening, new: Whitening) -> ChainState:
    """The same point under another map; the search for the step size begins anew, about the present one."""
    hmc_state = state.hmc
    back = jnp.linalg.inv(new.factor)
    z = back @ (present.origin + present.factor @ hmc_state.z - new.origin)
    gradient = new.factor.T @ jnp.linalg.solve(present.factor.T, hmc_state.z_grad)
    moved = ChainState(hmc_state._replace(z=z, z_grad=gradient), _averaging(state.averaging[1]))
    return _of_fixed_types(moved)


def _of_fixed_types(state):
    """The state without weakly typed numbers, for which `advance` would be compiled anew."""

    def fixed(array):
        is_key = jnp.issubdtype(array.dtype, jax.dtypes.prng_key)
        return array if is_key else jax.lax.convert_element_type(array, array.dtype)

    return jax.tree.map(fixed, state)
