"""Posteriors without chains: adaptive importance sampling (`adaptive`) in the coordinates of the chains.

Only values of the posterior density are needed, no gradients, and many at once.  Fluxes and sky levels are integrated
out as for chains (`fluxes`), and also where their box cuts off a part of their conditional, a normal distribution: an
unbiased estimate of the share inside the box is a factor of the weight.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp, ndtr, ndtri
from jax.typing import ArrayLike
from tqdm.auto import tqdm

from fphojax.core.backend import chains_in_lockstep
from fphojax.core.model import PARAMETERS, SceneModel
from fphojax.core.programs import program

from .adaptive import Weighted, adapted
from .chains import Chains
from .coordinates import LEAST
from .covariance import inverse
from .fluxes import LINEAR, Integral
from .half_turns import doubled, doubled_slopes, halved
from .interruptible import THREADS, interruptible
from .lockstep import Task, lockstep
from .nuts import MOST
from .optimum import optimize
from .posterior import Draw, Posterior, posterior_around
from .proposal import Proposal
from .weights import resampled
from .whitening import whitening

__all__ = ["importance", "importance_many", "log_densities", "log_share_inside"]

BATCH = 128  # points of one call
TRIES = 16  # draws of the linear parameters from which the share inside their box is estimated
MOST_CERTAIN = 1 - 1e-15  # largest probability that is mapped to a normal deviate
CLEAR = (
    -3.0
)  # widths: fluxes are integrated out unless their means at the optimum are farther outside their box
PASSES = 200  # in which linear parameters that were drawn outside their box are drawn again
FEWEST = 500  # effective points, however few draws are wanted


def importance(
    model: SceneModel,
    start: Mapping[str, ArrayLike],
    *,
    draws: int = 256,
    chains: int = 4,
    seed: int = 0,
    progress: bool = False,
) -> Chains:
    """Draw from the posterior of a scene by adaptive importance sampling.

    Points are drawn until half as many are effective as draws are wanted, and are then resampled by weight.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters from which the optimum is sought.
    draws, chains : int
        Numbers as for NUTS; the chains differ only in their index.
    seed : int
    progress : bool
        Show the number of points.

    Returns
    -------
    Chains
        ``method`` is "importance". Of the statistics there are ``lp``, ``diverging`` (never), ``outside_box`` and,
        the same for all draws, ``pareto_k`` (k-hat of the weights), ``effective_size`` (of the points, at most the
        number of draws), ``efficiency`` (effective points for each evaluation) and ``trusted``: False where the draws
        may not stand for the posterior (see `fphojax.inference.weights.Verdict`); sample with NUTS then.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C there are no draws to keep.
    """
    return lockstep([_sampling(model, start, draws, chains, seed, progress, joined=False)])[0]


def importance_many(
    models: Sequence[SceneModel],
    starts: Sequence[Mapping[str, ArrayLike]],
    *,
    seeds: Sequence[int],
    draws: int = 256,
    chains: int = 4,
) -> list[Chains]:
    """Draw from the posteriors of many scenes, batching the evaluations of scenes of equal size.

    Parameters
    ----------
    models : sequence of SceneModel
    starts : sequence of dict of array
    seeds : sequence of int
    draws, chains : int

    Returns
    -------
    list of Chains
        What `importance` returns for each scene, up to rounding.
    """
    scenes = zip(models, starts, seeds, strict=True)
    return lockstep(
        [
            _sampling(model, start, draws, chains, seed, progress=False, joined=True)
            for model, start, seed in scenes
        ]
    )


def _sampling(model, start, draws, chains, seed, progress, joined):
    """Draw from the posterior of a scene as a task; see `importance` and `lockstep`."""
    began = time.monotonic()
    optimum = optimize(model, start, density="unconstrained")
    posterior, origin, covariance, _ = interruptible(posterior_around, model, optimum, clear=CLEAR)
    rng = np.random.default_rng(seed)
    for_values, for_draws = np.random.SeedSequence(seed).generate_state(4).reshape(2, 2)
    started = time.monotonic()
    run = _Run(posterior, origin, covariance, joined or chains_in_lockstep())
    try:
        size = draws * chains
        weighted = yield from run.weigh(max(FEWEST, size / 2), rng, for_values, progress)
        rows = resampled(weighted.weight, size, rng)
        completed = yield from run.complete(weighted.points[rows], for_draws, rng)
    finally:
        run.close()
    completed = jax.tree.map(lambda array: array.reshape(chains, draws, *array.shape[1:]), completed)
    n_point, verdict = len(weighted.points), weighted.verdict
    told = {
        "pareto_k": verdict.k_hat,
        "effective_size": min(weighted.effective, float(size)),
        "efficiency": weighted.effective / n_point,
        "trusted": verdict.trusted and weighted.effective >= FEWEST,
    }
    return Chains(
        model=model,
        values={name: completed.values[name] for name in optimum.values},
        statistics={
            "lp": completed.lp,
            "diverging": np.zeros((chains, draws), dtype=bool),
            "outside_box": completed.outside,
        }
        | {name: np.full((chains, draws), value) for name, value in told.items()},
        optimum=optimum,
        covariance=inverse(optimum.hessian),
        n_warmup=0,
        n_calls=n_point + optimum.n_step,
        wall_time=time.monotonic() - began,
        seed=seed,
        max_treedepth=0,
        method="importance",
        fluxes="sampled" if posterior.linear is None else "integrated",
        sampling_time=time.monotonic() - started,
    )


class _Run:
    """Points of one posterior: their coordinates, in the order of the blocks, and the calls for their values."""

    def __init__(
        self, posterior: Posterior, origin: np.ndarray, covariance: np.ndarray, in_lockstep: bool
    ) -> None:
        self.posterior, self.in_lockstep = posterior, in_lockstep
        self.pairs = _pairs(posterior)
        source = _sources(posterior)
        self.order = np.argsort(source, kind="stable")
        slopes = doubled_slopes(origin, self.pairs)
        factor = np.asarray(whitening(origin, slopes @ covariance @ slopes.T).factor)
        self.start = Proposal.start(
            doubled(origin, self.pairs)[self.order],
            (factor @ factor.T)[np.ix_(self.order, self.order)],
            tuple(np.unique(source, return_counts=True)[1]),
        )
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1, THREADS)

    def close(self) -> None:
        """End the threads; after Ctrl-C, abandon what they compute."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def weigh(
        self, wanted: float, rng: np.random.Generator, key: np.ndarray, progress: bool
    ) -> Task[Weighted]:
        """Draw weighted points, in the order of the blocks; a task."""
        rounds = adapted(self.start, wanted, rng, BATCH)
        points, number = next(rounds), 0
        with tqdm(desc="importance sampling", unit="point", disable=not progress) as bar:
            while True:
                vectors = self._vectors(points)
                batches = vectors.reshape(-1, BATCH, vectors.shape[1])
                arguments = [
                    (self.posterior, key, np.asarray(number + i), batch) for i, batch in enumerate(batches)
                ]
                values = yield from self._called(log_densities, arguments)
                number += len(batches)
                bar.update(len(points))
                try:
                    points = rounds.send(np.concatenate([np.asarray(value) for value in values]))
                except StopIteration as end:
                    return end.value

    def complete(self, points: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Task:
        """Complete points to full draws, with linear parameters inside their box; a task."""
        vectors, number = self._vectors(points), len(points)
        draws = yield from self._completed(vectors, key, 0)
        for _ in range(PASSES):
            outside = np.flatnonzero(self._outside(draws.values))
            if not outside.size:
                return self.posterior.real(draws)
            redrawn = yield from self._completed(vectors[outside], key, number)
            number += len(outside)
            for old, new in zip(jax.tree.leaves(draws), jax.tree.leaves(redrawn), strict=True):
                old[outside] = new
        # the share of the box at these points is next to nothing, and so is their weight
        outside = self._outside(draws.values)
        instead = rng.choice(np.flatnonzero(~outside), outside.sum())
        for array in jax.tree.leaves(draws):
            array[outside] = array[instead]
        return self.posterior.real(draws)

    def _completed(self, vectors, key, first):
        """Complete coordinates to full draws in host memory; a task."""
        batches = [vectors[first : first + MOST] for first in range(0, len(vectors), MOST)]
        arguments = [
            (
                self.posterior,
                key,
                np.asarray(first + number * MOST),
                np.pad(batch, ((0, MOST - len(batch)), (0, 0))),
                np.asarray(len(batch)),
            )
            for number, batch in enumerate(batches)
        ]
        parts = yield from self._called(completed, arguments)
        return jax.tree.map(
            lambda *arrays: np.concatenate(
                [np.asarray(array)[: len(batch)] for array, batch in zip(arrays, batches, strict=True)]
            ),
            *parts,
        )

    def _called(self, program, calls):
        """Call a program with several arguments, in threads or for other tasks to join."""
        if self.in_lockstep:
            return (yield from _one_by_one(program, calls))
        # the first call goes ahead, so that all others find the program compiled
        first = self.pool.submit(_computed, program, calls[0]).result()
        return [first, *self.pool.map(lambda arguments: _computed(program, arguments), calls[1:])]

    def _vectors(self, points):
        """Return points as the posterior takes them."""
        vectors = np.empty_like(points)
        vectors[:, self.order] = points
        return self.posterior.expanded(halved(vectors, self.pairs))

    def _outside(self, values):
        """Return which draws have linear parameters outside their box."""
        linear, size = self.posterior.linear, len(next(iter(values.values())))
        if linear is None:
            return np.zeros(size, dtype=bool)
        vector = np.concatenate([values[name].reshape(size, -1) for name in LINEAR if name in values], axis=1)
        return ((vector < np.asarray(linear.low)) | (vector > np.asarray(linear.high))).any(axis=1)


@program
def log_densities(posterior: Posterior, key: jax.Array, number: jax.Array, points: jax.Array) -> jax.Array:
    """Return the log density at each point (m, n), with the share of the linear parameters' box; a program.

    Parameters
    ----------
    posterior : Posterior
    key : uint32 array (2,)
        Of the draws from which the share is taken.
    number : int array ()
        Of this batch, for which they are drawn.
    points : array (m, n)
        All coordinates, see `Posterior.expanded`.
    """

    def one(each):
        key, point = each
        values, density = posterior.coordinates.values_and_density(posterior.unravel(point))
        linear = posterior.linear
        if linear is None:
            return posterior.model.log_likelihood(values) + density
        integral = linear.integral(posterior.model, values)
        return integral.log_value + density + log_share_inside(key, integral, linear.low, linear.high)

    keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), number), len(points))
    # an accelerator takes all at once; on a CPU, one by one is faster
    return jax.vmap(one)((keys, points)) if chains_in_lockstep() else jax.lax.map(one, (keys, points))


