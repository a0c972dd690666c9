"""The posterior of a PSF mixture, against the truth of a noisy image."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fphojax.mixtures.psf_fit import fit_psf
from fphojax.mixtures.psf_posterior import sample_psf

AMPLITUDES = np.array([0.6, 0.4])
COVARIANCES = np.array([[1.2, 1.0, 0.1], [6.5, 5.5, -0.6]])


def truth_image(n):
    y, x = np.mgrid[:n, :n] - n // 2
    image = np.zeros((n, n))
    for a, (xx, yy, xy) in zip(AMPLITUDES, COVARIANCES, strict=True):
        det = xx * yy - xy**2
        exponent = -0.5 * (yy * x**2 - 2 * xy * x * y + xx * y**2) / det
        image += a * np.exp(exponent) / (2 * np.pi * np.sqrt(det))
    return image


@pytest.mark.slow
def test_posterior_covers_the_truth():
    noise = 1e-4
    image = truth_image(23) + np.random.default_rng(5).normal(0, noise, (23, 23))
    fit = fit_psf(image, n_gauss=2, normalise=False)
    posterior = sample_psf(fit, image, num_warmup=150, num_samples=200, num_chains=1)
    pulls = []
    for draws, truth in ((posterior.amplitudes, AMPLITUDES), (posterior.covariances, COVARIANCES)):
        pulls.append((draws.mean(axis=(0, 1)) - truth) / draws.std(axis=(0, 1)))
    print(f"pulls {pulls}, r_hat {posterior.r_hat:.3f}, noise {posterior.noise.mean():.2e}")
    assert max(np.abs(p).max() for p in pulls) < 4
    assert_allclose(posterior.noise.mean(), noise, rtol=0.1)
    assert posterior.r_hat < 1.05
    assert posterior.divergences == 0
