"""Runs of all stages with real fits: interrupted and resumed; and the stage that the demonstration leaves out."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pytest

import fphojax.field.field_fit as field_fit
import fphojax.field.patch_fit as patch_fit
from fphojax.app.demo import write_field
from fphojax.app.run.run_all import run_all
from fphojax.app.settings.schema import Settings
from fphojax.app.settings.starter import template_folder
from fphojax.app.stages.optimize import optimize
from fphojax.app.stages.sample import sample_field
from fphojax.inference.methods import NUTS
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

CONFIG = """\
bandlist: [F1]
fitsfiles: images/*.fits
psfstorefile: psfs.h5
raw_catalog: peaks.fits
outbase: run
bounds_kwargs: {n_pix: 2, pixscale: 0.06}
rounds: 0
optimize_passes: 1
chains: 2
warmup: 30
sampling_draws: 30
"""


@pytest.fixture
def config(tmp_path):
    """Two galaxies that have nothing to do with each other: two patches."""
    truth = mock_galaxies(x=[-1.0, 1.0], y=0.0, flux={"F1": [80, 60]}, q=0.7, pa=30, sersic=1.5, rhalf=0.12)
    camera = MockCamera("F1", pixel_scale=0.06, fwhm=0.14, noise=0.2, width=4.0)
    write_field(tmp_path, mock_field(truth, [camera]))
    path = tmp_path / "run.yml"
    path.write_text(CONFIG)
    return path


@pytest.mark.slow
def test_sampling_that_was_interrupted_goes_on_and_its_settings_repeat_nothing_before(config, monkeypatch):
    settings = Settings.from_yaml(config)
    fit, calls = patch_fit.PatchFit.__call__, []

    def interrupted(self, tasks):
        if isinstance(self.method, NUTS):
            calls.append(tasks)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(self, tasks)

    with monkeypatch.context() as patched:
        patched.setattr(patch_fit.PatchFit, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt, match="interrupted in 09_sample; what was finished is kept"):
            run_all(settings, notebooks=False)
    run = RunDirectory(settings.outbase)
    first = run.read_patch(0)
    optimised = (settings.outbase / "optimize_1" / "scene.fits").stat().st_mtime_ns

    done = run_all(settings, notebooks=False)
    assert done.repeated == ("09_sample", "10_postprocess")
    assert run.patches() == [0, 1]
    np.testing.assert_array_equal(run.read_patch(0).draws["flux"], first.draws["flux"])
    assert run_all(settings, notebooks=False).repeated == ()

    again = run_all(Settings.from_yaml(config, {"sampling_draws": 40}), notebooks=False)
    assert again.repeated == ("09_sample", "10_postprocess")
    assert [run.read_patch(number).draws.sizes["draw"] for number in run.patches()] == [40, 40]
    assert (settings.outbase / "optimize_1" / "scene.fits").stat().st_mtime_ns == optimised
    assert json.loads((settings.outbase / "scene_log.json").read_text())
    report = Path(again.steps["10_postprocess"].files["report"])
    assert "2 sources fitted in 2 patches" in report.read_text()


@pytest.mark.slow
def test_patches_are_sampled_together_where_the_backend_wants_it(config, monkeypatch):
    """As on an accelerator; the draws are those of one patch after the other, but for rounding."""
    settings = Settings.from_yaml(config)
    fit, calls = patch_fit.PatchFit.__call__, []

    def counted(self, tasks):
        calls.append(len(tasks))
        return fit(self, tasks)

    monkeypatch.setattr(patch_fit.PatchFit, "__call__", counted)
    monkeypatch.setattr(field_fit, "patches_per_program", lambda: 4)
    run = RunDirectory.open(sample_field(settings, progress=False).directory.path)
    assert calls == [2]
    for number in run.patches():
        draws = run.read_patch(number).draws
        assert draws.sizes["draw"] == 30
        assert abs(float(draws["flux"].mean()) - (80, 60)[number]) < 6 * float(draws["flux"].std())
    assert [entry["summary"]["n_divergent"] for entry in run.read_log()["patchlog"]] == [0, 0]


@pytest.mark.slow
def test_notebook_of_the_stage_that_makes_stores(config):
    stores = {"pixelstorefile": "pixels.h5", "metastorefile": "meta.json"}
    settings = Settings.from_yaml(config, stores)
    done = run_all(settings, stages=["preprocess"])
    assert done.repeated == ("03_preprocess",)
    assert settings.pixelstorefile.is_file()
    notebook = nbformat.read(settings.outbase / "notebooks" / "03_preprocess.ipynb", as_version=4)
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs)
    assert "pass" in outputs[-1]["data"]["text/plain"]


@pytest.mark.slow
def test_notebooks_of_what_a_run_leaves_out(config, tmp_path):
    """Profiles are chosen and artificial sources measured only if one asks for it."""
    import papermill

    more = "choose: {profiles: [point, sersic]}\ninjections: {number: 3, modes: [known, free, detect]}\n"
    config.write_text(CONFIG + more)
    optimize(Settings.from_yaml(config))
    for name, words in (("11_choose", "Of 2 sources: 2 sersic."), ("12_inject", "3 sources searched for")):
        out = tmp_path / f"{name}.ipynb"
        papermill.execute_notebook(
            template_folder() / f"{name}.ipynb", out, {"config": str(config)}, progress_bar=False
        )
        cells = [cell for cell in nbformat.read(out, as_version=4).cells if cell.cell_type == "code"]
        assert words in cells[-1].outputs[-1]["data"]["text/plain"]
    figures = [out for cell in cells for out in cell.outputs if "image/png" in out.get("data", {})]
    assert len(figures) == 2
