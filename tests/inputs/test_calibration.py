"""Calibration to nJy against independent arithmetic, and frames of JWST and HST as they come."""

import sys
import types

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from fphojax.inputs import InputError
from fphojax.inputs.calibration import calibration
from fphojax.inputs.data_quality import JWST_BITS
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.fits_frames import ReadingOptions, is_mosaic, read_frame

SHAPE = 12, 10


def refused(match, call, *arguments, **options):
    with pytest.raises(InputError, match=match) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    print(caught.value)


@given(st.floats(-5, 40))
def test_zero_points_are_ab_magnitudes(zero_point):
    factor = calibration("MAGZERO", fits.Header({"MAGZERO": zero_point, "BUNIT": "adu"})).factor
    expected = (zero_point * u.ABmag).to_value(u.nJy)  # the flux of one count
    assert factor == pytest.approx(expected, rel=1e-12)
    assert calibration("ABMAG", fits.Header({"ABMAG": zero_point})).factor == factor


def test_photflam_is_a_flux_density():
    """ACS/WFC F814W; with the pivot wavelength, f_lambda becomes f_nu."""
    header = fits.Header({"PHOTFLAM": 7.0e-20, "PHOTPLAM": 8045.0, "BUNIT": "ELECTRONS/S"})
    flam = 7.0e-20 * u.erg / u.s / u.cm**2 / u.AA
    expected = flam.to_value(u.nJy, u.spectral_density(8045.0 * u.AA))
    found = calibration("PHOTFLAM", header)
    print(f"{found}; astropy: {expected:.6g}")
    assert found.factor == pytest.approx(expected, rel=1e-9)
    header["BUNIT"], header["EXPTIME"] = "ELECTRONS", 500.0
    assert calibration("PHOTFLAM", header).factor == pytest.approx(expected / 500, rel=1e-9)
    zero_point = -2.5 * np.log10(7.0e-20) - 5 * np.log10(8045.0) - 2.408  # STScI's formula, to its digits
    assert found.factor == pytest.approx(10 ** (0.4 * (31.4 - zero_point)), rel=2e-3)


def test_surface_brightness_times_pixel_area():
    area = (0.0311 * u.arcsec) ** 2
    expected = (u.MJy / u.sr * area).to_value(u.nJy)
    header = fits.Header({"BUNIT": "MJy/sr", "PIXAR_A2": 0.0311**2})
    assert calibration("PHOTMJSR", header).factor == pytest.approx(expected, rel=1e-12)
    header["PIXAR_SR"] = area.to_value(u.sr)
    assert calibration("PHOTMJSR", header).factor == pytest.approx(expected, rel=1e-12)
    header["BUNIT"], header["PHOTMJSR"] = "DN/s", 2.5
    assert calibration("PHOTMJSR", header).factor == pytest.approx(2.5 * expected, rel=1e-12)


def test_flux_densities_and_none():
    assert calibration("none", fits.Header()).factor == 1
    assert calibration("none", fits.Header({"BUNIT": "nJy"})).factor == 1
    assert calibration("BUNIT", fits.Header({"BUNIT": "uJy"})).factor == pytest.approx(1e3, rel=1e-14)
    assert calibration("BUNIT", fits.Header({"BUNIT": "10*nJy"})).factor == pytest.approx(10.0)
    # the science header counts before the primary one
    assert calibration("BUNIT", fits.Header({"BUNIT": "Jy"}), fits.Header({"BUNIT": "nJy"})).factor > 9e8


