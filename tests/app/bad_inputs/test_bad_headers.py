"""Headers and extensions of images that are refused: units, masks, chips, WCS, checksums and bands."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits


class Row(NamedTuple):
    name: str
    spoil: Callable  # of the HDUs of g1.fits
    said: str  # the line behind the name of the file, or its beginning
    settings: dict | None = None


def header(extension="SCI", **cards):
    """Other values of keywords; None takes one away."""

    def change(hdus):
        for key, value in cards.items():
            hdus[extension].header.pop(key, None)
            if value is not None:
                hdus[extension].header[key] = value

    return change


def added(name, values, version=1, **cards):
    """One more extension; as large as the image, where it is a single value."""

    def change(hdus):
        data = np.full(hdus["SCI"].shape, values) if np.ndim(values) == 0 else np.asarray(values)
        hdus.append(fits.ImageHDU(data, fits.Header(cards), name=name, ver=version))

    return change


def both(*changes):
    def change(hdus):
        for one in changes:
            one(hdus)

    return change


def second_chip(*names):
    """Copies of extensions with EXTVER 2."""

    def change(hdus):
        for name in names:
            hdu = hdus[name].copy()
            hdu.ver = 2
            hdus.append(hdu)

    return change


def nothing(_hdus):
    pass


UNIT = "expected nJy, uJy, mJy, Jy or nanomaggy per pixel, or none for nJy; `fphojax preprocess` converts"
NO_PIXEL = (
    "exposure 'g1': no valid pixel among 576, expected finite data with finite positive errors off the mask"
)
FRAME = "expected ICRS, or FK5 of equinox 2000 (RADESYS, EQUINOX): bring the header to one of them"
CELESTIAL = "expected a celestial WCS with the axes right ascension, declination"
SKY = "extension SCI: WCS has the sky frame"
NO_CD = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
ALONE = {"fitsfiles": ["g1.fits"], "bandlist": ["g"]}
LEFT = {"bandlist": ["r"]}  # as the band of the other image is not known


ROWS = [
    Row(
        "MJy/sr without area",
        header(BUNIT="MJy/sr"),
        "extension SCI: BUNIT = 'MJy/sr', expected nJy per pixel, or",
    ),
    Row(
        "area zero",
        header(BUNIT="MJy/sr", PIXAR_SR=0.0),
        "extension SCI: PIXAR_SR = 0.0, expected a positive",
    ),
    Row(
        "area text",
        header(BUNIT="MJy/sr", PIXAR_SR="a"),
        "extension SCI: PIXAR_SR = 'a', expected a positive",
    ),
    Row("other area", header(BUNIT="MJy/sr", PIXAR_A2=4.0), "PIXAR_A2 = 4, expected about 0.01: by the WCS"),
    *(
        Row(f"unit {unit}", header(BUNIT=unit), f"extension SCI: BUNIT = {unit!r}, {UNIT}")
        for unit in ("ELECTRONS/S", "counts", "adu", "DN", "mjy/x", "Jy/beam", "mag", "erg/s/cm2", "?")
    ),
    Row("unit a number", header(BUNIT=3.5), f"extension SCI: BUNIT = '3.5', {UNIT}"),
    Row("unit of ERR", header("ERR", BUNIT="counts"), f"extension ERR: BUNIT = 'counts', {UNIT}"),
    Row(
        "unit of ERR alone",
        both(header(BUNIT=None), header("ERR", BUNIT="uJy")),
        "extension ERR: BUNIT = 'uJy', expected no BUNIT as in the science image",
    ),
    Row(
        "ERR per area",
        header("ERR", BUNIT="MJy/sr"),
        "extension ERR: BUNIT = 'MJy/sr', expected nJy per pixel",
    ),
    Row(
        "no mask",
        nothing,
        "no extension DQ, found PRIMARY, SCI, ERR, PSF",
        {"extensions": {"mask": "DQ"}} | ALONE,
    ),
    Row(
        "mask of decimals",
        added("DQ", 1.5),
        "extension DQ has dtype >f8, expected integers for bitmask 3",
        {"bitmask": 3},
    ),
    Row(
        "small mask",
        added("MASK", np.zeros((3, 3), int)),
        "exposure 'g1': mask image has shape (3, 3), expected (24, 24)",
    ),
    Row(
        "mask a cube",
        added("MASK", np.zeros((1, 24, 24), int)),
        "extension MASK has shape (1, 24, 24), expected",
    ),
    Row("all masked", added("MASK", 1), NO_PIXEL),
    Row("all not to be used", added("DQ", 1), NO_PIXEL),
    Row("no weight", added("WHT", 0.0), NO_PIXEL),
    Row(
        "MASK twice",
        both(added("MASK", 0), added("MASK", 0)),
        "extension MASK,1 is there 2 times (HDUs 4, 5), expected EXTVER to tell them apart",
    ),
    Row(
        "SCI twice",
        lambda hdus: hdus.append(hdus["SCI"].copy()),
        "extension SCI,1 is there 2 times (HDUs 1, 4), expected EXTVER to tell them apart",
    ),
    Row("chip without ERR", second_chip("SCI"), "no extension ERR,2 for SCI,2, found PRIMARY, SCI,1, ERR"),
    Row(
        "chip without DQ",
        both(second_chip("SCI", "ERR"), added("DQ", 0)),
        "no extension DQ,2 for SCI,2, found PRIMARY, SCI,1, ERR,1",
    ),
    Row(
        "chip that is not there",
        nothing,
        "no extension SCI,3, found PRIMARY, SCI, ERR, PSF",
        {"extensions": {"sci": ["SCI", 3]}} | ALONE,
    ),
    Row(
        "HDU that is not there",
        nothing,
        "no extension 9, found PRIMARY, SCI, ERR, PSF",
        {"extensions": {"sci": 9}} | ALONE,
    ),
    Row(
        "one ERR for two chips",
        second_chip("SCI", "ERR"),
        "extension 2 is one image for 2 chips, expected a name of which there is one for each",
        {"extensions": {"err": 2}},
    ),
    Row("FK4", header(RADESYS="FK4", EQUINOX=1950.0), f"{SKY} FK4 of equinox 1950.0, {FRAME}"),
    Row("unknown frame", header(RADESYS="J2000"), f"{SKY} RADESYS = 'J2000', {FRAME}"),
    Row("GALACTIC", header(RADESYS="GALACTIC"), f"{SKY} RADESYS = 'GALACTIC', {FRAME}"),
    Row("equinox", header(RADESYS="FK5", EQUINOX=1975.0), f"{SKY} FK5 of equinox 1975.0, {FRAME}"),
    Row("frame a number", header(RADESYS=2000), "extension SCI: RADESYS = 2000, expected the name of a sky"),
    Row("equinox text", header(EQUINOX="now"), "extension SCI: EQUINOX = 'now', expected a number"),
    Row(
        "galactic axes",
        header(CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN"),
        "extension SCI: no usable WCS: 2 pixel axes and world axes ['pos.galactic.lon', 'pos.galactic.lat']; "
        f"{CELESTIAL}",
    ),
    *(
        Row(
            f"no {key}",
            header(**{key: None}),
            f"extension SCI: no keyword {key}, expected it for the WCS (RA---TAN, DEC--TAN)",
        )
        for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
    ),
    Row("CRVAL text", header(CRVAL1="150.0"), "extension SCI: CRVAL1 = '150.0', expected a number"),
    Row("CRPIX text", header(CRPIX2="mid"), "extension SCI: CRPIX2 = 'mid', expected a number"),
    Row("CD text", header(CD1_2="none"), "extension SCI: CD1_2 = 'none', expected a number"),
    Row(
        "beyond the pole", header(CRVAL2=95.0), "extension SCI has an invalid WCS (Ill-conditioned coordinate"
    ),
    Row(
        "CD zeros",
        header(CD1_1=0.0, CD1_2=0.0, CD2_1=0.0, CD2_2=0.0),
        "extension SCI: the WCS matrix CD1_1, CD1_2, CD2_1, CD2_2 is 0, 0, 0, 0, expected one that is not",
    ),
    Row(
        "PC singular",
        header(**NO_CD, CDELT1=-2.8e-5, CDELT2=2.8e-5, PC1_1=1.0, PC1_2=1.0, PC2_1=1.0, PC2_2=1.0),
        "extension SCI: the WCS matrix PC1_1, PC1_2, PC2_1, PC2_2 is 1, 1, 1, 1, expected one that is not",
    ),
    Row(
        "no scale",
        header(**NO_CD),
        "extension SCI: no keyword CD1_1 and no CDELT1, expected the scale of the",
    ),
    Row(
        "scale zero",
        header(**NO_CD, CDELT1=0.0, CDELT2=2.8e-5),
        "extension SCI: CDELT1 = 0, expected the size of a pixel for the WCS [deg]",
    ),
    Row(
        "no WCS",
        header(CTYPE1=None, CTYPE2=None),
        f"extension SCI: no usable WCS: 2 pixel axes and world axes [None, None]; {CELESTIAL}",
    ),
    Row(
        "linear axes",
        header(CTYPE1="LINEAR", CTYPE2="LINEAR"),
        f"extension SCI: no usable WCS: 2 pixel axes and world axes [None, None]; {CELESTIAL}",
    ),
    Row("metres", header(CUNIT1="m", CUNIT2="m"), "extension SCI has an invalid WCS (In CUNIT1 : Mismatched"),
    Row(
        "projection", header(CTYPE1="RA---XXX", CTYPE2="DEC--XXX"), "extension SCI has an invalid WCS (Unrec"
    ),
    Row(
        "checksum of data",
        header(DATASUM="1"),
        "Datasum verification failed for HDU ('SCI', 1), expected",
        LEFT,
    ),
    Row(
        "checksum",
        header(CHECKSUM="0" * 16),
        "Checksum verification failed for HDU ('SCI', 1), expected",
        LEFT,
    ),
    Row("no filter", header(FILTER=None), "extension SCI: no keyword FILTER (or FILTER1, FILTER2)", LEFT),
    Row("blank filter", header(FILTER=" "), "extension SCI: no keyword FILTER (or FILTER1, FILTER2)", LEFT),
    Row(
        "two filters",
        header(FILTER=None, FILTER1="F1", FILTER2="F2"),
        "extension SCI: found FILTER1 = F1, FILTER2 = F2, expected one filter; the settings band_keyword and",
        LEFT,
    ),
    Row(
        "no filter in two wheels",
        header(FILTER=None, FILTER1="CLEAR1L", FILTER2="CLEAR2L"),
        "extension SCI: found FILTER1 = CLEAR1L, FILTER2 = CLEAR2L, expected one filter; the settings",
        LEFT,
    ),
    Row(
        "grism",
        header(FILTER="GRISMR"),
        "extension SCI: an image dispersed by the grism GRISMR, expected",
        LEFT,
    ),
    Row(
        "no such keyword",
        nothing,
        "extension SCI: no keyword BAND, expected the band (setting band_keyword)",
        {"band_keyword": "BAND", "band_patterns": {"r*": "r"}} | LEFT,
    ),
    Row(
        "two patterns",
        nothing,
        "extension SCI: the name fits several entries of band_patterns (*1.fits: g, g*: r), expected one",
        {"band_patterns": {"g*": "r", "*1.fits": "g"}, "bandlist": ["g"]},
    ),
    Row(
        "sampling of the PSF",
        header("PSF", OVERSAMP=4),
        "extension PSF has OVERSAMP = 4, expected 1: the image",
    ),
    Row(
        "sampling text",
        header("PSF", OVERSAMP="four"),
        "extension PSF has OVERSAMP = 'four', expected a positive",
    ),
    Row(
        "scale of the PSF",
        header("PSF", PIXELSCL=0.03),
        "extension PSF has PIXELSCL = 0.03, expected 0.1: the",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_header(tiny, row):
    tiny.set(**(row.settings or {}))
    tiny.fits(row.spoil)
    tiny.refused(said=[[f"g1.fits: {row.said}"]])


def test_filter_in_other_capitals(tiny):
    """The band is another one, and whoever meant the same is told."""
    tiny.fits(header(FILTER="G"))
    said = "field.yml: bandlist: found no usable exposure in band g, expected one or more; bands of exposures: G, r"
    tiny.refused(said=[[f"{said} (G differs only in its capitals)"]])


def test_patterns_that_fit_no_file(tiny):
    tiny.set(band_patterns={"*.fits.gz": "g"}, bandlist=["z"])
    absent = "field.yml: bandlist: found no usable exposure in band z, expected one or more; bands of exposures: g, r"
    tiny.refused(said=[[absent], ["peaks.ecsv: no column z, found id, ra, dec"]])


def test_all_files_of_a_band_are_refused(tiny):
    """No second line about the band follows, but one about a band that no file names."""
    tiny.set(bandlist=["g", "r", "z"])
    tiny.fits(header(BUNIT="adu"))
    absent = (
        "field.yml: bandlist: found no usable exposure in band z, expected one or more; bands of exposures: r"
    )
    tiny.refused(said=[["g1.fits: extension SCI: BUNIT = 'adu'"], [absent], ["peaks.ecsv: no column z"]])


def test_sky_level_of_no_band(tiny):
    tiny.set(tweakbg={"z": 1.0}, tweak_background="tweakbg")
    tiny.refused(
        said=[["field.yml: tweakbg.z: found a sky level of band z, expected a band of the exposures: g, r"]]
    )


def test_many_files(tiny):
    """Ten lines and a count."""
    names = [f"x{number:02}.fits" for number in range(15)]
    for name in names:
        tiny.write(name, tiny.path("g1.fits").read_bytes().replace(b"'nJy     '", b"'adu     '", 1))
    tiny.set(fitsfiles=["g1.fits", "r1.fits", "x*.fits"])
    lines = [[f"{name}: extension SCI: BUNIT = 'adu', expected"] for name in names[:10]]
    tiny.refused(said=[*lines, ["exposures: and 5 more like these"]])
