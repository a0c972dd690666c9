"""The mask of a circle against the exact criterion at every pixel."""

import numpy as np
import pytest
from astropy.wcs import WCS

from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.cutouts import disc_mask

SCALE = 0.1  # arcsec per pixel


class Sky:
    """A projection that counts the pixels that it is asked for."""

    def __init__(self, ra=0.0, dec=60.0, *, bend=0.0):
        self.wcs, self.bend, self.n_asked = WCS(naxis=2), bend, 0
        self.wcs.wcs.ctype, self.wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
        self.wcs.wcs.crval, self.wcs.wcs.crpix = (ra, dec), (301, 301)
        self.wcs.wcs.cd = SCALE / 3600 * np.array([[-0.8, 0.6], [0.6, 0.8]])

    def __call__(self, x, y):
        self.n_asked += np.size(x)
        return self.wcs.pixel_to_world_values(x + self.bend * ((y - 300) / 300) ** 2, y)


def exact(sky, region, box):
    x0, x1, y0, y1 = box
    y, x = np.mgrid[y0:y1, x0:x1]
    return region.contains(*sky(x, y))


@pytest.mark.parametrize("bend", [0.0, 700.0])
@pytest.mark.parametrize("radius", [1.0, 11.33, 20.0, 60.0])
def test_pixels_are_those_of_the_exact_criterion(radius, bend):
    sky = Sky(bend=bend)
    region = CircularRegion(*map(float, sky.wcs.pixel_to_world_values(290.3, 311.8)), radius)
    box = (60, 560, 70, 580)
    found = disc_mask(sky, region.contains, box, (region.ra, region.dec), radius)
    n_asked = sky.n_asked
    expected = exact(sky, region, box)
    np.testing.assert_array_equal(found, expected)
    assert found.any()
    assert n_asked < 0.35 * expected.size  # only the rim, and the knots


def test_small_boxes_and_strips_are_exact():
    sky = Sky()
    region = CircularRegion(0.0, 60.0, 1.7)
    for box in ((280, 320, 285, 325), (0, 600, 299, 301)):
        found = disc_mask(sky, region.contains, box, (region.ra, region.dec), region.radius)
        np.testing.assert_array_equal(found, exact(sky, region, box))
        assert found.any()
        assert not found.all()


def test_box_that_leaves_the_projection():
    sky = Sky()

    def limited(x, y):
        ra, dec = sky(x, y)
        return np.where(x > 400, np.nan, ra), np.where(x > 400, np.nan, dec)

    region = CircularRegion(0.0, 60.0, 12.0)
    box = (100, 500, 100, 500)
    found = disc_mask(limited, region.contains, box, (0.0, 60.0), 12.0)
    np.testing.assert_array_equal(found, exact(limited, region, box))
    assert found[:, :300].any()
    assert not found[:, 301:].any()
