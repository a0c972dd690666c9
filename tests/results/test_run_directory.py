"""The folder of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fphojax.inputs import InputError
from fphojax.results.patch_journal import CheckIn, CheckOut, Journal
from fphojax.results.run_directory import RunDirectory


def test_what_is_written_is_read_back(fit, tmp_path):
    source = tmp_path / "field.yml"
    source.write_text("bandlist: [B]\n")
    run = RunDirectory.create(tmp_path / "deep" / "run", scene_catalog="mock.fits")
    run.write_config(json.dumps({"seed": 3}), source)
    run.write_scene(fit.truth, {"patches": [1, 10]})
    for patch in (10, 2):
        run.write_patch(patch, fit.result)
    (run.path / "patches" / "patch7_samples.nc.tmp").touch()
    names = sorted(p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file())
    assert names == [
        "config.json",
        "field.yml",
        "mock.fits",
        "mock_log.json",
        "patches/patch10_samples.nc",
        "patches/patch2_samples.nc",
        "patches/patch7_samples.nc.tmp",
    ]
    again = RunDirectory(run.path, scene_catalog="mock.fits")
    assert again.patches() == [2, 10]
    assert again.read_config() == {"seed": 3}
    assert again.read_log() == {"patches": [1, 10]}
    assert (again.path / "field.yml").read_text() == "bandlist: [B]\n"
    scene = again.read_scene()
    assert np.array_equal(scene.ra, fit.truth.ra)
    np.testing.assert_allclose(scene.q, fit.truth.q, rtol=1e-15)
    assert again.read_patch(2).draws.identical(fit.result.draws)
    assert again.residuals_path(2).name == "patch2_residuals.h5"
    assert again.figure_path("residuals").parent.is_dir()


def test_folders_in_use_are_refused(fit, tmp_path):
    path = tmp_path / "run"
    run = RunDirectory.create(path)
    run.write_config("{}", None)
    run.write_patch(4, fit.result)
    with pytest.raises(InputError, match=r"run: holds a run, expected a new or empty folder"):
        RunDirectory.create(path)
    (path / "field.yml").touch()
    assert RunDirectory.create(path, overwrite=True).patches() == []
    assert (path / "field.yml").exists()  # it may be the only copy

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"other: holds thesis\.tex, which is not of a run"):
        RunDirectory.create(tmp_path / "other", overwrite=True)
    with pytest.raises(InputError, match=r"thesis\.tex: is a file, expected a folder"):
        RunDirectory.create(tmp_path / "other" / "thesis.tex")
    with pytest.raises(InputError, match=r"nowhere: no such folder, expected the folder of a run"):
        RunDirectory(tmp_path / "nowhere")


def test_missing_and_broken_files(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    with pytest.raises(InputError, match=r"config\.json: no such file"):
        run.read_config()
    run.config_path.write_text("{")
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        run.read_config()


def test_a_file_that_fails_leaves_the_old_one(fit, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_scene(fit.truth, {"n": 1})
    with pytest.raises(TypeError):
        run.write_scene(fit.truth, {"n": object()})
    assert run.read_log() == {"n": 1}
    assert not list(run.path.glob(".*"))


def test_half_written_files_are_removed_and_nothing_else(fit, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for patch in (0, 12):
        run.write_patch(patch, fit.result)
        run.figure_path(f"patch{patch}_residuals").touch()
    (run.path / "patches" / ".patch0_samples.nc.ab12_def").mkdir()  # of a process that was killed
    (run.path / ".psfs.h5.nq8m3u_z").mkdir()
    (run.path / ".ipynb_checkpoints").mkdir()
    (run.path / "patches" / ".patch_notes.txt").touch()
    run.remove_half_written()
    assert [path.name for path in run.path.glob(".*")] == [".ipynb_checkpoints"]
    names = sorted(path.name for path in (run.path / "patches").iterdir())
    assert names == [".patch_notes.txt", "patch0_samples.nc", "patch12_samples.nc"]
    assert len(list((run.path / "figures").iterdir())) == 2


def test_patches_are_those_that_the_log_and_the_journal_know(fit, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for patch in range(5):
        run.write_patch(patch, fit.result)
    assert run.patches() == [0, 1, 2, 3, 4]  # made by hand, without a log
    entries = [{"taskID": 0, "sources": [0]}, {"taskID": 1, "sources": [1], "flag": "failed"}]
    run.write_scene(fit.truth, {"patchlog": entries})
    assert run.patches() == [0]
    entry = json.dumps({"taskID": 3, "sources": [0]})
    Journal(run.path / "scene.journal").append(CheckIn(2, entry, np.ones((1, 2), int), np.ones((1, 7))))
    Journal(run.path / "scene.journal").append(CheckOut(4, 4, [0], []))
    assert run.patches() == [0, 3]
    assert run.patch_files() == [0, 1, 2, 3, 4]
    run.log_path.write_text("{")
    with pytest.raises(InputError, match=r"scene_log\.json: cannot be read"):
        run.patches()


def a_run(path, fit, settings):
    """A folder with a run, its products, and what a user has put there; names of the user's files."""
    run = RunDirectory.create(path)
    run.write_config(json.dumps(settings), None)
    run.write_patch(4, fit.result)
    run.write_scene(fit.truth, {"patchlog": [{"taskID": 4, "sources": [0]}]})
    for name in ("catalogs", "images", "regions", "optimize_1"):
        (path / name).mkdir()
    for name in ("psfs.h5", "report.html", "catalogs/final.fits", "regions/sources.reg", "scene.covs.h5"):
        (path / name).touch()
    for suffix in ("ecsv", "parquet", "vot"):
        (path / "catalogs" / f"final.{suffix}").touch()
    header = fits.Header({"DRAW": "median"})
    fits.HDUList([fits.PrimaryHDU(header=header)]).writeto(path / "images" / "g_1.fits")
    own = sorted(file.relative_to(path) for file in path.rglob("*") if file.is_file())
    mine = [
        "field.yml",
        "notes.txt",
        "catalogs/mine.fits",
        "figures/talk.png",
        "patches/notes.txt",
        "images/raw.fits",
    ]
    for name in mine:
        (path / name).touch()
    return own, mine


