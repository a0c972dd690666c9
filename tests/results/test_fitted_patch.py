"""A patch that was made again from the folder of its run is the patch that was fitted."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from small_run import altered

from fphojax.errors import InputError
from fphojax.results.fitted_patch import FittedPatch, fitted_patch, open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.results.tiles import residual_tiles


def test_pixels_and_model_are_those_of_the_fit(fit, run):
    again = fitted_patch(run, 3, open_recipe(run))
    assert np.array_equal(again.scene.frame.patch.data, fit.frame.patch.data)
    np.testing.assert_allclose(again.scene.frame.patch.ierr, fit.frame.patch.ierr, rtol=1e-6)
    for name, value in again.optimum().items():
        np.testing.assert_allclose(value, fit.chains.optimum.values[name], atol=1e-9)
    draw = {name: value[1, 7] for name, value in fit.chains.values.items()}
    noise = 1 / np.max(fit.frame.patch.ierr)
    difference = residual_tiles(again.scene, again.draw(1, 7)) - residual_tiles(fit.scene, draw)
    assert np.abs(difference).max() < 1e-5 * noise
    moved = residual_tiles(again.scene, again.draw(-1, -1)) - residual_tiles(fit.scene, draw)
    assert np.abs(moved).max() > 0.1 * noise


def test_median_of_the_draws(fit, run):
    median = fitted_patch(run, 0).median()
    for name in ("flux", "x", "y", "q", "sersic", "rhalf"):
        np.testing.assert_allclose(median[name], np.median(fit.chains.values[name], axis=(0, 1)), atol=1e-9)


def test_settings_that_change_pixels_count(fit, run, tmp_path):
    config = run.read_config() | {"tweak_background": "tweakbg", "tweakbg": {"R": 0.5}}
    other = RunDirectory.create(tmp_path / "run")
    other.write_config(json.dumps(config))
    other.write_patch(0, fit.result)
    fit.psfs.write(other.path / "psfs.h5")
    again = fitted_patch(other, 0)
    used = np.asarray(fit.frame.patch.ierr) > 0
    shift = np.asarray(fit.frame.patch.data - again.scene.frame.patch.data)
    band = np.asarray(fit.frame.patch.exposure)[:, None]
    np.testing.assert_allclose(shift[used & (band == 0)], 0, atol=1e-6)
    np.testing.assert_allclose(shift[used & (band == 1)], 0.5, atol=1e-5)

    config["ties"] = {"x": {"one": "three"}}
    other.write_config(json.dumps(config))
    with pytest.raises(InputError, match=r"config\.json: ties: x: found id three outside the patch"):
        fitted_patch(other, 0)
    config["fitsfiles"] = [str(tmp_path / "gone.fits")]
    other.write_config(json.dumps(config))
    with pytest.raises(InputError, match=r"gone\.fits: "):
        fitted_patch(other, 0)


def test_nuisance_parameters_are_among_the_values(fit):
    sky = np.random.default_rng(2).normal(size=(3, 50, 2, 1))
    nuisance = xr.Dataset(
        {
            "sky": (("chain", "draw", "exposure", "term"), sky),
            "sky_optimum": (("exposure", "term"), sky[0, 0]),
        }
    )
    model = SimpleNamespace(priors=dict.fromkeys([*fit.model.priors, "sky"]))
    scene = altered(fit.scene, model=model)
    patch = FittedPatch(scene, dataclasses.replace(fit.result, nuisance=nuisance))
    assert np.array_equal(patch.draw(1, 7)["sky"], sky[1, 7])
    assert np.array_equal(patch.optimum()["sky"], sky[0, 0])
    np.testing.assert_allclose(patch.median()["sky"], np.median(sky, axis=(0, 1)))
