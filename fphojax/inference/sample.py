"""Draws from the posterior of a scene with numpyro's NUTS, started at the optimum.

Fluxes and sky levels are integrated out (`fluxes`); the chains move in the coordinates of `coordinates`, whitened by
the Fisher matrix (`whitening`), so that the posterior is nearly a unit normal before a short warm-up (`warmup`)
begins.
"""

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from ..core.model import SceneModel
from .chains import Chains, Standing
from .nuts import CHUNK, Kernel, advance, begin, complete
from .optimize import optimize
from .posterior import culled_around, posterior_at
from .warmup import warm_up
from .whitening import Whitening, coordinate_covariance, inverse, whitening, with_known_blocks

__all__ = ["Chains", "continued", "sample"]

OUTSIDE = 0.01  # of the draws of fluxes may lie outside their box; if more do, they are sampled


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
    covariance=None,
    integrate_fluxes: bool = True,
    ellipticity: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Chains:
    """Sample the posterior of a scene.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws : int
        Draws kept, per chain.
    warmup : int
        The most draws spent on adapting step size and mass matrix, per chain; fewer where these tell that it is done.
    chains : int
        Chains, run side by side on the processor's cores.
    max_treedepth : int
        A draw takes at most 2**max_treedepth - 1 evaluations.
    target_accept : float
        Acceptance rate to which the step size is tuned.
    full_cov : bool
        Whiten with the full covariance; otherwise with its diagonal alone.
    covariance : array (n_source, n_band + 6, n_band + 6), optional
        Covariances of each source's fluxes, x, y, q, pa, sersic and rhalf from an earlier fit, NaN where there are
        none, as a super-scene keeps them; they take the place of the Fisher matrix in the first mass matrix.
    integrate_fluxes : bool
        Integrate over fluxes and sky levels, where their priors are flat or normal, and draw them afterwards.  Where
        more than 1 % of the draws lie outside their box they are sampled instead: `Chains.fluxes` tells.
    ellipticity : bool
        Move in a vector of shape instead of q and pa, where the priors allow a galaxy to be round and to turn freely.
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
    kernel, n_calls = Kernel(max_treedepth, target_accept), 0
    for apart in (True, False) if integrate_fluxes else (False,):
        posterior, origin = posterior_at(model, optimum, fluxes_apart=apart, ellipticity=ellipticity)
        spread = coordinate_covariance(posterior, optimum, origin)
        posterior = culled_around(posterior, optimum, origin, np.sqrt(np.diag(spread)))
        first = spread[: len(origin), : len(origin)]
        if covariance is not None:
            first = with_known_blocks(first, posterior, optimum, origin, covariance)
        run = _Run(kernel, posterior, whitening(origin, first, full_cov=full_cov), progress)
        times = [time.monotonic()]
        run.begin(jax.random.key(seed), chains)
        run.warm_up(warmup // CHUNK, full_cov)
        times.append(time.monotonic())
        values, statistics = run.drawn(draws)
        times.append(time.monotonic())
        n_calls += run.n_calls
        if posterior.linear is None or statistics["outside_box"].mean() <= OUTSIDE:
            break
    return Chains(
        values=values,
        statistics=statistics,
        optimum=optimum,
        covariance=inverse(optimum.hessian),
        n_warmup=run.n_warmup,
        n_calls=n_calls,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=max_treedepth,
        fluxes="sampled" if posterior.linear is None else "integrated",
        warmup_time=times[1] - times[0],
        sampling_time=times[2] - times[1],
        standing=run.standing(ellipticity),
    )


def continued(model: SceneModel, chains: Chains, *, draws: int = 256, progress: bool = True) -> Chains:
    """More draws of chains from where they stopped; their warm-up is kept.

    Parameters
    ----------
    model : SceneModel
        That of the chains.
    chains : Chains
        Made by `sample`, or by this function.
    draws : int
        Further draws per chain.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Chains
        All draws.

    Raises
    ------
    ValueError
        If the chains cannot go on.
    """
    if chains.standing is None:
        raise ValueError(f"chains of method {chains.method!r} cannot go on, expected those of `sample`")
    began, standing = time.monotonic(), chains.standing
    posterior, origin = posterior_at(
        model,
        chains.optimum,
        fluxes_apart=chains.fluxes == "integrated",
        ellipticity=standing.ellipticity,
    )
    spread = coordinate_covariance(posterior, chains.optimum, origin)
    posterior = culled_around(posterior, chains.optimum, origin, np.sqrt(np.diag(spread)))
    white = Whitening(jnp.asarray(standing.origin), jnp.asarray(standing.factor))
    run = _Run(Kernel(chains.max_treedepth, 0.8), posterior, white, progress)
    run.resume(standing)
    started = time.monotonic()
    values, statistics = run.drawn(draws)
    both = {"values": (chains.values, values), "statistics": (chains.statistics, statistics)}
    joined = {
        kind: jax.tree.map(lambda a, b: np.concatenate([a, b], axis=1), *pair) for kind, pair in both.items()
    }
    return dataclasses.replace(
        chains,
        **joined,
        n_calls=chains.n_calls + run.n_calls,
        wall_time=chains.wall_time + time.monotonic() - began,
        sampling_time=chains.sampling_time + time.monotonic() - started,
        standing=run.standing(standing.ellipticity),
    )


class _Run:
    """Chains side by side."""

    def __init__(self, kernel, posterior, white, progress):
        self.kernel, self.posterior, self.white = kernel, posterior, white
        self.states, self.keys, self.n_warmup, self.n_calls = [], [], 0, 0
        self.progress = progress

    def begin(self, key, n_chain):
        """Start about the optimum, as widely as the posterior is thought to be."""
        keys = jax.random.split(key, 3 * n_chain)
        size = self.white.origin.shape
        self.keys = keys[2 * n_chain :]
        for start, moves in zip(keys[:n_chain], keys[n_chain : 2 * n_chain], strict=True):
            position = jax.random.normal(start, size)
            self.states.append(begin(self.kernel, self.posterior, self.white, position, moves))

    def resume(self, standing):
        """Start where chains stand."""
        self.keys = jax.random.wrap_key_data(jnp.asarray(standing.keys))
        positions = np.linalg.solve(standing.factor, (standing.vectors - standing.origin).T).T
        for position, step_size, key in zip(positions, standing.step_size, self.keys, strict=True):
            moves = jax.random.fold_in(key, 0)
            state = begin(self.kernel, self.posterior, self.white, jnp.asarray(position), moves, step_size)
            self.states.append(state)

    def standing(self, ellipticity):
        """Where the chains stand now."""
        origin, factor = (np.asarray(a) for a in self.white)
        later = jnp.stack([jax.random.split(key)[0] for key in self.keys])
        return Standing(
            vectors=np.stack([origin + factor @ np.asarray(state.hmc.z) for state in self.states]),
            step_size=np.exp([float(state.averaging[1]) for state in self.states]),
            origin=origin,
            factor=factor,
            keys=np.asarray(jax.random.key_data(later)),
            ellipticity=ellipticity,
        )

    def warm_up(self, most, full_cov):
        """Adapt whitening and step sizes, in `most` rounds at most."""
        n_chain = len(self.states)
        with self._bar(n_chain * max(most, 1) * CHUNK, "warm-up") as bar, self._pool() as pool:

            def run(white, states):
                def one(state):
                    state, part = advance(self.kernel, self.posterior, white, state, True)
                    part = jax.tree.map(np.asarray, part)  # waits for the device
                    bar.update(CHUNK)
                    return state, part

                first = one(states[0])  # alone, so that all others find the program compiled
                both = [first, *pool.map(one, states[1:])]
                return [state for state, _ in both], [part for _, part in both]

            try:
                self.states, self.white, n_round, calls = warm_up(
                    run,
                    self.states,
                    self.white,
                    most=most,
                    target_accept=self.kernel.target_accept,
                    full_cov=full_cov,
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted during warm-up: no draws to keep") from None
        self.n_warmup, self.n_calls = n_round * CHUNK, self.n_calls + calls

    def drawn(self, draws):
        """Values and statistics of as many draws; of fewer after Ctrl-C."""
        n_chunk = -(-draws // CHUNK)
        stop, chunks = threading.Event(), [[] for _ in self.states]
        with self._bar(len(self.states) * n_chunk * CHUNK, "sampling") as bar, self._pool() as pool:

            def go_on(chain):
                for _ in range(n_chunk):
                    if stop.is_set():
                        break
                    state, part = advance(self.kernel, self.posterior, self.white, self.states[chain], False)
                    key = jax.random.fold_in(self.keys[chain], len(chunks[chain]) + 1)
                    full = complete(self.posterior, key, part.pop("vector"))
                    part.pop("v")
                    part |= {"lp": full.lp, "outside_box": full.outside}
                    chunks[chain].append(jax.tree.map(np.asarray, (full.values, part)))
                    self.states[chain] = state
                    bar.update(CHUNK)

            jobs = [pool.submit(go_on, chain) for chain in range(len(self.states))]
            try:
                for job in jobs:
                    job.result()
            except KeyboardInterrupt:
                stop.set()  # the pool waits for the chunks under way
        begun = [chain for chain, parts in enumerate(chunks) if parts]
        chunks, self.states, self.keys = (
            [some[c] for c in begun] for some in (chunks, self.states, self.keys)
        )
        if not chunks:
            raise KeyboardInterrupt("interrupted before the first draws: none to keep")
        integrated = self.posterior.linear is not None
        for parts in chunks:
            for _, statistics in parts:
                self.n_calls += int(statistics["n_steps"].sum()) + integrated * CHUNK
        joined = [jax.tree.map(lambda *parts: np.concatenate(parts), *chain) for chain in chunks]
        kept = min(draws, *(len(statistics["lp"]) for _, statistics in joined))
        return jax.tree.map(lambda *parts: np.stack([part[:kept] for part in parts]), *joined)

    def _bar(self, total, text):
        return tqdm(total=total, desc=text, unit="draw", disable=not self.progress)

    def _pool(self):
        return ThreadPoolExecutor(min(len(self.states), os.cpu_count() or 1))
