"""Frames: values that hold the pixels of a region."""

import numpy as np
import pytest

import fphojax as fp
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

TRUTH = mock_galaxies(x=0, y=0, flux={"F1": [80], "F2": [50]}, q=0.6, pa=30, sersic=2.0, rhalf=0.15)


@pytest.fixture(scope="module")
def field():
    cameras = [MockCamera(band, pixel_scale=scale, width=3.0) for band, scale in (("F1", 0.06), ("F2", 0.09))]
    return mock_field(TRUTH, cameras)


def test_pixels_are_those_of_the_exposures_in_the_region(field):
    region = fp.CircularRegion(TRUTH.ra[0], TRUTH.dec[0], 0.7)
    frame = fp.cut(field.exposures, region)
    assert frame.bands == ("F1", "F2")
    for e, exposure in enumerate(frame.exposures):
        image = frame.image(e, frame.patch.data)
        inside = region.pixel_mask(exposure.wcs, exposure.shape)
        assert np.array_equal(np.isfinite(image), inside & (exposure.ierr > 0))
        np.testing.assert_array_equal(image[inside], exposure.data.astype(np.float32)[inside])
        x, y, flat = frame.pixels(e)
        np.testing.assert_array_equal(np.asarray(frame.patch.data).ravel()[flat], image[y, x])


def test_bands_are_chosen_and_ordered(field):
    region = fp.CircularRegion(TRUTH.ra[0], TRUTH.dec[0], 0.7)
    frame = fp.cut(field.exposures, region, bands=["F2", "F1"], dtype=np.float64)
    assert [exposure.band for exposure in frame.exposures] == ["F2", "F1"]
    assert frame.patch.data.dtype == np.float64
    assert fp.cut(field.exposures, region, bands=["F2"]).bands == ("F2",)


def test_a_region_without_pixels_is_refused(field):
    region = fp.CircularRegion(TRUTH.ra[0] + 1, TRUTH.dec[0], 0.7)
    with pytest.raises(fp.InputError, match="no exposure in F1, F2 has a valid pixel there"):
        fp.cut(field.exposures, region)
