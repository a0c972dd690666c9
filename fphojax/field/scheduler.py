"""The loop over a field: patches are checked out, fitted here or by workers of a cluster, and checked in.

The order of check-outs and check-ins depends only on the scene and its seed, not on when a fit ends: patches are
checked in in the order in which they were checked out, while later ones are already being fitted. So a run gives
the same results however many workers it has. Nor do interruptions change them: patches that were out are out again,
under the same numbers and with the same seeds, and the results of their finished fits have been kept.
"""

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fphojax.errors import MachineError, StorageError
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.bounds import Bounds
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.files import storage_fault
from fphojax.system.interrupts import Interruptions
from fphojax.system.progress import Progress
from fphojax.system.wording import counted

from .superscene import SuperScene

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Fit", "PatchOutcome", "PatchTask", "ScheduleReport", "schedule"]

FEWEST_OUT = 32  # patches that may be out at a time in any field, so that a slow one does not hold up others
_SHAPES = ("ra", "dec", "q", "pa", "sersic", "rhalf")


@dataclass(frozen=True, eq=False)
class PatchTask:
    """Specification of the fit of a patch; the pixels are read where it is fitted.

    Attributes
    ----------
    number : int
        Of the patch; no two of a run have the same.
    region : CircularRegion
    active, fixed : SourceCatalog
        As `SuperScene.checkout_region` gives them.
    bounds : Bounds
    covs : ndarray, shape (n, n_band + 6, n_band + 6)
        As `SuperScene.bounds_and_covs` gives them.
    seed : int
        Determined by the run's seed and the number of the patch; a different one if the patch is tried again.
    """

    number: int
    region: CircularRegion
    active: SourceCatalog
    fixed: SourceCatalog
    bounds: Bounds
    covs: np.ndarray
    seed: int


@dataclass(frozen=True, eq=False)
class PatchOutcome:
    """Result of the fit of a patch for the scene; everything else was written by the fit.

    Attributes
    ----------
    final : SourceCatalog
        The active sources with their new parameters.
    n_iter : int
        Iterations made.
    block_covs : ndarray, shape (n, n_band + 6, n_band + 6), or None
        Covariance matrix of each source; if None, the scene keeps the present ones.
    summary : dict
        Plain values for the scene's log.
    """

    final: SourceCatalog
    n_iter: int
    block_covs: np.ndarray | None = None
    summary: dict = field(default_factory=dict)


Fit = Callable[[list[PatchTask]], list[PatchOutcome]]


@dataclass
class ScheduleReport:
    """Report of what `schedule` did.

    Attributes
    ----------
    patches : list of int
        Numbers of the fitted patches, in the order in which they were checked in.
    summaries : list of dict
        Of these patches.
    failures : dict of int to str
        By number, why the fit of a patch failed twice; its sources are flagged.
    n_draw : int
        Iterations times sources.
    wall_time : float
        Seconds.
    """

    patches: list[int] = field(default_factory=list)
    summaries: list[dict] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    n_draw: int = 0
    wall_time: float = 0.0


def schedule(
    scene: SuperScene,
    fit: Fit,
    *,
    client: "Client | None" = None,
    batch: int = 1,
    max_active_fraction: float = 0.1,
    ntry_checkout: int = 1000,
    progress: bool = True,
) -> ScheduleReport:
    """Fit patches until no source of a scene is undone.

    Parameters
    ----------
    scene : SuperScene
    fit : callable
        Takes a list of `PatchTask` and returns a `PatchOutcome` for each; it must be picklable if there is a client.
        If it raises, or an outcome is not finite, each patch concerned is tried once more, alone and with another
        seed; then its sources are flagged with the reason and left unchanged. Faults of the disk and of the cluster
        do not count against the patch.
    client : distributed.Client, optional
        Cluster that runs the fits; without it, this process does.
    batch : int
        Largest number of patches in a list.
    max_active_fraction : float
        Patches are checked out while less than this fraction of the sources is active, or fewer than 32 patches out.
    ntry_checkout : int
        Number of seeds that are tried before waiting for a patch.
    progress : bool
        Show a progress bar.

    Returns
    -------
    ScheduleReport

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C; the scene keeps the results of fits finished by then, and `schedule` can continue from there.
    MachineError
        The disk is full or fails, or the cluster is gone; likewise.
    """
    executor = _LocalExecutor() if client is None else _DaskExecutor(client)
    return _Loop(scene, fit, executor, batch, max_active_fraction, ntry_checkout).run(progress)


# ------------------------------------------------------------------------------------------------
# Where fits are made


