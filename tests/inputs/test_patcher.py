"""From exposures and catalogues to patches and models, and back to images."""

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Normal

from fphojax import CircularRegion, InputError, PSFMixture, PSFStore, default_bounds
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.patcher import Patcher


def test_patch_holds_the_pixels_of_the_region(make_patcher):
    patcher, catalog = make_patcher()
    region = CircularRegion(catalog.ra[0], catalog.dec[0], 0.45)
    patch = patcher.build_patch(region)
    frame = patcher.frame
    assert frame.bands == ("F1", "F2")
    for e, exposure in enumerate(frame.exposures):
        inside = region.pixel_mask(exposure.wcs, exposure.shape)
        assert 0 < inside.sum() < inside.size
        image = frame.image(e, patch.data)
        assert np.array_equal(np.isfinite(image), inside & (exposure.ierr > 0))
        np.testing.assert_array_equal(image[inside], exposure.data[inside])
        x, y, flat = frame.pixels(e)
        np.testing.assert_array_equal(exposure.ierr[y, x], np.asarray(patch.ierr).ravel()[flat])
        assert len(x) == inside.sum()
    assert int(patch.count) < patch.n_tile
    assert not np.asarray(patch.ierr)[int(patch.count) :].any()


def test_exposures_are_in_the_order_of_the_bands(make_patcher):
    patcher, catalog = make_patcher()
    patcher.build_patch(CircularRegion(catalog.ra[0], catalog.dec[0], 0.45), allbands=("F2", "F1"))
    assert [exposure.band for exposure in patcher.frame.exposures] == ["F2", "F1"]


def test_exposures_that_miss_the_region_are_left_out(make_patcher):
    patcher, _catalog = make_patcher()
    corner = np.array([[0.0, 0.0]])
    wide = patcher.exposures[1]
    ra, dec = (float(axis[0]) for axis in wide.wcs.pixel_to_world_values(*corner.T))
    patcher.build_patch(CircularRegion(ra, dec, 0.3))
    assert [e.name for e in patcher.frame.exposures] == ["F2"]
    with pytest.raises(InputError, match=r"region ra=.* no exposure in F1, F2 has a valid pixel there"):
        patcher.build_patch(CircularRegion(ra + 1, dec, 0.3))


def test_optics_are_those_of_the_wcs_and_the_store(make_patcher):
    patcher, catalog = make_patcher()
    own = PSFMixture(np.array([1.0]), np.zeros((1, 2)), np.array([[2.0, 2.0, 0.0]]), includes_pixel=True)
    patcher.psfs.add(own, "F2", exposure="F2")
    model, _ = patcher.prepare_model(active=catalog)
    for e, exposure in enumerate(patcher.frame.exposures):
        affine = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=patcher.frame.region.dec)
        np.testing.assert_array_equal(model.optics.pixel[e], affine.pixel)
        np.testing.assert_array_equal(model.optics.jacobian[e], affine.jacobian)
    np.testing.assert_array_equal(model.optics.psf_amplitude[0, 0], [0.7, 0.3])
    np.testing.assert_array_equal(model.optics.psf_amplitude[1, 0], [1.0, 0.0])
    # the band's PSF lacks the pixel response, the exposure's own has it
    np.testing.assert_array_equal(model.optics.pixel_variance, [[1 / 12] * 2, [0.0] * 2])


def test_fixed_sources_are_subtracted(make_patcher):
    patcher, catalog = make_patcher(n_source=3, dtype=np.float64)
    everything, start = patcher.prepare_model(active=catalog)
    model, some = patcher.prepare_model(active=catalog[:2], fixed=catalog[2:])
    values = {name: jnp.asarray(value) for name, value in some.items()}
    all_values = {name: jnp.asarray(value) for name, value in start.items()}
    np.testing.assert_allclose(model.chi2(values), everything.chi2(all_values), rtol=1e-10)


