"""Pixel positions and Jacobians against the projections' definitions, evaluated with 40 digits."""

import os
from pathlib import Path

import mpmath
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from fphojax.inputs import InputError
from fphojax.inputs.astrometry import (
    CircularRegion,
    check_celestial,
    completed,
    local_affine,
    pixel_scale,
    sky_offsets,
    sky_position,
)

SHARED = Path(__file__).resolve().parents[2] / "../shared"
DATA = Path(os.environ.get("FPHOJAX_DATA", SHARED / "data"))
REFERENCE = Path(os.environ.get("FPHOJAX_REFERENCE", SHARED / "reference"))

# Exponents (x, y, r) of the TPV coefficients PV1_k; PV2_k has x and y exchanged.
TPV = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (1, 1, 0), (0, 2, 0), (3, 0, 0), (2, 1, 0)]
TPV += [(1, 2, 0), (0, 3, 0), (0, 0, 3), (4, 0, 0), (3, 1, 0), (2, 2, 0), (1, 3, 0), (0, 4, 0)]


def tan_header(ra=150.0, dec=2.0, scale=0.03, angle=0.3, shape=(120, 100), **more):
    """A TAN header; scale in arcsec, angle in radians."""
    header = fits.Header()
    step = scale / 3600
    c, s = step * np.cos(angle), step * np.sin(angle)
    header["NAXIS"], header["NAXIS1"], header["NAXIS2"] = 2, shape[1], shape[0]
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["CRVAL1"], header["CRVAL2"] = ra, dec
    header["CRPIX1"], header["CRPIX2"] = (shape[1] + 1) / 2, (shape[0] + 1) / 2
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -c, s, s, c
    header.update(more)
    return header


def exact_sky(header, x, y):
    """(ra, dec) in degrees of zero-indexed pixel (x, y), from the definitions of TAN, SIP and TPV."""
    mp = mpmath.mp
    u, v = x + 1 - mp.mpf(header["CRPIX1"]), y + 1 - mp.mpf(header["CRPIX2"])
    if header["CTYPE1"].endswith("SIP"):
        u, v = (
            w
            + sum(
                mp.mpf(header.get(f"{letter}_{p}_{q}", 0.0)) * u**p * v**q
                for p in range(header[f"{letter}_ORDER"] + 1)
                for q in range(header[f"{letter}_ORDER"] + 1)
            )
            for letter, w in (("A", u), ("B", v))
        )
    if "CD1_1" in header:
        m = {(i, j): mp.mpf(header[f"CD{i}_{j}"]) for i in (1, 2) for j in (1, 2)}
    else:
        m = {(i, j): mp.mpf(header.get(f"PC{i}_{j}", float(i == j))) for i in (1, 2) for j in (1, 2)}
        m = {key: value * mp.mpf(header[f"CDELT{key[0]}"]) for key, value in m.items()}
    xi, eta = m[1, 1] * u + m[1, 2] * v, m[2, 1] * u + m[2, 2] * v
    if header["CTYPE1"].endswith("TPV"):
        r = mp.hypot(xi, eta)
        xi, eta = (
            sum(
                mp.mpf(header.get(f"PV{i}_{k}", float(k == 1))) * a**p * b**q * r**n
                for k, (p, q, n) in enumerate(TPV)
            )
            for i, a, b in ((1, xi, eta), (2, eta, xi))
        )
    xi, eta = mp.radians(xi), mp.radians(eta)
    ra0, dec0 = mp.radians(mp.mpf(header["CRVAL1"])), mp.radians(mp.mpf(header["CRVAL2"]))
    below = mp.cos(dec0) - eta * mp.sin(dec0)
    ra = ra0 + mp.atan2(xi, below)
    dec = mp.atan2(mp.sin(dec0) + eta * mp.cos(dec0), mp.hypot(xi, below))
    return mp.degrees(ra), mp.degrees(dec)


def exact_jacobian(header, x, y, dec0):
    """d(pixel) / d(offset), pixels per arcsec."""
    mp = mpmath.mp
    forward = mp.matrix(2, 2)
    for i in range(2):
        factor = 3600 * (mp.cos(mp.radians(mp.mpf(dec0))) if i == 0 else 1)
        forward[i, 0] = factor * mp.diff(lambda t, i=i: exact_sky(header, t, y)[i], x)
        forward[i, 1] = factor * mp.diff(lambda t, i=i: exact_sky(header, x, t)[i], y)
    inverse = forward**-1
    return np.array([[float(inverse[i, j]) for j in range(2)] for i in range(2)])


