"""The loop over a field with fits that cost nothing."""

import errno
import hashlib
import json
import os
import signal
from concurrent.futures import CancelledError

import numpy as np
import pytest
from astropy.table import Table

from fphojax.errors import MachineError, StorageError
from fphojax.field.scheduler import PatchOutcome, schedule
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.results.patch_journal import CheckIn, Journal
from fphojax.results.scene_state import StateFiles

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
        self.client, self.fit, self.tasks, self.value = client, fit, tasks, None

    def make(self):
        try:
            self.value = self.fit(self.tasks)
        except Exception as error:
            self.value = error

    def result(self):
        while self.value is None:
            self.client.waiting.pop().make()
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
    """Ctrl-C while the tenth patch is fitted; a fit may end then, instead of raising."""
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
    again = SuperScene.resume(tmp_path / "scene.fits")
    np.testing.assert_array_equal(again.n_iter, scene.n_iter)
    assert [out.number for out in again.out] == [out.number for out in scene.out]
    assert again.out[0].number == 9 + early
    report = schedule(again, fit, progress=False)
    assert report.patches[0] == 9 + early
    assert not again.undone
    assert (again.n_iter == 60 * again.n_patch).all()


class Interrupted(Reversed):
    """Patch 6 has been fitted, and none before it, when Ctrl-C comes."""

    def submit(self, fit, tasks, **options):
        future = super().submit(fit, tasks, **options)
        if tasks[0].number == 6:
            self.waiting.pop().make()
        if tasks[0].number == 7:
            raise KeyboardInterrupt
        return future


def test_interruption_keeps_fits_behind_the_first(make_scene, tmp_path):
    """Patch 6 is not checked in before its turn, nor fitted again."""
    scene = make_scene(size=200)
    with pytest.raises(KeyboardInterrupt):
        schedule(scene, fit, client=Interrupted(), progress=False)
    assert not scene.patchlog
    fitted_again = []

    def watched(tasks):
        fitted_again.extend(task.number for task in tasks)
        return fit(tasks)

    again = SuperScene.resume(tmp_path / "scene.fits")
    schedule(again, watched, progress=False)
    assert fitted_again == [number for number in range(len(again.patchlog)) if number != 6]
    whole = make_scene("whole", size=200)
    schedule(whole, fit, progress=False)
    assert_same_to_the_last_bit(again, whole)


class Killed(BaseException):
    """In the place of SIGKILL: nobody catches it."""


def assert_same_to_the_last_bit(one, two):
    assert one.patchlog == two.patchlog  # sources, order, seeds
    np.testing.assert_array_equal(one._columns.values, two._columns.values)
    everyone = np.arange(len(one))
    np.testing.assert_array_equal(one._columns.covariances(everyone), two._columns.covariances(everyone))
    np.testing.assert_array_equal(one.n_iter, two.n_iter)
    assert one.flags == two.flags
    (a, _), (b, _) = (scene.bounds_and_covs(everyone) for scene in (one, two))
    for name in a.lower:
        np.testing.assert_array_equal(a.lower[name], b.lower[name])
        np.testing.assert_array_equal(a.upper[name], b.upper[name])


def seeded(tasks):
    """A fit whose result depends on all that the patches are given; the log tells it. Patch 4 fails, 7 at first."""
    if any(task.number == 4 or (task.number == 7 and task.seed == first_seed(7)) for task in tasks):
        raise RuntimeError("singular")
    outcomes = fit(tasks)
    for task, outcome in zip(tasks, outcomes, strict=True):
        q = np.clip(task.active.q * (1 + 1e-3 * np.nan_to_num(task.covs[:, 0, 0])), 0.41, 0.99)
        object.__setattr__(outcome, "final", outcome.final.replace(q=q, pa=task.active.pa + 0.1))
        outcome.summary.update(
            seed=task.seed, fixed=task.fixed["source_index"].tolist(), around=float(task.fixed.q.sum())
        )
    return outcomes


def first_seed(number):
    return int.from_bytes(hashlib.blake2b(f"4 {number} 0".encode(), digest_size=4).digest())