@pytest.mark.parametrize(
    ("method", "cards", "match"),
    [
        (
            "none",
            {"BUNIT": "MJy/sr"},
            "BUNIT = 'MJy/sr', expected nJy per pixel, or the area of a pixel in PIXAR_SR",
        ),
        ("none", {"BUNIT": "mjy"}, "BUNIT = 'mjy', expected nJy, uJy"),
        ("none", {"BUNIT": "Jy/beam"}, "BUNIT = 'Jy/beam', expected nJy, uJy"),
        ("none", {"BUNIT": "DN/s"}, "BUNIT = 'DN/s', expected nJy"),
        ("BUNIT", {}, "no keyword BUNIT"),
        ("BUNIT", {"BUNIT": "furlong^2"}, "BUNIT = 'furlong.2', expected a flux density per pixel"),
        ("BUNIT", {"BUNIT": "MJy/sr"}, "expected a flux density"),
        ("PHOTMJSR", {"BUNIT": "MJy/sr"}, "no keyword PIXAR_A2"),
        ("PHOTMJSR", {"BUNIT": "DN/s", "PIXAR_SR": 1e-14}, "no keyword PHOTMJSR"),
        ("PHOTMJSR", {"BUNIT": "nJy", "PIXAR_SR": 1e-14}, "expected MJy/sr or DN/s"),
        ("PHOTMJSR", {"BUNIT": "MJy/sr", "PIXAR_SR": 0.0}, "PIXAR_SR = 0.0, expected a positive number"),
        ("PHOTFLAM", {"BUNIT": "ELECTRONS/S", "PHOTPLAM": 8e3}, "no keyword PHOTFLAM"),
        ("PHOTFLAM", {"BUNIT": "COUNTS", "PHOTFLAM": 1e-19, "PHOTPLAM": 8e3}, "no keyword EXPTIME"),
        ("PHOTFLAM", {"BUNIT": "K", "PHOTFLAM": 1e-19, "PHOTPLAM": 8e3}, "BUNIT = 'K', expected electrons"),
        ("ABMAG", {}, "no keyword ABMAG, expected it for the flux calibration"),
        ("ABMAG", {"ABMAG": "28.9"}, "ABMAG = '28.9', expected a number"),
        ("ABMAG", {"ABMAG": 28.9, "BUNIT": "nJy"}, "BUNIT = 'nJy' is a flux already"),
        ("ABMAG", {"ABMAG": -900.0}, "ABMAG = -900, expected an AB magnitude"),
    ],
)
def test_calibrations_that_are_refused(method, cards, match):
    refused(match, calibration, method, fits.Header(cards))


# --------------------------------------------------------------------------------------------------
# Frames


def wcs_cards():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (150.0, 2.0), (5.0, 6.0)
    wcs.wcs.cdelt = -0.03 / 3600, 0.03 / 3600
    return wcs.to_header()


def jwst(path, *, dq=None, wht=None, area=None, primary=None, sci=None):
    """A file as JWST's pipeline writes it: headers split between primary and SCI."""
    rng = np.random.default_rng(0)
    first = fits.PrimaryHDU()
    cards = {"TELESCOP": "JWST", "INSTRUME": "NIRCAM", "DETECTOR": "NRCA1", "MODULE": "A"}
    first.header.update(cards | {"FILTER": "F150W2", "PUPIL": "F162M"} | (primary or {}))
    header = wcs_cards()
    header.update({"BUNIT": "MJy/sr", "PIXAR_SR": 2.0e-14, "PHOTMJSR": 2.0} | (sci or {}))
    images = rng.normal(size=SHAPE).astype("f4"), rng.uniform(0.5, 2, SHAPE).astype("f4")
    hdus = [first, fits.ImageHDU(images[0], header, name="SCI"), fits.ImageHDU(images[1], name="ERR")]
    for name, image in (("DQ", dq), ("WHT", wht), ("AREA", area)):
        if image is not None:
            hdus.append(fits.ImageHDU(image, name=name))
    fits.HDUList(hdus).writeto(path)
    return images


