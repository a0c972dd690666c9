"""The error that a mixture makes of a bright point source's flux, against integrals and images that are known."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fphojax.mixtures.psf_image import effective_psf
from fphojax.mixtures.psf_point_source import format_flux_error, point_flux_errors


def gaussian(n, variance, centre=(0.0, 0.0), oversample=1):
    """A round Gaussian of flux 1, sampled at the centres of n x n pixels."""
    x, y = np.meshgrid(*[(np.arange(n) - (n - 1) / 2) / oversample] * 2)
    r2 = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
    return np.exp(-0.5 * r2 / variance) / (2 * np.pi * variance * oversample**2)


def mixture(*variances, amplitudes=(1.0,)):
    covariances = np.array([[v, v, 0.0] for v in variances])
    return np.array(amplitudes), np.zeros((len(variances), 2)), covariances


@pytest.mark.parametrize("wrong", [3.0, 4.5, 6.0])
def test_a_gaussian_of_another_width_by_its_overlap_integral(wrong):
    """Integrals of products of Gaussians of variance a and b are 1 / (2 pi (a + b))."""
    errors = point_flux_errors(effective_psf(gaussian(61, 4.5)), mixture(wrong), response=0.0)
    assert errors.shape == (1, 3)
    assert_allclose(errors[0, 0], 2 * wrong / (4.5 + wrong) - 1, atol=1e-6)


def test_noise_of_the_source_itself():
    """With the source's own photons alone the weights are 1 / P: flux = sum M / sum (M^2 / P)."""
    errors = point_flux_errors(effective_psf(gaussian(61, 4.5)), mixture(4.0), response=0.0)
    bright_limit = 2 * (4.0 / 4.5) - (4.0 / 4.5) ** 2 - 1
    assert errors[0, 0] < errors[0, 1] < errors[0, 2] < bright_limit < 0


def test_the_position_is_fitted_too():
    effective = effective_psf(gaussian(41, 3.0, centre=(0.3, -0.2)))
    assert effective.shift == (0.0, 0.0)
    assert_allclose(point_flux_errors(effective, mixture(3.0), response=0.0), 0, atol=1e-9)


def test_background_and_total_flux_are_no_errors():
    effective = effective_psf(0.9 * gaussian(41, 3.0) + 1e-4)
    errors = point_flux_errors(effective, mixture(3.0, amplitudes=(0.9,)), response=0.0, background=1e-4)
    assert_allclose(errors, 0, atol=1e-9)


def test_every_sub_pixel_position_of_an_oversampled_image():
    """A bump of a quarter pixel is at the centre of one of four native pixels alone."""
    image = gaussian(83, 1.5, oversample=2)
    smooth = point_flux_errors(effective_psf(image, oversample=2), mixture(1.5), response=0.0)
    assert smooth.shape == (4, 3)
    assert_allclose(smooth, 0, atol=1e-6)
    image[41, 41] *= 1.1
    errors = point_flux_errors(effective_psf(image, oversample=2), mixture(1.5), response=0.0)[:, 0]
    # pixels of the centre's phase hold sum M^2 = 1 / (4 pi variance), the peak 1 / (2 pi variance)
    peak = 1 / (2 * np.pi * 1.5)
    expected = 0.1 * peak**2 / (1 / (4 * np.pi * 1.5))
    assert np.abs(errors).argmax() in range(4)
    assert_allclose(np.sort(errors), [0, 0, 0, expected], atol=2e-3)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (0.0042, "off by up to 0.42 %, more than its noise above S/N 240"),
        (-0.0211, "off by up to 2.1 %, more than its noise above S/N 47"),
        (1e-5, "off by up to 0.001 %, more than its noise above S/N 100000"),
        (0.0, "exact"),
    ],
)
def test_words(error, words):
    assert format_flux_error(error) == words
