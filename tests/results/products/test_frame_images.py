"""Images of a run against the images of its patch's model, and their WCS against the input's."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from fphojax import Recipe, RunDirectory
from fphojax.errors import InputError
from fphojax.results.products.frame_images import write_cutouts, write_images
from fphojax.results.products.frame_model import FrameModel, model_image
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.products.scene_points import scenes_at


@pytest.fixture(scope="module")
def run(tmp_path_factory, fit):
    directory = RunDirectory.create(tmp_path_factory.mktemp("images") / "run")
    directory.write_patch(0, fit.result)
    directory.write_scene(fit.truth, {"patches": 1})
    directory.write_config(json.dumps({"big_catalog": None}))
    return directory


@pytest.fixture(scope="module")
def recipe(fit):
    return Recipe(fit.frame.exposures, fit.psfs)


def test_model_is_that_of_the_fit(fit, recipe):
    """Active and fixed sources together, wherever the patch has pixels."""
    optimum = fit.result.final_catalog("optimum")
    start = fit.chains.optimum.values
    with_fixed = np.asarray(fit.frame.patch.data) - np.asarray(fit.model.patch.data)
    tiles = np.asarray(fit.model.images(start)) + with_fixed
    for e, exposure in enumerate(fit.frame.exposures):
        expected = fit.frame.image(e, tiles)
        used = np.isfinite(expected)
        image = model_image(recipe, exposure, optimum) + model_image(recipe, exposure, fit.fixed)
        assert image.shape == exposure.shape
        noise = 1 / exposure.ierr[used]
        np.testing.assert_allclose(image[used] / noise, expected[used] / noise, atol=5e-3)
        part = model_image(recipe, exposure, optimum, (5, 17, 3, 14))
        active = model_image(recipe, exposure, optimum)
        np.testing.assert_allclose(part, active[3:14, 5:17], atol=1e-4 * active.max())


def test_point_sources_are_drawn_as_points(fit, recipe):
    exposure = fit.frame.exposures[0]
    points = fit.truth[:1].replace(extra=Table({"profile": ["point"]}))
    tiny = fit.truth[:1].replace(rhalf=np.array([1e-5]), q=np.ones(1))
    np.testing.assert_allclose(
        model_image(recipe, exposure, points), model_image(recipe, exposure, tiny), atol=1e-3
    )


@pytest.mark.parametrize("kind", ["median", "mean"])
def test_written_images(run, recipe, fit, kind):
    paths = write_images(run, kind=kind, n_draw=3, recipe=recipe)
    assert [path.name for path in paths] == ["B_first.fits", "R_second.fits"]
    for path, exposure in zip(paths, fit.frame.exposures, strict=True):
        with fits.open(path) as hdus:
            data, model, residual, chi = (hdus[name].data for name in ("DATA", "MODEL", "RESIDUAL", "CHI"))
            np.testing.assert_array_equal(data - model, residual)
            assert np.isfinite(model).all()
            np.testing.assert_array_equal(np.isfinite(residual), exposure.ierr > 0)
            np.testing.assert_array_equal(data[exposure.ierr > 0], exposure.data[exposure.ierr > 0])
            np.testing.assert_allclose(chi, residual * np.where(exposure.ierr > 0, exposure.ierr, np.nan))
            assert np.nanmean(chi**2) < 1.3
            x, y = np.meshgrid([0, 7.5, 25], [0, 11.0, 20])
            for name in ("DATA", "MODEL", "RESIDUAL", "CHI"):
                for ours, theirs in zip(
                    WCS(hdus[name].header).pixel_to_world_values(x, y),
                    exposure.wcs.pixel_to_world_values(x, y),
                    strict=True,
                ):
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
            assert hdus["MODEL"].header["BUNIT"] == "nJy"
            assert hdus[0].header["DRAW"] == kind


def test_model_of_the_catalogue(run, recipe, fit):
    """All sources of the scene, fitted or not, as its file has them."""
    frames = FrameModel.of_catalog(run, recipe)
    for exposure in fit.frame.exposures:
        expected = model_image(recipe, exposure, fit.truth)
        np.testing.assert_allclose(frames.image(exposure), expected, atol=1e-5 * expected.max())


def test_cutouts_show_a_source_alone(run, recipe, fit):
    """Deblended data less the source's model is the residual of the whole scene."""
    (path,) = write_cutouts(run, ["two"], recipe=recipe)
    residual = {p.stem: fits.getdata(p, "RESIDUAL") for p in write_images(run, recipe=recipe)}
    with fits.open(path) as hdus:
        names = [f"{exposure.band}_{exposure.name}" for exposure in fit.frame.exposures]
        assert [hdu.name.lower() for hdu in hdus[1::3]] == [f"{name}_data".lower() for name in names]
        for name, exposure in zip(names, fit.frame.exposures, strict=True):
            data, model = hdus[f"{name}_DATA"], hdus[f"{name}_MODEL"]
            x, y = np.round(exposure.wcs.world_to_pixel_values(*WCS(data.header).pixel_to_world_values(0, 0)))
            rows, columns = (slice(int(a), int(a) + n) for a, n in zip((y, x), data.shape, strict=True))
            np.testing.assert_allclose(
                data.data - model.data, residual[name][rows, columns], atol=1e-4 * model.data.max()
            )
    with pytest.raises(InputError, match="no patch has fitted source three"):
        write_cutouts(run, ["three"], recipe=recipe)


def test_points_of_the_posterior(run, fit):
    draws = RunDraws(run)
    posterior = fit.result.centred_draws.transpose("source", "chain", "draw", ...)
    (last,) = scenes_at(draws, "last")
    np.testing.assert_array_equal(last.sersic, posterior["sersic"][:, -1, -1])
    (best,) = scenes_at(draws, "best")
    chain, draw = np.unravel_index(np.argmax(fit.chains.statistics["lp"]), (3, 50))
    np.testing.assert_array_equal(best.flux, posterior["flux"][:, chain, draw])
    (median,) = scenes_at(draws, "median")
    np.testing.assert_allclose(median.ra, fit.result.final_catalog().ra, rtol=1e-14)
    several = scenes_at(draws, "mean", n_draw=5)
    assert len({scene.rhalf[0] for scene in several}) == 5
    with pytest.raises(ValueError, match="expected one of median, last, best, mean"):
        scenes_at(draws, "first")
