"""Draws from the posterior of a scene with numpyro's NUTS, started at the optimum.

The chains move in whitened coordinates: u = u_0 + L v, with u_0 the optimum in unconstrained space and L L^T the
inverse of the Gauss-Newton matrix there, so that the posterior is nearly a unit normal before warm-up begins.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer.hmc import hmc
from tqdm.auto import tqdm

from ..core.model import SceneModel
from .optimize import Optimum, optimize

__all__ = ["Chains", "sample"]

REACH = 8.0  # standard deviations around the optimum in which the pair lists hold
CHUNK = 20  # draws between two looks at the progress bar and at Ctrl-C


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws from the posterior, after warm-up.

    Attributes
    ----------
    values : dict of ndarray (chain, draw, ...)
        Parameters, in the names and shapes of the model.
    statistics : dict of ndarray (chain, draw)
        ``lp`` (log posterior density of the parameters, up to a constant), ``energy``, ``n_steps`` (likelihood
        calls of the draw), ``tree_depth``, ``acceptance_rate``, ``diverging``, ``step_size``.
    optimum : Optimum
        Where the chains were started.
    covariance : ndarray (N, N)
        The first inverse mass matrix: covariance of the unconstrained parameters at the optimum, in the order of
        `ravel_pytree`.
    n_warmup : int
    n_calls : int
        Evaluations of likelihood and gradient, warm-up included.
    wall_time : float
        Seconds, compilation included.
    seed : int
    max_treedepth : int
    method : {"nuts", "laplace", "optimum"}
        How the draws were made.
    """

    values: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    optimum: Optimum
    covariance: np.ndarray
    n_warmup: int
    n_calls: int
    wall_time: float
    seed: int
    max_treedepth: int
    method: str = "nuts"

    @property
    def n_chain(self):
        """Number of chains."""
        return self.statistics["diverging"].shape[0]

    @property
    def n_draw(self):
        """Draws per chain."""
        return self.statistics["diverging"].shape[1]


class _Whitening(NamedTuple):
    """u = origin + factor @ v."""

    origin: jax.Array
    factor: jax.Array


@dataclass(frozen=True)
class _Kernel:
    """What is fixed when the sampler is compiled."""

    n_warmup: int
    max_treedepth: int
    target_accept: float
    unravel: object = field(hash=False, compare=False)

    def build(self, model, whitening, position, key):
        """State of a chain at its start, and the function that makes the next."""

        def potential_of(model, whitening):
            return lambda v: model.potential(self.unravel(whitening.origin + whitening.factor @ v))

        start, advance = hmc(potential_fn_gen=potential_of, algo="NUTS")
        state = start(
            position,
            num_warmup=self.n_warmup,
            step_size=0.5,
            max_tree_depth=self.max_treedepth,
            target_accept_prob=self.target_accept,
            model_args=(model, whitening),
            rng_key=key,
        )
        return state, lambda state: advance(state, model_args=(model, whitening))


@eqx.filter_jit
def _begin(kernel, model, whitening, position, key):
    return kernel.build(model, whitening, position, key)[0]


@eqx.filter_jit
def _advance(kernel, model, whitening, state):
    _, advance = kernel.build(model, whitening, state.z, state.rng_key)

    def one(state, _):
        state = advance(state)
        values = model.constrain(kernel.unravel(whitening.origin + whitening.factor @ state.z))
        statistics = {
            "lp": -0.5 * jnp.sum(model.chi2(values)) + model.log_prior(values),
            "energy": state.energy,
            "n_steps": state.num_steps,
            "tree_depth": jnp.ceil(jnp.log2(state.num_steps + 1)).astype(int),
            "acceptance_rate": state.accept_prob,
            "diverging": state.diverging,
            "step_size": state.adapt_state.step_size,
        }
        return state, (model.effective(values), statistics)

    return jax.lax.scan(one, state, length=CHUNK)


