"""Guesses for Gaussian sources, whose maps are Gaussians, too."""

import numpy as np
from astropy.table import Table
from astropy.wcs import WCS

from fphojax.detection.matched_filter import BandMaps
from fphojax.detection.source_guesses import guess_sources

SCALE, PSF = 0.1, 2.0  # arcsec per cell, cells
HALF = np.sqrt(2 * np.log(2))
Y, X = np.mgrid[:141, :161]


def grid():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix = (150.0, 2.0), (80, 70)
    wcs.wcs.cdelt = (-SCALE / 3600, SCALE / 3600)
    return wcs


def maps(sources, w=1.0):
    """N, W and sum P w a of round Gaussian sources (x, y, width in cells, flux) on pixels of weight w."""
    y, x = np.mgrid[-14:15, -14:15]
    psf = np.exp(-(x**2 + y**2) / 2 / PSF**2)
    signal = np.zeros(X.shape)
    for at_x, at_y, sigma, flux in sources:
        variance = 2 * PSF**2 + sigma**2
        distance = np.hypot(X - at_x, Y - at_y)
        signal += w * flux * np.exp(-(distance**2) / 2 / variance) / (2 * np.pi * variance)
    weight = np.full(X.shape, w / (4 * np.pi * PSF**2))
    response = np.full(X.shape, w * SCALE**2)
    return BandMaps(signal, weight, 0 * signal, response, psf / psf.sum(), SCALE, {})


def guessed(bands, places, *, spectrum=None, rhalf_range=(0.01, 5.0)):
    x, y = np.array(places, dtype=float).T
    spectrum = spectrum or dict.fromkeys(bands, 1.0)
    return guess_sources(bands, x, y, grid(), spectrum, rhalf_range, Table())


def test_flux_and_size_of_small_sources():
    sources = [(50, 60, 1.5, 4000.0), (110, 80, 2.5, 6000.0)]
    # so much noise that no light is seen far out
    bands = {"g": maps(sources, 3e-5), "r": maps([(*s[:3], 2 * s[3]) for s in sources], 6e-5)}
    found = guessed(bands, [s[:2] for s in sources])
    np.testing.assert_allclose(found.flux, [[4000, 8000], [6000, 12000]], rtol=0.01)
    np.testing.assert_allclose(found.rhalf, [HALF * 1.5 * SCALE, HALF * 2.5 * SCALE], rtol=0.01)
    ra, dec = grid().pixel_to_world_values([50, 110], [60, 80])
    np.testing.assert_allclose([found.ra, found.dec], [ra, dec], rtol=1e-12)


def test_flux_and_size_of_an_extended_source():
    found = guessed({"g": maps([(80, 70, 9, 1e6)])}, [(80, 70)])
    np.testing.assert_allclose(found.flux, 1e6, rtol=0.03)
    np.testing.assert_allclose(found.rhalf, HALF * 9 * SCALE, rtol=0.05)
    assert found.roi[0] >= 3 * 9 * SCALE


def test_point_source_has_the_smallest_size():
    found = guessed({"g": maps([(80, 70, 0, 3000.0)], 1e-3)}, [(80, 70)], rhalf_range=(0.04, 5.0))
    np.testing.assert_allclose(found.rhalf, 0.04, atol=0.02)
    np.testing.assert_allclose(found.flux, 3000, rtol=0.05)


def test_nothing_there_has_the_flux_of_its_noise():
    found = guessed({"g": maps([])}, [(80, 70)])
    assert found.flux[0, 0] >= np.sqrt(4 * np.pi) * PSF * (1 - 1e-6)


def test_band_without_data_follows_the_spectrum():
    part = maps([(80, 70, 1.5, 4000.0)], 1e-3)
    empty = BandMaps(*(np.zeros(X.shape) for _ in range(4)), part.psf_image, SCALE, {})
    found = guessed({"g": part, "r": empty}, [(80, 70)], spectrum={"g": 0.5, "r": 1.5})
    np.testing.assert_allclose(found.flux[0, 1], 3 * found.flux[0, 0])
