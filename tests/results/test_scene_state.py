import io
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from fphojax.errors import StorageError
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.inputs import InputError
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_journal import CheckIn, CheckOut, Journal, PendingOutcome, PendingOutcomes, Release
from fphojax.results.scene_state import StateFiles

BANDS = ("g", "r")
COLUMNS = ("ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi")


def fit(active, number):
    """Another flux and shape for each source, and covariances."""
    n = len(active.bands) + 6
    final = active.replace(flux=active.flux + number, q=0.5 * (active.q + 0.6))
    return final, np.tile(np.diag(np.arange(1.0, n + 1) + number), (len(active), 1, 1))


def step(scene, number=1, **options):
    _, active, fixed = scene.checkout_region()
    final, covs = fit(active, number)
    scene.checkin_region(final, fixed, 50, block_covs=covs, taskID=number, **options)


def assert_same(one, two):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one.catalog, name), getattr(two.catalog, name))
    for name in ("n_iter", "n_patch", "has_covariance"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.flags == two.flags
    assert one.patchlog == two.patchlog
    assert one.n_undone == two.n_undone
    (a, c), (b, d) = (scene.bounds_and_covs(np.arange(len(scene))) for scene in (one, two))
    np.testing.assert_array_equal(c, d)
    for name in a.lower:
        np.testing.assert_array_equal(a.lower[name], b.lower[name])
        np.testing.assert_array_equal(a.upper[name], b.upper[name])


@pytest.fixture
def scene(mock_field, tmp_path):
    return LinkedSuperScene(
        mock_field(60, 1), BANDS, statefile=tmp_path / "scene.fits", target_niter=100, maxradius=9.0, seed=3
    )


def test_nothing_is_written_before_the_first_result(scene, tmp_path):
    scene.checkout_region()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write_after", [(), (2,), (1, 4, 6)])
def test_resume_is_where_it_was(scene, tmp_path, write_after):
    for number in range(7):
        step(scene, number, flag="µ: " + 20 * "not finite" if number == 5 else None)
        if number in write_after:
            scene.writeout()
    scene.checkout_region()  # lost, as when a process dies
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert type(again) is LinkedSuperScene
    assert again.options == scene.options
    assert again.n_active == 0
    assert_same(scene, again)
    assert again.checkout_region()[0] is not None


def test_written_state(scene, tmp_path):
    with scene:
        step(scene, 0)
        step(scene, 1, flag="failed")
        out = scene.checkout_region()[1]["source_index"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scene.bounds.h5",
        "scene.covs.h5",
        "scene.fits",
        "scene_log.json",
    ]
    catalog = SourceCatalog.read(tmp_path / "scene.fits")
    assert catalog.bands == BANDS
    np.testing.assert_array_equal(catalog["n_iter"], scene.n_iter)
    np.testing.assert_array_equal(np.flatnonzero(catalog["is_active"]), np.sort(out))
    assert not catalog["is_valid"][out].any()
    assert set(catalog["fit_flag"]) == {"", "failed"}
    log = json.loads((tmp_path / "scene_log.json").read_text())
    assert log["options"]["target_niter"] == 100
    assert [entry["taskID"] for entry in log["patchlog"]] == [0, 1]
    assert log["patchlog"][1]["flag"] == "failed"


def test_a_state_of_an_earlier_version(scene, tmp_path):
    """It has neither the exact parameters nor the first radii, nor checksums."""
    with scene:
        step(scene, 0)
    for name, dataset in (("covs", "values"), ("bounds", "rhalf")):
        with h5py.File(tmp_path / f"scene.{name}.h5", "a") as file:
            del file[dataset], file.attrs["sealed"]
        content = (tmp_path / f"scene.{name}.h5").read_bytes()
        (tmp_path / f"scene.{name}.h5").write_bytes(content.rpartition(b"fphojax-crc32:")[0] or content)
    again = SuperScene.resume(tmp_path / "scene.fits")
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(scene.catalog, name), getattr(again.catalog, name), rtol=1e-14)
    assert again.patchlog == scene.patchlog


def test_columns_and_uncertainties_of_the_user_are_kept(mock_field, tmp_path):
    catalog = mock_field(10)
    extra = type(catalog.extra)({"redshift": np.arange(10.0), "n_iter": np.full(10, 99)})
    catalog = catalog.replace(extra=extra, flux_err=0.1 * catalog.flux)
    with SuperScene(
        catalog, BANDS, statefile=tmp_path / "s.fits", bounds_kwargs={"n_sig_flux": 20.0}
    ) as scene:
        step(scene, 0.01)
    again = SuperScene.resume(tmp_path / "s.fits")
    np.testing.assert_array_equal(again.catalog["redshift"], np.arange(10.0))
    untouched = ~again.has_covariance
    np.testing.assert_array_equal(again.catalog.flux_err[untouched], catalog.flux_err[untouched])
    variance = again.bounds_and_covs(np.arange(10))[1][~untouched, :2, :2]
    errors = again.catalog.flux_err[~untouched]
    np.testing.assert_allclose(errors**2, np.einsum("nii->ni", variance), rtol=1e-12)
    np.testing.assert_array_equal(again.n_iter, scene.n_iter)
    assert again.n_iter.max() == 50


