"""Curves of growth of round Gaussians, whose flux and half-light radius are known."""

import numpy as np

from fphojax.detection.growth import growth_curves
from fphojax.detection.matched_filter import BandMaps

SCALE = 0.5  # arcsec per cell
HALF = np.sqrt(2 * np.log(2))  # half-light radius of a Gaussian of width 1
Y, X = np.mgrid[:101, :121]


def gaussian(x, y, sigma, flux):
    """Surface brightness per arcsec^2 of a source of `sigma` cells."""
    return flux / (2 * np.pi * (sigma * SCALE) ** 2) * np.exp(-(np.hypot(X - x, Y - y) ** 2) / 2 / sigma**2)


def maps(light, *, response=3.0, noise=1e-6):
    """Maps in which signal / response is the given light, and its standard deviation is `noise`."""
    y, x = np.mgrid[-6:7, -6:7]
    psf = np.exp(-(x**2 + y**2) / 2 / 1.5**2)
    seen = np.full(light.shape, response)
    return BandMaps(light * seen, (noise * seen) ** 2, 0 * light, seen, psf / psf.sum(), SCALE, {})


def at(*places):
    return np.array(places, dtype=float).T


def test_flux_and_half_light_radius_of_a_gaussian():
    bands = {"g": maps(gaussian(60, 50, 6, 500.0)), "r": maps(gaussian(60, 50, 6, 800.0), response=0.2)}
    found = growth_curves(bands, *at((60, 50)), np.array([1]), SCALE)
    np.testing.assert_allclose(found.flux, [[500, 800]], rtol=0.02)
    np.testing.assert_allclose(found.half, HALF * 6 * SCALE, rtol=0.02)
    # where the profile is a millionth of the peak, or below
    assert 5 * 6 * SCALE < found.end[0] < 8 * 6 * SCALE


def test_light_ends_in_the_noise():
    light = gaussian(60, 50, 6, 500.0)
    found = [
        growth_curves({"g": maps(light, noise=noise * light.max())}, *at((60, 50)), np.array([0]), SCALE)
        for noise in (1e-4, 1e-1, 0.5)
    ]
    ends = [growth.end[0] for growth in found]
    assert ends[0] > ends[1] > ends[2] > 0
    # what lies beyond is that of a Gaussian
    np.testing.assert_allclose([growth.flux[0, 0] for growth in found], 500, rtol=0.03)


def test_source_in_a_halo_is_measured_without_it():
    halo, small = gaussian(50, 50, 10, 5000.0), gaussian(66, 50, 2.5, 100.0)
    places, band = at((50, 50), (66, 50)), np.zeros(2, dtype=int)
    found = growth_curves({"g": maps(halo + small)}, *places, band, SCALE)
    # the halo alone would give ten times as much within the light of the small one
    np.testing.assert_allclose(found.flux[0, 0], 5000, rtol=0.03)
    np.testing.assert_allclose(found.flux[1, 0], 100, rtol=0.3)
    assert found.half[1] < HALF * 4 * SCALE < HALF * 9 * SCALE < found.half[0]


def test_no_flux_without_data():
    empty = BandMaps(*(np.zeros(X.shape) for _ in range(4)), np.ones((3, 3)) / 9, SCALE, {})
    found = growth_curves(
        {"g": maps(gaussian(60, 50, 6, 500.0)), "r": empty}, *at((60, 50)), np.zeros(1, int), SCALE
    )
    np.testing.assert_allclose(found.flux[0, 0], 500, rtol=0.02)
    assert np.isnan(found.flux[0, 1])
