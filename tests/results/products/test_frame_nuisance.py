"""Sky, flux scale and shift of the exposures are in the images of a run as they were in the model of its patch."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.io import fits

from fphojax import Recipe, RunDirectory
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.exposure_nuisance import Nuisance
from fphojax.results.patch_result import PatchResult
from fphojax.results.products.frame_images import write_cutouts, write_images
from fphojax.results.products.frame_nuisance import FrameNuisance
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.products.scene_points import scenes_at

SIZES = {"sky": (0.0, 0.05), "scale": (1.0, 0.1), "shift": (0.0, 0.03)}  # means and standard deviations


NUISANCE = Nuisance(sky="plane", scale_sigma=0.1, shift_sigma=0.03)


@pytest.fixture(scope="module")
def recipe(fit):
    return Recipe(fit.frame.exposures, fit.psfs, nuisance=NUISANCE)


@pytest.fixture(scope="module")
def scene(fit, recipe):
    """The scene of the patch with all nuisance parameters."""
    return recipe.scene(fit.frame.region, active=fit.active, fixed=fit.fixed, bounds=fit.bounds)


@pytest.fixture(scope="module")
def model(scene):
    return scene.model


@pytest.fixture(scope="module")
def chains(fit, model):
    rng = np.random.default_rng(4)
    shapes = {"sky": (2, 3), "scale": (2,), "shift": (2, 2)}
    nuisance = {name: rng.normal(*SIZES[name], size=(3, 50, *shape)) for name, shape in shapes.items()}
    best = {name: values[0, 0] for name, values in nuisance.items()}
    optimum = dataclasses.replace(fit.chains.optimum, values=fit.chains.optimum.values | best)
    size = sum(np.size(value) for value in optimum.values.values())
    values = fit.chains.values | nuisance
    changes = {"model": model, "values": values, "optimum": optimum, "covariance": np.eye(size)}
    return dataclasses.replace(fit.chains, **changes)


@pytest.fixture(scope="module")
def run(fit, scene, chains, tmp_path_factory):
    result = PatchResult.from_chains(chains, scene)
    directory = RunDirectory.create(tmp_path_factory.mktemp("nuisance") / "run")
    directory.write_patch(0, result)
    directory.write_scene(fit.truth, {})
    directory.write_config(json.dumps({"big_catalog": None}))
    return directory


@pytest.mark.parametrize(("kind", "where"), [("last", (-1, -1)), ("best", None)])
def test_model_is_that_of_the_patch(fit, run, recipe, model, chains, kind, where):
    if where is None:
        where = np.unravel_index(np.argmax(chains.statistics["lp"]), chains.statistics["lp"].shape)
    values = {name: value[where] for name, value in chains.values.items()}
    with_fixed = np.asarray(fit.frame.patch.data) - np.asarray(model.patch.data)
    tiles = np.asarray(model.images(values)) + with_fixed
    plain_values = {name: v for name, v in values.items() if name not in SIZES} | {"sky": 0 * values["sky"]}
    plain = np.asarray(model.images(plain_values)) + with_fixed
    for e, (path, exposure) in enumerate(
        zip(write_images(run, kind=kind, recipe=recipe), fit.frame.exposures, strict=True)
    ):
        with fits.open(path) as hdus:
            assert hdus[0].header["NUISANCE"] == "scale,shift,sky"
            data, model_image, residual = (hdus[name].data for name in ("DATA", "MODEL", "RESIDUAL"))
        np.testing.assert_array_equal(data - model_image, residual)
        expected, used = fit.frame.image(e, tiles), np.isfinite(fit.frame.image(e, tiles))
        error = np.abs((model_image - expected)[used] * exposure.ierr[used]).max()
        moved = np.abs((model_image - fit.frame.image(e, plain))[used] * exposure.ierr[used]).max()
        print(f"{kind} {exposure.name}: {error:.1e} of the noise; without nuisance parameters {moved:.2f}")
        assert error < 5e-3
        assert moved > 0.3


def test_deblended_data_are_less_the_sky(run, recipe):
    """Data less the model of the source alone are the residual of all."""
    (path,) = write_cutouts(run, ["one"], kind="last", recipe=recipe)
    images = write_images(run, kind="last", recipe=recipe)
    with fits.open(path) as hdus, fits.open(images[0]) as frame:
        data, model, error = (hdus[f"B_first_{name}"] for name in ("DATA", "MODEL", "ERR"))
        corner = frame["DATA"].header["CRPIX1"] - data.header["CRPIX1"], frame["DATA"].header["CRPIX2"]
        x, y = int(corner[0]), int(corner[1] - data.header["CRPIX2"])
        part = frame["RESIDUAL"].data[y : y + data.shape[0], x : x + data.shape[1]]
        difference = (data.data - model.data - part) / error.data
        np.testing.assert_array_equal(np.isnan(difference), np.isnan(part))
        assert np.nanmax(np.abs(difference)) < 1e-3


def test_of_several_patches_the_last_counts(fit, run, recipe, shifted, tmp_path):
    """A later patch, smaller and of one source only, changes what is inside it."""
    result = run.read_patch(0)
    region = CircularRegion(fit.frame.region.ra, fit.frame.region.dec, 0.3)
    later = dataclasses.replace(shifted(result, [1], 0.0), region=region, nuisance=result.nuisance + 1.0)
    both = RunDirectory.create(tmp_path / "run")
    both.write_patch(0, result)
    both.write_patch(5, later)
    both.write_scene(fit.truth, {})
    exposure = fit.frame.exposures[0]
    draws = RunDraws(both)
    first, second = (FrameNuisance(RunDraws(r), recipe, "last") for r in (run, both))
    inside = region.pixel_mask(exposure.wcs, exposure.shape)
    change = second.sky(exposure, 0) - first.sky(exposure, 0)
    assert (change[inside] > 0.5).any()
    assert np.array_equal(change[~inside], 0 * change[~inside])
    (scene,) = scenes_at(draws, "last")
    scale = second.apply(exposure, scene, 0).flux[:, 0] / scene.flux[:, 0]
    expected = float(result.nuisance["scale"][-1, -1, 0])
    np.testing.assert_allclose(scale, [expected, expected + 1], rtol=1e-12)
    part = second.sky(exposure, 0, (5, 17, 3, 14))
    np.testing.assert_array_equal(part, second.sky(exposure, 0)[3:14, 5:17])


def test_a_run_without_them(fit, recipe, tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, fit.result)
    run.write_scene(fit.truth, {})
    draws = RunDraws(run)
    nothing = FrameNuisance(draws, recipe, "median")
    assert nothing.names == []
    (scene,) = scenes_at(draws, "median")
    exposure = fit.frame.exposures[1]
    np.testing.assert_array_equal(nothing.apply(exposure, scene, 0).flux, scene.flux)
    assert not nothing.sky(exposure, 0).any()