def test_jwst_stage_2(tmp_path):
    dq = np.zeros(SHAPE, np.uint32)
    dq[0, :5] = (
        1,
        4,
        512,
        2 | 1,
        2**31,
    )  # do not use, jump, non-science, saturated and unusable, reference pixel
    area = np.linspace(0.98, 1.02, 120).reshape(SHAPE).astype("f4")
    path = tmp_path / "jw_cal.fits"
    data, err = jwst(path, dq=dq, area=area)
    frame = read_frame(path, ReadingOptions(calibration="PHOTMJSR"))
    exposure = Exposure.from_frame(frame)
    assert (exposure.band, exposure.name, frame.bad.bits, frame.is_mosaic) == (
        "F162M",
        "jw_cal",
        JWST_BITS,
        False,
    )
    good = np.ones(SHAPE, bool)
    good[0, [0, 2, 3]] = False
    np.testing.assert_array_equal(exposure.ierr > 0, good)
    scale = 1e15 * 2.0e-14 * area
    np.testing.assert_allclose(exposure.data[good], (data * scale)[good], rtol=3e-7)
    np.testing.assert_allclose(exposure.ierr[good], (1 / (err * scale))[good], rtol=3e-7)
    assert read_frame(path, ReadingOptions(bitmask=4, calibration="PHOTMJSR")).bad.where[0, 1]
    split = [
        read_frame(path, ReadingOptions(split_by=key, calibration="PHOTMJSR"))
        for key in ("DETECTOR", "MODULE")
    ]
    assert [frame.band for frame in split] == ["F162M_NRCA1", "F162M_A"]


def test_jwst_stage_3(tmp_path):
    weight = np.ones(SHAPE, "f4")
    weight[3, 4] = 0
    path = tmp_path / "jw_i2d.fits"
    jwst(path, wht=weight, primary={"FILTER": "F200W", "PUPIL": "CLEAR", "S_RESAMP": "COMPLETE"})
    frame = read_frame(path, ReadingOptions(calibration="PHOTMJSR"))
    assert frame.is_mosaic
    assert is_mosaic(path)
    assert frame.band == "F200W"
    np.testing.assert_array_equal(Exposure.from_frame(frame).ierr > 0, weight > 0)
    assert frame.calibration.units == "nJy"


@pytest.mark.parametrize(("kind", "power"), [("variance", 2), ("inverse_variance", -2)])
def test_errors_of_other_kinds(tmp_path, kind, power):
    path = tmp_path / "a_drz.fits"
    _, err = jwst(path, sci={"BUNIT": "nJy"})
    values = err.astype("f8") ** power
    values[2, 2] = 0
    with fits.open(path, mode="update") as hdus:
        hdus["ERR"].data = values
        hdus["ERR"].header["EXTNAME"] = "WHT"
    exposure = Exposure.from_frame(read_frame(path, ReadingOptions(err="WHT", error_kind=kind)))
    good = exposure.ierr > 0
    assert not good[2, 2]
    assert good.sum() == good.size - 1
    np.testing.assert_allclose(exposure.ierr[good], 1 / err[good], rtol=3e-7)


def test_files_of_their_own_and_a_background(tmp_path):
    rng = np.random.default_rng(2)
    header = wcs_cards()
    header["FILTER"] = "r"
    images = {kind: rng.uniform(1, 2, SHAPE).astype("f4") for kind in ("sci", "err", "background")}
    images["mask"] = np.zeros(SHAPE, np.int16)
    images["mask"][1, 1], images["mask"][2, 2] = 8, 3
    paths = {kind: tmp_path / f"x_{kind}.fits" for kind in images}
    for kind, image in images.items():
        fits.PrimaryHDU(image, header).writeto(paths[kind])
    science = paths.pop("sci")
    exposure = Exposure.from_frame(read_frame(science, ReadingOptions(bitmask=8), files=paths))
    assert exposure.ierr[1, 1] == 0
    assert exposure.ierr[2, 2] > 0
    expected = images["sci"].astype("f8") - images["background"]
    expected[1, 1] = 0
    np.testing.assert_array_equal(exposure.data, expected.astype("f4"))
    refused(
        "x_sci.fits: .*gone.fits: no such file",
        read_frame,
        science,
        ReadingOptions(),
        files=paths | {"mask": tmp_path / "gone.fits"},
    )
    fits.PrimaryHDU(np.ones((3, 3))).writeto(paths["background"], overwrite=True)
    refused(r"background image has shape \(3, 3\)", read_frame, science, ReadingOptions(), files=paths)