@program
def completed(
    posterior: Posterior, key: jax.Array, first: jax.Array, vectors: jax.Array, n: jax.Array
) -> Draw:
    """Complete the first `n` of coordinates (MOST, size) to full draws (`Draw`), numbered from `first` on."""
    key = jax.random.wrap_key_data(key)

    def one(i):
        return posterior.draw(jax.random.fold_in(key, first + i), vectors[i])

    empty = jax.tree.map(lambda s: jnp.zeros((MOST, *s.shape), s.dtype), jax.eval_shape(one, 0))
    return jax.lax.fori_loop(
        0, n, lambda i, draws: jax.tree.map(lambda all_, new: all_.at[i].set(new), draws, one(i)), empty
    )


def _one_by_one(program, calls):
    """Make calls in turn; a task."""
    results = []
    for arguments in calls:
        result = yield program, arguments
        results.append(result)
    return results


def log_share_inside(key: jax.Array, integral: Integral, low: jax.Array, high: jax.Array) -> jax.Array:
    """Return the log of an unbiased estimate of the probability of a box under the linear parameters' conditional.

    Parameters are drawn one after the other inside their edges, given those before, and the probabilities of these
    are multiplied (Geweke, Hajivassiliou & Keane; see Genz 1992): where they are independent, that is exact.

    Parameters
    ----------
    key : jax.Array
    integral : Integral
    low, high : array (n,)
        Edges of the box.
    """
    n, factor = integral.mean.size, integral.factor
    uniform = jax.random.uniform(key, (n, TRIES))

    def following(i, carry):
        offsets, log_share = carry
        row = n - 1 - i
        shift, scale = factor[:, row] @ offsets, factor[row, row]
        below, above = (scale * (edge[row] - integral.mean[row]) + shift for edge in (low, high))
        turned = below > 0  # the smaller tail is the more accurate one
        below, above = jnp.where(turned, -above, below), jnp.where(turned, -below, above)
        least = ndtr(below)
        share = ndtr(above) - least
        z = ndtri(jnp.clip(least + uniform[row] * share, LEAST, MOST_CERTAIN))
        offsets = offsets.at[row].set((jnp.where(turned, -z, z) - shift) / scale)
        return offsets, log_share + jnp.log(share)

    _, log_share = jax.lax.fori_loop(0, n, following, (jnp.zeros((n, TRIES)), jnp.zeros(TRIES)))
    return logsumexp(log_share) - jnp.log(TRIES)


def _computed(program, arguments):
    return jax.block_until_ready(program(*arguments))


def _pairs(posterior):
    """Return the places (S, 2) of the vectors of shape among the active coordinates."""
    active = np.asarray(posterior.active)
    places, at = (np.cumsum(active) - 1), 0
    for name in sorted(posterior.template):
        size = posterior.template[name].size
        if name == "shape":
            pairs = places[at : at + size].reshape(-1, 2)
            return pairs[np.asarray(posterior.coordinates.turning)]
        at += size
    return np.zeros((0, 2), dtype=int)


def _sources(posterior):
    """Return the source of each active coordinate; a number beyond all of them for nuisance parameters."""
    n_source = posterior.model.optics.n_source
    owner = []
    for name in sorted(posterior.template):
        size = posterior.template[name].size
        of_source = name == "shape" or name in PARAMETERS
        owner.append(np.arange(size) // (size // n_source) if of_source else np.full(size, n_source))
    return np.concatenate(owner)[np.asarray(posterior.active)]
