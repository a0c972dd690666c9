"""The folder of a run."""

import json

import numpy as np
import pytest

from fphojax.inputs import InputError
from fphojax.outputs.run_directory import RunDirectory


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


def test_patches_that_are_not_kept_leave_nothing(fit, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for patch in (0, 12):
        run.write_patch(patch, fit.result)
        run.figure_path(f"patch{patch}_residuals").touch()
    (run.path / "patches" / ".patch0_samples.nc.ab12").mkdir()  # of a process that was killed
    (run.path / ".psfs.h5.nq8m3u_z").mkdir()
    (run.path / ".ipynb_checkpoints").mkdir()
    run.figure_path("other").touch()
    run.keep_patches([12])
    assert [path.name for path in run.path.glob(".*")] == [".ipynb_checkpoints"]
    assert run.patches() == [12]
    assert sorted(path.name for path in (run.path / "patches").iterdir()) == ["patch12_samples.nc"]
    names = sorted(path.name for path in (run.path / "figures").iterdir())
    assert names == ["other.png", "patch12_residuals.png"]


def test_folders_of_other_stages_do_not_count_as_a_run(tmp_path):
    (tmp_path / "optimize_1").mkdir()
    (tmp_path / "postop.fits").touch()
    (tmp_path / "background_1.yml").touch()
    assert RunDirectory.create(tmp_path).patches() == []
    assert (tmp_path / "optimize_1").is_dir()
