"""The noise of exposures: what is kept of a measurement, what settings make of it, and its file."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fphojax.core.noise_kernels import autocorrelation
from fphojax.detection.matched_filter import ResidualImage
from fphojax.detection.source_search import noise_of
from fphojax.errors import InputError
from fphojax.inputs.noise_model import ExposureNoise, NoiseModel


def wcs_of(side):
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = (50.0, -20.0), (side / 2, side / 2), (-1e-5, 1e-5)
    return wcs


def measured(image):
    """The noise of an image whose errors are 1, as the stage measures it."""
    offset = np.arange(-4, 5)
    psf = np.exp(-0.5 * (offset[:, None] ** 2 + offset**2) / 1.2**2)
    residual = ResidualImage(image, np.ones_like(image), None, wcs_of(len(image)), "g", "e", psf / psf.sum())
    found = noise_of([residual])["g"]["e"]
    return ExposureNoise.of("g", "e", found.correlation, found.n_pixel)


def smooth_noise(rng, side, width, scale):
    noise = gaussian_filter(rng.normal(size=(side, side)), width, mode="wrap")
    return scale * noise / noise.std()


@pytest.fixture(scope="module")
def noisy():
    return measured(smooth_noise(np.random.default_rng(1), 256, 1.0, 0.7))


def test_white_noise_has_the_errors_of_its_pixels():
    """Within its own errors; and no lag is kept that would add others."""
    for seed in range(3):
        noise = measured(np.random.default_rng(seed).normal(size=(200, 200)))
        assert abs(noise.scale - 1) < 4 * noise.scale_error
        assert 0.003 < noise.scale_error < 0.005
        assert noise.correlation.shape == (1, 1)
        assert noise.error_factor(3.0) == pytest.approx(1, abs=0.02)
        assert abs(noise.sky) < 4 * noise.sky_error


def test_correlated_noise_is_found(noisy):
    lag = np.arange(-2, 3)
    expected = 0.49 * np.exp(-(lag[:, None] ** 2 + lag**2) / 4)
    half = len(noisy.correlation) // 2
    found = noisy.correlation[half - 2 : half + 3, half - 2 : half + 3]
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert 3 <= half < 12
    # sigma^2 of the noise times the integral of the product of the two autocorrelations
    assert noisy.error_factor(3.0) == pytest.approx(0.7 * np.sqrt(4 * np.pi / (1 + 1 / 9)), rel=0.05)


def test_light_of_faint_sources_is_shared_by_distant_pixels():
    """A sky that varies over the size of a galaxy."""
    rng = np.random.default_rng(4)
    image = rng.normal(size=(256, 256)) + smooth_noise(rng, 256, 8.0, 0.2)
    noise = measured(image)
    assert 0.2 * 0.04 < noise.sky < 0.04
    assert noise.sky > 5 * noise.sky_error
    assert noise.error_factor(3.0) > 1.5
    assert noise.error_factor(0.5) < 1.15


def test_settings_replace_size_and_correlation(noisy):
    def covariance(**options):
        found = autocorrelation(NoiseModel({("g", "e"): noisy}, **options).kernel("g", "e"))
        middle = len(found) // 2
        return found[middle, middle], found[middle, middle + 1] if middle else 0.0

    variance, beside = covariance()
    assert variance == pytest.approx(noisy.scale**2, rel=1e-2)
    assert beside == pytest.approx(0.49 * np.exp(-0.25), rel=0.05)
    assert covariance(correlation="none") == (pytest.approx(noisy.scale**2), 0)
    scaled = covariance(scale=2.0)
    assert scaled == pytest.approx([4.0, 4.0 * beside / variance], rel=1e-2)
    assert covariance(scale="none")[0] == pytest.approx(1.0, rel=1e-2)
    np.testing.assert_allclose(NoiseModel({}).kernel("g", "other"), [[1.0]])


def test_file(noisy, tmp_path):
    path = tmp_path / "noise.json"
    NoiseModel({("g", "e"): noisy}).write(path)
    read = NoiseModel.read(path, scale=1.5)
    (again,) = read.exposures.values()
    assert (again.band, again.name, again.n_pixel) == ("g", "e", noisy.n_pixel)
    assert again.scale == noisy.scale
    np.testing.assert_allclose(again.correlation, noisy.correlation, atol=1e-5)
    assert read.scale == 1.5


@pytest.mark.parametrize("content", [{}, {"exposures": [{"band": "g"}]}, {"exposures": [3]}])
def test_another_file_is_refused(content, tmp_path):
    path = tmp_path / "noise.json"
    path.write_text(json.dumps(content))
    with pytest.raises(
        InputError, match=r"noise\.json: exposures: entry 0: found .*, expected the noise of exp"
    ):
        NoiseModel.read(path)
