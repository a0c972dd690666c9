"""Posteriors without chains: adaptive importance sampling (`adaptive`) in the coordinates of the chains.

Only values of the posterior density are needed, no gradients, and many at once.  Fluxes and sky levels are integrated
out as for chains (`fluxes`), and also where their box cuts off a part of their conditional, a normal distribution: an
unbiased estimate of the share inside the box is a factor of the weight.
"""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from tqdm.auto import tqdm

from fphojax.core.backend import chains_in_lockstep
from fphojax.core.model import PARAMETERS, SceneModel
from fphojax.core.programs import program

from .adaptive import Weighted, adapted
from .box_draws import drawn_inside
from .chains import Chains
from .covariance import inverse
from .half_turns import doubled, doubled_slopes, halved
from .interruptible import THREADS, interruptible
from .lockstep import Task, lockstep
from .optimum import optimize
from .posterior import Draw, Posterior, posterior_around
from .proposal import Proposal
from .weights import resampled
from .whitening import whitening

__all__ = ["Evaluated", "evaluated", "importance", "importance_many"]

BATCH = 128  # points of one call
AT_ONCE = 1024  # draws completed by one call
TRIES = 16  # draws of the linear parameters from which the share inside their box is estimated
CLEAR = (
    -3.0
)  # widths: fluxes are integrated out unless their means at the optimum are farther outside their box
KEPT = 4  # draws of the linear parameters at each point, for points that are chosen more than once
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
        number of draws), ``efficiency`` (effective points for each evaluation), ``log_evidence`` (of the model: the
        logarithm of the integral of likelihood and prior) and ``trusted``: False where the draws may not stand for
        the posterior (see `fphojax.inference.weights.Verdict`); sample with NUTS then.

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
        weighted, at_points = yield from run.weigh(max(FEWEST, size / 2), rng, for_values, progress)
        rows = resampled(weighted.weight, size, rng)
        completed = yield from run.complete(rows, at_points, weighted.points, for_draws)
    finally:
        run.close()
    completed = jax.tree.map(lambda array: array.reshape(chains, draws, *array.shape[1:]), completed)
    n_point, verdict = len(weighted.points), weighted.verdict
    told = {
        "pareto_k": verdict.k_hat,
        "effective_size": min(weighted.effective, float(size)),
        "efficiency": weighted.effective / n_point,
        "log_evidence": weighted.log_integral + run.log_constant,
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


class Evaluated(NamedTuple):
    """What is found at m points.

    Attributes
    ----------
    log_density : array (m,)
        Up to a constant.
    linear : array (m, KEPT, n)
        Draws of the linear parameters, inside their box.
    outside : bool array (m, KEPT)
        Whether these had to be drawn again.
    chi2 : array (m, KEPT)
        With these.
    """

    log_density: jax.Array | np.ndarray
    linear: jax.Array | np.ndarray
    outside: jax.Array | np.ndarray
    chi2: jax.Array | np.ndarray


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
        # of the integral over the linear parameters
        self.log_constant = 0.0 if posterior.linear is None else posterior.linear.log_constant()
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1, THREADS)

    def close(self) -> None:
        """End the threads; after Ctrl-C, abandon what they compute."""
        self.pool.shutdown(wait=False, cancel_futures=True)

    def weigh(
        self, wanted: float, rng: np.random.Generator, key: np.ndarray, progress: bool
    ) -> Task[tuple[Weighted, Evaluated]]:
        """Draw weighted points, in the order of the blocks, and what was found at them; a task."""
        rounds = adapted(self.start, wanted, rng, BATCH)
        points, number, found = next(rounds), 0, []
        with tqdm(desc="importance sampling", unit="point", disable=not progress) as bar:
            while True:
                vectors = self._vectors(points)
                batches = vectors.reshape(-1, BATCH, vectors.shape[1])
                arguments = [
                    (self.posterior, key, np.asarray(number + i), batch) for i, batch in enumerate(batches)
                ]
                results = yield from self._called(evaluated, arguments)
                found += [Evaluated(*map(np.asarray, result)) for result in results]
                bar.update(len(points))
                try:
                    points = rounds.send(np.concatenate([each.log_density for each in found[number:]]))
                except StopIteration as end:
                    return end.value, Evaluated(*map(np.concatenate, zip(*found, strict=True)))
                number = len(found)

    def complete(self, rows: np.ndarray, evaluated: Evaluated, points: np.ndarray, key: np.ndarray) -> Task:
        """Complete points, chosen by row, to full draws; a task."""
        which = _repetition(rows) % KEPT  # a point that is chosen again has other linear parameters
        linear, outside, chi2 = (part[rows, which] for part in evaluated[1:])
        size = len(rows)
        # all calls have the same number of points
        parts = [
            np.pad(part, [(0, -size % AT_ONCE)] + [(0, 0)] * (part.ndim - 1))
            for part in (self._vectors(points[rows]), linear, outside, chi2)
        ]
        arguments = [
            (self.posterior, key, np.asarray(first), *(part[first : first + AT_ONCE] for part in parts))
            for first in range(0, size, AT_ONCE)
        ]
        draws = yield from self._called(completed, arguments)
        draws = jax.tree.map(lambda *arrays: np.concatenate(list(map(np.asarray, arrays)))[:size], *draws)
        return self.posterior.real(draws)

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