class _Promise:
    """Future of a fit that runs when its result is requested."""

    def __init__(self, fit, tasks) -> None:
        self._fit, self._tasks = fit, tasks

    def result(self):
        return self._fit(self._tasks)

    def done(self):
        return False

    def cancel(self):
        pass


class _FinishedFits:
    """Results of fits that finished before an interruption."""

    def __init__(self, outcomes) -> None:
        self.outcomes = outcomes

    def cancel(self):
        pass


class _LocalExecutor:
    """Fits patches in this process."""

    def submit(self, fit, tasks):
        return _Promise(fit, tasks)


class _DaskExecutor:
    """Fits patches on a dask cluster, without dask's own retries: a retry needs another seed."""

    def __init__(self, client) -> None:
        self._client = client

    def submit(self, fit, tasks):
        return self._client.submit(fit, tasks, pure=False, retries=0)


# ------------------------------------------------------------------------------------------------


class _Loop:
    """State of `schedule`."""

    def __init__(self, scene, fit, executor, batch, max_active_fraction, ntry_checkout) -> None:
        self.scene, self.fit, self.executor, self.batch = scene, partial(_fitted, fit), executor, batch
        self.ntry_checkout = ntry_checkout
        self.most_active = max_active_fraction * len(scene)
        self.next_number = scene.next_number
        self.report = ScheduleReport()
        self.interruptions = Interruptions()
        # lists of tasks and their futures, in the order of check-out
        self.queue: deque[tuple[list[PatchTask], Any]] = deque()

    def run(self, progress):
        began = time.monotonic()
        with self.interruptions, _FieldProgress(self.scene, progress) as shown:
            try:
                self.go_on()
                while True:
                    while tasks := self.checked_out():
                        self.queue.append((tasks, self.executor.submit(self.fit, tasks)))
                    if not self.queue:
                        break
                    self.check_in_first()
                    shown.show(self.report)
                    self.interruptions.raise_if_interrupted()
            except (KeyboardInterrupt, MachineError):
                with self.interruptions.hold():
                    self.wind_up()
                raise
            finally:
                self.report.wall_time = time.monotonic() - began
        return self.report

    def go_on(self):
        """Queue the patches that are out since an earlier part of the run, in the same lists as then."""
        lists = [list(patches) for _, patches in itertools.groupby(self.scene.out, lambda out: out.batch)]
        for number, patches in enumerate(lists, 1):
            tasks = [self.task(out.number, out.region, out.active, out.fixed) for out in patches]
            if all(out.outcome is not None for out in patches):
                self.queue.append((tasks, _FinishedFits([_outcome(out.outcome) for out in patches])))
                continue
            if number == len(lists) and self.scene.filling:
                tasks = self.checked_out(tasks)
            self.queue.append((tasks, self.executor.submit(self.fit, tasks)))
        if lists and lists[0][0].number != lists[0][0].batch:
            self.check_in_first()  # those before them in the list are checked in already

    def checked_out(self, tasks=()):
        """Check out patches up to `batch` in all; fewer or none if a patch has to be checked in first."""
        tasks = list(tasks)
        while len(tasks) < self.batch and self.has_room():
            number = self.next_number
            batch = tasks[0].number if tasks else number
            patch = self.scene.checkout_region(ntry=self.ntry_checkout, number=number, batch=batch)
            if patch[0] is None:
                break
            tasks.append(self.task(number, *patch))
            self.next_number += 1
        return tasks

    def task(self, number, region, active, fixed):
        bounds, covs = self.scene.bounds_and_covs(active["source_index"])
        return PatchTask(number, region, active, fixed, bounds, covs, self.seed(number))

    def has_room(self):
        return self.scene.n_active < self.most_active or self.scene.n_out < max(FEWEST_OUT, self.batch)

    def seed(self, number, attempt=0):
        """Return the seed of a patch."""
        text = f"{self.scene.options['seed']} {number} {attempt}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())

    def check_in_first(self):
        """Wait for the patches that have been out longest, and check them in."""
        tasks, future = self.queue[0]
        outcomes = future.outcomes if isinstance(future, _FinishedFits) else self.settled(tasks, future)
        with self.interruptions.hold():
            if len(tasks) > 1 and not isinstance(future, _FinishedFits):
                self.keep(tasks, outcomes)  # otherwise a kill could come between their check-ins
            self.queue.popleft()
            for task, outcome in zip(tasks, outcomes, strict=True):
                self.check_in(task, outcome)

    def settled(self, tasks, future):
        """Return for each task its outcome, or the reason if it failed twice."""
        outcomes = []
        for task, outcome in zip(tasks, _outcomes(tasks, future), strict=True):
            if isinstance(outcome, str):
                again = replace(task, seed=self.seed(task.number, attempt=1))
                (outcome,) = _outcomes([again], self.executor.submit(self.fit, [again]))
            outcomes.append(outcome)
        return outcomes

    def check_in(self, task, outcome):
        if isinstance(outcome, str):
            self.scene.checkin_region(task.active, task.fixed, 0, taskID=task.number, flag=outcome)
            self.report.failures[task.number] = outcome
            return
        self.scene.checkin_region(
            outcome.final,
            task.fixed,
            outcome.n_iter,
            block_covs=outcome.block_covs,
            taskID=task.number,
            summary=outcome.summary,
        )
        self.report.patches.append(task.number)
        self.report.summaries.append(outcome.summary)
        self.report.n_draw += outcome.n_iter * len(task.active)

    def keep(self, tasks, outcomes):
        """Store the results of fits on disk before the patches are checked in."""
        arguments = {}
        for task, outcome in zip(tasks, outcomes, strict=True):
            failed = isinstance(outcome, str)
            arguments[task.number] = {"n_iter": 0, "flag": outcome} if failed else vars(outcome)
        self.scene.keep_outcomes(arguments)

    def wind_up(self):
        """Keep finished fits; all patches stay out, to be checked in when their turn comes."""
        while self.queue:
            tasks, future = self.queue.popleft()
            with suppress(MachineError):  # the first one was raised already
                if not isinstance(future, _FinishedFits) and future.done():
                    outcomes = _outcomes(tasks, future)
                    if not any(isinstance(outcome, str) for outcome in outcomes):  # else to be retried
                        self.keep(tasks, outcomes)
            future.cancel()


