"""Chains that run side by side: in one program, or in threads.

What calls programs is a task: a generator for `lockstep`.  In threads, the calls are made at once.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from fphojax.core.backend import chains_in_lockstep
from fphojax.system.progress import Progress

from .chains import ChainCheckpoint
from .interruptible import THREADS, interruptible
from .lockstep import Task
from .nuts import MOST, ChainState, Fates, Kernel, advance
from .posterior import Posterior
from .warmup import ROUND, warm_up
from .whitening import Whitening

__all__ = ["Run"]

PACE = 1.0  # seconds between two looks at the progress bar and at Ctrl-C


class _Program(NamedTuple):
    """Function that is called for every chain."""

    of_one: Callable
    of_all: Callable
    axes: tuple  # 0 for arguments, or parts of them, that every chain has its own of, else None

    @classmethod
    def of(cls, function: Callable, *axes: Any) -> "_Program":
        return cls(function, eqx.filter_jit(eqx.filter_vmap(function, in_axes=axes)), axes)

    def map_batched(self, change, arguments):
        """Apply a change to those arguments of which every chain has its own."""

        def changed(argument, axes):
            if isinstance(axes, tuple):
                return type(argument)(*map(changed, argument, axes))
            return argument if axes is None else change(argument)

        return [changed(*pair) for pair in zip(arguments, self.axes, strict=True)]


_ADVANCE = _Program.of(advance, None, None, None, 0, Fates._make([None] * 6 + [0]))


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
    keys : uint32 array (chain, 2)
        Of the random numbers of what completes draws.
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
        self.keys: np.ndarray
        self._active = np.asarray(posterior.active)
        self.n_warmup, self.n_calls = 0, 0
        self._at_once, self.interrupted = 1, False

    def start(self, seed: int, n_chain: int) -> None:
        """Start chains at draws of the whitening's normal, or at the optimum if the density there is 0."""
        sequences = np.random.SeedSequence(seed).spawn(n_chain)
        starts, moves, self.keys = (np.stack(keys) for keys in zip(*map(_three_keys, sequences), strict=True))
        for start, key in zip(starts, moves, strict=True):
            position = np.zeros(self._active.size)
            position[self._active] = np.random.default_rng(start).normal(size=int(self._active.sum()))
            state = interruptible(self._at, ChainState.start(position, key))
            if not np.isfinite(state.potential):
                state = self._at(ChainState.start(np.zeros(self._active.size), key))
            self.states.append(state)

    def resume(self, checkpoint: ChainCheckpoint) -> None:
        """Start the chains from a checkpoint."""
        sequences = [np.random.SeedSequence(key.tolist()) for key in checkpoint.keys]
        _, moves, self.keys = (np.stack(keys) for keys in zip(*map(_three_keys, sequences), strict=True))
        places = np.linalg.solve(checkpoint.factor, (checkpoint.vectors - checkpoint.origin).T).T
        for place, step_size, key in zip(places, checkpoint.step_size, moves, strict=True):
            position = np.zeros(self._active.size)
            position[self._active] = place
            self.states.append(self._at(ChainState.start(position, key, step_size)))

    def checkpoint(self, ellipticity: bool) -> ChainCheckpoint:
        """Return the present state of the chains."""
        origin, factor = self.white
        positions = [np.asarray(state.position)[self._active] for state in self.states]
        later = [np.random.SeedSequence(key.tolist()).generate_state(2) for key in self.keys]
        return ChainCheckpoint(
            vectors=np.stack([origin + factor @ position for position in positions]),
            step_size=np.exp([float(state.averaging[1]) for state in self.states]),
            origin=np.asarray(origin),
            factor=np.asarray(factor),
            keys=np.stack(later),
            ellipticity=ellipticity,
        )

    def _at(self, state):
        """Return the state of a chain with the density at its position."""
        fates = self._fates(0, 0, fresh=True)
        arguments = (self.kernel, self.posterior, self._expanded(self.white), state, fates)
        return jax.block_until_ready(advance(*arguments))[0]

    def _fates(self, n, key, *, fresh=False, adapting=False, short=False, complete=False, first=0):
        """Return what becomes of draws, as arrays; with the keys of all chains, or that of one."""
        flags = map(np.asarray, (fresh, adapting, short, complete))
        key = np.zeros(2, np.uint32) if np.ndim(key) == 0 else key
        return Fates(np.asarray(n), *flags, np.asarray(first), key)

    def _expanded(self, white):
        """Return a whitening of all coordinates, of which only the active ones move."""
        factor = np.zeros((self._active.size, self._active.size))
        factor[np.ix_(self._active, self._active)] = white.factor
        return Whitening(self.posterior.expanded(white.origin), factor)

    def warm_up(self, most: int, full_cov: bool) -> Task[None]:
        """Adapt whitening and step sizes in up to `most` draws per chain (but at least one round); a task."""
        n_round = max(most // ROUND, 1)
        all_draws = n_round * ROUND
        with self._progress(all_draws, "warm-up") as bar, self._pool() as pool:

            def run(white, states, short):
                parts, remaining = [], ROUND
                while remaining:
                    size, began = min(self._at_once, remaining), time.monotonic()
                    states, draws, _ = yield from self._advanced(
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
                    active=self._active,
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
                    # number 0 is that of what goes on from here (`checkpoint`)
                    how = {"complete": True, "first": 1 + n_drawn}
                    states, parts, full = yield from self._advanced(
                        pool, self.white, self.states, size, **how
                    )
                    for part, draw in zip(parts, full, strict=True):
                        del part["v"], part["vector"]
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

    def _advanced(self, pool, white, states, n, **how):
        """Advance all chains by `n` draws; a task that returns their states, draws and completed draws."""
        fates = self._fates(n, self.keys, **how)
        arguments = (self.kernel, self.posterior, self._expanded(white), states, fates)
        results = yield from self._each(pool, len(states), _ADVANCE, arguments)
        draws = [_first(draws, n) for _, draws, _ in results]
        for part in draws:
            part |= {name: part[name][:, self._active] for name in ("v", "vector")}
        completed = [self.posterior.real(_first(full, n)) for _, _, full in results]
        return [jax.tree.map(np.asarray, state) for state, _, _ in results], draws, completed

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


def _three_keys(sequence):
    """Return three keys of random numbers, uint32 arrays (2,)."""
    return sequence.generate_state(6).reshape(3, 2)


def _first(draws, n):
    """Return the first n draws, in host memory."""
    return jax.tree.map(lambda array: np.asarray(array)[:n], draws)


def _joined(parts, axis=0):
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, axis=axis), *parts)


def _stacked(chains):
    return jax.tree.map(lambda *parts: np.stack(parts), *chains)