def test_what_is_replaced_stays_until_the_new_run_is_complete(fit, tmp_path):
    """And what the run did not make stays where it is."""
    path = tmp_path / "run"
    own, mine = a_run(path, fit, {"seed": 3, "raw_catalog": str(path / "optimize_1" / "c.fits")})
    (path / "optimize_1" / "c.fits").touch()
    psfs = path / "psfs.h5"
    run = RunDirectory.create(path, overwrite=True, inputs=[psfs])
    own = sorted([*(set(own) - {Path("psfs.h5")}), Path("field.yml")])
    aside = path / "previous_1"
    assert run.previous() == [aside]
    assert sorted(file.relative_to(aside) for file in aside.rglob("*") if file.is_file()) == own
    left = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert {name for name in left if not name.startswith("previous_1/")} == {
        *mine,
        "optimize_1/c.fits",
        "psfs.h5",
    }
    assert run.patches() == []
    earlier = RunDirectory.open(aside)
    assert earlier.patches() == [4]
    assert earlier.read_patch(4).draws.identical(fit.result.draws)
    assert earlier.read_config() == {"seed": 3, "raw_catalog": str(path / "optimize_1" / "c.fits")}

    run.write_config("{}", None)  # begun, and replaced again before it was complete
    RunDirectory.create(path, overwrite=True)
    assert run.previous() == [aside, path / "previous_2"]
    assert earlier.patches() == [4]
    run.complete()
    assert run.previous() == []
    assert not aside.exists()
    assert {*mine, "optimize_1/c.fits"} <= {
        file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()
    }
    assert not list(path.glob(".*"))


@pytest.mark.parametrize("after", [0, 3, 8, 10])
def test_a_move_that_was_cut_short(fit, tmp_path, monkeypatch, after):
    """It is undone where the run goes on, and finished where it is replaced."""
    replaced = 0

    def counted(source, target):
        nonlocal replaced
        replaced += 1
        if replaced > after:
            raise KeyboardInterrupt
        source.rename(target)

    for name, end in (("one", "undone"), ("two", "finished")):
        path, replaced = tmp_path / name, 0
        own, _ = a_run(path, fit, {"seed": 3})
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", counted)
            with pytest.raises(KeyboardInterrupt):
                RunDirectory.create(path, overwrite=True)
        if end == "undone":
            RunDirectory(path).go_on()
        else:
            RunDirectory.create(path, overwrite=True)
            path = path / "previous_1"
        assert set(own) <= {file.relative_to(path) for file in path.rglob("*") if file.is_file()}
        assert RunDirectory.open(path).read_config() == {"seed": 3}
        assert not list(path.glob(".*"))


def test_patches_without_settings_are_not_replaced(fit, tmp_path):
    """As where config.json was deleted, or lost."""
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(4, fit.result)
    with pytest.raises(
        InputError, match=r"patch4_samples.nc: found a patch \(1 patch in all\) of a run without"
    ):
        RunDirectory.create(run.path)
    assert run.patches() == [4]


def test_settings_lead_to_their_files_after_a_move(tmp_path):
    """Of the folder with the inputs, of the folder alone, and of a copy whose inputs are there twice."""
    (tmp_path / "field" / "images").mkdir(parents=True)
    (tmp_path / "field" / "images" / "a.fits").touch()
    settings = {
        "fitsfiles": [str(tmp_path / "field" / "images" / "a.fits")],
        "raw_catalog": None,
        "big_catalog": "/nowhere/big.fits",
        "outbase": str(tmp_path / "field" / "run"),
        "frame_search_pattern": str(tmp_path / "field" / "images" / "*.fits"),
        "preprocess": {"error_pattern": str(tmp_path / "field" / "errors" / "*.fits"), "wcs": "gwcs"},
        "scene_catalog": "scene.fits",
    }
    run = RunDirectory.create(tmp_path / "field" / "run")
    run.write_config(json.dumps(settings), None)
    assert run.read_config() == settings
    kept = json.loads(run.config_path.read_text())
    assert kept["fitsfiles"] == ["../images/a.fits"]
    assert kept["big_catalog"] == "/nowhere/big.fits"
    assert kept["preprocess"]["error_pattern"] == "../errors/*.fits"

    shutil.copytree(tmp_path / "field", tmp_path / "deep" / "copy")
    text = json.dumps(settings).replace(str(tmp_path / "field"), str(tmp_path / "deep" / "copy"))
    copied = RunDirectory(tmp_path / "deep" / "copy" / "run")
    assert copied.read_config() == json.loads(text)
    shutil.move(run.path, tmp_path / "deep" / "alone")
    alone = RunDirectory(tmp_path / "deep" / "alone").read_config()
    assert alone["fitsfiles"] == settings["fitsfiles"]
    assert alone["frame_search_pattern"] == settings["frame_search_pattern"]

    old = RunDirectory.create(tmp_path / "old")  # an earlier version wrote absolute paths
    old.config_path.write_text(json.dumps(settings))
    assert old.read_config() == settings


def test_folders_of_other_stages_do_not_count_as_a_run(tmp_path):
    (tmp_path / "optimize_1").mkdir()
    (tmp_path / "postop.fits").touch()
    (tmp_path / "background_1.yml").touch()
    assert RunDirectory.create(tmp_path).patches() == []
    assert (tmp_path / "optimize_1").is_dir()
