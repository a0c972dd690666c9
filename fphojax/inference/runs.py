"""Chains that run side by side: in one program, or in threads."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from tqdm.auto import tqdm

from ..core.backend import chains_together
from .chains import Standing
from .nuts import MOST, advance, begin, complete
from .warmup import ROUND, warm_up

__all__ = ["Run"]

PACE = 1.0  # seconds between two looks at the progress bar and at Ctrl-C

_advance_together = eqx.filter_jit(eqx.filter_vmap(advance, in_axes=(None, None, None, 0, None, None, None)))
_complete_together = eqx.filter_jit(eqx.filter_vmap(complete, in_axes=(None, 0, None, 0, None)))


class Run:
    """Chains side by side.

    Parameters
    ----------
    kernel : Kernel
    posterior : Posterior
    white : Whitening
        The first.
    progress : bool
        Show progress bars.
    lockstep : Lockstep, optional
        What makes the draws, together with those of other runs.

    Attributes
    ----------
    states : list of ChainState
    keys : array (chain,)
        Random numbers of the linear parameters.
    n_warmup, n_calls : int
        Draws of the warm-up of a chain; evaluations of likelihood and gradient of all.
    """

    def __init__(self, kernel, posterior, white, progress, lockstep=None):
        self.lockstep = lockstep
        self.kernel, self.posterior, self.white, self.progress = kernel, posterior, white, progress
        self.states, self.keys, self.n_warmup, self.n_calls = [], [], 0, 0

    def begin(self, key, n_chain):
        """Start about the optimum, as widely as the posterior is thought to be, or there if that is nowhere."""
        keys = jax.random.split(key, 3 * n_chain)
        self.keys = keys[2 * n_chain :]
        for start, moves in zip(keys[:n_chain], keys[n_chain : 2 * n_chain], strict=True):
            position = jax.random.normal(start, self.white.origin.shape)
            state = begin(self.kernel, self.posterior, self.white, position, moves)
            if not np.isfinite(state.hmc.potential_energy):
                state = begin(self.kernel, self.posterior, self.white, jnp.zeros_like(position), moves)
            self.states.append(state)

    def resume(self, standing):
        """Start where chains stand."""
        self.keys = jax.random.wrap_key_data(jnp.asarray(standing.keys))
        positions = np.linalg.solve(standing.factor, (standing.vectors - standing.origin).T).T
        for position, step_size, key in zip(
            jnp.asarray(positions), jnp.asarray(standing.step_size), self.keys, strict=True
        ):
            moves = jax.random.fold_in(key, 0)
            state = begin(self.kernel, self.posterior, self.white, position, moves, step_size)
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
        """Adapt whitening and step sizes, with `most` draws at most (or one round, if that is more)."""
        n_round = max(most // ROUND, 1)
        with self._bar(n_round * ROUND, "warm-up") as bar, self._pool() as pool:

            def run(white, states, short):
                states, draws = self._advanced(pool, white, states, ROUND, adapting=True, short=short)
                bar.update(ROUND)
                return states, draws

            try:
                self.states, self.white, n_round, calls = warm_up(
                    run,
                    self.states,
                    self.white,
                    most=n_round,
                    target_accept=self.kernel.target_accept,
                    full_cov=full_cov,
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted during warm-up: no draws to keep") from None
        self.n_warmup, self.n_calls = n_round * ROUND, self.n_calls + calls

    def drawn(self, draws, most_outside):
        """Values (chain, draw, ...) and statistics (chain, draw) of as many draws.

        Of fewer after Ctrl-C, and where linear parameters of more than `most_outside` draws lie outside their box.
        """
        found, done, size, outside = [], 0, min(ROUND, draws), 0
        with self._bar(draws, "sampling") as bar, self._pool() as pool:
            try:
                while done < draws and outside <= most_outside:
                    began = time.monotonic()
                    states, parts = self._advanced(pool, self.white, self.states, size)
                    full = self._completed(pool, done, [part.pop("vector") for part in parts], size)
                    for part, draw in zip(parts, full, strict=True):
                        del part["v"]
                        part |= {"lp": draw.lp, "outside_box": draw.outside}
                        self.n_calls += int(part["n_steps"].sum())
                        outside += int(draw.outside.sum())
                    self.states = states
                    self.n_calls += (self.posterior.linear is not None) * size * len(states)
                    found.append(
                        _stacked([(draw.values, part) for draw, part in zip(full, parts, strict=True)])
                    )
                    done += size
                    bar.update(size)
                    pace = size * PACE / max(time.monotonic() - began, 1e-3)
                    size = min(int(np.clip(pace, ROUND, MOST)), draws - done)
            except KeyboardInterrupt:
                if not found:
                    raise KeyboardInterrupt("interrupted before the first draws: none to keep") from None
        return jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *found)

    def _advanced(self, pool, white, states, n, adapting=False, short=False):
        """States after `n` draws, and the draws of every chain."""
        how = tuple(map(jnp.asarray, (n, adapting, short)))

        def one(state):
            state, draws = advance(self.kernel, self.posterior, white, state, *how)
            return state, _first(draws, n)  # waits for the device

        if self.lockstep is not None or chains_together():
            stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *states)
            stacked, draws = self._called(
                _advance_together, self.kernel, self.posterior, white, stacked, *how
            )
            chains = range(len(states))
            return [_one_of(stacked, c) for c in chains], [_first(_one_of(draws, c), n) for c in chains]
        return tuple(map(list, zip(*_mapped(pool, one, states), strict=True)))

    def _completed(self, pool, first, vectors, n):
        """Full draws of the coordinates of every chain."""
        padded = [np.pad(vector, ((0, MOST - n), (0, 0))) for vector in vectors]
        first, length = jnp.asarray(first), jnp.asarray(n)

        def one(chain):
            return _first(complete(self.posterior, self.keys[chain], first, padded[chain], length), n)

        if self.lockstep is not None or chains_together():
            vectors = jnp.asarray(np.stack(padded))
            full = self._called(_complete_together, self.posterior, self.keys, first, vectors, length)
            return [_first(_one_of(full, c), n) for c in range(len(vectors))]
        return _mapped(pool, one, range(len(vectors)))

    def _called(self, program, *arguments):
        return program(*arguments) if self.lockstep is None else self.lockstep(program, *arguments)

    def _bar(self, draws, text):
        return tqdm(total=draws, desc=text, unit="draw", disable=not self.progress)

    def _pool(self):
        return ThreadPoolExecutor(min(len(self.states), os.cpu_count() or 1))


def _mapped(pool, function, arguments):
    """Results of a function; the first is made alone, so that all others find the program compiled."""
    arguments = list(arguments)
    return [function(arguments[0]), *pool.map(function, arguments[1:])]


def _first(draws, n):
    """The first draws, in host memory."""
    return jax.tree.map(lambda array: np.asarray(array)[:n], draws)


def _one_of(stacked, chain):
    return jax.tree.map(lambda array: array[chain], stacked)


def _stacked(chains):
    return jax.tree.map(lambda *parts: np.stack(parts), *chains)