def interrupted_run(scene, path, how, *, after, client=None, **options):
    """A scene that is done, though every so many records the process ended; the number of parts."""
    append, write_log, parts = Journal.append, StateFiles.write_log, 0
    while True:
        parts, left = parts + 1, after(parts)

        def counted(journal, record, after_it=parts % 2):
            nonlocal left
            left -= 1
            if left == 0 and not after_it:
                raise how
            append(journal, record)
            if left == 0 and after_it:
                raise how

        def cut(files, *arguments, parts=parts):
            if parts % 3 == 0:
                raise how
            write_log(files, *arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Journal, "append", counted)
            try:
                if parts % 4 == 0:  # in the midst of writing all
                    patched.setattr(StateFiles, "write_log", cut)
                    scene.writeout()
                made_by = None if client is None else client()
                if issubclass(how, KeyboardInterrupt):
                    with scene:
                        schedule(scene, seeded, client=made_by, progress=False, **options)
                else:
                    schedule(scene, seeded, client=made_by, progress=False, **options)
                return scene, parts
            except how:
                scene = SuperScene.resume(path)


@pytest.mark.parametrize(
    ("how", "batch", "client", "strict"),
    [
        (Killed, 1, None, True),
        (Killed, 3, Reversed, True),
        (Killed, 4, None, False),
        (KeyboardInterrupt, 1, Reversed, True),
        (KeyboardInterrupt, 3, None, True),
        (KeyboardInterrupt, 4, Reversed, False),
    ],
)
def test_an_interrupted_run_ends_as_one_that_was_left_alone(
    make_scene, tmp_path, interruptible, how, batch, client, strict
):
    """To the last bit, wherever between two records it ended; with parts of different length."""
    options = {"batch": batch, "ntry_checkout": 7}
    whole = make_scene("whole", size=100, strict=strict)
    schedule(whole, seeded, progress=False, **options)
    assert len(whole.flags) > 0
    cut = make_scene("cut", size=100, strict=strict)
    cut, parts = interrupted_run(
        cut, tmp_path / "cut.fits", how, after=lambda part: 5 + 5 * part % 17, client=client, **options
    )
    print(f"{parts} parts, {len(whole.patchlog)} patches")
    assert parts > 10
    assert_same_to_the_last_bit(whole, cut)
    cut.writeout()
    assert_same_to_the_last_bit(whole, SuperScene.resume(tmp_path / "cut.fits"))


def test_groups_by_size_are_those_of_the_first_part(mock_field, tmp_path):
    """Though sources have other half-light radii by then."""

    def grown(tasks):
        outcomes = seeded(tasks)
        for outcome in outcomes:
            rhalf = np.where(outcome.final.id % 2, 0.3, 1.0) * outcome.final.rhalf
            object.__setattr__(outcome, "final", outcome.final.replace(rhalf=np.maximum(rhalf, 0.04)))
        return outcomes

    scenes = []
    for name in ("whole", "cut"):
        catalog = mock_field(100, 2, density=0.1)
        path = tmp_path / f"{name}.fits"
        scenes.append(
            SuperScene(catalog, BANDS, statefile=path, target_niter=100, seed=4, maxactive_per_patch=4)
        )
    whole, cut = scenes

    def killed(tasks):
        if tasks[0].number == 30:
            raise Killed
        return grown(tasks)

    schedule(whole, grown, progress=False)
    with pytest.raises(Killed):
        schedule(cut, killed, progress=False)
    cut = SuperScene.resume(tmp_path / "cut.fits")
    schedule(cut, grown, progress=False)
    assert_same_to_the_last_bit(whole, cut)


def test_patches_that_are_out_can_be_let_go(make_scene, tmp_path):
    scene = make_scene()
    _, active, fixed = scene.checkout_region(number=0)
    scene.checkout_region(number=1)
    scene.release_region(active, fixed)
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert [out.number for out in again.out] == [1]
    (out,) = again.out
    again.release_region(out.active, out.fixed)
    assert again.n_out == 0
    assert again.is_valid.all()
    assert not SuperScene.resume(tmp_path / "scene.fits").out


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

    def full(self, record):
        if isinstance(record, CheckIn) and record.number >= 5:
            raise StorageError("scene.journal: cannot be written (no space left on device)")
        append(self, record)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        with pytest.raises(StorageError, match=r"scene\.journal: cannot"):
            schedule(scene, fit, progress=False)
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
    assert "20 patches" in last
