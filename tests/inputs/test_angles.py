"""Position angles: round trips, forcepho's convention, and radians taken for degrees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fphojax.inputs.angles import from_forcepho, looks_like_radians, to_forcepho


@given(st.floats(1e-3, 1), st.floats(-5000, 5000))
def test_forcepho_round_trip(q, pa):
    theirs = to_forcepho(q, pa)
    assert np.abs(theirs[1]) <= 2 * np.pi
    back = from_forcepho(*theirs)
    assert back[0] == pytest.approx(q, rel=1e-15)
    turns = (back[1] - pa) / 180
    assert turns == pytest.approx(np.round(turns), abs=1e-13)
    if -270 <= pa <= 450:  # within two pi there
        assert back[1] == pytest.approx(pa, abs=1e-12)


def test_forcepho_turns_from_east_to_north():
    np.testing.assert_allclose(to_forcepho(0.25, np.array([0.0, 90.0, 30.0]))[1], [np.pi / 2, 0, np.pi / 3])
    assert from_forcepho(0.5, 0.0) == (0.25, 90.0)


@pytest.mark.parametrize(
    ("pa", "radians"),
    [
        (np.pi / 2, True),
        (np.deg2rad([30, 45, 0]), True),
        (np.deg2rad([-35.0]), True),
        (np.random.default_rng(1).uniform(-np.pi, np.pi, 8), True),
        (np.random.default_rng(1).uniform(0, np.pi, 1000), True),
        (np.random.default_rng(1).uniform(0, np.pi, 7), False),
        (np.random.default_rng(1).uniform(-90, 90, 8), False),
        ([0.0, 1.0, 2.0, 3.0], False),
        ([0.0] * 20, False),
        ([2.5] * 20, False),
        ([], False),
        ([30.0, 90.0, 0.5], False),
        ([1e-14, 0.0], False),
        ([np.nan], False),
    ],
)
def test_radians_are_seen(pa, radians):
    assert looks_like_radians(pa) is radians


def test_no_false_alarm_for_random_degrees():
    rng = np.random.default_rng(3)
    assert not any(
        looks_like_radians(rng.uniform(-90, 90, size)) for size in (1, 2, 8, 100) for _ in range(2000)
    )


@given(st.lists(st.integers(-360, 360).filter(bool), min_size=1))
def test_whole_degrees_as_radians_are_always_seen(degrees):
    assert looks_like_radians(np.deg2rad(degrees))
