"""Frames: chips of a file, which images go together, data quality, units of errors, checksums."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from fphojax.inputs import InputError
from fphojax.inputs.exposures import Exposure, collect, read_exposures
from fphojax.inputs.fits_frames import ReadingOptions, read_frames, reading_options
from fphojax.simulate.mock_exposures import write_exposure

SHAPE = 6, 8


def wcs_cards(**cards):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (150.0, 2.0), (4.0, 3.0)
    wcs.wcs.cdelt = -0.03 / 3600, 0.03 / 3600
    header = wcs.to_header()
    header.update({"FILTER": "r", "EXPID": "e"} | cards)
    return header


def plane(name, version=None, value=1.0, dtype="f4", **cards):
    """An image extension of one value."""
    header = wcs_cards(**cards) if name == "SCI" else fits.Header(cards)
    return fits.ImageHDU(np.full(SHAPE, value, dtype), header, name=name, ver=version)


@pytest.fixture
def write(tmp_path):
    def write(*hdus, name="a.fits", **options):
        fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / name, overwrite=True, **options)
        return tmp_path / name

    return write


def two_chips(*others):
    images = [plane(name, chip, value=10.0 * chip) for chip in (1, 2) for name in ("SCI", "ERR")]
    return [*images, *others]


def refused(match, path, **recipe):
    with pytest.raises(InputError, match=match) as caught:
        read_exposures([path], **recipe)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    print(str(caught.value).replace(str(path.parent), ""))


# --------------------------------------------------------------------------------------------------
# Chips


def test_each_chip_has_the_images_of_its_own_version(write):
    masks, psfs = [plane("MASK", chip, 0, "i2") for chip in (2, 1)], [plane("PSF", 2, 2), plane("PSF", 1, 1)]
    for mask in masks:
        mask.data[0, mask.ver] = 1
    found = read_exposures([write(*two_chips(*masks, *psfs))])
    assert [exposure.name for exposure in found] == ["e_1", "e_2"]
    for chip, exposure in enumerate(found, start=1):
        good = np.ones(SHAPE, bool)
        good[0, chip] = False
        np.testing.assert_array_equal(exposure.data, np.where(good, 10 * chip, 0))
        np.testing.assert_allclose(exposure.ierr, np.where(good, 0.1 / chip, 0))
        assert (exposure.psf_image == chip).all()
        assert exposure.header["EXTVER"] == chip
        assert exposure.read_as == f"SCI,{chip}, no BUNIT: nJy, MASK, FILTER, ICRS"
        assert exposure.notes == ()


def test_a_chip_can_be_chosen(write):
    path = write(*two_chips())
    for sci, err, name in (
        (("SCI", 2), "ERR", "e_2"),
        (["sci", 1], "ERR", "e_1"),
        (3, ("ERR", 2), "e_2"),
        (3, 4, "e_2"),
    ):
        exposure = Exposure.from_fits(path, sci=sci, err=err)
        assert exposure.name == name
        assert exposure.data[0, 0] == 10 * int(name[-1])
        assert exposure.ierr[0, 0] == pytest.approx(0.1 / int(name[-1]))
    with pytest.raises(InputError, match=r"a.fits: found 2 images \(SCI,1, SCI,2\), expected one: choose it"):
        Exposure.from_fits(path)


def test_a_single_version_is_no_chip(write):
    (exposure,) = read_exposures([write(plane("SCI", 3), plane("ERR", 1))])
    assert exposure.name == "e"
    assert exposure.read_as == "no BUNIT: nJy, no mask, FILTER, ICRS"


def test_chips_share_a_psf_and_it_is_said(write):
    for psf in ("PSF", None):
        found = read_exposures([write(*two_chips(plane("PSF")))], psf=psf)
        assert [exposure.notes for exposure in found] == [("all chips have the same PSF, extension PSF",)] * 2
    (one,) = read_exposures([write(*two_chips(plane("PSF")))], sci=("SCI", 2))
    assert one.psf_image is not None


@pytest.mark.parametrize(
    ("others", "recipe", "match"),
    [
        (
            [("MASK", 1)],
            {},
            "no extension MASK,2 for SCI,2, found .*; expected one for each chip, or the setting",
        ),
        ([("DQ", 2)], {}, "no extension DQ,1 for SCI,1"),
        ([("WHT", 1)], {}, "no extension WHT,2 for SCI,2"),
        ([("MASK", 1)], {"sci": ("SCI", 2)}, "no extension MASK,2 for SCI,2"),
        ([("MASK", 1)], {"mask": ("MASK", 1)}, "extension MASK,1 is one image for 2 chips"),
        ([], {"err": 2}, "extension 2 is one image for 2 chips"),
        ([("PSF", 1), ("PSF", 3)], {}, "no extension PSF,2 for SCI,2"),
        (
            [("SCI", 2)],
            {},
            "extension SCI,2 is there 2 times .HDUs 3, 5., expected EXTVER to tell them apart",
        ),
        ([("ERR", 2)], {}, "extension ERR,2 is there 2 times"),
        ([], {"sci": ("SCI", 3)}, "no extension SCI,3, found PRIMARY, SCI,1, ERR,1, SCI,2, ERR,2"),
        ([], {"sci": "CHIP"}, "no extension CHIP, found PRIMARY, SCI,1, ERR,1"),
    ],
)
def test_images_of_the_wrong_chip_are_never_taken(write, others, recipe, match):
    images = [plane(name, version, 0, "i2") for name, version in others]
    for image in images:
        if image.name in ("SCI", "ERR"):
            image.header.update(wcs_cards())
    refused(match, write(*two_chips(*images)), **recipe)


@pytest.mark.parametrize("key", [True, 1.5, -1, "", ("SCI",), ("SCI", "2"), (1, 2), {}, None])
def test_keys_of_extensions_that_are_none(write, key):
    refused("extension .*, expected a name, the number of an HDU, or a pair", write(*two_chips()), sci=key)


def test_files_beside_a_file_of_two_chips(write):
    science = write(*two_chips())
    mask = write(*(plane("MASK", chip, chip - 1, "i2") for chip in (1, 2)), name="mask.fits")
    with pytest.raises(InputError, match="exposure 'e_2': no valid pixel among 48"):
        [Exposure.from_frame(frame) for frame in read_frames(science, ReadingOptions(), files={"mask": mask})]
    write(plane("MASK", 1, 0, "i2"), name="mask.fits")
    with pytest.raises(InputError, match=r"a.fits: .*mask.fits: no extension MASK,2 for SCI,2"):
        read_frames(science, ReadingOptions(), files={"mask": mask})


def test_chips_of_two_files_need_names_of_their_own(write):
    other = plane("SCI", EXPID="e_2")
    paths = [write(*two_chips()), write(other, plane("ERR"), name="b.fits")]
    exposures, problems = collect(paths)
    assert [exposure.name for exposure in exposures] == ["e_1", "e_2"]
    assert "b.fits: exposure 'e_2' of band r was read from" in problems[0]


# --------------------------------------------------------------------------------------------------
# Data quality


def quality(value=0):
    """Values 1, 4, 512 and `value` in the first four pixels."""
    image = np.zeros(SHAPE, np.int32)
    image[0, :4] = 1, 4, 512, value
    return image


@pytest.mark.parametrize(
    ("telescope", "bitmask", "bad", "how"),
    [
        ("JWST", None, [0, 2], "DQ bits 1|512"),
        ("HST", None, [0, 1, 2, 3], "DQ"),
        ("HST", 4, [1, 3], "DQ bits 4"),
        ("JWST", 0, [0, 1, 2, 3], "DQ"),
    ],
)
def test_bits_of_data_quality(write, telescope, bitmask, bad, how):
    dq = fits.ImageHDU(quality(-(2**31) + 4), name="DQ")
    path = write(plane("SCI", TELESCOP=telescope), plane("ERR"), dq, plane("VAR_RNOISE"))
    (exposure,) = read_exposures([path], bitmask=bitmask)
    assert np.flatnonzero(exposure.ierr[0] == 0).tolist() == bad
    assert exposure.read_as.split(", ")[1] == how
    rule = how.removeprefix("DQ ") if " " in how else "not 0"
    assert exposure.notes == (f"extension DQ is the mask (bad: {rule}); VAR_RNOISE is not used",)


def test_mask_comes_before_data_quality_and_that_before_weights(write):
    mask, dq, wht = (
        fits.ImageHDU(quality()[:, ::-1] * (name != "WHT"), name=name) for name in ("MASK", "DQ", "WHT")
    )
    dq.data = np.roll(dq.data, 1, axis=0)
    wht.data = np.ones(SHAPE, "f4")
    wht.data[5, 5], wht.data[5, 6] = 0, np.nan
    base = [plane("SCI"), plane("ERR")]
    for others, row, note in (
        ([mask, dq, wht], 0, "extension MASK is the mask (bad: not 0); DQ, WHT are not used"),
        ([dq, wht], 1, "extension DQ is the mask (bad: not 0); WHT is not used"),
        ([wht], 5, "extension WHT is the mask (bad: not above 0)"),
    ):
        (exposure,) = read_exposures([write(*base, *others)])
        assert set(np.argwhere(exposure.ierr == 0)[:, 0]) == {row}
        assert exposure.notes == (note,)
    assert np.argwhere(exposure.ierr == 0).tolist() == [[5, 5], [5, 6]]
    (exposure,) = read_exposures([write(*base, mask)])
    assert exposure.notes == ()


def test_where_errors_may_be(write):
    refused(
        "no extension ERR, found PRIMARY, SCI, VAR_POISSON; if VAR_POISSON holds the variance, `fphojax preprocess` "
        "reads it with extensions.err: VAR_POISSON and preprocess.error_kind: variance",
        write(plane("SCI"), plane("VAR_POISSON")),
    )
    refused("extensions.err: WHT and .*: inverse_variance", write(plane("SCI"), plane("WHT"), plane("CTX")))
    refused("no extension ERR, found PRIMARY, SCI, CTX$", write(plane("SCI"), plane("CTX")))


# --------------------------------------------------------------------------------------------------
# Units


@pytest.mark.parametrize(
    ("sci", "err", "factors", "read_as"),
    [
        ("nJy", None, (1, 1), "nJy"),
        ("uJy/pix", None, (1e3, 1e3), "uJy/pix = 1000 nJy"),
        ("nmgy", "nJy", (3631, 1), "nmgy = 3631 nJy, ERR nJy"),
        ("mJy", "uJy", (1e6, 1e3), "mJy = 1e+06 nJy, ERR uJy = 1000 nJy"),
        (None, "nJy", (1, 1), "no BUNIT: nJy"),
    ],
)
def test_units_of_image_and_error(write, sci, err, factors, read_as):
    cards = [{} if unit is None else {"BUNIT": unit} for unit in (sci, err)]
    path = write(plane("SCI", value=2.0, **cards[0]), plane("ERR", value=0.5, **cards[1]))
    exposure = Exposure.from_fits(path)
    np.testing.assert_allclose(exposure.data, 2 * factors[0], rtol=1e-6)
    np.testing.assert_allclose(exposure.ierr, 2 / factors[1], rtol=1e-6)
    assert exposure.read_as.startswith(f"{read_as}, no mask")
    assert exposure.header.get("BUNIT", "nJy") == "nJy"
    write_exposure(exposure, path.with_name("b.fits"))
    again = Exposure.from_fits(path.with_name("b.fits"))
    np.testing.assert_array_equal(again.data, exposure.data)
    np.testing.assert_array_equal(again.ierr, exposure.ierr)


@pytest.mark.parametrize("unit", ["ELECTRONS/S", "counts", "adu", "DN", "Jy/beam", "mag", "1"])
def test_units_that_need_a_calibration(write, unit):
    match = f"a.fits: extension SCI: BUNIT = '{unit}', expected nJy, uJy, .* preprocess.calibration"
    refused(match, write(plane("SCI", BUNIT=unit), plane("ERR")))


@pytest.mark.parametrize(
    ("sci", "err", "match"),
    [
        ("nJy", "ELECTRONS", "extension ERR: BUNIT = 'ELECTRONS', expected nJy, uJy"),
        ("mJy", "mjy", "extension ERR: BUNIT = 'mjy', expected nJy"),
        (None, "uJy", "extension ERR: BUNIT = 'uJy', expected no BUNIT as in the science image"),
    ],
)
def test_units_of_errors_that_are_refused(write, sci, err, match):
    cards = {} if sci is None else {"BUNIT": sci}
    refused(match, write(plane("SCI", **cards), plane("ERR", BUNIT=err)))


def test_units_of_variances(write):
    science = plane("SCI", value=2.0, BUNIT="uJy")
    for unit, factor in (("nJy2", 1), ("uJy2", 1e3), ("UNITLESS", 1e3), (None, 1e3)):
        err = plane("VAR", value=4.0, **({} if unit is None else {"BUNIT": unit}))
        recipe = ReadingOptions(err="VAR", error_kind="variance")
        (frame,) = read_frames(write(science, err), recipe)
        np.testing.assert_allclose(frame.err, 2 * factor)
        assert frame.notes == ("extension VAR is the error image",)


def test_areas_of_pixels_agree_with_the_wcs(write):
    area = np.deg2rad(0.03 / 3600) ** 2
    cards = {"BUNIT": "MJy/sr", "PIXAR_SR": 1.05 * area}
    exposure = Exposure.from_fits(write(plane("SCI", **cards), plane("ERR"), plane("AREA", value=1.1)))
    np.testing.assert_allclose(exposure.data, 1e15 * 1.05 * area * 1.1, rtol=1e-6)
    np.testing.assert_allclose(exposure.ierr, 1 / (1e15 * 1.05 * area * 1.1), rtol=1e-6)
    cards["PIXAR_SR"] = 4 * area
    path = write(plane("SCI", **cards), plane("ERR"))
    refused("PIXAR_SR = 8.46.*e-14, expected about 2.115e-14: by the WCS, pixels are 0.03 arcsec wide", path)
    cards = {"BUNIT": "uJy/arcsec2", "PIXAR_A2": 0.0009}
    np.testing.assert_allclose(
        Exposure.from_fits(write(plane("SCI", **cards), plane("ERR"))).data, 0.9, rtol=1e-6
    )
    small = fits.ImageHDU(np.ones((1, 8)), name="AREA")
    path = write(plane("SCI", **cards), plane("ERR"), small)
    refused(r"AREA image has shape \(1, 8\), expected \(6, 8\) as the science image", path)


# --------------------------------------------------------------------------------------------------
# Checksums


def test_checksums(write):
    dq = fits.ImageHDU(quality(), name="DQ")
    path = write(plane("SCI", value=3.0), plane("ERR"), dq, checksum=True)
    assert Exposure.from_fits(path).data[1, 0] == 3
    content = bytearray(path.read_bytes())
    with fits.open(path) as hdus:
        content[hdus["SCI"].fileinfo()["datLoc"] + 5] ^= 16
    path.write_bytes(content)
    refused(
        r"\('SCI', 1\), expected a file that is as it was when its CHECKSUM and DATASUM were written", path
    )


def test_checksums_of_compressed_images(tmp_path):
    data = np.arange(48, dtype="f4").reshape(SHAPE)
    science = fits.CompImageHDU(data, wcs_cards(), name="SCI", compression_type="GZIP_1", quantize_level=0)
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), science, plane("ERR")]).writeto(path, checksum=True)
    np.testing.assert_array_equal(Exposure.from_fits(path).data, data)
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        content[hdus["SCI"].fileinfo()["datLoc"] + 60] ^= 16
    path.write_bytes(content)
    refused("verification failed .*SCI", path)


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_extensions_that_a_truncated_file_has_lost(write, suffix):
    """astropy leaves out what it cannot read: here, the mask."""
    rng = np.random.default_rng(0)
    images = [plane("SCI"), plane("ERR")]
    images[1].data += rng.uniform(size=SHAPE).astype("f4")
    mask = fits.ImageHDU(rng.integers(0, 2, (40, 40)), name="MASK")
    mask.data = mask.data[:6, :8]
    path = write(*images, mask, name=f"a.fits{suffix}")
    assert (read_exposures([path])[0].ierr == 0).any()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - (5000 if not suffix else 100)])
    refused("cannot be read as FITS", path)


def test_settings_imply_how_files_are_read():
    """As a run's own, and as its config.json has them; no bit at all is something else than no setting."""
    extensions = {"sci": ["SCI", 2], "err": "ERR", "mask": None, "psf": None}
    assert reading_options({"extensions": extensions}) == extensions
    config = {"extensions": extensions, "bitmask": 0, "band_keyword": None, "band_patterns": {"*": "r"}}
    found = reading_options(config)
    assert found == extensions | {"bitmask": 0, "band_patterns": {"*": "r"}}
    assert ReadingOptions(**found).bitmask == 0


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("VAR", "variance"),
        ("VAR_POISSON", "variance"),
        ("WHT", "inverse_variance"),
        ("IVAR", "inverse_variance"),
    ],
)
def test_extensions_that_by_their_name_hold_no_standard_deviation(write, name, kind):
    path = write(plane("SCI"), plane(name, value=4.0))
    match = f"a.fits: extension {name}: found error_kind sigma .* preprocess.error_kind: {kind}$"
    with pytest.raises(InputError, match=match):
        Exposure.from_fits(path, err=name)
    (frame,) = read_frames(path, ReadingOptions(err=name, error_kind=kind))
    np.testing.assert_allclose(frame.err, 2.0 if kind == "variance" else 0.5)