def test_priors_are_the_box_unless_replaced(make_patcher):
    patcher, catalog = make_patcher()
    bounds = default_bounds(catalog)
    model, start = patcher.prepare_model(active=catalog, bounds=bounds, priors={"x": Normal(0.0, 0.1)})
    np.testing.assert_allclose(model.priors["rhalf"].high, bounds.upper["rhalf"])
    np.testing.assert_allclose(model.priors["y"].low, start["y"] + bounds.lower["y"])
    # a prior on the position is one on the offset from the catalogue
    np.testing.assert_allclose(
        model.priors["x"].log_prob(start["x"]), Normal(0.0, 0.1).log_prob(0.0), rtol=1e-9
    )


def test_bounds_are_those_of_the_bands_by_name(make_patcher):
    patcher, catalog = make_patcher()
    turned = catalog.select_bands(("F2", "F1"))
    bounds = default_bounds(turned)
    model, _ = patcher.prepare_model(active=turned, bounds=bounds)
    assert patcher.frame.bands == ("F1", "F2")
    np.testing.assert_allclose(model.priors["flux"].low, bounds.lower["flux"][:, ::-1])
    np.testing.assert_allclose(model.priors["flux"].high, bounds.upper["flux"][:, ::-1])
    with pytest.raises(InputError, match="bounds: found 1 rows, expected 2, one for each source"):
        patcher.prepare_model(active=turned, bounds=bounds[:1])
    patcher.build_patch(patcher.frame.region, allbands=["F1"])
    model, _ = patcher.prepare_model(active=turned, bounds=bounds)
    np.testing.assert_allclose(model.priors["flux"].low, bounds.lower["flux"][:, 1:])


def test_any_prior_on_the_position_angle(make_patcher):
    patcher, catalog = make_patcher()
    model, start = patcher.prepare_model(active=catalog, priors={"pa": Normal(0.0, 5.0)})
    assert np.isfinite(model.chi2({name: jnp.asarray(value) for name, value in start.items()})).all()


def test_start_outside_the_bounds(make_patcher):
    patcher, catalog = make_patcher()
    bounds = default_bounds(catalog, rhalf_range=(0.5, 1.0))
    with pytest.raises(InputError, match=r"row 0 \(id 0\): rhalf is .*, expected within \[0.5, 1\]"):
        patcher.prepare_model(active=catalog, bounds=bounds)


def test_start_on_a_bound_is_moved_inside(make_patcher):
    patcher, catalog = make_patcher()
    model, start = patcher.prepare_model(active=catalog.replace(q=np.ones(2)))
    assert (start["q"] < 1).all()
    assert all(np.isfinite(value).all() for value in model.unconstrain(start).values())


def test_missing_psf_and_missing_patch(make_patcher):
    patcher, catalog = make_patcher()
    empty = Patcher(patcher.exposures, PSFStore())
    with pytest.raises(InputError, match="no patch: prepare_model was called before build_patch"):
        empty.prepare_model(active=catalog)
    empty.build_patch(patcher.frame.region)
    with pytest.raises(InputError, match="F1"):
        empty.prepare_model(active=catalog)


def test_the_model_has_radians(make_patcher):
    """Degrees of catalogue and bounds are converted where the model is made, and nowhere else."""
    patcher, catalog = make_patcher()
    bounds = default_bounds(catalog).replace(pa=(10.0, 170.0))
    model, start = patcher.prepare_model(active=catalog.replace(pa=np.array([30.0, 240.0])), bounds=bounds)
    np.testing.assert_allclose(start["pa"], np.deg2rad([30.0, 60.0]), rtol=1e-14)
    np.testing.assert_allclose(model.priors["pa"].low, np.deg2rad([10.0, 10.0]))
    np.testing.assert_allclose(model.priors["pa"].high, np.deg2rad([170.0, 170.0]))
    with pytest.raises(InputError, match="prior of pa: found loc = 30, expected radians"):
        patcher.prepare_model(active=catalog, priors={"pa": Normal(30.0, 5.0)})
