"""The loop over a field with fits that cost nothing."""

import errno
import json
import os
import signal
from concurrent.futures import CancelledError

import numpy as np
import pytest
from astropy.table import Table

from fphojax.field.scheduler import PatchOutcome, schedule
from fphojax.field.state import Journal
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.inputs.errors import MachineError, StorageError

BANDS = ("g", "r")


def fitted(task):
    """Fluxes and covariances that depend on what the patch was given, neighbours included."""
    rng = np.random.default_rng(task.seed)
    n = len(task.active.bands) + 6
    near = task.fixed.flux.sum() if len(task.fixed) else 0.0
    root = rng.normal(size=(len(task.active), n, n))
    return PatchOutcome(
        final=task.active.replace(flux=task.active.flux * rng.uniform(0.9, 1.1) + 1e-3 * near),
        n_iter=60,
        block_covs=root @ root.transpose(0, 2, 1),
        summary={"n_calls": task.number},
    )


def fit(tasks):
    return [fitted(task) for task in tasks]


class Reversed:
    """A client whose fits are made in another order than they are handed over."""

    def __init__(self):
        self.waiting = []

    def submit(self, fit, tasks, *, pure, retries):
        future = Future(self, fit, tasks)
        self.waiting.append(future)
        return future


class Future:
    def __init__(self, client, fit, tasks):
        self.client, self.make, self.value = client, lambda: fit(tasks), None

    def result(self):
        while self.value is None:
            last = self.client.waiting.pop()
            try:
                last.value = last.make()
            except Exception as error:
                last.value = error
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def done(self):
        return self.value is not None

    def cancel(self):
        pass


@pytest.fixture
def make_scene(mock_field, tmp_path):
    def make(name="scene", size=80, **options):
        options = {"target_niter": 100, "seed": 4, "maxactive_per_patch": 5} | options
        return LinkedSuperScene(
            mock_field(size, 2, density=0.1), BANDS, statefile=tmp_path / f"{name}.fits", **options
        )

    return make


def assert_same(one, two):
    for name in ("flux", "ra", "dec"):
        np.testing.assert_array_equal(getattr(one.catalog, name), getattr(two.catalog, name))
    np.testing.assert_array_equal(one.n_patch, two.n_patch)
    assert one.patchlog == two.patchlog


@pytest.mark.parametrize("batch", [1, 4])
def test_every_source_is_done_and_the_log_tells(make_scene, batch):
    scene = make_scene()
    sizes = []

    def watched(tasks):
        sizes.append(len(tasks))
        return fit(tasks)

    report = schedule(scene, watched, batch=batch, progress=False)
    assert not scene.undone
    assert scene.n_out == 0
    assert (scene.n_iter == 60 * scene.n_patch).all()
    assert report.patches == list(range(len(scene.patchlog)))
    assert report.n_draw == scene.n_iter.sum()
    assert not report.failures
    assert max(sizes) == batch
    entries = [json.loads(entry) for entry in scene.patchlog]
    assert [entry["taskID"] for entry in entries] == report.patches
    assert [entry["summary"]["n_calls"] for entry in entries] == report.patches
    assert scene.has_covariance.all()


@pytest.mark.parametrize("batch", [1, 3])
def test_results_do_not_depend_on_when_fits_end(make_scene, batch):
    here, there = make_scene("a"), make_scene("b")
    schedule(here, fit, batch=batch, progress=False)
    schedule(there, fit, client=Reversed(), batch=batch, progress=False)
    assert_same(here, there)


def test_fraction_of_active_sources_is_kept(make_scene):
    scene = make_scene(size=400, maxactive_per_patch=2)
    seen = []

    def watched(tasks):
        seen.append(scene.n_active)
        return fit(tasks)

    schedule(scene, watched, max_active_fraction=0.2, progress=False)
    assert 80 <= max(seen) <= 81


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (MemoryError("no room for 3 GB"), "MemoryError: no room for 3 GB"),
        (ValueError("two\nlines"), "ValueError: two lines"),
        ("flux", "flux is not finite"),
        ("covs", "covariances are not finite"),
        ("others", "the fit returned other sources than it was given"),
        ("none", "ValueError: 0 outcomes of 1 patches"),
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_faults_are_tried_again_once_and_then_flagged(make_scene, fault, reason, times):
    scene, tries = make_scene(), []

    def faulty(tasks):
        if tasks[0].number != 3:
            return fit(tasks)
        tries.append(tasks[0])
        if len(tries) > times:
            return fit(tasks)
        (outcome,) = fit(tasks)
        match fault:
            case Exception():
                raise fault
            case "flux":
                object.__setattr__(outcome.final, "flux", np.full_like(outcome.final.flux, np.nan))
            case "covs":
                outcome.block_covs[0, 0, 0] = np.inf
            case "others":
                extra = Table({"source_index": outcome.final["source_index"] + 1})
                object.__setattr__(outcome.final, "extra", extra)
            case "none":
                return []
        return [outcome]

    report = schedule(scene, faulty, progress=False)
    assert len(tries) == 2
    assert tries[0].seed != tries[1].seed
    assert not scene.undone
    if times == 1:
        assert not report.failures
        assert not scene.flags
        return
    rows = tries[0].active["source_index"]
    assert report.failures == {3: reason}
    assert scene.flags == dict.fromkeys(rows.tolist(), reason)
    np.testing.assert_array_equal(scene.catalog.flux[rows], tries[0].active.flux)
    others = np.setdiff1d(np.arange(len(scene)), rows)
    assert (scene.n_iter[others] >= 100).all()


