"""Significance of a spectrum against sums written out, and numbers of maxima against counted ones."""

import numpy as np
from scipy.ndimage import gaussian_filter, maximum_filter

from fphojax.detection.matched_filter import BandMaps
from fphojax.detection.significance import Statistic, expected_maxima
from fphojax.detection.surroundings import nearest_higher


def maps(signal, weight, model):
    y, x = np.mgrid[-6:7, -6:7]
    psf = np.exp(-(x**2 + y**2) / 2 / 1.5**2)
    return BandMaps(signal, weight, model, weight, psf / psf.sum(), 0.1, {})


def test_bands_are_summed_with_the_spectrum():
    rng = np.random.default_rng(0)
    parts = [maps(rng.normal(size=(4, 5)), rng.uniform(1, 2, (4, 5)), rng.random((4, 5))) for _ in range(2)]
    for part in parts:
        part.weight[1, 2] = 0
    found = Statistic.of(parts, [0.5, 2.0], 0.3, 0.1)
    g, r = parts
    variance = 0.25 * g.weight + 4 * r.weight
    noise = np.sqrt(variance + (0.3 * (0.5 * g.model + 2 * r.model)) ** 2)
    expected = (0.5 * g.signal + 2 * r.signal) / np.where(variance > 0, noise, np.inf)
    np.testing.assert_allclose(found.values, expected)
    assert found.values[1, 2] == 0
    # half-peak radius of the autocorrelation of a Gaussian of 1.5 cells
    np.testing.assert_allclose(found.radius, 1.5 * np.sqrt(2) * np.sqrt(2 * np.log(2)), rtol=0.04)


def test_rise_is_what_exceeds_the_light_around():
    y, x = np.mgrid[:81, :81]
    peak = 30 * np.exp(-(np.hypot(x - 40, y - 40) ** 2) / 2 / 1.5**2)
    weight = np.full(peak.shape, 4.0)
    place = np.array([40]), np.array([40])
    alone = Statistic.of([maps(weight * peak, weight, 0 * peak)], [1.0], 0.1, 0.1)
    significance, contrast = alone.rise(*place, nearest_higher(*place))
    np.testing.assert_allclose(significance, 30 * 4 / 2, rtol=1e-3)
    assert contrast[0] == np.inf
    on_light = Statistic.of([maps(weight * (peak + 20), weight, 0 * peak)], [1.0], 0.1, 0.1)
    significance, contrast = on_light.rise(*place, nearest_higher(*place))
    np.testing.assert_allclose(contrast, 30 / 20, rtol=1e-3)
    # the light around is wrong by a tenth
    error = 1.25 / np.sqrt(
        2 * np.pi * 8
    )  # of a median on the largest circle, eight times as large as the first
    noise = np.sqrt(4 * (1 + error**2) + (0.1 * 20 * 4) ** 2)
    np.testing.assert_allclose(significance, 30 * 4 / noise, rtol=1e-3)


def test_expected_maxima_are_those_of_smooth_noise():
    rng, counted, expected = np.random.default_rng(2), 0, 0.0
    for _ in range(4):
        noise = gaussian_filter(rng.normal(size=(400, 400)), 2.0, mode="wrap")
        noise /= noise.std()
        counted += np.count_nonzero((noise == maximum_filter(noise, 3, mode="wrap")) & (noise > 3.0))
        expected += expected_maxima(noise, 3.0)
    # the correlation exp(-d^2 / 16) has a variance of the gradient of 1/8
    exact = 4 * 400**2 / 8 * 3 * np.exp(-4.5) / (2 * np.pi) ** 1.5
    np.testing.assert_allclose(expected, exact, rtol=0.05)
    assert abs(counted - expected) < 4 * np.sqrt(expected)


def test_light_does_not_make_noise_smoother():
    noise = gaussian_filter(np.random.default_rng(4).normal(size=(200, 200)), 2.0, mode="wrap")
    noise /= noise.std()
    y, x = np.mgrid[:200, :200]
    galaxy = 8 * np.exp(-np.hypot(x - 100, y - 100) / 50)
    np.testing.assert_allclose(expected_maxima(noise + galaxy, 5.0), expected_maxima(noise, 5.0), rtol=0.3)


def test_cells_without_data_expect_nothing():
    noise = gaussian_filter(np.random.default_rng(3).normal(size=(200, 200)), 2.0)
    whole = expected_maxima(noise / noise.std(), 3.0)
    noise[:, :100] = 0
    np.testing.assert_allclose(expected_maxima(noise / noise[:, 100:].std(), 3.0), whole / 2, rtol=0.1)
    assert expected_maxima(np.zeros((5, 5)), 3.0) == 0
