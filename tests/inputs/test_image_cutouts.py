"""Cutouts: the same pixels at the same positions, with the PSFs of the places that they came from."""

import dataclasses

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import Sip

from fphojax.errors import InputError
from fphojax.field.recipe_files import describe
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.frame import cut
from fphojax.inputs.image_cutouts import cutout
from fphojax.inputs.projection import optics_of
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

TRUTH = mock_galaxies(x=0.5, y=-0.3, flux={"F1": [80]}, q=0.6, pa=30, sersic=2.0, rhalf=0.15)
CENTRE = SkyCoord(TRUTH.ra[0], TRUTH.dec[0], unit="deg")


@pytest.fixture(scope="module")
def exposures():
    return mock_field(TRUTH, [MockCamera("F1", pixel_scale=0.06, width=2.4, n_exposure=2)]).exposures


def test_pixels_stay_where_they_are_on_the_sky(exposures):
    parts = cutout(exposures, CENTRE.transform_to("galactic"), 0.9 * u.arcsec)
    assert [part.name for part in parts] == [exposure.name for exposure in exposures]
    for whole, part in zip(exposures, parts, strict=True):
        x0, y0 = part.origin
        ny, nx = part.shape
        assert {nx, ny} <= {15, 16}
        np.testing.assert_array_equal(part.data, whole.data[y0 : y0 + ny, x0 : x0 + nx])
        np.testing.assert_array_equal(part.ierr, whole.ierr[y0 : y0 + ny, x0 : x0 + nx])
        np.testing.assert_allclose(
            part.wcs.pixel_to_world_values(2.0, 3.0),
            whole.wcs.pixel_to_world_values(2.0 + x0, 3.0 + y0),
            rtol=1e-13,
        )
        x, y = part.wcs.world_to_pixel_values(TRUTH.ra[0], TRUTH.dec[0])
        assert abs(x - (nx - 1) / 2) < 1
        assert abs(y - (ny - 1) / 2) < 1
        again = cutout(part, CENTRE, 0.3)[0]
        np.testing.assert_array_equal(again.data, whole.window(*_box(again))[0])


def _box(part):
    (x0, y0), (ny, nx) = part.origin, part.shape
    return x0, x0 + nx, y0, y0 + ny


def test_sip_and_header_are_moved(exposures):
    wcs = exposures[0].wcs.deepcopy()
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    bend = np.zeros((3, 3))
    bend[2, 0] = 1e-4
    wcs.sip = Sip(bend, bend.T, None, None, wcs.wcs.crpix)
    header = wcs.to_header(relax=True)
    whole = dataclasses.replace(exposures[0], wcs=wcs, header=header)
    (part,) = cutout(whole, CENTRE, 0.9)
    x0, y0 = part.origin
    np.testing.assert_allclose(
        part.wcs.pixel_to_world_values(2.0, 3.0), wcs.pixel_to_world_values(2.0 + x0, 3.0 + y0), rtol=1e-13
    )
    assert part.header["CRPIX1"] == header["CRPIX1"] - x0
    assert whole.header["CRPIX2"] == part.header["CRPIX2"] + y0


def test_cut_off_at_the_edge_and_refused_beyond(exposures):
    corner = SkyCoord(*exposures[0].wcs.pixel_to_world_values(0, 0), unit="deg")
    (part,) = cutout(exposures[0], corner, 0.6)
    assert part.shape == (6, 6)
    with pytest.raises(
        InputError, match=r"cutout of 1 arcsec at ra=50\.0.*: none of 2 exposures has a valid pixel"
    ):
        cutout(exposures, SkyCoord(50, 2, unit="deg"), 1)
    for centre, size, message in (
        ((53.1, -27.8), 1, "centre is tuple, expected a SkyCoord"),
        (SkyCoord([1, 2], [1, 2], unit="deg"), 1, "centre: found 2 positions, expected one"),
        (CENTRE, -1, "size is -1 arcsec, expected a positive number"),
        (CENTRE, 1 * u.nJy, "size: found unit nJy, expected arcsec"),
    ):
        with pytest.raises(InputError, match=message):
            cutout(exposures, centre, size)


def test_psf_is_that_of_the_place_in_the_whole_exposure(exposures):
    def mixture(variance, place):
        return PSFMixture([1.0], [[0, 0]], [[variance, variance, 0]], detector_location=place)

    psfs = PSFStore()
    psfs.add([mixture(1.0, (0, 0)), mixture(2.0, (39, 39))], "F1")
    whole = exposures[0]
    place = SkyCoord(*whole.wcs.pixel_to_world_values(32, 30), unit="deg")
    source = TRUTH.replace(ra=np.array([place.ra.deg]), dec=np.array([place.dec.deg]))
    region = CircularRegion(place, radius=0.3)
    for exposure in (whole, *cutout(whole, place, 0.9)):
        optics = optics_of(source, cut([exposure], region), psfs, "quartic")
        assert np.asarray(optics.psf_covariance)[0, 0, 0, 0] == 2.0
    with pytest.raises(InputError, match="found a cutout with a PSF that varies over the detector"):
        describe(Recipe(tuple(cutout(whole, place, 0.9)), psfs))