def _outcome(arguments):
    """Convert a kept result of a patch to its outcome, or to the reason why there is none."""
    arguments = dict(arguments)
    flag = arguments.pop("flag")
    return flag if flag is not None else PatchOutcome(**arguments | {"summary": arguments["summary"] or {}})


def _fitted(fit: Fit, tasks: list[PatchTask]) -> list[PatchOutcome]:
    """Run a fit, and raise storage faults as such here, where the cause of an error is still known."""
    try:
        return fit(tasks)
    except MachineError:
        raise
    except Exception as error:
        if (fault := storage_fault(error, of_place=True)) is not None:
            message = " ".join(str(error).split())
            raise StorageError(message if fault in message.lower() else f"{message} ({fault})") from error
        raise


def _outcomes(tasks: Sequence[PatchTask], future) -> list[PatchOutcome | str]:
    """Return for each task its outcome, or what is wrong with it."""
    try:
        outcomes = future.result()
        if len(outcomes) != len(tasks):
            raise ValueError(f"{len(outcomes)} outcomes of {len(tasks)} patches")
    except MachineError:
        raise
    except CancelledError as error:
        raise MachineError("the scheduler of the cluster is gone, expected it to answer") from error
    except Exception as error:
        # any error, MemoryError included: it must not affect the other patches
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return [reason] * len(tasks)
    return [_problem(task, outcome) or outcome for task, outcome in zip(tasks, outcomes, strict=True)]


def _problem(task, outcome):
    """Return why an outcome cannot be checked in, or None if it can."""
    final, covs = outcome.final, outcome.block_covs
    if not np.array_equal(final["source_index"], task.active["source_index"]):
        return "the fit returned other sources than it was given"
    parameters = {name: getattr(final, name) for name in ("flux", *_SHAPES)}
    if not np.isfinite(np.concatenate([values.ravel() for values in parameters.values()])).all():
        bad = (name for name, values in parameters.items() if not np.isfinite(values).all())
        return f"{next(bad)} is not finite"
    if covs is not None and not np.isfinite(covs).all():
        return "covariances are not finite"
    return None


class _FieldProgress:
    """Progress of a field: sources done, patches, sources per hour, time left."""

    def __init__(self, scene, shown) -> None:
        self.scene, self.began = scene, time.monotonic()
        self.first = self._n_finished()
        self.progress = Progress[None](
            text="field", units="sources", total=len(scene), initial=self.first, shown=shown
        )

    def __enter__(self) -> "_FieldProgress":
        return self

    def __exit__(self, *error: Any) -> None:
        self.progress.__exit__(*error)

    def show(self, report):
        """Show how far the field is."""
        n_finished = self._n_finished()
        hours = max(time.monotonic() - self.began, 1e-3) / 3600
        rate = max(n_finished - self.first, 0) / hours
        self.progress.reach(n_finished, f"{counted(len(report.patches), 'patch')}, {rate:.0f} sources/h")

    def _n_finished(self):
        return len(self.scene) - self.scene.n_undone
