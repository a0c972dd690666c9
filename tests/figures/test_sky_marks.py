"""Marks on pictures of the sky point where they should, and have the length that they state."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fphojax.figures.sky_marks import compass, scale_bar, shortened


@pytest.fixture
def axis():
    axis = Figure(figsize=(3, 3)).add_subplot(aspect="equal")
    axis.set(xlim=(0, 50), ylim=(0, 50))
    return axis


@pytest.mark.parametrize("angle", [0.0, 0.6, 2.5, 4.0])
def test_compass_points_north_and_east_inside_the_panel(axis, angle):
    east, north = np.array([-np.cos(angle), np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    compass(axis, 20 * np.stack([east, north], axis=1))
    axis.figure.draw_without_rendering()
    places = {text.get_text(): text.get_transform().transform((0, 0)) for text in axis.texts}
    letters = {text.get_text(): text for text in axis.texts if text.get_text()}
    corner = axis.transAxes.transform((0, 0))
    found = {
        name: np.subtract(letter.get_window_extent().get_points().mean(axis=0), corner)
        for name, letter in letters.items()
    }
    assert set(found) == {"N", "E"}
    assert all((place > 0).all() for place in found.values())
    assert places
    step = found["N"] - found["E"]
    expected = north - east
    np.testing.assert_allclose(step / np.linalg.norm(step), expected / np.linalg.norm(expected), atol=0.06)


@pytest.mark.parametrize(("per_unit", "text"), [(0.03, '0.2"'), (1.0, '10"'), (20.0, "5'")])
def test_scale_bar_is_as_long_as_it_says(axis, per_unit, text):
    scale_bar(axis, per_unit)
    (bar,), (label,) = axis.lines, axis.texts
    width = np.ptp(bar.get_xdata()) * 50 * per_unit
    said = float(label.get_text()[:-1]) * (60 if label.get_text().endswith("'") else 1)
    assert width == pytest.approx(said)
    assert label.get_text() == text


def test_long_names_lose_their_middle():
    assert shortened("F150W") == "F150W"
    short = shortened("jw01180007001_04101_00001_nrcb4_F150W_cal", 24)
    assert len(short) <= 24
    assert short.startswith("jw01180007")
    assert short.endswith("F150W_cal")