def test_a_fault_in_a_batch_flags_the_faulty_patch_alone(make_scene):
    scene = make_scene()

    def faulty(tasks):
        if any(task.number == 5 for task in tasks):
            raise RuntimeError("singular")
        return fit(tasks)

    report = schedule(scene, faulty, batch=4, progress=False)
    assert list(report.failures) == [5]
    assert sorted([*report.patches, 5]) == list(range(len(scene.patchlog)))


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C, which it leaves out where the shell started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("early", [True, False])
def test_interruption_checks_in_what_is_done(make_scene, tmp_path, interruptible, early):
    """Ctrl-C while the tenth patch is fitted; a fit may end early then, instead of raising."""
    scene = make_scene()

    def interrupted(tasks):
        if tasks[0].number == 9:
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if not early:
                    raise
        return fit(tasks)

    with pytest.raises(KeyboardInterrupt), scene:
        schedule(scene, interrupted, progress=False)
    assert signal.getsignal(signal.SIGINT) is interruptible
    assert len(scene.patchlog) == 9 + early
    assert scene.n_out == 0
    again = SuperScene.resume(tmp_path / "scene.fits")
    np.testing.assert_array_equal(again.n_iter, scene.n_iter)
    assert again.next_number == 9 + early
    report = schedule(again, fit, progress=False)
    assert report.patches[0] == 9 + early
    assert not again.undone
    assert (again.n_iter == 60 * again.n_patch).all()


def test_interruption_keeps_fits_behind_the_first(make_scene):
    class Interrupted(Reversed):
        def submit(self, fit, tasks, **options):
            future = super().submit(fit, tasks, **options)
            if tasks[0].number == 6:
                last = self.waiting.pop()
                last.value = last.make()
            if tasks[0].number == 7:
                raise KeyboardInterrupt
            return future

    scene = make_scene(size=200)
    with pytest.raises(KeyboardInterrupt):
        schedule(scene, fit, client=Interrupted(), progress=False)
    assert [json.loads(entry)["taskID"] for entry in scene.patchlog] == [6]
    assert scene.next_number == 7


@pytest.mark.parametrize("client", [None, Reversed])
@pytest.mark.parametrize(
    "fault",
    [
        StorageError("patch9.nc: cannot be written (no space left on device)"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't flush (errno = 5, error message = 'Input/output error')"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "image.fits"),
    ],
)
def test_a_fault_of_the_disk_stops_the_field_and_flags_nobody(make_scene, tmp_path, client, fault):
    scene, tries = make_scene(size=200), []

    def faulty(tasks):
        if tasks[0].number == 9:
            tries.append(9)
            raise fault
        return fit(tasks)

    with pytest.raises(StorageError) as caught, scene:
        schedule(scene, faulty, client=client and client(), progress=False)
    said = str(caught.value).lower()
    assert any(text in said for text in ("no space left", "input/output error", "no such file"))
    assert tries == [9]
    assert not scene.flags
    assert scene.n_out == 0
    numbers = [json.loads(entry)["taskID"] for entry in scene.patchlog]
    assert numbers[:9] == list(range(9))
    assert 9 not in numbers
    again = SuperScene.resume(tmp_path / "scene.fits")
    np.testing.assert_array_equal(again.n_iter, scene.n_iter)
    schedule(again, fit, progress=False)
    assert not again.undone
    assert (again.n_iter == 60 * again.n_patch).all()


def test_a_full_disk_under_the_journal(make_scene, tmp_path, monkeypatch):
    """What was fitted when it filled up is fitted again; what was checked in stays, and nothing is damaged."""
    scene = make_scene()
    append = Journal.append

    def full(self, number, *arguments):
        if number >= 5:
            raise StorageError("scene.journal: cannot be written (no space left on device)")
        append(self, number, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        with pytest.raises(StorageError, match=r"scene\.journal: cannot"):
            schedule(scene, fit, progress=False)
    assert scene.n_out == 0
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert len(again.patchlog) == 5
    schedule(again, fit, progress=False)
    assert not again.undone
    assert not again.flags
    assert [json.loads(entry)["taskID"] for entry in again.patchlog] == list(range(len(again.patchlog)))


def test_a_scheduler_that_is_gone_stops_the_field_and_flags_nobody(make_scene):
    class Gone(Reversed):
        def submit(self, fit, tasks, **options):
            future = super().submit(fit, tasks, **options)
            if tasks[0].number >= 3:
                future.result = cancelled
            return future

    def cancelled():
        raise CancelledError("patch: scheduler-connection-lost")

    scene = make_scene()
    with pytest.raises(MachineError, match="the scheduler of the cluster is gone"):
        schedule(scene, fit, client=Gone(), progress=False)
    assert [json.loads(entry)["taskID"] for entry in scene.patchlog] == [0, 1, 2]
    assert not scene.flags
    assert scene.n_out == 0


def test_sources_that_were_given_up_can_be_tried_again(make_scene, tmp_path):
    def faulty(tasks):
        if any(task.number in (2, 4) for task in tasks):
            raise RuntimeError("singular")
        return fit(tasks)

    with make_scene() as scene:
        schedule(scene, faulty, progress=False)
    rows = sorted(scene.flags)
    assert rows
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert sorted(again.flags) == rows
    assert again.retry_flagged() == len(rows)
    assert again.n_undone == len(rows)
    assert SuperScene.resume(tmp_path / "scene.fits").n_undone == len(rows)  # a kill now loses nothing
    schedule(again, fit, progress=False)
    assert not again.flags
    assert not again.undone
    assert again.retry_flagged() == 0


def test_progress_line(make_scene, capsys):
    scene = make_scene(size=20)
    schedule(scene, fit, progress=True)
    text = capsys.readouterr().err
    last = text.split("\r")[-1]
    assert "20/20 sources" in last
    assert "sources/h" in last
    assert f"{scene.n_iter.sum()} draws" in last
