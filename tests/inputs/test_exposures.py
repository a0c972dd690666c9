"""Exposures from files and arrays: what counts as a weight, and what is refused."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from fphojax.inputs import InputError
from fphojax.inputs.exposures import Exposure, collect, read_exposures
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.stores.stored_exposures import central_noise
from fphojax.mixtures.psf_fit import fit_psf

SHARED = Path(__file__).resolve().parents[2] / "../shared"
DATA = Path(os.environ.get("FPHOJAX_DATA", SHARED / "data"))
REFERENCE = Path(os.environ.get("FPHOJAX_REFERENCE", SHARED / "reference"))

NY, NX = 12, 10


def wcs_header():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [5.0, 6.0]
    wcs.wcs.cdelt = [-0.1 / 3600, 0.1 / 3600]
    return wcs.to_header()


def images(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(NY, NX)).astype(np.float32), rng.uniform(0.5, 2, (NY, NX)).astype(np.float32)


def hdus(*, data=None, err=None, mask=None, psf=None, header=None, psf_header=None):
    sci, sigma = images()
    header = wcs_header() + fits.Header({"FILTER": "F200W", "EXPID": "e1"}) if header is None else header
    result = fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.ImageHDU(sci if data is None else data, header, name="SCI"),
            fits.ImageHDU(sigma if err is None else err, name="ERR"),
        ]
    )
    if mask is not None:
        result.append(fits.ImageHDU(mask, name="MASK"))
    if psf is not None:
        result.append(fits.ImageHDU(psf, psf_header, name="PSF"))
    return result


@pytest.fixture
def write(tmp_path):
    def write(content, name="a.fits"):
        content.writeto(tmp_path / name)
        return tmp_path / name

    return write


def refusal(path, **kwargs):
    with pytest.raises(InputError) as caught:
        Exposure.from_fits(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    assert "expected" in message or "found" in message
    print(message.replace(str(path), path.name))
    return message


def test_reads_a_plain_file(write):
    sci, err = images()
    exposure = Exposure.from_fits(write(hdus()))
    assert (exposure.band, exposure.name, exposure.shape) == ("F200W", "e1", (NY, NX))
    assert exposure.data.dtype == exposure.ierr.dtype == np.float32
    np.testing.assert_array_equal(exposure.data, sci)
    np.testing.assert_allclose(exposure.ierr, 1 / err, rtol=1e-6)
    assert exposure.masked_fraction == 0
    assert exposure.psf_image is None
    assert exposure.flux_scale == 1
    assert exposure.pixel_scale == pytest.approx(0.1, rel=1e-7)
    assert exposure.header["FILTER"] == "F200W"


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i4", ">i4", "u1", ">u2"])
def test_any_dtype_and_byte_order(dtype):
    data = np.arange(NY * NX).reshape(NY, NX).astype(dtype)
    err = (1 + np.arange(NY * NX) % 7).reshape(NY, NX).astype(dtype)
    exposure = Exposure.from_arrays(data, err, WCS(wcs_header()), band="g", name="e")
    assert exposure.data.dtype == exposure.ierr.dtype == np.dtype("=f4")
    np.testing.assert_array_equal(exposure.data, np.arange(NY * NX).reshape(NY, NX))
    np.testing.assert_allclose(exposure.ierr, 1 / err.astype(float), rtol=1e-6)


def test_scaled_and_compressed_images(tmp_path):
    data = np.arange(NY * NX, dtype=np.float32).reshape(NY, NX)
    content = hdus(data=data.copy())
    content["SCI"].scale("int16", bscale=0.5, bzero=3)
    content.append(fits.CompImageHDU(data + 1, name="PACKED", compression_type="GZIP_1", quantize_level=0))
    content.writeto(tmp_path / "a.fits")
    assert fits.getheader(tmp_path / "a.fits", "SCI")["BITPIX"] == 16
    exposure = Exposure.from_fits(tmp_path / "a.fits")
    np.testing.assert_allclose(exposure.data, data)
    assert Exposure.from_fits(tmp_path / "a.fits", err="PACKED").ierr[0, 0] == 1


def test_bad_pixels_have_no_weight(write):
    data, err = images()
    bad = [(0, i) for i in range(8)]
    data[0, 0], data[0, 1], data[0, 2] = np.nan, np.inf, -np.inf
    err[0, 3], err[0, 4], err[0, 5], err[0, 6] = 0, -1, np.nan, np.inf
    mask = np.zeros((NY, NX), np.int16)
    mask[0, 7] = 4
    exposure = Exposure.from_fits(write(hdus(data=data, err=err, mask=mask)))
    assert np.argwhere(exposure.ierr == 0).tolist() == [list(at) for at in bad]
    assert (exposure.data[0, :8] == 0).all()
    assert np.isfinite(exposure.data).all()
    assert np.isfinite(exposure.ierr).all()
    assert exposure.masked_fraction == pytest.approx(8 / (NY * NX))


def test_values_beyond_float32_have_no_weight():
    data, err = (image.astype(np.float64) for image in images())
    data[0, 0], err[0, 1], err[0, 2] = 1e300, 1e300, 1e-300
    exposure = Exposure.from_arrays(data, err, WCS(wcs_header()), band="g", name="e")
    assert np.argwhere(exposure.ierr == 0).tolist() == [[0, 0], [0, 1], [0, 2]]
    assert np.isfinite(exposure.data).all()


def test_psf_extension(write):
    psf = np.outer([1, 2, 1], [1, 2, 1]).astype(">f4")
    exposure = Exposure.from_fits(write(hdus(psf=psf)))
    assert exposure.psf_includes_pixel
    assert exposure.psf_image.dtype == np.dtype("=f8")
    np.testing.assert_array_equal(exposure.psf_image, psf)
    path = write(hdus(psf=psf, psf_header=fits.Header({"PIXRESP": False})), "b.fits")
    assert not Exposure.from_fits(path).psf_includes_pixel


def test_names_of_extensions_band_and_exposure(write):
    sci, err = images()
    header = wcs_header()
    content = fits.HDUList([fits.PrimaryHDU(sci, header), fits.ImageHDU(err, name="SIGMA")])
    content[0].header["FILTER"] = "r"
    exposure = Exposure.from_fits(write(content, "night1.fits.gz"), sci=0, err="SIGMA")
    assert (exposure.band, exposure.name) == ("r", "night1")
    content[0].header["EXPID"] = 17
    assert Exposure.from_fits(write(content), sci="PRIMARY", err=1, band="z").name == "17"
    assert Exposure.from_fits(write(content, "c.fits"), sci=0, err=1, band="z").band == "z"


def without(key):
    header = wcs_header() + fits.Header({"FILTER": "g", "EXPID": "e"})
    del header[key]
    return header


def test_refusals(write, tmp_path):
    zero = np.zeros((NY, NX), np.float32)
    assert "no such file" in refusal(tmp_path / "nowhere.fits")
    (tmp_path / "text.fits").write_text("not an image")
    assert "cannot be read as FITS" in refusal(tmp_path / "text.fits")
    (tmp_path / "empty.fits").write_bytes(b"")
    assert "cannot be read as FITS" in refusal(tmp_path / "empty.fits")

    path = write(hdus())
    assert "no extension NOISE, found PRIMARY, SCI, ERR" in refusal(path, err="NOISE")
    assert "no extension 5" in refusal(path, sci=5)
    assert "no extension BAD" in refusal(path, mask="BAD")
    assert "no extension EPSF" in refusal(path, psf="EPSF")
    assert "FILTER" in refusal(write(hdus(header=without("FILTER")), "1.fits"))
    assert "WCS" in refusal(write(hdus(header=fits.Header({"FILTER": "g"})), "2.fits"))
    broken = without("EXPID")
    broken["CDELT1"] = 0.0
    assert "WCS" in refusal(write(hdus(header=broken), "3.fits"))
    broken["CTYPE1"] = "RA---XYZ"
    assert "WCS" in refusal(write(hdus(header=broken), "4.fits"))
    wrong = re.escape(f"error image has shape (3, 4), expected ({NY}, {NX})")
    assert re.search(wrong, refusal(write(hdus(err=np.ones((3, 4))), "5.fits")))
    assert "mask image has shape" in refusal(write(hdus(mask=np.ones((3, 4))), "6.fits"))
    assert f"no valid pixel among {NY * NX}" in refusal(write(hdus(err=zero), "7.fits"))
    assert "no valid pixel" in refusal(write(hdus(mask=zero + 1), "8.fits"))
    assert "has shape (2, 12, 10)" in refusal(write(hdus(data=np.ones((2, NY, NX))), "9.fits"))
    assert "total flux 0" in refusal(write(hdus(psf=np.zeros((3, 3))), "10.fits"))
    assert "1 non-finite" in refusal(write(hdus(psf=np.array([[1, np.nan]])), "11.fits"))
    four = fits.Header({"OVERSAMP": 4})
    assert "OVERSAMP = 4" in refusal(write(hdus(psf=np.ones((3, 3)), psf_header=four), "12.fits"))
    text = fits.Header({"OVERSAMP": "two"})
    assert "OVERSAMP = 'two', expected a" in refusal(
        write(hdus(psf=np.ones((3, 3)), psf_header=text), "16.fits")
    )
    fine = fits.Header({"PIXELSCL": 0.01})
    assert "PIXELSCL = 0.01, expected" in refusal(
        write(hdus(psf=np.ones((3, 3)), psf_header=fine), "17.fits")
    )
    maybe = fits.Header({"PIXRESP": "maybe"})
    assert "PIXRESP" in refusal(write(hdus(psf=np.ones((3, 3)), psf_header=maybe), "13.fits"))
    table = hdus()
    table["ERR"] = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])], name="ERR")
    assert "is a table" in refusal(write(table, "14.fits"))
    nothing = hdus()
    nothing["ERR"] = fits.ImageHDU(name="ERR")
    assert "has shape ()" in refusal(write(nothing, "15.fits"))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.7, 0.95])
def test_truncated_file_is_refused(write, kept):
    path = write(hdus(data=np.ones((100, 100)), err=np.ones((100, 100))))
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refusal(path)


def test_arrays_are_refused_by_the_name_of_the_exposure():
    data, err = images()
    with pytest.raises(InputError, match="exposure 'e7': error image has shape"):
        Exposure.from_arrays(data, err.T, WCS(wcs_header()), band="g", name="e7")
    with pytest.raises(InputError, match="flux scale is 0"):
        Exposure.from_arrays(data, err, WCS(wcs_header()), band="g", name="e7", flux_scale=0)


def test_problems_are_collected(write, tmp_path):
    good, twin = write(hdus(), "a.fits"), write(hdus(), "b.fits")
    bare = write(hdus(header=without("FILTER")), "c.fits")
    paths = [good, twin, bare, tmp_path / "nowhere.fits"]
    exposures, problems = collect(paths)
    assert [exposure.path for exposure in exposures] == [good]
    assert [problem.split(":")[0] for problem in problems] == [str(path) for path in paths[1:]]
    assert "was read from" in problems[0]
    with pytest.raises(InputError) as caught:
        read_exposures(paths)
    assert str(caught.value).splitlines() == problems
    assert len(read_exposures([good])) == 1


def test_same_name_in_two_bands_is_fine(write):
    other = wcs_header() + fits.Header({"FILTER": "F444W", "EXPID": "e1"})
    assert len(read_exposures([write(hdus(), "a.fits"), write(hdus(header=other), "b.fits")])) == 2


def real_files():
    files = [*DATA.glob("*/*.fits"), *REFERENCE.glob("*/*.fits")]
    return sorted(f for f in files if f.stem not in ("peaks", "catalog") and f.parent.name != "nircam_psf")


@pytest.mark.skipif(not real_files(), reason="no ../shared/data and ../shared/reference")
def test_real_files():
    exposures, problems = [], []
    for folder in sorted({path.parent for path in real_files()}):
        found = collect([path for path in real_files() if path.parent == folder])
        exposures += found[0]
        problems += found[1]
    print(f"{len(exposures)} exposures read")
    assert problems == []
    for exposure in exposures:
        with fits.open(exposure.path) as content:
            data, err = content["SCI"].data, content["ERR"].data
            bad = ~np.isfinite(data) | ~np.isfinite(err) | ~(err > 0)
            if "MASK" in content:
                bad |= content["MASK"].data != 0
            np.testing.assert_array_equal(exposure.ierr == 0, bad)
            np.testing.assert_array_equal(exposure.data[~bad], data[~bad])
            if "PIXSCALE" in content[0].header:
                assert exposure.pixel_scale == pytest.approx(content[0].header["PIXSCALE"], rel=0.03)


# ------------------------------------------------------------------------------------------------
# Sky level and cap on the signal-to-noise ratio


@pytest.fixture
def exposure(write):
    mask = np.zeros((NY, NX))
    mask[3, 4] = 1
    return Exposure.from_fits(write(hdus(mask=mask)))


def test_less_subtracts_a_sky_level(exposure):
    less = exposure.less(2.5)
    weighted = exposure.ierr > 0
    np.testing.assert_allclose(less.data[weighted], exposure.data[weighted] - 2.5, atol=1e-6)
    assert less.data[3, 4] == 0
    assert less.data.dtype == np.float32
    np.testing.assert_array_equal(less.ierr, exposure.ierr)


def test_capped_raises_errors_of_bright_pixels_only(exposure):
    capped = exposure.capped(0.7)
    before, after = (np.abs(e.data * e.ierr) for e in (exposure, capped))
    bright = before > 0.7
    print(f"{bright.sum()} of {bright.size} pixels above the cap")
    assert 0 < bright.sum() < bright.size
    np.testing.assert_allclose(after[bright], 0.7, rtol=1e-6)
    np.testing.assert_array_equal(capped.ierr[~bright], exposure.ierr[~bright])
    np.testing.assert_array_equal(capped.data, exposure.data)
    assert capped.ierr.dtype == np.float32
    assert capped.ierr[3, 4] == 0


def from_arrays(data, err, wcs=None, **more):
    return Exposure.from_arrays(data, err, wcs or WCS(wcs_header()), band="g", name="e1", **more)


def test_images_with_units():
    data, err = images()
    plain = from_arrays(data, err)
    found = from_arrays(
        data * 1e-3 * u.uJy, err * u.nJy, psf_image=np.ones((3, 3)) * u.one, flux_scale=100 * u.percent
    )
    np.testing.assert_allclose(found.data, plain.data, rtol=1e-6)
    np.testing.assert_array_equal(found.ierr, plain.ierr)
    assert found.flux_scale == 1.0
    for values, message in (
        (
            (data * u.MJy / u.sr, err * u.MJy / u.sr),
            "data: found unit MJy / sr is a surface brightness",
        ),
        ((data * u.electron / u.s, err * u.electron / u.s), "data: found unit electron / s, expected nJy"),
        ((data * u.uJy, err), "err: found no unit beside data with one"),
        ((data, err * u.uJy), "data: found no unit beside err with one"),
    ):
        with pytest.raises(InputError, match=f"exposure 'e1': {message}"):
            from_arrays(*values)


def test_masked_pixels_have_no_weight():
    data, err = images()
    masked = np.zeros(data.shape, dtype=bool)
    masked[2, 3] = True
    for values in (
        (np.ma.array(data, mask=masked), err),
        (data, np.ma.array(err, mask=masked)),
        (Masked(data * u.nJy, mask=masked), err * u.nJy),
    ):
        found = from_arrays(*values)
        assert (found.ierr == 0).sum() == 1
        assert found.ierr[2, 3] == found.data[2, 3] == 0


def test_wcs_without_cunit():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [5.0, 6.0]
    wcs.wcs.cdelt = [-0.1 / 3600, 0.1 / 3600]
    found = from_arrays(*images(), wcs)
    assert found.pixel_scale == pytest.approx(0.1)
    assert not any(map(str, wcs.wcs.cunit))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": 1j * np.ones((4, 4))},
            "exposure 'a': science image holds complex128, expected real numbers",
        ),
        ({"err": np.full((4, 4), "1.0")}, "exposure 'a': error image holds <U3, expected real numbers"),
        ({"wcs": None}, "exposure 'a': wcs is NoneType, expected a celestial WCS"),
        (
            {"wcs": wcs_header()},
            "exposure 'a': wcs is Header, expected a celestial WCS such as astropy.wcs.WCS",
        ),
    ],
)
def test_arguments_of_another_kind(changes, message):
    given = {"data": np.ones((4, 4)), "err": np.ones((4, 4)), "wcs": WCS(wcs_header())} | changes
    with pytest.raises(InputError, match=re.escape(message)):
        Exposure.from_arrays(**given, band="g", name="a")


def test_a_sky_level_with_a_unit_is_converted():
    exposure = Exposure.from_arrays(
        np.full((4, 4), 1500.0), np.ones((4, 4)), WCS(wcs_header()), band="g", name="a"
    )
    np.testing.assert_array_equal(exposure.less(1 * u.uJy).data, 500.0)
    np.testing.assert_array_equal(exposure.less(1.0).data, 1499.0)
    with pytest.raises(InputError, match="sky: found unit mag"):
        exposure.less(20 * u.ABmag)


def test_noise_is_that_of_the_middle():
    err = np.full((600, 700), 9.0)
    err[44:556, 94:606] = 2.0
    err[44:300, 94:606] = np.inf  # without weight
    exposure = Exposure.from_arrays(np.zeros(err.shape), err, WCS(wcs_header()), band="g", name="e")
    assert central_noise(exposure) == 2.0
    err[44:556, 94:606] = np.inf
    exposure = Exposure.from_arrays(np.zeros(err.shape), err, WCS(wcs_header()), band="g", name="e")
    assert np.isnan(central_noise(exposure))


# ------------------------------------------------------------------------------------------------
# How an exposure shows itself, and its PSF


def test_exposure_shows_itself_in_a_line_and_in_a_notebook():
    data, err = images()
    mixture = PSFMixture.gaussian(4.0)
    exposure = from_arrays(data, err * 0 + 2, psf=mixture)
    area = 4 * np.pi * (4.0 / 2.3548) ** 2
    depth = 31.4 - 2.5 * np.log10(5 * 2 * np.sqrt(area))
    assert repr(exposure) == (
        "Exposure('e1', band g, size 10 x 12 pixels of 0.1\", noise 2 nJy per pixel, PSF 0.4\" wide, "
        f"depth {depth:.2f} mag (AB, point source, 5 sigma))"
    )
    shown = exposure._repr_html_()
    assert "data:image/png;base64," in shown
    assert re.search(r"ra (149\.9|150\.0)\d+ dec \+", shown)
    assert repr(from_arrays(data, err)).endswith("PSF none)")


def test_psf_of_an_exposure_is_a_mixture_or_a_fit():
    mixture = PSFMixture.gaussian(3 * u.pix)
    image = mixture.render((15, 15), (7, 7))
    fit = fit_psf(image, n_gauss=1)
    exposures = [
        from_arrays(*images(), psf=mixture),
        dataclasses.replace(from_arrays(*images(), psf=fit), name="e2"),
        dataclasses.replace(from_arrays(*images(), psf_image=image), name="e3"),
    ]
    store = PSFStore.of_exposures(exposures)
    assert store.exposures("g") == ["e1", "e2", "e3"]
    assert store.lookup("g", "e1") is mixture
    for name in ("e2", "e3"):
        assert store.lookup("g", name).covariances[0, 0] == pytest.approx(mixture.covariances[0, 0], rel=1e-3)
    direct = PSFStore()
    direct.add(fit, "g")
    np.testing.assert_array_equal(direct.lookup("g").amplitudes, fit.amplitudes)
    with pytest.raises(
        InputError, match="exposure 'e1' of band g: found no PSF, expected a mixture or an image"
    ):
        PSFStore.of_exposures([from_arrays(*images())])
    with pytest.raises(InputError, match="psf is ndarray, expected a PSFMixture or what fit_psf returns"):
        from_arrays(*images(), psf=image)
