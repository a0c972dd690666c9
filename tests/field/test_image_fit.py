"""Sources of an image found and fitted in one call, from whatever the image comes in."""

import logging

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty

import fphojax as fp
from fphojax.errors import InputError
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

SCALE, FLUX = 0.06, 80.0
TRUTH = mock_galaxies(
    x=0.02, y=-0.03, flux={"F1": [FLUX], "F2": [50.0]}, q=0.6, pa=30, sersic=2.0, rhalf=0.15
)
FAST = fp.Optimum()


@pytest.fixture(scope="module")
def field():
    cameras = [MockCamera(band, pixel_scale=SCALE, width=1.9) for band in ("F1", "F2")]
    return mock_field(TRUTH, cameras, seed=3)


@pytest.fixture(scope="module")
def image(field):
    """Image, error and effective PSF of the first exposure."""
    exposure = field.exposures[0]
    return (
        exposure.data.astype(np.float64),
        1 / exposure.ierr.astype(np.float64),
        field.psfs.mixtures("F1")[0],
    )


def pulls(fit, truth=FLUX):
    """Deviation of the flux from the truth, in its standard deviations."""
    result = fit.result
    flux, error = (part["flux"].to_numpy()[0, 0] for part in (result.optimum, result.optimum_std))
    print(f"{flux:.2f} +- {error:.2f}")
    return (flux - truth) / error


def test_arrays(image):
    data, err, psf = image
    fit = fp.fit_image(data, err, psf=psf, pixel_scale=SCALE, method=FAST)
    assert abs(pulls(fit)) < 3
    (ra,), (dec,) = fit.result.final_catalog().ra, fit.result.final_catalog().dec
    # north is up, and the middle of the image at ra 180, dec 0: the source is where it is simulated
    assert (180 - ra) * 3600 == pytest.approx(-0.02, abs=0.01)
    assert dec * 3600 == pytest.approx(-0.03, abs=0.01)
    assert fit.result.bands == ("image",)
    figure = fit.plot_residuals()
    (title,) = (axis.get_title() for axis in figure.axes if "chi" in axis.get_title())
    assert 0.7 < float(title.split("=")[1]) < 1.3


def test_same_from_everything_that_an_image_comes_in(image, field, tmp_path):
    data, err, psf = image
    exposure = field.exposures[0]
    expected = fp.fit_image(exposure, psf=psf, method=FAST).result.optimum["flux"].item()
    wcs = exposure.wcs
    ccd = CCDData(data * 1e-3, unit="uJy", uncertainty=InverseVariance((err * 1e-3) ** -2.0), wcs=wcs)
    ccd.meta["FILTER"] = "F1"
    write_exposure(exposure, tmp_path / "a.fits")
    fits = {
        "arrays": fp.fit_image(data, err, psf=psf, wcs=wcs, band="F1", method=FAST),
        "one error": fp.fit_image(data, float(err[0, 0]), psf=psf, wcs=wcs, method=FAST),
        "units": fp.fit_image(data * 1e-3 * u.uJy, err * u.nJy, psf=psf, wcs=wcs, method=FAST),
        "CCDData": fp.fit_image(ccd, psf=psf, method=FAST),
        "file": fp.fit_image(tmp_path / "a.fits", psf=psf, method=FAST),
        "list": fp.fit_image([exposure], psf={"F1": psf}, method=FAST),
        "store": fp.fit_image([exposure], psf=field.psfs, method=FAST),
    }
    for name, fit in fits.items():
        assert fit.result.optimum["flux"].item() == pytest.approx(expected, rel=2e-5), name
    assert fits["CCDData"].result.bands == fits["file"].result.bands == ("F1",)


def test_a_list_of_exposures_in_two_bands_with_their_own_psfs(field):
    fit = fp.fit_image(field.exposures, method=FAST)
    flux = fit.result.optimum["flux"].to_numpy()[0]
    error = fit.result.optimum_std["flux"].to_numpy()[0]
    assert fit.result.bands == ("F1", "F2")
    np.testing.assert_array_less(np.abs(flux - [FLUX, 50.0]) / error, 3)


@pytest.fixture
def scene_only(monkeypatch):
    """What is to be fitted, instead of the fit."""
    monkeypatch.setattr("fphojax.field.image_fit.fit", lambda scene, *_, **__: scene)