def test_uncertainties_are_kept_where_others_are_not_known(mock_field):
    scene = SuperScene(mock_field(10), BANDS, bounds_kwargs={"n_sig_flux": 20.0})
    assert scene.catalog.flux_err is None
    step(scene, 0.01)
    known = scene.has_covariance
    assert 0 < known.sum() < 10
    np.testing.assert_array_equal(np.isfinite(scene.catalog.flux_err), np.stack([known, known], axis=1))


def test_state_is_written_when_an_exception_passes(scene, tmp_path):
    def interrupted():
        with scene:
            step(scene, 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not (tmp_path / "scene.journal").exists()
    assert_same(scene, SuperScene.resume(tmp_path / "scene.fits"))


def test_options_may_change_when_going_on(scene, tmp_path):
    step(scene, 0)
    again = SuperScene.resume(tmp_path / "scene.fits", target_niter=50, maxactive_per_patch=2)
    assert again.n_undone == 60 - np.count_nonzero(scene.n_iter)
    assert len(again.checkout_region()[1]) <= 2
    with pytest.raises(InputError, match="options nscael, expected among target_niter"):
        SuperScene.resume(tmp_path / "scene.fits", nscael=2)


def test_a_state_is_not_overwritten_unasked(scene, mock_field, tmp_path):
    step(scene, 0)
    with pytest.raises(InputError, match=r"scene.fits: exists already; LinkedSuperScene.resume continues it"):
        LinkedSuperScene(mock_field(5), BANDS, statefile=tmp_path / "scene.fits")
    other = LinkedSuperScene(mock_field(5), BANDS, statefile=tmp_path / "scene.fits", overwrite=True)
    assert len(SuperScene.resume(tmp_path / "scene.fits")) == 60
    step(other, 0)
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert len(again) == 5
    assert_same(other, again)


@pytest.mark.parametrize("cut", [1, 7, 9, 200])
def test_half_written_record_is_ignored(scene, tmp_path, cut):
    journal = tmp_path / "scene.journal"
    step(scene, 0)
    size = journal.stat().st_size
    half = SuperScene.resume(tmp_path / "scene.fits")
    step(scene, 1)
    os.truncate(journal, size + cut)
    again = SuperScene.resume(tmp_path / "scene.fits")
    assert_same(half, again)
    assert journal.stat().st_size == size + cut  # who only looks leaves it as it is
    step(again, 2)
    assert_same(again, SuperScene.resume(tmp_path / "scene.fits"))


def test_journal_is_idempotent_over_newer_files(scene, tmp_path):
    # killed after the new catalogue, covariances and log were there, and before the journal was removed
    step(scene, 0)
    step(scene, 1)
    journal = tmp_path / "scene.journal"
    content = journal.read_bytes()
    scene.writeout()
    journal.write_bytes(content)
    assert_same(scene, SuperScene.resume(tmp_path / "scene.fits"))


def test_damage_is_named(scene, tmp_path):
    step(scene, 0)
    step(scene, 1)
    journal = tmp_path / "scene.journal"
    content = bytearray(journal.read_bytes())
    content[100] ^= 1
    journal.write_bytes(content)
    with pytest.raises(InputError, match=r"scene.journal: record at byte 0 is damaged"):
        SuperScene.resume(tmp_path / "scene.fits")
    (tmp_path / "scene_log.json").write_text("{")
    with pytest.raises(InputError, match=r"scene_log.json: cannot be read"):
        SuperScene.resume(tmp_path / "scene.fits")
    (tmp_path / "scene.bounds.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"scene.bounds.h5: cannot be read"):
        SuperScene.resume(tmp_path / "scene.fits")
    (tmp_path / "scene.fits").unlink()
    with pytest.raises(InputError, match=r"scene.fits: no such file"):
        SuperScene.resume(tmp_path / "scene.fits")


def test_catalogue_that_is_no_state(mock_field, tmp_path):
    mock_field(5).write_forcepho(tmp_path / "scene.fits")
    with pytest.raises(InputError, match="no column fit_flag, expected the state of a superscene"):
        SuperScene.resume(tmp_path / "scene.fits")


def check_in(number, values, covariances=None):
    return CheckIn(number, json.dumps({"a": number}), np.ones((2, 2), dtype=int), values, covariances)


def test_disk_full_leaves_the_journal_readable(tmp_path, monkeypatch):
    values = np.arange(6.0).reshape(2, 3)
    Journal(tmp_path / "x.journal").append(check_in(1, values))
    journal = Journal(tmp_path / "x.journal")

    class Full(io.FileIO):
        """A file that takes ten bytes and no more."""

        left = 10

        def write(self, content):
            if not self.left:
                raise OSError(28, "No space left on device")
            self.left = 0
            return super().write(content[:10])

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode, **_: Full(path, mode))
        with pytest.raises(StorageError, match=r"x.journal: cannot be written \(no space left on device\)"):
            journal.append(check_in(2, values))
    journal = Journal(journal.path)
    journal.append(check_in(3, values, 2 * values))
    records = list(journal.records())
    assert [json.loads(record.entry) for record in records] == [{"a": 1}, {"a": 3}]
    assert records[0].covariances is None
    np.testing.assert_array_equal(records[1].covariances, 2 * values)


def test_records_of_all_kinds_are_read_back(tmp_path):
    journal, values = Journal(tmp_path / "x.journal"), np.arange(6.0).reshape(2, 3)
    kept = [
        PendingOutcome(7, 60, None, {"seed": 3}, values, values[:, :2] / 3),
        PendingOutcome(8, flag="not finite: µ"),
        PendingOutcome(9, 1, None, {}, values[:1]),
    ]
    out = CheckOut(7, 6, [3, 1], [2], [[5, 3]], closed=True)
    journal.rewrite([out, PendingOutcomes(kept)])
    journal.append(Release(8))
    for reader in (Journal(journal.path), journal):
        first, second, third = reader.records()
        assert vars(first) == vars(out)
        assert third.patch == 8
        for one, two in zip(kept, second.outcomes, strict=True):
            for name, value in vars(one).items():
                np.testing.assert_array_equal(getattr(two, name), value)
    with journal.path.open("ab") as file:
        file.write(b"half")
    size = journal.path.stat().st_size
    assert len(list(journal.records())) == 3  # who reads leaves the file as it is
    assert journal.path.stat().st_size == size
    journal = Journal(journal.path)
    journal.append(Release(9))
    assert [type(record) for record in journal.records()] == [CheckOut, PendingOutcomes, Release, Release]
    journal.rewrite([])
    assert not journal.path.exists()


def test_leftovers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".scene.covs.h5.ab_12cde").mkdir()
    (tmp_path / ".scene.fits.ab_12cdf").mkdir()
    (tmp_path / ".scene.fits.ab_12cdf" / "scene.fits").touch()
    (tmp_path / ".scene_log.json.ab_12cdg").mkdir()
    (tmp_path / ".scene.journal.ab_12cdh").mkdir()
    kept = [".scene.fits.mine", ".scene", "scene.fits", ".scene_log.json.ab_12cde"]
    for name in kept:
        (tmp_path / name).touch()
    StateFiles(tmp_path / "scene.fits").remove_leftovers()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