def compare(header, wcs, pixels, label):
    """Print and return the largest error of pixel positions, and the largest relative error of Jacobians."""
    with mpmath.workdps(40):
        sky = np.array([[float(c) for c in exact_sky(header, *map(mpmath.mpf, p))] for p in pixels])
        dec0 = sky[:, 1].mean() + 1e-3
        truth = np.array([exact_jacobian(header, *map(mpmath.mpf, p), dec0) for p in pixels])
    found = local_affine(wcs, sky[:, 0], sky[:, 1], dec0=dec0)
    own = np.stack(wcs.world_to_pixel_values(sky[:, 0], sky[:, 1]), axis=-1)
    position = np.abs(found.pixel - pixels).max()
    relative = np.abs(found.jacobian - truth).max() / np.abs(truth).max()
    print(
        f"{label}: position {position:.1e} pixel (WCS's own inverse {np.abs(own - pixels).max():.1e}), "
        f"Jacobian {relative:.1e} relative"
    )
    return position, relative


@pytest.mark.parametrize(("dec", "scale"), [(2.0, 0.03), (-60.0, 0.26), (89.0, 0.1)])
def test_tan(dec, scale):
    header = tan_header(ra=359.9999, dec=dec, scale=scale)
    pixels = np.array([[0, 0], [49.5, 59.5], [99, 3], [-30, 140]])
    position, relative = compare(header, WCS(header), pixels, f"TAN dec {dec}")
    assert position < 1e-7
    assert relative < 1e-8


def test_strong_sip():
    sip = {
        "A_ORDER": 4,
        "B_ORDER": 4,
        "A_2_0": 1e-5,
        "A_1_1": -2e-5,
        "B_0_2": 3e-5,
        "B_3_0": 2e-8,
        "A_0_4": 1e-11,
    }
    header = tan_header(shape=(1000, 900), **sip)
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    pixels = np.array([[0, 0], [449, 500], [899, 3], [10, 999]])
    position, relative = compare(header, WCS(header), pixels, "SIP, 4th order")
    assert position < 1e-7
    assert relative < 1e-8


def real_headers():
    paths = [*sorted(REFERENCE.glob("distorted/F*.fits")), *sorted(DATA.glob("decam_g3r2z3/?_*.fits"))[::3]]
    return paths + sorted(DATA.glob("bok_mosaic3_blend/?_*.fits"))[::5]


@pytest.mark.skipif(not real_headers(), reason="no ../shared/data and ../shared/reference")
def test_real_headers():
    for path in real_headers():
        header = fits.getheader(path, "SCI")
        nx, ny = header["NAXIS1"], header["NAXIS2"]
        pixels = np.array([[0, 0], [nx / 2, ny / 2], [nx - 1, 2], [-5, ny + 4]])
        label = f"{header['CTYPE1'][-3:]} {path.parent.name}/{path.name}"
        position, relative = compare(header, WCS(header), pixels, label)
        assert position < 1e-7
        assert relative < 1e-8


def test_positions_that_the_wcs_cannot_place_are_nan():
    header = tan_header(ra=150.0, dec=0.0)
    found = local_affine(WCS(header), [150.0, 330.0, np.nan, 150.0], [0.0, 0.0, 0.0, np.inf], dec0=0.0)
    assert np.isfinite(found.pixel).all(axis=1).tolist() == [True, False, False, False]
    assert np.isfinite(found.jacobian).all(axis=(1, 2)).tolist() == [True, False, False, False]


def test_no_sources():
    found = local_affine(WCS(tan_header()), [], [], dec0=0.0)
    assert found.pixel.shape == (0, 2)
    assert found.jacobian.shape == (0, 2, 2)


