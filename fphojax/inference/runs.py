"""Chains that run side by side: in one program, or in threads.

What calls programs is a task: a generator for `lockstep`.  In threads, the calls are made at once.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fphojax.core.backend import chains_in_lockstep
from fphojax.system.progress import Progress

from .chains import ChainCheckpoint
from .interruptible import THREADS, interruptible
from .lockstep import Task
from .nuts import MOST, ChainState, Kernel, advance, complete, initial_state
from .posterior import Posterior
from .warmup import ROUND, warm_up
from .whitening import Whitening

__all__ = ["Run"]

PACE = 1.0  # seconds between two looks at the progress bar and at Ctrl-C


class _Program(NamedTuple):
    """Function that is called for every chain."""

    of_one: Callable
    of_all: Callable
    axes: tuple  # 0 for arguments that every chain has its own of, else None

    @classmethod
    def of(cls, function: Callable, *axes: int | None) -> "_Program":
        return cls(function, eqx.filter_jit(eqx.filter_vmap(function, in_axes=axes)), axes)

    def map_batched(self, change, arguments):
        """Apply a change to those arguments of which every chain has its own."""
        return [a if axis is None else change(a) for a, axis in zip(arguments, self.axes, strict=True)]


_ADVANCE = _Program.of(advance, None, None, None, 0, None, None, None)
_COMPLETE = _Program.of(complete, None, 0, None, 0, None)


class _InThreads:
    """Runs a program for every chain, in threads."""

    def __init__(self) -> None:
        self._compiled: set[_Program] = set()

    def __call__(
        self, pool: ThreadPoolExecutor, n_chain: int, program: _Program, arguments: tuple
    ) -> Task[list]:
        yield from ()  # a task without calls for others to join

        def one(chain):
            return jax.block_until_ready(
                program.of_one(*program.map_batched(lambda batched: batched[chain], arguments))
            )

        # the first time, one chain goes ahead, so that all others find the program compiled
        ahead = [] if program in self._compiled else [pool.submit(one, 0).result()]
        self._compiled.add(program)
        return [*ahead, *pool.map(one, range(len(ahead), n_chain))]


def _in_one_program(pool, n_chain, program, arguments):
    """Run a program for every chain in a single call."""
    stacked = program.map_batched(
        lambda batched: jax.tree.map(lambda *parts: jnp.stack(parts), *batched), arguments
    )
    results = yield program.of_all, stacked
    return [jax.tree.map(lambda array, chain=chain: array[chain], results) for chain in range(n_chain)]


class Run:
    """Chains side by side.

    Parameters
    ----------
    kernel : Kernel
    posterior : Posterior
    white : Whitening
        Initial whitening.
    progress : bool
        Show progress bars.
    joined : bool
        Make the calls of all chains one, for those of other runs to join.

    Attributes
    ----------
    states : list of ChainState
    keys : array (chain,)
        Random numbers of the linear parameters.
    n_warmup, n_calls : int
        Draws of the warm-up of a chain; evaluations of likelihood and gradient of all.
    interrupted : bool
        Whether Ctrl-C left fewer draws than asked for.
    """

    def __init__(
        self,
        kernel: Kernel,
        posterior: Posterior,
        white: Whitening,
        progress: bool,
        joined: bool = False,
    ) -> None:
        self._each: Callable[..., Task[list]]
        self._each = _in_one_program if joined or chains_in_lockstep() else _InThreads()
        self.kernel, self.posterior, self.white, self.progress = kernel, posterior, white, progress
        self.states: list[ChainState] = []
        self.keys: jax.Array
        self.n_warmup, self.n_calls = 0, 0
        self._at_once, self.interrupted = 1, False

    def start(self, key: jax.Array, n_chain: int) -> None:
        """Start chains at draws of the whitening's normal, or at the optimum if the density there is 0."""
        keys = jax.random.split(key, 3 * n_chain)
        self.keys = keys[2 * n_chain :]
        for start, moves in zip(keys[:n_chain], keys[n_chain : 2 * n_chain], strict=True):
            position = jax.random.normal(start, self.white.origin.shape)
            state = interruptible(initial_state, self.kernel, self.posterior, self.white, position, moves)
            if not np.isfinite(state.hmc.potential_energy):
                state = initial_state(
                    self.kernel, self.posterior, self.white, jnp.zeros_like(position), moves
                )
            self.states.append(state)

    def resume(self, checkpoint: ChainCheckpoint) -> None:
        """Start the chains from a checkpoint."""
        keys = [jax.random.split(key) for key in jax.random.wrap_key_data(jnp.asarray(checkpoint.keys))]
        self.keys = jnp.stack([linear for _, linear in keys])
        positions = np.linalg.solve(checkpoint.factor, (checkpoint.vectors - checkpoint.origin).T).T
        for position, step_size, key in zip(
            jnp.asarray(positions),
            jnp.asarray(checkpoint.step_size),
            [moves for moves, _ in keys],
            strict=True,
        ):
            state = initial_state(self.kernel, self.posterior, self.white, position, key, step_size)
            self.states.append(state)

    def checkpoint(self, ellipticity: bool) -> ChainCheckpoint:
        """Return the present state of the chains."""
        origin, factor = (np.asarray(a) for a in self.white)
        later = jnp.stack([jax.random.fold_in(key, 0) for key in self.keys])
        return ChainCheckpoint(
            vectors=np.stack([origin + factor @ np.asarray(state.hmc.z) for state in self.states]),
            step_size=np.exp([float(state.averaging[1]) for state in self.states]),
            origin=origin,
            factor=factor,
            keys=np.asarray(jax.random.key_data(later)),
            ellipticity=ellipticity,
        )

    def warm_up(self, most: int, full_cov: bool) -> Task[None]:
        """Adapt whitening and step sizes in up to `most` draws per chain (but at least one round); a task."""
        n_round = max(most // ROUND, 1)
        all_draws = n_round * ROUND
        with self._progress(all_draws, "warm-up") as bar, self._pool() as pool:

            def run(white, states, short):
                parts, remaining = [], ROUND
                while remaining:
                    size, began = min(self._at_once, remaining), time.monotonic()
                    states, draws = yield from self._advanced(
                        pool, white, states, size, adapting=True, short=short
                    )
                    parts.append(draws)
                    remaining -= size
                    self._update_pace(bar, size, began)
                return states, [_joined(of_chain) for of_chain in zip(*parts, strict=True)]

            try:
                self.states, self.white, n_round, calls = yield from warm_up(
                    run,
                    self.states,
                    self.white,
                    most=n_round,
                    target_accept=self.kernel.target_accept,
                    full_cov=full_cov,
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted during warm-up: no draws to keep") from None
            if bar.n < all_draws:
                bar.end_early("the chains have settled")
        self.n_warmup, self.n_calls = n_round * ROUND, self.n_calls + calls

    def sample(
        self, draws: int, most_outside: float
    ) -> Task[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """Draw `draws` times per chain; a task that returns values (chain, draw, ...) and statistics (chain, draw).

        There are fewer draws after Ctrl-C, and where the linear parameters of more than `most_outside` draws lie
        outside their box.
        """
        blocks, n_drawn, outside = [], 0, 0
        with self._progress(draws, "sampling") as bar, self._pool() as pool:
            try:
                while n_drawn < draws and outside <= most_outside:
                    size, began = min(self._at_once, draws - n_drawn), time.monotonic()
                    states, parts = yield from self._advanced(pool, self.white, self.states, size)
                    full = yield from self._completed(
                        pool, n_drawn, [part.pop("vector") for part in parts], size
                    )
                    for part, draw in zip(parts, full, strict=True):
                        del part["v"]
                        part |= {"lp": draw.lp, "outside_box": draw.outside}
                        self.n_calls += int(part["n_steps"].sum())
                        outside += int(draw.outside.sum())
                    self.states = states
                    self.n_calls += (self.posterior.linear is not None) * size * len(states)
                    blocks.append(
                        _stacked([(draw.values, part) for draw, part in zip(full, parts, strict=True)])
                    )
                    n_drawn += size
                    self._update_pace(bar, size, began)
            except KeyboardInterrupt:
                if not blocks:
                    raise KeyboardInterrupt("interrupted before the first draws: none to keep") from None
                self.interrupted = True
        return _joined(blocks, axis=1)

    def _update_pace(self, bar, size, began):
        """Update the progress bar, and choose from the time taken how many draws to make next."""
        bar.update(size)
        pace = size * PACE / max(time.monotonic() - began, 1e-3)
        self._at_once = int(np.clip(pace, 1, MOST))

    def _advanced(self, pool, white, states, n, adapting=False, short=False):
        """Advance all chains by `n` draws; a task that returns their states and draws."""
        how = tuple(map(jnp.asarray, (n, adapting, short)))
        results = yield from self._each(
            pool, len(states), _ADVANCE, (self.kernel, self.posterior, white, states, *how)
        )
        return [state for state, _ in results], [_first(draws, n) for _, draws in results]

    def _completed(self, pool, first, vectors, n):
        """Complete the coordinates of every chain to full draws; a task."""
        padded = [np.pad(vector, ((0, MOST - n), (0, 0))) for vector in vectors]
        # number 0 is that of what goes on from here (`checkpoint`)
        first, length = jnp.asarray(1 + first), jnp.asarray(n)
        results = yield from self._each(
            pool, len(vectors), _COMPLETE, (self.posterior, self.keys, first, padded, length)
        )
        return [_first(draws, n) for draws in results]

    def _progress(self, draws, text):
        return Progress[None](text=text, units="draws", total=draws, shown=self.progress)

    @contextmanager
    def _pool(self):
        pool = ThreadPoolExecutor(min(len(self.states), os.cpu_count() or 1), THREADS)
        try:
            yield pool
        finally:
            # after Ctrl-C, abandon the draws that are being made
            pool.shutdown(wait=False, cancel_futures=True)


def _first(draws, n):
    """Return the first n draws, in host memory."""
    return jax.tree.map(lambda array: np.asarray(array)[:n], draws)


def _joined(parts, axis=0):
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def _stacked(chains):
    return jax.tree.map(lambda *parts: np.stack(parts), *chains)
