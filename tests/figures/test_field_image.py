"""The image of a field: sources lie where they should, and no exposure is read in vain."""

import dataclasses

import numpy as np
import pytest

from fphojax.figures.field_image import field_image
from fphojax.inputs.exposures import Exposure


def test_sources_lie_where_they_should(fit):
    exposures = fit.frame.exposures
    ra, dec, half = float(fit.truth.ra[0]), float(fit.truth.dec[0]), 0.9
    image = field_image(exposures, ("B", "R"), ra, dec, half)
    side = len(image.pixels)
    assert image.pixels.shape == (side, side, 3)
    assert image.bands == ("B", "R")
    assert 0 <= image.pixels.min() <= image.pixels.max() <= 1
    grey = (image.pixels == 0.75).all(axis=-1)
    light = np.where(grey, 0.0, image.pixels.sum(axis=-1))
    # the second source, of B - R = -20 nJy, is redder than the first; north is up, east is left
    colours = []
    for row in (0, 1):
        east = (fit.truth.ra[row] - ra) * 3600 * np.cos(np.deg2rad(dec))
        north = (fit.truth.dec[row] - dec) * 3600
        column, line = (round((1 + offset / half) / 2 * (side - 1)) for offset in (-east, north))
        assert light[line, column] > np.quantile(light[~grey], 0.95)
        red, _, blue = image.pixels[line - 1 : line + 2, column - 1 : column + 2].mean(axis=(0, 1))
        colours.append(red / blue)
    assert colours[1] > 1.2 * colours[0]


def test_an_exposure_that_adds_nothing_is_not_read(fit, monkeypatch):
    first, second = fit.frame.exposures
    again = dataclasses.replace(first, name="again")
    read, window = [], Exposure.window

    def counted(self, *where):
        read.append(self.name)
        return window(self, *where)

    monkeypatch.setattr(Exposure, "window", counted)
    place = float(fit.truth.ra[0]), float(fit.truth.dec[0]), 0.3
    field_image([first, again, second], ("B", "R"), *place)
    assert read == ["first", "second"]


@pytest.mark.parametrize("place", [(10.0, 5.0, 1.0), (179.9999999, 41.3, 1.0)])
def test_no_exposure_on_the_field(fit, place):
    assert field_image(fit.frame.exposures, ("B", "R"), *place) is None
    assert field_image([], ("B", "R"), *place) is None