def test_affine_map_predicts_neighbours():
    wcs = WCS(tan_header(scale=0.1))
    here = local_affine(wcs, 150.0, 2.0, dec0=2.001)
    ra, dec = sky_position(*np.array([[0.3, -0.2], [0.1, 0.5]]), 150.0, 2.0)
    offset = sky_offsets(ra, dec, 150.0, 2.0) * [np.cos(np.deg2rad(2.001)) / np.cos(np.deg2rad(2.0)), 1]
    there = np.stack(wcs.world_to_pixel_values(ra, dec), axis=-1)
    np.testing.assert_allclose(here.pixel + offset @ here.jacobian[0].T, there, atol=1e-5)


@given(
    st.floats(0, 359.999),
    st.floats(-85, 85),
    st.lists(st.tuples(st.floats(-600, 600), st.floats(-600, 600)), min_size=1, max_size=5),
)
def test_offsets_and_positions_are_inverse(ra0, dec0, offsets):
    offsets = np.array(offsets)
    ra, dec = sky_position(*offsets.T, ra0, dec0)
    assert ((ra >= 0) & (ra < 360)).all()
    np.testing.assert_allclose(sky_offsets(ra, dec, ra0, dec0), offsets, rtol=0, atol=1e-9)


def test_offsets_across_zero_ra():
    np.testing.assert_allclose(sky_offsets([0.001, 359.999], [0, 0], 0.0, 0.0)[:, 0], [3.6, -3.6], atol=1e-9)
    np.testing.assert_allclose(sky_offsets([0.001], [0], 359.999, 0.0), [[7.2, 0]], atol=1e-9)


def test_pixel_scale():
    header = tan_header(scale=0.063, dec=70.0)
    assert pixel_scale(WCS(header), (120, 100)) == pytest.approx(0.063, rel=1e-7)