KILLS = """
import json, os, signal, sys, time
import numpy as np
from fphojax.field.superscene import SuperScene


def loop(path, pipe):
    with SuperScene.resume(path) as scene:
        while scene.undone:
            _, active, fixed = scene.checkout_region()
            n = len(active.bands) + 6
            final = active.replace(flux=active.flux + 1)
            scene.checkin_region(final, fixed, 50, block_covs=np.tile(np.eye(n), (len(active), 1, 1)))
            os.write(pipe, np.array([len(active), *active["source_index"]], dtype="i4").tobytes())
            if len(scene.patchlog) % 5 == 0:
                scene.writeout()


path, n_kill = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
scene = SuperScene.resume(path)
start = scene.catalog.flux
expected, kills = np.zeros(len(scene), dtype=int), 0
for _ in range(n_kill):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        loop(path, writing)
        os._exit(0)
    os.close(writing)
    first = os.read(reading, 4)
    time.sleep(rng.uniform(0, 0.1))
    os.kill(child, signal.SIGKILL)
    killed = os.waitpid(child, 0)[1] == signal.SIGKILL
    kills += killed
    content = bytearray(first)
    while part := os.read(reading, 65536):
        content += part
    os.close(reading)
    reports = np.frombuffer(content, dtype="i4").tolist()
    while reports:
        rows = reports[1 : reports[0] + 1]
        del reports[: reports[0] + 1]
        expected[rows] += 1
    scene = SuperScene.resume(path)
    # the one check-in that was written and not yet reported when the kill came
    extra = scene.n_patch - expected
    assert (extra >= 0).all() and (extra <= killed).all() and extra.sum() <= 15
    expected = scene.n_patch.copy()
    assert (scene.n_iter == 50 * scene.n_patch).all()
    assert np.allclose(scene.catalog.flux, start + scene.n_patch[:, None], rtol=1e-14)
    sources = np.concatenate([json.loads(entry)["sources"] for entry in scene.patchlog])
    assert (np.bincount(sources, minlength=len(scene)) == scene.n_patch).all()
    assert (scene.has_covariance == (scene.n_patch > 0)).all()
print(kills, len(scene.patchlog), scene.n_undone)
"""


def test_kills_lose_no_check_in(mock_field, tmp_path):
    state = tmp_path / "scene.fits"
    LinkedSuperScene(mock_field(4000, 6), BANDS, statefile=state, target_niter=100, seed=1).writeout()
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(state), "12"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    kills, check_ins, undone = map(int, process.stdout.split())
    print(f"{kills} kills, {check_ins} check-ins, {undone} of 4000 sources undone")
    assert kills > 8
