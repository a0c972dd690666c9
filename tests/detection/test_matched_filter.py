"""Matched-filter maps against sums over single pixels."""

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.ndimage import map_coordinates

from fphojax.detection.matched_filter import ResidualImage, band_maps, common_grid
from fphojax.inputs import InputError

SIGMA = 1.6


def psf_image():
    y, x = np.mgrid[-9:10, -9:10]
    # not symmetric, so that a filter turned by half a circle shows
    psf = np.exp(-(x**2 + y**2) / 2 / SIGMA**2) * (1 + 0.7 * np.tanh(x))
    return psf / psf.sum()


def tangent(scale, size, *, ra=10.0, angle=0.0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix = (ra, -5.0), ((size + 1) / 2, (size + 1) / 2)
    cos, sin = np.cos(angle), np.sin(angle)
    wcs.wcs.cd = scale / 3600 * np.array([[-cos, sin], [sin, cos]])
    return wcs


def image(*, scale=0.1, size=90, angle=0.0, flux=0.0, ierr=2.0, name="one"):
    """Noise of standard deviation 1 / ierr, and a point source in the middle of the central pixel."""
    rng = np.random.default_rng(4)
    residual, psf = rng.normal(size=(size, size)) / ierr, psf_image()
    middle = slice(size // 2 - 9, size // 2 + 10)
    residual[middle, middle] += flux * psf
    wcs = tangent(scale, size, angle=angle)
    return ResidualImage(residual, np.full(residual.shape, ierr), None, wcs, "g", name, psf)


def test_flux_and_weight_of_a_point_source():
    part = image(size=91, flux=400.0)
    grid, shape = common_grid([part])
    found = band_maps([part], grid, shape, model_error=0.1)
    x, y = (int(np.rint(v)) for v in grid.world_to_pixel_values(*part.wcs.pixel_to_world_values(45, 45)))
    psf, noise = part.psf_image, found.noise["one"]
    pixels = part.residual[45 - 9 : 45 + 10, 45 - 9 : 45 + 10] - noise.level
    # cells may be half a pixel off the centres of pixels; the maps between them are interpolated
    at = grid.pixel_to_world_values(x, y)
    np.testing.assert_allclose(part.wcs.world_to_pixel_values(*at), [45, 45], atol=0.51)
    np.testing.assert_allclose(found.weight[y, x] * noise.power, 4 * np.sum(psf**2), rtol=1e-4)
    np.testing.assert_allclose(found.response[y, x] * noise.power, 4 * 0.1**2, rtol=1e-4)
    centre = np.array(grid.world_to_pixel_values(*part.wcs.pixel_to_world_values(45, 45)))[::-1]
    signal = map_coordinates(found.signal, centre[:, None], order=3)[0]
    flux = np.sum(psf * pixels) / np.sum(psf**2)
    np.testing.assert_allclose(signal / found.weight[y, x], flux, rtol=0.03)
    assert abs(flux - 400) < 4 / (2 * np.sqrt(np.sum(psf**2)))


def test_maps_of_noise_have_unit_scatter():
    part = image(size=150, ierr=0.3)
    grid, shape = common_grid([part])
    found = band_maps([part], grid, shape, model_error=0.1)
    seen = found.weight > 0
    np.testing.assert_allclose(np.std(found.signal[seen] / np.sqrt(found.weight[seen])), 1, rtol=0.1)


def test_exposures_of_a_band_add_up():
    one, other = image(name="one"), image(name="other", ierr=3.0)
    grid, shape = common_grid([one, other])
    both = band_maps([one, other], grid, shape, model_error=0.1)
    parts = [band_maps([part], grid, shape, model_error=0.1) for part in (one, other)]
    for name in ("signal", "weight", "model", "response"):
        np.testing.assert_allclose(getattr(both, name), sum(getattr(part, name) for part in parts))
    assert set(both.noise) == {"one", "other"}


def test_pixels_without_weight_count_for_nothing():
    part = image()
    part.residual[20:24, 20:24], part.ierr[20:24, 20:24] = np.nan, 0
    part.ierr[:, 60:] = 0
    grid, shape = common_grid([part])
    found = band_maps([part], grid, shape, model_error=0.1)
    assert np.isfinite(found.signal).all()
    x, _ = grid.world_to_pixel_values(*part.wcs.pixel_to_world_values(63, 45))
    assert not found.weight[:, int(np.ceil(x)) :].any()
    assert found.weight[45, 30] > 0


@pytest.mark.parametrize("ra", [10.0, 0.0])
def test_grid_covers_all_images_with_the_finest_scale(ra):
    images = [image(scale=0.1), image(scale=0.15, angle=0.5)]
    images = [
        ResidualImage(i.residual, i.ierr, None, tangent(s, 90, ra=ra, angle=a), "g", "", i.psf_image)
        for i, s, a in zip(images, (0.1, 0.15), (0.0, 0.5), strict=True)
    ]
    grid, shape = common_grid(images)
    np.testing.assert_allclose(np.abs(grid.wcs.cdelt) * 3600, 0.1, rtol=1e-6)
    for part in images:
        corners = part.wcs.pixel_to_world_values([-0.5, 89.5, 89.5, -0.5], [-0.5, -0.5, 89.5, 89.5])
        x, y = grid.world_to_pixel_values(*corners)
        assert min(x.min(), y.min()) >= -1e-6
        assert x.max() <= shape[1] - 1 + 1e-6
        assert y.max() <= shape[0] - 1 + 1e-6
    assert max(shape) < 90 * 1.5 * np.sqrt(2) + 3


def test_size_of_a_gaussian_psf():
    part = image()
    y, x = np.mgrid[-9:10, -9:10]
    psf = np.exp(-(x**2 + y**2) / 2 / SIGMA**2)
    part = ResidualImage(part.residual, part.ierr, None, part.wcs, "g", "one", psf / psf.sum())
    radius, variance = band_maps([part], *common_grid([part]), model_error=0.1).psf_size
    np.testing.assert_allclose(radius, SIGMA * 2 * np.sqrt(np.log(2)) * 0.1, rtol=0.03)
    np.testing.assert_allclose(variance, 2 * SIGMA**2 * 0.1**2, rtol=0.02)


def test_images_that_do_not_fit_are_refused():
    part = image()
    with pytest.raises(InputError, match=r"exposure one: model has shape \(2, 2\), expected \(90, 90\)"):
        ResidualImage(part.residual, part.ierr, np.zeros((2, 2)), part.wcs, "g", "one", part.psf_image)
    with pytest.raises(InputError, match=r"exposure one: PSF image of shape \(4, 5\), expected odd numbers"):
        ResidualImage(part.residual, part.ierr, None, part.wcs, "g", "one", np.ones((4, 5)))
