import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax.inputs.sphere import CircleIndex, Footprints, enclosing_circle, separation, unit_vectors


def circles(seed, size, ra, dec, side):
    """Positions in degrees around (ra, dec), and radii over three decades, arcsec."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-side / 2, side / 2, (2, size)) / 3600
    d = np.clip(dec + y, -90, 90)
    return (ra + x / max(np.cos(np.deg2rad(dec)), 1e-3)) % 360, d, 10 ** rng.uniform(-1, 1.5, size)


def brute_force(ra, dec, radius):
    """Matrix of separations (arcsec), and which circles overlap, by astropy."""
    sky = SkyCoord(ra, dec, unit="deg")
    distance = sky[:, None].separation(sky[None, :]).arcsec
    return distance, distance <= radius[:, None] + radius[None, :]


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, 60.0), (120.0, -89.9), (15.0, 90.0)])
def test_separation_against_astropy(ra, dec):
    a, d, _ = circles(1, 40, ra, dec, 30.0)
    expected, _ = brute_force(a, d, np.ones(40))
    vectors = unit_vectors(a, d)
    error = np.abs(separation(vectors[:, None], vectors[None, :]) - expected).max()
    print(f"largest error {error:.1e} arcsec")
    assert error < 1e-8


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 60),
    ra=st.sampled_from([0.0, 359.999, 150.0]),
    dec=st.sampled_from([0.0, 45.0, -89.99, 90.0]),
)
def test_overlaps_are_those_found_by_brute_force(seed, size, ra, dec):
    a, d, radius = circles(seed, size, ra, dec, 60.0)
    distance, overlap = brute_force(a, d, radius)
    vectors = unit_vectors(a, d)
    index = CircleIndex(vectors, radius)
    links = index.links().toarray().astype(bool)
    np.testing.assert_array_equal(links, overlap & ~np.eye(size, dtype=bool))
    for i in range(0, size, 7):
        rows, found = index.overlapping(vectors[i], radius[i])
        assert sorted(rows) == np.flatnonzero(overlap[i]).tolist()
        np.testing.assert_allclose(found, distance[i, rows], atol=1e-8)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 15), dec=st.sampled_from([0.0, -60.0, 89.999, 90.0]))
def test_enclosing_circle_holds_all_and_little_more(seed, size, dec):
    a, d, radius = circles(seed, size, 0.0, dec, 20.0)
    vectors = unit_vectors(a, d)
    centre, enclosing = enclosing_circle(vectors, radius)
    reach = separation(vectors, centre) + radius
    assert reach.max() <= enclosing
    # no circle around all is smaller than half of the longest distance between rims
    far = separation(vectors[:, None], vectors[None, :]) + radius[:, None] + radius[None, :]
    assert enclosing <= np.sqrt(2) * far.max() * (1 + 1e-6)


def test_no_circles():
    index = CircleIndex(np.empty((0, 3)), np.empty(0))
    assert index.links().shape == (0, 0)
    assert len(index.overlapping(np.array([1.0, 0, 0]), 5.0)[0]) == 0


@settings(max_examples=50, deadline=None)
@given(st.floats(-90, 90), st.floats(0, 360), st.floats(0.01, 1e5), st.integers(0, 5))
def test_footprints_that_touch_a_region(dec, ra, radius, seed):
    rng = np.random.default_rng(seed)
    circles = np.stack(
        [rng.uniform(0, 360, 50), np.degrees(np.arcsin(rng.uniform(-1, 1, 50))), rng.uniform(1, 4e5, 50)], 1
    )
    found = Footprints(circles).touching(ra, dec, radius)
    a, b = np.radians([ra, dec]), np.radians(circles[:, :2].T)
    cos = np.sin(a[1]) * np.sin(b[1]) + np.cos(a[1]) * np.cos(b[1]) * np.cos(a[0] - b[0])
    gap = np.degrees(np.arccos(np.clip(cos, -1, 1))) * 3600 - radius - circles[:, 2]
    sure = np.abs(gap) > 0.01  # arccos is no better than that
    np.testing.assert_array_equal(np.isin(np.arange(50), found)[sure], (gap <= 0)[sure])
