"""A field fitted patch by patch, by a fit that does nothing."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import first_read_after
from fphojax.app.stages.fields import fit_sources
from fphojax.errors import InputError
from fphojax.field.patch_fit import PatchFit
from fphojax.field.scheduler import PatchOutcome
from fphojax.inference.methods import Optimum
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_journal import CheckIn, Journal
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


@dataclass
class Stand:
    """Leaves a file, and the sources as they were; the second source's covariances are not finite."""

    folder: Path

    def __call__(self, tasks):
        return [self._outcome(task) for task in tasks]

    def _outcome(self, task):
        path = RunDirectory(self.folder).samples_path(task.number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"draws")
        size, width = len(task.active), task.active.flux.shape[1] + 6
        covs = np.full((size, width, width), np.nan if 2 in task.active.id else 1.0)
        return PatchOutcome(final=task.active, n_iter=1, block_covs=covs, summary={})


@pytest.fixture
def settings(tmp_path):
    """Of two sources far apart."""
    truth = SourceCatalog.from_columns(
        ra=[RA, RA],
        dec=DEC + np.array([-2.0, 2.0]) / 3600,
        flux=[[50.0], [50.0]],
        q=0.8,
        pa=29.0,
        sersic=1.0,
        rhalf=0.1,
        roi=0.5,
        bands=("g",),
        id=[1, 2],
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.4, 1.4, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (60, 60), 0.1, 0.0, RA, DEC, psf, noise=0.1)
    for exposure in simulate_exposures(truth, [spec], seed=1):
        write_exposure(exposure, tmp_path / "g1.fits")
    truth.write(tmp_path / "peaks.ecsv")
    content = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    (tmp_path / "field.yml").write_text(yaml.safe_dump(content))
    return Settings.from_yaml(tmp_path / "field.yml")


