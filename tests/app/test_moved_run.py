"""A run whose folder is moved between its two halves, with the real sampler: it ends as one that was left alone."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.field.patch_fit import PatchFit
from fphojax.results.fitted_patch import fitted_patch
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

SETTINGS = {
    "bandlist": ["F"],
    "fitsfiles": "images/*.fits",
    "psfstorefile": "psfs.h5",
    "raw_catalog": "peaks.ecsv",
    "outbase": "runs/first",
    "bounds_kwargs": {"n_pix": 3, "pixscale": 0.1},
    "maxactive_per_patch": 1,
    "target_niter": 16,
    "chains": 2,
    "warmup": 20,
    "sampling_draws": 8,
    "seed": 2,
}


def write_inputs(folder):
    """Two pairs, of which each source is fitted alone, and settings; the file of settings."""
    x = np.array([-1.6, -1.1, 1.2, 1.7])
    truth = mock_galaxies(x=x, y=0 * x, flux={"F": 80 + 5 * x}, q=0.7, pa=30.0, sersic=1.5, rhalf=0.15)
    camera = MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.3, width=6.0)
    field = mock_field(truth, [camera], seed=1)
    (folder / "images").mkdir(parents=True)
    write_exposure(field.exposures[0], folder / "images" / "image.fits")
    field.psfs.write(folder / "psfs.h5")
    field.peaks.write(folder / "peaks.ecsv")
    (folder / "field.yml").write_text(yaml.safe_dump(SETTINGS))
    return folder / "field.yml"


def fphojax(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def interrupted(monkeypatch, command, config):
    """The command, ended by Ctrl-C at its fifth patch."""
    whole = PatchFit.__call__

    def cut(fit, tasks):
        if tasks[0].number == 4:
            raise KeyboardInterrupt
        return whole(fit, tasks)

    with monkeypatch.context() as patched:
        patched.setattr(PatchFit, "__call__", cut)
        fphojax(command, config, status=130)


def without_times(entries):
    return [
        entry | {"summary": {name: v for name, v in entry["summary"].items() if name != "wall_time"}}
        for entry in entries
    ]


def assert_same_to_the_last_bit(one: RunDirectory, two: RunDirectory):
    assert without_times(one.read_log()["patchlog"]) == without_times(two.read_log()["patchlog"])
    with h5py.File(one.path / "scene.covs.h5") as a, h5py.File(two.path / "scene.covs.h5") as b:
        for name in ("source_index", "upper_triangle", "values"):
            np.testing.assert_array_equal(a[name][:], b[name][:])
    assert one.patches() == two.patches()
    assert len(one.patches()) >= 8
    for number in one.patches():
        a, b = one.read_patch(number), two.read_patch(number)
        assert a.draws.equals(b.draws)
        assert a.fixed.flux.tolist() == b.fixed.flux.tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "below"),
    [("optimize", "optimize_1"), ("sample", ".")],
)
def test_a_run_that_was_interrupted_and_moved_equals_one_that_was_not(tmp_path, monkeypatch, command, below):
    fphojax(command, write_inputs(tmp_path / "whole"))
    whole = RunDirectory(tmp_path / "whole" / "runs" / "first" / below)
    config = write_inputs(tmp_path / "cut")
    interrupted(monkeypatch, command, config)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    shutil.move(config.parent, tmp_path / "deep" / "er" / "moved")
    config = tmp_path / "deep" / "er" / "moved" / "field.yml"
    fphojax(command, config, "--resume")
    moved = RunDirectory(config.parent / "runs" / "first" / below)
    assert_same_to_the_last_bit(whole, moved)
    if command == "sample":
        look_at(moved, tmp_path)


def look_at(run, tmp_path):
    """All that reads a run does so where it was moved to, and then moved again."""
    shutil.move(run.path.parents[1], tmp_path / "again")
    run = RunDirectory(tmp_path / "again" / "runs" / "first")
    assert Path(run.read_config()["raw_catalog"]).is_relative_to(tmp_path / "again")
    assert str(tmp_path) not in json.dumps(json.loads(run.config_path.read_text())["fitsfiles"])
    fphojax("postprocess", run.path)
    fphojax("report", run.path)
    made = fitted_patch(run, run.patches()[0])
    assert np.isfinite(made.draw(0, -1)["flux"]).all()
    from fphojax.figures.explorer.run_explorer import RunExplorer

    RunExplorer(run.path)
