"""What PSF images add to models with mixtures: against models with the whole PSF."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from numpy.testing import assert_allclose

from fphojax.inputs.exposures import Exposure
from fphojax.inputs.image_cutouts import cutout
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.results.products.frame_model import model_image
from fphojax.simulate.mock_fields import DEC, RA, mock_galaxies

SIZE, HALF = 61, 20
ROUND = [[1.0, 1.0, 0.0]]
WHOLE = PSFMixture(
    [0.7, 0.4, -0.1], [[0, 0], [0.3, -0.2], [0.5, 2.0]], [[1.2, 1.4, 0.2], [6, 5, 1], [2, 2, 0]]
)
CORE = PSFMixture([1.0], [[0.1, 0.0]], [[2.0, 2.0, 0.0]])


def with_residual(mixture=CORE, whole=WHOLE):
    shape, middle = (2 * HALF + 1,) * 2, (HALF, HALF)
    residual = whole.render(shape, middle) - mixture.render(shape, middle)
    return PSFMixture(mixture.amplitudes, mixture.means, mixture.covariances, residual=residual)


def exposure_of_ones():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.06 / 3600, 0.06 / 3600], [(SIZE + 1) / 2] * 2
    wcs.wcs.crval = [RA, DEC]
    pixels = np.ones((SIZE, SIZE))
    return Exposure.from_arrays(pixels, pixels, wcs, band="F1", name="one")


def image(mixture, catalog, box=None):
    exposure = exposure_of_ones()
    psfs = PSFStore()
    psfs.add(mixture, "F1")
    return model_image(Recipe((exposure,), psfs), exposure, catalog, box)


def test_in_a_cutout_it_is_that_of_the_whole_detector():
    """Two PSFs, of which only one leaves a residual: the place of the source decides, not that in the cutout."""
    psfs = PSFStore()
    psfs.add(
        [replace(with_residual(), detector_location=(50, 50)), replace(CORE, detector_location=(10, 10))],
        "F1",
    )
    whole = exposure_of_ones()
    point = mock_galaxies(x=-1.2, y=1.2, flux={"F1": [8000]}, q=1, pa=0, sersic=1, rhalf=[0.1])
    (part,) = cutout([whole], SkyCoord(point.ra[0], point.dec[0], unit="deg"), 1.2)
    (x0, y0), (ny, nx) = part.origin, part.shape
    assert min(x0, y0) > 30
    assert max(nx, ny) < 30
    expected = model_image(Recipe((whole,), psfs), whole, point, (x0, x0 + nx, y0, y0 + ny))
    found = model_image(Recipe((part,), psfs), part, point)
    assert_allclose(found, expected, atol=1e-2)
    plain = PSFStore()
    plain.add(CORE, "F1")
    assert np.abs(expected - model_image(Recipe((part,), plain), part, point)).max() > 8


@pytest.mark.parametrize("box", [None, (17, 44, 5, 30)])
def test_mixture_and_correction_are_the_whole_psf(box):
    galaxies = mock_galaxies(
        x=[0.11, -0.7],
        y=[-0.2, 0.9],
        flux={"F1": [8000, 3000]},
        q=0.6,
        pa=30,
        sersic=[2, 1],
        rhalf=[0.3, 0.1],
    )
    expected, found, plain = (image(psf, galaxies, box) for psf in (WHOLE, with_residual(), CORE))
    missing = np.abs(plain - expected).max()
    assert missing > 8
    assert_allclose(found, expected, atol=missing / 50)


def test_what_is_added_to_a_point_at_a_pixel_is_the_residual():
    galaxy = mock_galaxies(x=0, y=0, flux={"F1": [1e4]}, q=1, pa=0, sersic=1, rhalf=[1e-4])
    psf = with_residual()
    added = image(psf, galaxy) - image(CORE, galaxy)
    middle = SIZE // 2
    inner = added[middle - HALF : middle + HALF + 1, middle - HALF : middle + HALF + 1]
    assert_allclose(inner, 1e4 * psf.residual, atol=0.3)


def test_too_little_to_matter_is_not_added():
    psf = with_residual()
    limit = 0.1 / np.linalg.norm(psf.residual)  # noise of 1
    for factor, matters in ((0.9, False), (1.1, True)):
        point = mock_galaxies(x=0, y=0, flux={"F1": [factor * limit]}, q=1, pa=0, sersic=1, rhalf=[0.1])
        assert np.any(image(psf, point) != image(CORE, point)) == matters