def fitted(settings, stand=Stand, **options):
    """Fit the field with a stand-in for the fits of its patches; return its folder and its scene."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PatchFit, "__call__", lambda fit, tasks: stand(fit.folder)(tasks))
        done = fit_sources(settings, settings.outbase, Optimum(), target_niter=1, **options)
    return done.directory, done.scene


def test_a_patch_that_was_given_up_is_no_result(settings):
    """Though its file was written before it failed, and stays."""
    run, scene = fitted(settings)
    entries = [json.loads(entry) for entry in scene.patchlog]
    kept = [entry["taskID"] for entry in entries if "flag" not in entry]
    assert (len(entries), len(kept)) == (2, 1)
    assert list(scene.flags) == [1]
    assert run.patches() == kept
    assert run.patch_files() == [0, 1]
    run, again = fitted(settings, resume=True)
    assert again.patchlog == scene.patchlog
    assert run.patches() == kept


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def only_in_the_journal(run, scene):
    """The state of a run that was killed before it wrote all: what came of its patches is in the journal alone."""
    entries = scene.patchlog.copy()
    scene.patchlog.clear()
    scene.writeout()
    for number, entry in enumerate(entries):
        rows = json.loads(entry)["sources"]
        record = CheckIn(number, entry, np.ones((len(rows), 2), int), scene._columns.values[rows])
        Journal(run.path / "scene.journal").append(record)


@pytest.mark.parametrize("how", ["missing", "emptied", "cut"])
@pytest.mark.parametrize(
    "name",
    ["scene.fits", "scene_log.json", "scene.journal", "scene.bounds.h5", "scene.covs.h5", "config.json"],
)
def test_a_lost_state_is_refused_and_no_patch_with_it(settings, name, how):
    """One line says what is there and how to go on; with the file back, the run does."""
    run, scene = fitted(settings)
    if name == "scene.journal":
        only_in_the_journal(run, scene)
    path = run.path / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 3 if how == "cut" else 0])
    before = contents(run.path)
    with pytest.raises(InputError) as error:
        # as the command does: without settings there is no run to go on with
        fitted(settings, resume=(run.path / "config.json").is_file())
    message = str(error.value)
    assert "\n" not in message
    assert str(run.path) in message
    if name != "config.json" or how == "missing":
        assert "put" in message
        assert "to start anew: sample with --overwrite, or" in message
    assert contents(run.path) == before
    path.write_bytes(content)
    run, again = fitted(settings, resume=True)
    assert run.patch_files() == [0, 1]
    assert again.patchlog == scene.patchlog or name == "scene.journal"
    assert not again.undone


def cut_short(folder):
    """A fit that Ctrl-C ends after the first patch."""

    def fit(tasks):
        if tasks[0].number:
            raise KeyboardInterrupt
        return Stand(folder)(tasks)

    return fit


def test_another_run_in_the_folder_leaves_the_first_one_until_it_is_done(settings):
    run, _ = fitted(settings)
    first, kept = run.read_log(), run.patches()
    with pytest.raises(
        KeyboardInterrupt, match=r"with --resume continues; the earlier run is in .*previous_1 until"
    ):
        fitted(settings, cut_short, overwrite=True)
    earlier = RunDirectory.open(settings.outbase / "previous_1")
    assert earlier.read_log() == first
    assert earlier.patches() == kept
    assert earlier.read_config()["fitsfiles"] == [str(path) for path in settings.fitsfiles]
    assert run.patch_files() == [0]
    fitted(settings, resume=True)
    assert run.patch_files() == [0, 1]
    assert not list(settings.outbase.glob("*previous*"))


def test_a_run_whose_sources_were_all_given_up_replaces_nothing(settings):
    run, _ = fitted(settings)
    kept = run.patches()

    def failing(folder):
        def fit(tasks):
            raise RuntimeError("singular")

        return fit

    _, scene = fitted(settings, failing, overwrite=True)
    assert len(scene.flags) == 2
    assert run.patches() == []
    assert [RunDirectory.open(path).patches() for path in run.previous()] == [kept]


def test_a_setting_that_an_earlier_version_did_not_know_has_its_default(settings):
    run, _ = fitted(settings)
    kept = json.loads(run.config_path.read_text())
    del kept["nuisance"], kept["preprocess"]["edge"]
    del kept["seal"]
    run.config_path.write_text(json.dumps(kept))
    fitted(settings, resume=True)
    run.config_path.write_text(json.dumps(kept))
    other = settings.changed(nuisance={"sky": "plane"})
    with pytest.raises(InputError, match=r"nuisance: found .*plane.*, expected .*none"):
        fitted(other, resume=True)


def test_a_folder_that_was_moved_goes_on(settings, tmp_path):
    """With its inputs, or without them."""
    with pytest.raises(KeyboardInterrupt):
        fitted(settings, cut_short)
    (tmp_path / "a").mkdir()
    for name in ("g1.fits", "peaks.ecsv", "field.yml", "output"):
        shutil.move(tmp_path / name, tmp_path / "a" / name)
    moved = Settings.from_yaml(tmp_path / "a" / "field.yml")
    run, scene = fitted(moved, resume=True)
    assert run.path == tmp_path / "a" / "output"
    assert not scene.undone
    assert run.read_config()["raw_catalog"] == str(tmp_path / "a" / "peaks.ecsv")
    shutil.move(run.path, tmp_path / "alone")
    alone = Settings.from_yaml(tmp_path / "a" / "field.yml", {"outbase": tmp_path / "alone"})
    fitted(alone, resume=True)
    shutil.copy(tmp_path / "a" / "peaks.ecsv", tmp_path / "a" / "other.ecsv")
    other = alone.changed(raw_catalog=str(tmp_path / "a" / "other.ecsv"))
    with pytest.raises(InputError, match=r"raw_catalog: found .*other.ecsv, expected .*a/peaks.ecsv as in"):
        fitted(other, resume=True)


def test_a_run_goes_on_with_the_settings_that_it_began_with(settings):
    fitted(settings)
    with pytest.raises(
        InputError, match=r"field\.yml: buffer: found 0\.7, expected 0\.0 as in .*config\.json"
    ):
        fitted(settings.changed(buffer=0.7), resume=True)
    unread = first_read_after("optimize")
    assert {"sampling_draws", "rounds"} < unread
    assert "buffer" not in unread
    with pytest.raises(InputError, match=r"sampling_draws: found 7"):
        fitted(settings.changed(sampling_draws=7), resume=True)
    fitted(settings.changed(sampling_draws=7), resume=True, unread=unread)