@pytest.mark.parametrize("radius", [0.01, 0.5, 1.4, 10.0])
@pytest.mark.parametrize(("x", "y"), [(50.0, 60.0), (-3.0, 60.0), (97.0, 121.0)])
@pytest.mark.parametrize("dec", [2.0, -75.0])
def test_region_holds_the_pixels_within_its_radius(radius, x, y, dec):
    shape = 120, 100
    wcs = WCS(tan_header(shape=shape, dec=dec))
    ra, dec = (float(c) for c in wcs.pixel_to_world_values(x, y))
    region = CircularRegion(ra, dec, radius)
    centres = wcs.array_index_to_world(*np.mgrid[: shape[0], : shape[1]])
    centre = wcs.pixel_to_world(x, y)
    expected = centres.separation(centre).arcsec <= radius
    np.testing.assert_array_equal(region.pixel_mask(wcs, shape), expected)
    box = region.bounding_box(wcs, shape)
    if not expected.any():
        assert box is None
        return
    rows, columns = np.nonzero(expected)
    assert box == (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
    assert region.cutout(wcs, shape)[1].sum() == expected.sum()


def test_region_far_away():
    wcs = WCS(tan_header(ra=150.0, dec=2.0))
    for ra, dec in ((150.01, 2.0), (330.0, -2.0), (150.0, 2.1)):
        assert CircularRegion(ra, dec, 3.0).bounding_box(wcs, (120, 100)) is None
        assert not CircularRegion(ra, dec, 3.0).pixel_mask(wcs, (120, 100)).any()


def test_region_around_a_whole_image_and_its_centre_off_the_projection():
    wcs = WCS(tan_header())
    assert CircularRegion(150.0, 2.0, 1000.0).bounding_box(wcs, (120, 100)) == (0, 100, 0, 120)
    assert CircularRegion(330.0, -2.0, 180 * 3600.0).pixel_mask(wcs, (120, 100)).all()


def test_region_contains():
    region = CircularRegion(10.0, 60.0, 1.0)
    ra, dec = sky_position([0, 0.99, 1.01, 0], [0, 0, 0, -0.999], 10.0, 60.0)
    assert region.contains(ra, dec).tolist() == [True, True, False, True]


def test_wcs_must_be_celestial():
    header = tan_header()
    header["CTYPE1"], header["CTYPE2"] = "GLON-TAN", "GLAT-TAN"
    with pytest.raises(InputError, match=r"pos.galactic.lon.*expected a celestial WCS"):
        check_celestial(WCS(header), (120, 100))
    with pytest.raises(InputError, match="expected a celestial WCS"):
        check_celestial(WCS(naxis=2), (120, 100))
    check_celestial(WCS(tan_header()), (120, 100))


def test_gwcs_agrees_with_fits():
    gwcs = pytest.importorskip("gwcs")
    from astropy import coordinates
    from astropy import units as u
    from astropy.modeling import models
    from gwcs import coordinate_frames as cf

    header = tan_header(angle=0.3)
    cd = np.array([[header[f"CD{i}_{j}"] for j in (1, 2)] for i in (1, 2)])
    forward = (
        models.Shift(1 - header["CRPIX1"]) & models.Shift(1 - header["CRPIX2"])
        | models.AffineTransformation2D(cd)
        | models.Pix2Sky_TAN()
        | models.RotateNative2Celestial(header["CRVAL1"], header["CRVAL2"], 180)
    )
    detector = cf.Frame2D(name="detector", unit=(u.pix, u.pix))
    sky = cf.CelestialFrame(reference_frame=coordinates.ICRS(), unit=(u.deg, u.deg))
    wcs = gwcs.WCS(forward, detector, sky)
    wcs.bounding_box = ((-0.5, 99.5), (-0.5, 119.5))
    check_celestial(wcs, (120, 100))
    pixels = np.array([[0, 0], [50, 60], [99, 119], [-20, 130]])  # the last one is outside the bounding box
    position, relative = compare(header, wcs, pixels, "gwcs TAN")
    assert position < 1e-7
    assert relative < 1e-8
    region = CircularRegion(header["CRVAL1"], header["CRVAL2"], 1.0)
    np.testing.assert_array_equal(
        region.pixel_mask(wcs, (120, 100)), region.pixel_mask(WCS(header), (120, 100))
    )


def test_positions_with_units():
    place = SkyCoord(10.0, 60.0, unit="deg")
    for region in (
        CircularRegion(place, radius=1 * u.arcsec),
        CircularRegion(place.galactic, radius=1.0),
        CircularRegion(place.ra, place.dec, Angle("1s")),
        CircularRegion(np.deg2rad(10) * u.rad, 60.0, u.arcmin / 60),
    ):
        np.testing.assert_allclose([region.ra, region.dec, region.radius], [10.0, 60.0, 1.0], rtol=1e-13)
        assert all(type(value) is float for value in (region.ra, region.dec, region.radius))
    assert region.contains(place)
    assert not region.contains(place.ra + 3 * u.arcsec, place.dec)
    found = sky_offsets([10.001, 10.002] * u.deg, 3600.0 * u.arcmin, place.ra, place.dec)
    np.testing.assert_array_equal(found, sky_offsets([10.001, 10.002], 60.0, 10.0, 60.0))
    found = sky_position(0.01 * u.arcmin, 1 * u.arcsec, place.ra, 60.0)
    np.testing.assert_allclose(found, sky_position(0.6, 1.0, 10.0, 60.0), rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10.0, 60.0, 1 * u.kpc), "radius: found unit kpc, expected arcsec"),
        ((10.0 * u.m, 60.0, 1.0), "ra: found unit m, expected deg"),
        ((SkyCoord(1, 2, unit="deg"), 60.0, 1.0), "dec: found a value beside a SkyCoord"),
        ((10.0, 60.0), "radius: found nothing, expected the radius"),
        ((10.0, 60.0, -1.0), "region: found ra=10 dec=60 radius=-1, expected finite numbers"),
        ((np.nan, 60.0, 1.0), "region: found ra=nan"),
        ((SkyCoord([1, 2], [1, 2], unit="deg"), None, 1.0), "ra: found 2 numbers, expected one"),
    ],
)
def test_regions_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        CircularRegion(*arguments)


def test_wcs_without_units_is_completed():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ("RA---TAN", "DEC--TAN"), (150.0, 2.0), (50.5, 60.5)
    wcs.wcs.cdelt = -0.03 / 3600, 0.03 / 3600
    made = completed(wcs)
    check_celestial(made, (120, 100))
    assert [str(unit) for unit in made.wcs.cunit] == ["deg", "deg"]
    assert [str(unit) for unit in wcs.wcs.cunit] == ["", ""]  # the caller's own is left as it is
    assert completed(made) is made
    assert pixel_scale(made, (120, 100)) == pytest.approx(0.03)
    wcs.wcs.cd = np.zeros((2, 2))
    with pytest.raises(InputError, match="no usable WCS"):
        completed(wcs)
