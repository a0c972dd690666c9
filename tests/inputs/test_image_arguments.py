"""Images and PSFs as users have them. What an image comes in is also tested by fits, in field/test_image_fit.py."""

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, NDData, StdDevUncertainty, UnknownUncertainty, VarianceUncertainty

from fphojax.errors import InputError
from fphojax.inputs.image_arguments import exposures_of_image, mixture_of
from fphojax.inputs.psf_store import PSFMixture

RNG = np.random.default_rng(0)
DATA, ERR = RNG.normal(size=(12, 10)), RNG.uniform(0.5, 2, (12, 10))


def test_pixel_scale_stands_for_a_wcs():
    (exposure,) = exposures_of_image(DATA, ERR, pixel_scale=262 * u.mas)
    assert exposure.pixel_scale == pytest.approx(0.262)
    ra, dec = exposure.wcs.pixel_to_world_values([4.5, 3.5], [5.5, 5.5])
    assert ra[0] == pytest.approx(180)
    assert dec[0] == pytest.approx(0)
    assert ra[1] > ra[0]  # east is left
    assert (exposure.band, exposure.name) == ("image", "image")


@pytest.mark.parametrize("kind", [StdDevUncertainty, VarianceUncertainty])
def test_nddata_gives_unit_uncertainty_mask_and_psf(kind):
    mask = np.zeros(DATA.shape, dtype=bool)
    mask[2, 3] = True
    uncertainty = kind(ERR) if kind is StdDevUncertainty else kind(ERR**2)
    image = NDData(
        DATA, unit="mJy", uncertainty=uncertainty, mask=mask, psf=np.eye(5) + 1, meta={"FILTER": "g "}
    )
    more = np.zeros(DATA.shape)
    more[0, 0] = 4
    (exposure,) = exposures_of_image(image, pixel_scale=0.1, mask=more)
    assert exposure.band == "g"
    assert np.argwhere(exposure.ierr == 0).tolist() == [[0, 0], [2, 3]]
    good = exposure.ierr > 0
    np.testing.assert_allclose(exposure.data[good], DATA[good] * 1e6, rtol=1e-6)
    np.testing.assert_allclose(exposure.ierr[good], 1e-6 / ERR[good], rtol=1e-6)
    np.testing.assert_array_equal(exposure.psf_image, np.eye(5) + 1)


def test_band_that_is_given_goes_before_that_of_the_image():
    image = CCDData(DATA, unit="nJy", uncertainty=StdDevUncertainty(ERR), meta={"FILTER": "g"})
    assert exposures_of_image(image, pixel_scale=0.1, band="r")[0].band == "r"


def test_uncertainty_that_is_none_is_refused():
    image = NDData(DATA, unit="nJy", uncertainty=UnknownUncertainty(ERR))
    with pytest.raises(InputError, match="uncertainty is UnknownUncertainty, expected a standard deviation"):
        exposures_of_image(image, pixel_scale=0.1)


def test_mask_that_leaves_nothing():
    with pytest.raises(InputError, match="mask: found none of 120 pixels good"):
        exposures_of_image(DATA, ERR, pixel_scale=0.1, mask=np.ones(DATA.shape))


@pytest.mark.parametrize("width", [0.5, 0.5 * u.arcsec, 2.5 * u.pix, 500 * u.mas])
def test_width_of_a_psf(width):
    mixture = mixture_of(width, 0.2)
    assert mixture.includes_pixel
    variance = (2.5 / np.sqrt(8 * np.log(2))) ** 2
    np.testing.assert_allclose(mixture.covariances, [[variance, variance, 0]])
    profile = mixture.render((1, 3), (0, 0))[0] / mixture.render((1, 1), (1.25, 0))[0, 0]
    assert profile[0] == pytest.approx(2)


def test_psf_in_other_forms():
    mixture = mixture_of(0.5, 0.2)
    assert mixture_of(mixture, 0.2) is mixture
    found = mixture_of(mixture.stamp(), 0.2)
    np.testing.assert_allclose(found.render((9, 9), (4, 4)), mixture.render((9, 9), (4, 4)), atol=1e-3)
    assert isinstance(found, PSFMixture)
    with pytest.raises(InputError, match="psf: found unit nJy, expected arcsec"):
        mixture_of(3 * u.nJy, 0.2)
    with pytest.raises(InputError, match="psf: FWHM is nan pixels, expected a positive number"):
        mixture_of(np.nan, 0.2)
