"""Errors of fits follow the noise as it was measured: pulls on correlated noise, what results hold, and files."""

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from fphojax.detection.matched_filter import ResidualImage
from fphojax.detection.source_search import noise_of
from fphojax.field.scene_fit import fit, scene_region
from fphojax.inference.methods import Laplace, Optimum
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.frame import cut
from fphojax.inputs.noise_model import ExposureNoise, NoiseModel
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import PatchResult
from fphojax.results.products.patch_draws import read_patch_draws

SIDE, SCALE, FLUX, N_PULL = 64, 0.1, 400.0, 400
RA, DEC = 50.0, -20.0
TRUE_SCALE = 0.8  # of the stated errors


@pytest.fixture(scope="module")
def wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix = (RA, DEC), (SIDE / 2 + 0.3, SIDE / 2 + 0.6)
    wcs.wcs.cdelt = -SCALE / 3600, SCALE / 3600
    return wcs


def correlated(rng, shape):
    """Noise of which stated errors of 1 are too large for a pixel, and too small for a sum."""
    noise = gaussian_filter(rng.normal(size=shape), (0, 0.9, 0.9), mode="wrap")
    return TRUE_SCALE * noise / noise.std()


@pytest.fixture(scope="module")
def noise():
    """Measured in an image of its own."""
    image = correlated(np.random.default_rng(8), (1, 300, 300))[0]
    offset = np.arange(-5, 6)
    psf = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / 1.5**2)
    wide = WCS(naxis=2)
    wide.wcs.ctype, wide.wcs.crval, wide.wcs.cdelt = ("RA---TAN", "DEC--TAN"), (RA, DEC), (-2.8e-5, 2.8e-5)
    residual = ResidualImage(image, np.ones_like(image), None, wide, "g", "e", psf / psf.sum())
    found = noise_of([residual])["g"]["e"]
    return NoiseModel({("g", "e"): ExposureNoise.of("g", "e", found.correlation, found.n_pixel)})


@pytest.fixture(scope="module")
def make_scene(wcs):
    psfs = PSFStore()
    psfs.add(PSFMixture([1.0], [[0.0, 0.0]], [[2.0, 2.0, 0.0]], includes_pixel=True), "g")
    catalog = SourceCatalog.from_columns(
        ra=[RA],
        dec=[DEC],
        flux=[[FLUX]],
        q=[0.7],
        pa=[40.0],
        sersic=[1.5],
        rhalf=[0.3],
        roi=[3.0],
        bands=("g",),
    )

    def make(data, noise=None, **options):
        exposure = Exposure.from_arrays(data, np.ones_like(data), wcs, band="g", name="e")
        frame = cut([exposure], scene_region(catalog))
        return Scene(frame, psfs, active=catalog, noise=noise, **options)

    return make


@pytest.fixture(scope="module")
def image(make_scene):
    """The galaxy at the flux of the catalogue."""
    scene = make_scene(np.zeros((SIDE, SIDE)), listed=False)
    tiles = np.asarray(scene.model.images({name: np.asarray(v) for name, v in scene.start.items()}))
    return np.nan_to_num(scene.frame.image(0, tiles[: scene.frame.patch.n_tile]))


def test_pulls_of_forced_fluxes(make_scene, image, noise):
    """Of 400 galaxies of known shape: the model of the noise gives errors that hold, ERR gives others."""
    draws = correlated(np.random.default_rng(9), (N_PULL, SIDE, SIDE))
    scene = make_scene(image + draws[0], noise, listed=False)
    result = fit(scene, Optimum(forced=True)).result
    error, scale = float(result.optimum_std["flux"].item()), float(result.err_scale.item())
    template = image / FLUX
    fluxes = FLUX + np.tensordot(draws, template, axes=2) / np.sum(template**2)
    np.testing.assert_allclose(result.optimum["flux"].item(), fluxes[0], rtol=1e-3)  # it is linear
    pulls = (fluxes - FLUX) / error
    print(f"\nsd of pulls {pulls.std():.3f} with the noise model, {pulls.std() * scale:.3f} without")
    assert pulls.std() == pytest.approx(1, abs=3 / np.sqrt(2 * N_PULL))
    assert 1.6 < scale < 2.6


def test_a_free_optimum_and_what_white_noise_leaves(make_scene, image, noise):
    rng = np.random.default_rng(3)
    data = image + correlated(rng, (1, SIDE, SIDE))[0]
    plain, white, told = (
        fit(make_scene(data, model, listed=False), Optimum()).result
        for model in (None, NoiseModel({}), noise)
    )
    assert plain.err_scale is None
    assert not plain.raw
    np.testing.assert_allclose(white.err_scale, 1, rtol=1e-4)
    for name in ("flux", "ra", "rhalf"):
        np.testing.assert_allclose(white.optimum_std[name], plain.optimum_std[name], rtol=1e-4)
        assert told.optimum_std[name].item() > 1.1 * plain.optimum_std[name].item()
    np.testing.assert_allclose(told.err_scale, told.optimum_std["flux"] / plain.optimum_std["flux"])


def test_draws_and_their_file(make_scene, image, noise, tmp_path):
    """Shown are those with the spread of the noise; those that were made are kept beside them."""
    data = image + correlated(np.random.default_rng(3), (1, SIDE, SIDE))[0]
    scene = make_scene(data, noise)
    result = fit(scene, Laplace(draws=500, chains=2)).result
    optimum = fit(scene, Optimum()).result
    ratio = (result.draws["flux"].std() / result.raw["flux"].std()).item()
    np.testing.assert_allclose(result.err_scale.item(), ratio)
    assert ratio == pytest.approx(optimum.err_scale.item(), rel=0.1)
    assert (
        abs(result.draws["flux"].mean() - result.raw["flux"].mean()).item()
        < 0.1 * result.raw["flux"].std().item()
    )
    low, high = (side["rhalf"].item() for side in (scene.bounds.lower, scene.bounds.upper))
    assert low <= result.draws["rhalf"].min().item() <= result.draws["rhalf"].max().item() <= high
    result.write(tmp_path / "patch.nc")
    again = PatchResult.read(tmp_path / "patch.nc")
    assert again.raw.identical(result.raw)
    np.testing.assert_array_equal(again.err_scale, result.err_scale)
    patch = read_patch_draws(tmp_path / "patch.nc", 0)
    np.testing.assert_array_equal(patch.err_scale, result.err_scale)
    np.testing.assert_array_equal(patch.values["flux"][0, ..., 0], result.draws["flux"][..., 0, 0])
