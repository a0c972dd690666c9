"""Headers and sky frames that would put an image elsewhere are refused, those that would not are read."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from fphojax.inputs import InputError
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.fits_images import read_wcs
from fphojax.inputs.wcs_checks import distortion_note, frame_name


def header(**changes):
    """A TAN header with a CD matrix; a card is left out where its value is None."""
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 5.0}
    cards |= {"CRPIX2": 5.0, "CD1_1": -1e-5, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 1e-5} | changes
    return fits.Header({key: value for key, value in cards.items() if value is not None})


NO_CD = {"CD1_1": None, "CD1_2": None, "CD2_1": None, "CD2_2": None}
SCALE = {"CDELT1": -1e-5, "CDELT2": 1e-5}


def read(cards):
    wcs = read_wcs(cards, None, "SCI")
    return wcs, frame_name(wcs)


@pytest.mark.parametrize(
    ("changes", "frame"),
    [
        ({}, "ICRS"),
        (
            {"RADESYS": "ICRS", "EQUINOX": 1950.0},
            "ICRS",
        ),  # the standard's rule: an equinox of ICRS means nothing
        ({"RADESYS": "FK5"}, "FK5"),
        ({"RADESYS": "FK5", "EQUINOX": 2000.0}, "FK5"),
        ({"RADECSYS": "FK5", "EQUINOX": 2000}, "FK5"),
        ({"EQUINOX": 2000.0}, "FK5"),
        ({"EQUINOX": "J2000.0"}, "ICRS"),
        (NO_CD | SCALE, "ICRS"),
        (NO_CD | SCALE | {"PC1_1": 0.0, "PC1_2": 1.0, "PC2_1": -1.0, "PC2_2": 0.0}, "ICRS"),
        ({"CD1_1": 0.0, "CD1_2": 1e-5, "CD2_1": 1e-5, "CD2_2": 0.0}, "ICRS"),
        ({"CD1_2": None, "CD2_1": None}, "ICRS"),
        (SCALE | {"PC1_1": 1.0, "PC2_2": 1.0}, "ICRS"),  # two matrices that agree
        ({f"PV{i}_{m}": float(m == 1) for i in (1, 2) for m in (0, 1, 2, 4, 5, 6)}, "ICRS"),  # SCAMP's
        ({"PV1_1": 0.0, "PV1_2": 90.0}, "ICRS"),  # where TAN has its reference point anyway
    ],
)
def test_headers_that_are_read(changes, frame):
    wcs, found = read(header(**changes))
    assert found == frame
    np.testing.assert_allclose(wcs.pixel_to_world_values(4, 4), (10, 20), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            SCALE | {"PC1_1": 0.8, "PC2_2": 1.0},
            "found both CD1_1 and PC1_1 and others that differ, expected one",
        ),
        ({"PC1_1": 1.0}, "found both CD1_1 and PC1_1 and others that differ, expected one"),
        (
            {f"PV{i}_{m}": float(m == 1) for i in (1, 2) for m in (0, 1, 2)},
            "found PV2_0 with DEC--TAN, which has no such parameter, expected TPV",
        ),
        ({"RADESYS": "FK4"}, "sky frame FK4 of equinox 1950.0, expected ICRS, or FK5 of equinox 2000"),
        ({"EQUINOX": 1950.0}, "sky frame FK4 of equinox 1950.0"),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, "sky frame FK5 of equinox 1975.0"),
        ({"RADESYS": "FK5", "EQUINOX": 2015.5}, "sky frame FK5 of equinox 2015.5"),
        ({"RADESYS": "FK4-NO-E"}, "sky frame FK4NOETERMS"),
        ({"RADESYS": "GAPPT"}, "sky frame RADESYS = 'GAPPT'"),
        ({"RADESYS": "GAIA"}, "sky frame RADESYS = 'GAIA'"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "sky frame GALACTIC"),
        ({"EQUINOX": "1950"}, "extension SCI: EQUINOX = '1950', expected a number"),
        ({"CRVAL1": None}, "extension SCI: no keyword CRVAL1, expected it for the WCS"),
        ({"CRVAL2": "20.0"}, "extension SCI: CRVAL2 = '20.0', expected a number"),
        ({"EQUINOX": True}, "EQUINOX = True, expected a number"),
        ({"EPOCH": "1950"}, "EPOCH = '1950', expected a number"),
        ({"RADESYS": 5}, "RADESYS = 5, expected the name of a sky frame"),
        ({"LONPOLE": "180"}, "LONPOLE = '180', expected a number"),
        ({"PV1_1": "x"}, "PV1_1 = 'x', expected a number"),
        ({"A_2_0": "1e-5"}, "A_2_0 = '1e-5', expected a number"),
        ({"CRVAL1": True}, "CRVAL1 = True, expected a number"),
        ({"CRPIX1": None}, "no keyword CRPIX1"),
        ({"CRPIX2": "five"}, "CRPIX2 = 'five'"),
        (
            {"CD1_1": 0.0, "CD2_2": 0.0},
            "matrix CD1_1, CD1_2, CD2_1, CD2_2 is 0, 0, 0, 0, expected .* not singular",
        ),
        ({"CD1_2": 1e-5, "CD2_1": -1e-5}, "CD2_2 is -1e-05, 1e-05, -1e-05, 1e-05, expected"),
        ({"CD2_2": None}, "CD2_2 is -1e-05, 0, 0, 0, expected"),
        ({"CD1_1": "x"}, "CD1_1 = 'x', expected a number"),
        (NO_CD, "no keyword CD1_1 and no CDELT1, expected the scale"),
        (NO_CD | SCALE | {"CDELT2": 0.0}, "CDELT2 = 0, expected the size of a pixel"),
        (NO_CD | SCALE | {"PC1_1": 0.0, "PC2_2": 0.0}, "PC2_2 is 0, 0, 0, 0, expected"),
    ],
)
def test_headers_that_are_refused(changes, match):
    with pytest.raises(InputError, match=match) as caught:
        read(header(**changes))
    print(caught.value)
    assert "\n" not in str(caught.value)


def test_arrays_with_a_wcs_of_another_frame():
    image = np.ones((8, 8))
    wcs = WCS(header(RADESYS="FK5", EQUINOX=1950.0))
    with pytest.raises(InputError, match=r"exposure 'e': WCS has the sky frame FK5 of equinox 1950\.0"):
        Exposure.from_arrays(image, image, wcs, band="g", name="e")
    wcs = WCS(header(CTYPE1="ELON-TAN", CTYPE2="ELAT-TAN"))
    with pytest.raises(InputError, match=r"no usable WCS: .*'pos.ecliptic.lon'"):
        Exposure.from_arrays(image, image, wcs, band="g", name="e")


def test_headers_that_do_not_agree_with_themselves_about_a_distortion():
    sip = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}
    order = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5}
    assert distortion_note(header()) == distortion_note(header(**sip, **order)) == ""
    assert "the SIP distortion of its WCS is used" in distortion_note(header(**order))
    assert "its WCS has no distortion, though" in distortion_note(header(**sip))