def test_psf_as_an_image_or_its_fit(image, scene_only):
    data, err, psf = image
    stamp = psf.render((25, 25), (12, 12))
    fitted = fit_psf(stamp)
    for given in (stamp, fitted):
        scene = fp.fit_image(data, err, psf=given, pixel_scale=SCALE)
        used = np.asarray(scene.model.optics.psf_amplitude)[0, 0]
        np.testing.assert_allclose(used, fitted.amplitudes)


def test_profile_and_masked_pixels(image, scene_only):
    data, err, psf = image
    spoiled, mask = data.copy(), np.zeros(data.shape)
    spoiled[3, 4], mask[3, 4] = 1e6, 1
    scene = fp.fit_image(spoiled, err, psf=psf, pixel_scale=SCALE, mask=mask, profile="exponential")
    assert len(scene.active) == 1
    assert np.asarray(scene.model.held["sersic"]) == 1.0


def test_a_sky_that_was_left_in_is_told(image, scene_only, caplog):
    data, err, psf = image
    arguments = {"psf": psf, "pixel_scale": SCALE}
    with caplog.at_level(logging.WARNING, "fphojax"):
        fp.fit_image(data + 0.5 * err, err, **arguments)
    assert "exposure image: the sky is +0.0" in caplog.text
    assert " of a pixel's noise, expected 0: nuisance=" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "fphojax"):
        scene = fp.fit_image(data + 0.5 * err, err, nuisance=fp.Nuisance(sky="constant"), **arguments)
    assert caplog.text == ""
    assert "sky" in scene.model.priors


def test_refusals_are_one_line_that_names_the_argument(image, field):
    data, err, psf = image
    good = {"psf": psf, "pixel_scale": SCALE, "method": FAST}
    cases = (
        ((data,), good, "err: found none, expected the standard deviation"),
        ((data, err), good | {"psf": None}, "psf: found none, nor one in exposure 'image'"),
        ((data, err), good | {"psf": -1.0}, "psf: FWHM is -16.66"),
        ((data, err), good | {"psf": "broad"}, "psf: found 'broad', expected a width"),
        ((data, err), good | {"psf": np.ones(3)}, "psf: found an array of 1 dimensions"),
        ((data, err), good | {"psf": np.ones((9, 9))}, "psf: smaller than the core of its PSF"),
        ((data, err), good | {"psf": {"g": psf}}, "psf: found none of band image"),
        ((data, err), good | {"pixel_scale": None}, "wcs and pixel_scale: found neither"),
        ((data, err), good | {"wcs": field.exposures[0].wcs}, "wcs and pixel_scale: found both"),
        ((data, err), good | {"pixel_scale": 0}, "pixel_scale is 0 arcsec, expected a positive number"),
        ((data, err), good | {"pixel_scale": 3 * u.nJy}, "pixel_scale: found unit nJy, expected arcsec"),
        (
            (data, err),
            good | {"profile": "sersik"},
            "profile is 'sersik', expected one of sersic, exponential",
        ),
        ((data, err), good | {"mask": np.ones(3)}, "mask has shape \\(3,\\), expected"),
        ((data, err.T[:5]), good, "error image has shape"),
        ((data * u.adu, err * u.adu), good, "data: found unit adu, expected nJy"),
        ((data[0], err), good, "image has 1 dimensions, expected 2"),
        ((data * 0, err), good, "found no source above 5 standard deviations"),
        (("nowhere.fits",), {"psf": psf}, "nowhere.fits: no such file"),
        (("nowhere.fits", err), {"psf": psf}, "err: found one beside a file"),
        ((field.exposures, err), {}, "err: found one beside exposures, which have their own"),
        ((field.exposures[:1] * 2,), {}, "exposure 'F1_1' of band F1 is there twice"),
        (([field.exposures[0], data],), {}, "image 1 is ndarray, expected exposures alone"),
        (
            (CCDData(data, unit="nJy", uncertainty=StdDevUncertainty(err)), err),
            good,
            "err: found one beside that of the CCDData",
        ),
    )
    for arguments, options, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            fp.fit_image(*arguments, **options)
        assert "\n" not in str(caught.value)


def test_too_many_sources_to_sample_together(field, monkeypatch):
    monkeypatch.setattr("fphojax.field.image_fit._MOST", 0)
    with pytest.raises(
        InputError, match="found 1 sources, expected at most 0 to sample together: take a cutout"
    ):
        fp.fit_image(field.exposures[0], psf=field.psfs)
