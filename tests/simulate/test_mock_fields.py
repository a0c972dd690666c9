"""Mock fields: what is asked for is there."""

import numpy as np
import pytest
from astropy import units as u

from fphojax.errors import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image
from fphojax.simulate.mock_fields import MockCamera, demo_field, mock_field, mock_galaxies

GALAXIES = mock_galaxies(
    x=[0.0, 0.3],
    y=[0.0, -0.2],
    flux={"F1": [100, 50], "F2": [20, 30]},
    q=0.6,
    pa=[30, 60],
    sersic=1.0,
    rhalf=0.1,
)


def test_galaxies_are_where_they_were_put():
    offset = sky_offsets(GALAXIES.ra, GALAXIES.dec, GALAXIES.ra[0], GALAXIES.dec[0])
    np.testing.assert_allclose(offset, [[0, 0], [0.3, -0.2]], atol=1e-8)
    assert GALAXIES.bands == ("F1", "F2")
    np.testing.assert_allclose(GALAXIES.pa, [30, 60])
    assert GALAXIES.id.tolist() == [1, 2]


def test_one_flux_for_all_galaxies():
    shape = {"q": 0.6, "pa": 30, "sersic": 1.0, "rhalf": 0.1}
    galaxies = mock_galaxies(x=[0, 0.3, 0.6], y=0, flux={"F1": 100, "F2": [1, 2, 3]}, **shape)
    assert galaxies.flux.tolist() == [[100, 1], [100, 2], [100, 3]]
    with pytest.raises(InputError, match=r"flux in F1 has shape \(2,\), expected \(3,\) as x and y"):
        mock_galaxies(x=[0, 0.3, 0.6], y=0, flux={"F1": [100, 50]}, **shape)


def test_noise_for_a_signal_to_noise_ratio():
    camera = MockCamera("F1", n_exposure=2).with_snr(GALAXIES, 40)
    field = mock_field(GALAXIES[:1], [camera], seed=1)
    power = sum(
        np.sum((noiseless_image(GALAXIES[:1], spec) * exposure.ierr) ** 2)
        for spec, exposure in zip(camera.specs(), field.exposures, strict=True)
    )
    assert np.sqrt(power) == pytest.approx(40, rel=1e-6)


def test_exposures_are_turned_and_shifted():
    field = mock_field(GALAXIES, [MockCamera("F1", n_exposure=3), MockCamera("F2", pixel_scale=0.06)])
    assert [e.name for e in field.exposures] == ["F1_1", "F1_2", "F1_3", "F2_1"]
    np.testing.assert_allclose([e.pixel_scale for e in field.exposures], [0.03, 0.03, 0.03, 0.06], rtol=1e-6)
    turned = [np.rad2deg(np.arctan2(e.header["CD1_2"], e.header["CD2_2"])) for e in field.exposures]
    np.testing.assert_allclose(turned, [0, 37, 74, 0], atol=1e-6)
    assert sorted(field.psfs.bands) == ["F1", "F2"]


def test_demo_field():
    truth, exposures, psfs, peaks = demo_field(seed=5)
    assert [e.name for e in exposures] == ["F150W_1", "F150W_2", "F356W_1", "F356W_2"]
    np.testing.assert_allclose([e.pixel_scale for e in exposures], [0.031, 0.031, 0.063, 0.063], rtol=1e-6)
    shift = np.hypot(*sky_offsets(peaks.ra, peaks.dec, truth.ra, truth.dec).T)
    np.testing.assert_allclose(shift, 0.3 * 0.031, rtol=1e-4)
    assert np.all((np.abs(peaks.flux / truth.flux - 1) > 0.19) & (np.abs(peaks.flux / truth.flux - 1) < 0.31))
    for exposure in exposures:
        stamp = exposure.psf_image
        assert stamp.sum() == pytest.approx(1, abs=1e-4)
        assert np.unravel_index(stamp.argmax(), stamp.shape) == (stamp.shape[0] // 2, stamp.shape[1] // 2)
        image = noiseless_image(truth, _spec_like(exposure, psfs))
        print(f"{exposure.name}: signal-to-noise ratio {np.linalg.norm(image * exposure.ierr):.0f}")
        assert np.std((exposure.data - image) * exposure.ierr) == pytest.approx(1, abs=0.05)


def _spec_like(exposure, psfs):
    h = exposure.header
    rotation = np.rad2deg(np.arctan2(h["CD1_2"], h["CD2_2"]))
    scale = 3600 * np.hypot(h["CD1_2"], h["CD2_2"])
    psf = psfs.lookup(exposure.band)
    place = (exposure.shape, scale, rotation, h["CRVAL1"], h["CRVAL2"])
    return ExposureSpec(exposure.band, exposure.name, *place, psf, 1 / exposure.ierr[0, 0])


def test_quantities_are_converted():
    galaxies = mock_galaxies(
        x=[0, 0.005] * u.arcmin,
        y=[0.0, -0.2],
        flux={"F1": [0.1, 0.05] * u.uJy, "F2": [20, 30]},
        q=0.6,
        pa=np.deg2rad([30, 60]) * u.rad,
        sersic=1.0,
        rhalf=100 * u.mas,
    )
    for name in ("ra", "dec", "flux", "pa", "rhalf", "roi"):
        np.testing.assert_allclose(getattr(galaxies, name), getattr(GALAXIES, name), rtol=1e-13, err_msg=name)
    camera = MockCamera(
        "F1", pixel_scale=30 * u.mas, fwhm=0.07 * u.arcsec, noise=1e-4 * u.uJy, width=0.035 * u.arcmin
    )
    for name in ("pixel_scale", "fwhm", "noise", "width"):
        assert getattr(camera, name) == pytest.approx(getattr(MockCamera("F1"), name))
    plain = {"x": 0, "y": 0, "flux": {"F1": [1.0]}, "q": 0.5, "pa": 0, "sersic": 1, "rhalf": 0.1}
    for name, value, message in (
        ("pa", np.pi / 2, "pa: found plain numbers that look like radians"),
        ("x", 1 * u.kpc, "x: found unit kpc, expected arcsec"),
        ("flux", {"F1": [1.0] * u.ABmag}, r"flux in F1: found unit mag\(AB\) is a magnitude"),
    ):
        with pytest.raises(InputError, match=message):
            mock_galaxies(**plain | {name: value})
