"""Mock exposures against GalSim and against themselves read back."""

import dataclasses
import warnings

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from fphojax.inputs import InputError
from fphojax.inputs.astrometry import local_affine, sky_offsets
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image, simulate_exposures, write_exposure

RA, DEC, SCALE = 150.1, 2.2, 0.05


def _spec(**changes):
    psf = PSFMixture(
        [0.7, 0.3],
        [[0.1, -0.05], [-0.2, 0.3]],
        [[0.8, 0.6, 0.1], [4.0, 5.0, -0.7]],
        includes_pixel=False,
    )
    spec = ExposureSpec("R", "one", (60, 70), SCALE, 25.0, RA, DEC, psf, 0.1)
    return dataclasses.replace(spec, **changes)


def _source(sersic, **changes):
    columns = {"ra": RA, "dec": DEC, "flux": [[100.0]], "q": 0.4, "pa": 40.0, "rhalf": 0.3, "bands": ("R",)}
    return SourceCatalog.from_columns(sersic=sersic, **columns | changes)


@pytest.mark.parametrize("sersic", [0.6, 1.0, 2.5, 4.0])
def test_image_agrees_with_galsim(sersic):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its import
        galsim = pytest.importorskip("galsim")
    spec, source = _spec(), _source(sersic, ra=RA + 1e-5, dec=DEC - 2e-5)
    image = noiseless_image(source, spec)

    x, y = local_affine(WCS(spec.header()), source.ra, source.dec, dec0=DEC).pixel[0]
    params = galsim.GSParams(maximum_fft_size=20000, folding_threshold=1e-4, maxk_threshold=1e-5)
    # on the sky seen from inside: u east, v north
    theta = np.deg2rad(spec.rotation_deg)
    jacobian = SCALE * np.array([[-np.cos(theta), np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    wcs = galsim.JacobianWCS(*jacobian.ravel())
    profile = galsim.Sersic(sersic, half_light_radius=0.3, flux=100.0, gsparams=params)
    profile = profile.shear(q=0.4, beta=50.0 * galsim.degrees)
    psf = galsim.Add(
        [
            galsim.Gaussian(sigma=1.0, flux=a, gsparams=params)
            .transform(*np.linalg.cholesky([[xx, xy], [xy, yy]]).ravel())
            .withFlux(a)
            .shift(*mean)
            for a, mean, (xx, yy, xy) in zip(
                spec.psf.amplitudes, spec.psf.means, spec.psf.covariances, strict=True
            )
        ]
    )
    psf = wcs.toWorld(psf)
    truth = galsim.ImageD(70, 60, wcs=wcs)  # its first pixel is (1, 1)
    galsim.Convolve(profile, psf, gsparams=params).drawImage(truth, center=galsim.PositionD(x + 1, y + 1))
    error = np.abs(image - truth.array).max() / truth.array.max()
    print(f"n = {sersic}: largest difference to GalSim {error:.1e} of the peak")
    assert error < 2e-5


def test_flux_scale_and_position():
    spec, source = _spec(shape=(101, 101)), _source(1.0, rhalf=0.15)
    one = noiseless_image(source, spec)
    assert one.sum() == pytest.approx(100, rel=1e-5)
    scaled = noiseless_image(source, dataclasses.replace(spec, flux_scale=3.0))
    np.testing.assert_allclose(scaled, 3 * one, rtol=1e-12, atol=1e-12)
    y, x = np.mgrid[:101, :101]
    centre = np.array([(one * x).sum(), (one * y).sum()]) / one.sum()
    np.testing.assert_allclose(centre, 50 + np.array([0.01, 0.055]), atol=1e-4)  # the mean of the PSF


def test_position_angle_is_east_of_north():
    spec = _spec(rotation_deg=130.0, shape=(101, 101))
    image = noiseless_image(_source(1.0, q=0.2), spec)
    y, x = np.mgrid[:101, :101]
    dx, dy = x - 50, y - 50
    moments = [[(image * a * b).sum() for a in (dx, dy)] for b in (dx, dy)]
    major = np.linalg.eigh(moments)[1][:, 1]
    wcs = WCS(spec.header())
    ends = wcs.pixel_to_world_values([50, 50 + major[0]], [50, 50 + major[1]])
    east, north = np.diff(sky_offsets(*ends, RA, DEC), axis=0)[0]
    assert np.rad2deg(np.arctan2(east, north)) % 180 == pytest.approx(40.0, abs=1.1)


def test_sources_far_outside_leave_nothing():
    far = _source(4.0, dec=DEC + 0.01)
    assert not noiseless_image(far, _spec()).any()


def test_noise_depends_on_the_seed_alone():
    specs = [_spec(), _spec(name="two")]
    first, repeated = (simulate_exposures(_source(1.0), specs, seed=3) for _ in range(2))
    reseeded = simulate_exposures(_source(1.0), specs, seed=4)
    for a, b, c in zip(first, repeated, reseeded, strict=True):
        assert np.array_equal(a.data, b.data)
        assert not np.array_equal(a.data, c.data)
    scatter = first[0].data - noiseless_image(_source(1.0), specs[0])
    assert np.std(scatter) == pytest.approx(0.1, rel=0.03)
    assert not np.array_equal(scatter, first[1].data - noiseless_image(_source(1.0), specs[1]))


@pytest.mark.parametrize("masked", [False, True])
def test_exposure_reads_back_identically(tmp_path, masked):
    (exposure,) = simulate_exposures(_source(2.0), [_spec(ra=150.1234567890123)], seed=1)
    if masked:
        rng = np.random.default_rng(2)
        err = rng.uniform(0.01, 3, exposure.shape).astype(np.float32)
        exposure = Exposure.from_arrays(
            exposure.data,
            err,
            exposure.wcs,
            band="R",
            name="one",
            mask=rng.random(exposure.shape) < 0.1,
            psf_image=exposure.psf_image,
            psf_includes_pixel=False,
            header=exposure.header,
        )
    path = tmp_path / "one.fits"
    write_exposure(exposure, path)
    back = Exposure.from_fits(path)
    assert [p.name for p in tmp_path.iterdir()] == ["one.fits"]
    assert (back.name, back.band) == ("one", "R")
    assert back.psf_includes_pixel is not masked
    for field in ("data", "ierr", "psf_image"):
        a, b = getattr(exposure, field), getattr(back, field)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), field
    corners = np.array([[0, 69, 30], [0, 59, 10]])
    assert np.array_equal(
        exposure.wcs.pixel_to_world_values(*corners), back.wcs.pixel_to_world_values(*corners)
    )


def test_keywords_of_a_header_without_wcs_are_written(tmp_path):
    (exposure,) = simulate_exposures(_source(2.0), [_spec()], seed=1)
    write_exposure(
        dataclasses.replace(exposure, header=fits.Header({"OBSERVER": "x"})), tmp_path / "one.fits"
    )
    back = Exposure.from_fits(tmp_path / "one.fits")
    assert back.header["OBSERVER"] == "x"
    sky = exposure.wcs.pixel_to_world_values([0, 69], [0, 59])
    np.testing.assert_allclose(back.wcs.pixel_to_world_values([0, 69], [0, 59]), sky, rtol=0, atol=1e-10)


def test_flux_scale_cannot_be_written(tmp_path):
    (exposure,) = simulate_exposures(_source(2.0), [_spec(flux_scale=2.0)], seed=1)
    with pytest.raises(InputError, match=r"one.fits: exposure has the flux scale 2, expected 1"):
        write_exposure(exposure, tmp_path / "one.fits")
