"""Halo, structure, neighbours: what stands out from the light around it."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fphojax.detection.source_search import detect
from fphojax.detection.surroundings import light_around, nearest_higher, select_separated
from fphojax.inputs.source_catalog import SourceCatalog

SHAPE = (220, 220)
CENTRE, CLUMP, NEIGHBOUR = (110, 112), (135, 112), (85, 112)


def galaxy(x, y, peak, scale):
    row, column = np.indices(SHAPE)
    return peak * np.exp(-np.hypot(column - x, row - y) / scale)


def pixels(image, catalog):
    x, y = image.wcs.world_to_pixel_values(catalog.ra, catalog.dec)
    return set(zip(np.round(x).astype(int).tolist(), np.round(y).astype(int).tolist(), strict=True))


@pytest.fixture(scope="module")
def spiral(make_image, spot):
    """A bright galaxy with a clump of 40 % of its light on one side, a neighbour of twice its light on the other."""
    light = galaxy(*CENTRE, 400.0, 40.0)
    clump_light = light[CLUMP[1], CLUMP[0]]
    clump = spot(SHAPE, *CLUMP, 1.8, 0.75 * clump_light)
    neighbour = spot(SHAPE, *NEIGHBOUR, 1.6, 4 * clump_light)
    return make_image(light + clump + neighbour + np.random.default_rng(1).normal(size=SHAPE))


def has_source_at(places, place):
    return any(np.hypot(x - place[0], y - place[1]) < 2 for x, y in places)


def test_structure_is_told_from_a_neighbour(spiral):
    detections = detect([spiral])
    sources, structure = pixels(spiral, detections.catalog), pixels(spiral, detections.structure)
    assert len(sources) == 2
    assert has_source_at(sources, CENTRE)
    assert has_source_at(sources, NEIGHBOUR)
    assert len(structure) == 1
    assert has_source_at(structure, CLUMP)
    assert detections.structure["origin"].tolist() == ["structure"]
    everything = detect([spiral], structure=0)
    assert len(everything.catalog) == 3
    assert len(everything.structure) == 0


def test_noise_in_a_halo_is_no_source(make_image, spot):
    """Its peaks exceed the threshold in hundreds of places."""
    light = galaxy(110, 110, 0.0, 1.0) + 3000 / (1 + (np.hypot(*(np.indices(SHAPE) - 110)) / 3) ** 2.7)
    faint = spot(SHAPE, 150, 110, 1.6, 5.6)
    image = make_image(light + faint + np.random.default_rng(2).normal(size=SHAPE))
    detections = detect([image])
    sources = pixels(image, detections.catalog)
    print(f"\n{len(sources)} sources, {len(detections.structure)} structure")
    assert has_source_at(sources, (110, 110))
    assert has_source_at(sources, (150, 110))
    assert len(sources) == 2
    assert len(detections.structure) == 0


def test_minimum_separation(spiral):
    far = detect([spiral], minimum_separation=5.0)  # of 0.1 arcsec pixels: 50 of them
    assert len(far.catalog) == 1
    assert has_source_at(pixels(spiral, far.catalog), NEIGHBOUR)  # which stands out more
    ra, dec = spiral.wcs.pixel_to_world_values(*NEIGHBOUR)
    shape = {"q": 0.9, "pa": 0.0, "sersic": 1.0, "rhalf": 0.1, "bands": ["g"]}
    neighbour = SourceCatalog.from_columns(ra=[ra], dec=[dec], flux=[1.0], **shape)
    remaining = detect([spiral], minimum_separation=0.5, known=neighbour)
    assert len(remaining.catalog) == 1
    assert has_source_at(pixels(spiral, remaining.catalog), CENTRE)
    assert len(detect([spiral], minimum_separation=0.5).catalog) == 2


def higher(distance, direction):
    return np.array([distance]), np.array([direction])


def test_circles():
    values = np.full((101, 101), 7.0)
    values[:, 62:] = 100.0
    at = np.array([50.0]), np.array([50.0])
    assert light_around(values, *at, 15.0, higher(0.0, 0.0))[0] == 7.0  # a neighbour, or an edge, on one side
    row, column = np.indices(values.shape)
    cone = 100 - np.hypot(row - 50, column - 50)
    assert light_around(cone, *at, 5.0, higher(0.0, 0.0))[0] == pytest.approx(95, abs=0.2)
    assert light_around(cone, *at, 5.0, higher(41.0, 1.0))[0] == pytest.approx(60, abs=0.2)  # 5, 10, 20, 40
    assert light_around(cone - 200, *at, 5.0, higher(0.0, 0.0))[0] == 0
    assert (
        light_around(np.full((9, 9), np.nan), np.array([4.0]), np.array([4.0]), 2.0, higher(0.0, 0.0))[0] == 0
    )
    # beside a higher peak, the slope that leads to it is as bright as the place
    slope = np.array([30.0]), np.array([50.0])
    assert light_around(cone, *slope, 5.0, higher(20.0, 0.0))[0] == pytest.approx(80, abs=1)


def test_error_of_the_light_around():
    rng, at, side = np.random.default_rng(1), np.full(400, 50.0), 101
    medians, errors = [], []
    for _ in range(100):
        # noise whose filter has the half-light radius 2, and the first circle twice that radius
        noise = gaussian_filter(
            rng.normal(size=(side, side)), 2.0 / np.sqrt(2 * np.log(2)) / np.sqrt(2), mode="wrap"
        )
        light, error = light_around(noise / noise.std() + 50, at[:1], at[:1], 4.0, higher(4.0, 0.0))
        medians.append(light[0])
        errors.append(error[0])
    assert errors[0] == pytest.approx(1.25 / np.sqrt(2 * np.pi))
    assert np.std(medians) == pytest.approx(errors[0], rel=0.3)


def test_way_to_a_more_significant_peak():
    x, y = np.array([0.0, 30.0, 33.0]), np.zeros(3)
    distance, direction = nearest_higher(x, y)
    np.testing.assert_allclose(distance, [np.inf, 30, 3])
    np.testing.assert_allclose(np.abs(direction[1:]), np.pi)
    assert nearest_higher(x[:1], y[:1])[0] == np.inf
    np.testing.assert_array_equal(select_separated(x, y, 4.0), [True, True, False])
    np.testing.assert_array_equal(select_separated(x, y, 31.0), [True, False, True])
    np.testing.assert_array_equal(select_separated(x, y, 31.0, 2), [True, True, False])
    np.testing.assert_array_equal(select_separated(x, y, 0.0), True)


def test_a_star_before_a_galaxy_does_not_hide_it(make_image, spot):
    light = galaxy(*CENTRE, 400.0, 40.0) + spot(SHAPE, 85, 112, 1.6, 3000.0)
    image = make_image(light + np.random.default_rng(3).normal(size=SHAPE))
    sources = pixels(image, detect([image]).catalog)
    assert has_source_at(sources, CENTRE)
    assert has_source_at(sources, (85, 112))