def sample(
    model: SceneModel,
    start,
    *,
    draws: int = 256,
    warmup: int = 256,
    chains: int = 4,
    max_treedepth: int = 10,
    target_accept: float = 0.8,
    full_cov: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Chains:
    """Sample the posterior of a scene.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws, warmup : int
        Draws kept and draws spent on adapting step size and mass matrix, per chain.
    chains : int
        Chains, run side by side on the processor's cores.
    max_treedepth : int
        A draw takes at most 2**max_treedepth - 1 evaluations.
    target_accept : float
        Acceptance rate to which the step size is tuned.
    full_cov : bool
        Whiten with the full covariance at the optimum; otherwise with its diagonal alone.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    Chains
        All chains equally long.  After Ctrl-C, what the chains past their warm-up have by then.

    Raises
    ------
    KeyboardInterrupt
        If no chain is past its warm-up.
    """
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    origin, unravel = ravel_pytree(optimum.unconstrained)
    covariance, factor = _covariance(optimum.hessian)
    model = _culled_around(model, unravel, origin, np.sqrt(np.diag(covariance)))
    if not full_cov:
        factor = np.diag(np.sqrt(np.diag(covariance)))
    whitening = _Whitening(jnp.asarray(origin), jnp.asarray(factor))
    kernel = _Kernel(warmup, max_treedepth, target_accept, unravel)

    keys = jax.random.split(jax.random.key(seed), 2 * chains)
    states = [
        _begin(kernel, model, whitening, jax.random.normal(keys[2 * c], origin.shape), keys[2 * c + 1])
        for c in range(chains)
    ]
    n_chunk = -(-(warmup + draws) // CHUNK)
    with tqdm(total=chains * n_chunk * CHUNK, desc="sampling", unit="draw", disable=not progress) as bar:

        def advance(state):
            state, part = _advance(kernel, model, whitening, state)
            part = jax.tree.map(np.asarray, part)  # waits for the device
            bar.update(CHUNK)
            return state, part

        chunks = _side_by_side(advance, states, n_chunk)

    joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *chain) for chain in chunks if chain]
    calls = int(sum(statistics["n_steps"].sum() for _, statistics in joined))
    # after Ctrl-C only chains past their warm-up count; those side by side are about equally long
    joined = [chain for chain in joined if len(chain[1]["lp"]) > warmup]
    if not joined:
        raise KeyboardInterrupt("interrupted during warm-up: no draws to keep")
    kept = slice(warmup, min(warmup + draws, *(len(statistics["lp"]) for _, statistics in joined)))
    values, statistics = jax.tree.map(lambda *parts: np.stack([part[kept] for part in parts]), *joined)
    return Chains(
        values=values,
        statistics=statistics,
        optimum=optimum,
        covariance=covariance,
        n_warmup=warmup,
        n_calls=calls,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=max_treedepth,
    )


def _culled_around(model, unravel, origin, sd):
    """The model with pair lists that are good wherever the chains can be expected to go.

    Chains leave 8 standard deviations too rarely to matter; beyond, the likelihood lacks faint tails.
    """
    if model.tolerance == 0:
        return model
    ends = [model.constrain(unravel(origin + sign * REACH * sd)) for sign in (-1, 1)]
    return model.culled(
        *({name: pick(ends[0][name], ends[1][name]) for name in ends[0]} for pick in (np.minimum, np.maximum))
    )


def _covariance(hessian):
    """Inverse of a positive matrix, and a factor L with L L^T equal to it.

    Directions that the data and the prior leave without curvature get unit variance, in units of the
    unconstrained parameters, where a box is a few units wide.
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(hessian), 1e-12))
    eigenvalues, vectors = np.linalg.eigh(hessian * scale[:, None] * scale[None, :])
    factor = scale[:, None] * vectors / np.sqrt(np.maximum(eigenvalues, 1e-10))
    return factor @ factor.T, factor


def _side_by_side(advance, states, n_chunk):
    """Advance chains in threads; the chunks of each chain, as many as were done when Ctrl-C came."""
    stop = threading.Event()

    def run(state, done, left):
        for _ in range(left):
            if stop.is_set():
                break
            state, part = advance(state)
            done.append(part)

    chunks = [[] for _ in states]
    # the first chunk is done alone, so that all others find the program compiled
    first, part = advance(states[0])
    chunks[0].append(part)
    with ThreadPoolExecutor(min(len(states), os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(run, first, chunks[0], n_chunk - 1)]
        jobs += [
            pool.submit(run, state, done, n_chunk) for state, done in zip(states[1:], chunks[1:], strict=True)
        ]
        try:
            for job in jobs:
                job.result()
        except KeyboardInterrupt:
            stop.set()  # the pool waits for the chunks under way
    return chunks
