"""Units at the door: names, conversions, sky positions, and what is refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, Angle, Latitude, Longitude, SkyCoord
from astropy.table import Column, MaskedColumn
from astropy.utils.masked import Masked
from hypothesis import given
from hypothesis import strategies as st

from fphojax.errors import InputError
from fphojax.inputs.units import conversion, has_unit, in_degrees, parse_unit, to_number, to_unit


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("nanomaggy", u.nJy, 3631),
        ("nanomaggies", u.nJy, 3631),
        ("NMGY", u.nJy, 3631),
        (u.nmgy, u.nJy, 3631),
        (u.Unit("nanomaggies", parse_strict="silent"), u.nJy, 3631),
        ("maggy", u.nJy, 3631e9),
        (u.maggy, u.nJy, 3631e9),
        ("njy", u.nJy, 1),
        ("NJY", u.nJy, 1),
        ("uJy", u.nJy, 1e3),
        ("ujy", u.nJy, 1e3),
        ("mJy", u.nJy, 1e6),
        ("MJy", u.nJy, 1e15),
        ("JY", u.nJy, 1e9),
        ("erg / (s cm2 Hz)", u.nJy, 1e32),
        ("degrees", u.deg, 1),
        ("Degree", u.deg, 1),
        ("radians", u.deg, 180 / np.pi),
        ("arcseconds", u.arcsec, 1),
        ("asec", u.arcsec, 1),
        ("arcminutes", u.arcsec, 60),
        ("mas", u.arcsec, 1e-3),
    ],
)
def test_names_of_units(name, unit, factor):
    assert conversion(name, unit) == pytest.approx(factor, rel=1e-14)


@pytest.mark.parametrize(
    ("name", "unit", "message"),
    [
        ("furlong", u.nJy, "unknown unit 'furlong', expected nJy"),
        ("mjy", u.nJy, "unknown unit 'mjy', expected nJy"),  # milli or mega
        ("mag", u.nJy, "unit mag is a magnitude, expected nJy"),
        ("ABmag", u.nJy, "unit ABmag is a magnitude, expected nJy"),
        (u.ABmag, u.nJy, r"unit mag\(AB\) is a magnitude, expected nJy"),
        ("km", u.nJy, "unit km, expected nJy"),
        ("MJy/sr", u.nJy, "unit MJy/sr is a surface brightness, expected nJy .*times the area of a pixel"),
        ("arcsec", u.nJy, "unit arcsec, expected nJy"),
        (u.one, u.nJy, "unit of a pure number, expected nJy"),
        ("deg", u.one, "unit deg, expected a pure number"),
    ],
)
def test_units_refused(name, unit, message):
    with pytest.raises(InputError, match=message) as caught:
        conversion(name, unit)
    assert "\n" not in str(caught.value)


@given(st.floats(-1e6, 1e6), st.sampled_from([u.deg, u.arcmin, u.arcsec, u.mas, u.rad, u.hourangle]))
def test_angles_come_back(value, unit):
    there = to_unit(value * unit, u.deg, "angle")
    assert (there * u.deg).to_value(unit) == pytest.approx(value, rel=1e-13, abs=1e-300)
    assert to_unit(there, u.deg, "angle") == there


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
def test_plain_numbers_are_left_as_they_are(values):
    for given_as in (values, np.array(values), tuple(values), Column(values), MaskedColumn(values)):
        assert not has_unit(given_as)
        np.testing.assert_array_equal(to_unit(given_as, u.nJy, "flux"), values)


def test_kinds_of_values():
    assert to_unit([1 * u.deg, 30 * u.arcmin], u.deg, "a").tolist() == [1.0, 0.5]
    assert to_unit(Angle("1d30m"), u.deg, "a") == pytest.approx(1.5)
    assert to_unit(Longitude("2h"), u.deg, "a") == pytest.approx(30)
    assert to_unit(Latitude(-0.5 * u.rad), u.deg, "a") == pytest.approx(np.rad2deg(-0.5))
    assert to_unit(Column([1, 2], unit="uJy"), u.nJy, "a") == pytest.approx([1e3, 2e3])
    assert to_unit(MaskedColumn([1, 2], unit="nmgy"), u.nJy, "a") == pytest.approx([3631, 7262])
    assert to_unit(Masked([1.0, 2.0] * u.uJy), u.nJy, "a") == pytest.approx([1e3, 2e3])
    assert to_unit(50 * u.percent, u.one, "a") == pytest.approx(0.5)
    assert to_unit(np.arange(3, dtype=">i2"), u.deg, "a").dtype == np.dtype("=f8")
    assert to_number(np.array([2]), u.deg, "a") == 2.0
    assert parse_unit(u.deg) is u.deg


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3 * u.m, "rhalf: found unit m, expected arcsec"),
        (3 * u.one, "rhalf: found unit of a pure number, expected arcsec"),
        (
            MaskedColumn([1.0, 2.0], mask=[False, True]),
            "rhalf: found 1 masked, the first in row 1, expected none",
        ),
        (Masked([1.0, 2.0] * u.deg, mask=[True, True]), "rhalf: found 2 masked, the first in row 0"),
        (np.ma.masked_invalid([np.nan, 1.0]), "rhalf: found 1 masked"),
        ("1.5", "rhalf: found '1.5', expected numbers"),
        (None, "rhalf: found None, expected numbers"),
        (True, "rhalf: found True, expected numbers"),
        ([[1.0], [1.0, 2.0]], "rhalf: found .*, expected numbers"),
        ([1 * u.deg, 2 * u.m], "rhalf: found unit m, expected arcsec"),
        (SkyCoord(1, 2, unit="deg"), "rhalf: found a SkyCoord, expected arcsec"),
    ],
)
def test_values_refused(value, message):
    with pytest.raises(InputError, match=message) as caught:
        to_unit(value, u.arcsec, "rhalf")
    assert "\n" not in str(caught.value)


def test_sky_positions():
    place = SkyCoord([10.0, 20.0], [-5.0, 60.0], unit="deg")
    for given_as in (place, place.galactic, place.fk5):
        ra, dec = in_degrees(given_as)
        np.testing.assert_allclose(ra, [10, 20], atol=1e-9)
        np.testing.assert_allclose(dec, [-5, 60], atol=1e-9)
    np.testing.assert_allclose(in_degrees(0.5 * u.rad, [1, 2] * u.deg)[1], [1, 2])
    with pytest.raises(InputError, match="dec: found a value beside a SkyCoord"):
        in_degrees(place, 3.0)
    with pytest.raises(InputError, match="dec: found nothing, expected a declination"):
        in_degrees(10.0)
    with pytest.raises(InputError, match="ra: found a SkyCoord of frame altaz"):
        in_degrees(SkyCoord(1, 2, unit="deg", frame=AltAz()))


def test_a_single_number_is_expected():
    with pytest.raises(InputError, match="radius: found 2 numbers, expected one"):
        to_number([1.0, 2.0], u.arcsec, "radius")