def test_frames_that_are_refused(tmp_path):
    path = tmp_path / "a.fits"
    jwst(path, dq=np.zeros(SHAPE, "f4"))
    other = tmp_path / "b" / "a.fits"
    other.parent.mkdir()
    jwst(other, sci={"BUNIT": "DN/s"})
    refused(
        "a.fits: extension SCI: BUNIT = 'DN/s', expected nJy", read_frame, other, ReadingOptions(mask="ERR")
    )
    recipe = ReadingOptions(calibration="PHOTMJSR")
    refused("extension DQ has dtype >?f.*4.*, expected integers for bitmask 513", read_frame, path, recipe)
    refused("no extension BKG", read_frame, path, ReadingOptions(mask="ERR", background="BKG"))
    plain = ReadingOptions(mask="SCI", calibration="ABMAG")
    refused("no keyword ABMAG", read_frame, other, plain)
    refused("BUNIT = 'MJy/sr' is a flux already", read_frame, path, plain)
    refused(
        "no extension ASDF", read_frame, path, ReadingOptions(mask="ERR", calibration="PHOTMJSR", wcs="gwcs")
    )


@pytest.mark.parametrize("package", ["asdf", "gwcs"])
def test_gwcs_without_its_packages(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "asdf", types.ModuleType("asdf"))
    monkeypatch.setitem(sys.modules, "gwcs", types.ModuleType("gwcs"))
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    path = tmp_path / "jw_cal.fits"
    jwst(path, sci={"BUNIT": "nJy"})
    refused("jw_cal.fits: no extension ASDF, expected one", read_frame, path, ReadingOptions(wcs="gwcs"))
    with fits.open(path, mode="update") as hdus:
        column = fits.Column("ASDF_METADATA", "4B", array=[np.zeros(4, np.uint8)])
        hdus.append(fits.BinTableHDU.from_columns([column], name="ASDF"))
    refused(
        f"jw_cal.fits: package {package} is not installed, expected it for a gwcs \\(or use wcs: header\\)",
        read_frame,
        path,
        ReadingOptions(wcs="gwcs"),
    )


def test_gwcs_of_the_asdf_extension(tmp_path):
    asdf, gwcs = pytest.importorskip("asdf"), pytest.importorskip("gwcs")
    from io import BytesIO

    from astropy import coordinates
    from astropy.modeling import models
    from gwcs import coordinate_frames as cf

    from fphojax.inputs.stores.stored_exposures import open_stores
    from fphojax.inputs.stores.writer import StoreWriter

    forward = models.Shift(-4) & models.Shift(-5) | models.Scale(-0.03 / 3600) & models.Scale(0.03 / 3600)
    forward = forward | models.Pix2Sky_TAN() | models.RotateNative2Celestial(150.0, 2.01, 180)
    detector = cf.Frame2D(name="detector", unit=(u.pix, u.pix))
    wcs = gwcs.WCS(
        forward, detector, cf.CelestialFrame(reference_frame=coordinates.ICRS(), unit=(u.deg, u.deg))
    )
    content = BytesIO()
    asdf.AsdfFile({"meta": {"wcs": wcs}}).write_to(content)
    path = tmp_path / "jw_cal.fits"
    jwst(path, sci={"BUNIT": "nJy"})
    with fits.open(path, mode="update") as hdus:
        column = fits.Column(
            "ASDF_METADATA",
            f"{len(content.getvalue())}B",
            array=[np.frombuffer(content.getvalue(), np.uint8)],
        )
        hdus.append(fits.BinTableHDU.from_columns([column], name="ASDF"))
    frame = read_frame(path, ReadingOptions(wcs="gwcs"))
    with StoreWriter(tmp_path / "p.h5", tmp_path / "m.json") as writer:
        writer.add(writer.pack(Exposure.from_frame(frame), attributes={}, extras=frame.extras), stamp="1")
        writer.finish()
    (stored,) = open_stores(tmp_path / "p.h5", tmp_path / "m.json")
    for found in (frame.wcs, stored.wcs):
        np.testing.assert_allclose(found(3.0, 7.0), wcs(3.0, 7.0), rtol=0, atol=1e-13)