@program
def evaluated(posterior: Posterior, key: jax.Array, number: jax.Array, points: jax.Array) -> Evaluated:
    """Evaluate the density at points (m, n), with the share of the linear parameters' box; a program.

    Parameters
    ----------
    posterior : Posterior
    key : uint32 array (2,)
        Of all random numbers.
    number : int array ()
        Of this batch, for which they are drawn.
    points : array (m, n)
        All coordinates, see `Posterior.expanded`.
    """

    def one(each):
        point, uniform, offset, normal = each
        values, density = posterior.coordinates.values_and_density(posterior.unravel(point))
        linear = posterior.linear
        if linear is None:
            chi2 = jnp.full(KEPT, jnp.sum(posterior.model.chi2(values)))
            log_density = posterior.model.log_likelihood(values) + density
            return Evaluated(log_density, normal, jnp.zeros(KEPT, bool), chi2)
        equations = linear.equations(posterior.model, values)
        integral = linear.integral(equations)
        log_share, draws, outside = drawn_inside(uniform, offset, normal, integral, linear.low, linear.high)
        chi2 = jax.vmap(lambda draw: linear.chi2(equations, draw))(draws)
        return Evaluated(integral.log_value + density + log_share, draws, outside, chi2)

    m, n = len(points), 0 if posterior.linear is None else posterior.linear.mean.size
    keys = jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(key), number), 3)
    each = (
        points,
        jax.random.uniform(keys[0], (m, n, TRIES)),
        jax.random.uniform(keys[1], (m,)),
        jax.random.normal(keys[2], (m, KEPT, n)),
    )
    # an accelerator takes all at once; on a CPU, one by one is faster
    return jax.vmap(one)(each) if chains_in_lockstep() else jax.lax.map(one, each)


@program
def completed(
    posterior: Posterior,
    key: jax.Array,
    first: jax.Array,
    vectors: jax.Array,
    linear: jax.Array,
    outside: jax.Array,
    chi2: jax.Array,
) -> Draw:
    """Complete coordinates (m, n) to full draws, numbered from `first` on; see `Posterior.completed`."""
    key = jax.random.wrap_key_data(key)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, first + i))(jnp.arange(len(vectors)))
    return jax.vmap(posterior.completed)(keys, vectors, linear, outside, chi2)


def _one_by_one(program, calls):
    """Make calls in turn; a task."""
    results = []
    for arguments in calls:
        result = yield program, arguments
        results.append(result)
    return results


def _repetition(rows):
    """Return how often each number of an array has occurred before."""
    order = np.argsort(rows, kind="stable")
    _, count = np.unique(rows, return_counts=True)
    repetition = np.empty_like(rows)
    repetition[order] = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return repetition


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
