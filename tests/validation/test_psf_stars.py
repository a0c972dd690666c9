"""End to end: stars made with the pixelised NIRCam F200W PSF, measured with its mixture of Gaussians."""

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fphojax.inputs.psf_store import PSFMixture
from fphojax.mixtures.psf_fit import fit_psf

DATA = Path(os.environ.get("FPHOJAX_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
IMAGE = DATA / "nircam_psf/Pointings12_F200W_Module_A.fits"
OVERSAMPLE = 2


def stars(image, n):
    """The PSF summed over native pixels, at the sub-pixel positions that its sampling holds: (x, y), stamp."""
    centre = len(image) // 2
    for dy in range(OVERSAMPLE):
        for dx in range(OVERSAMPLE):
            # pixel n//2 starts (dx, dy) fine pixels before the one with the source
            first = centre - OVERSAMPLE * (n // 2)
            part = image[first - dy :, first - dx :][: OVERSAMPLE * n, : OVERSAMPLE * n]
            stamp = part.reshape(n, OVERSAMPLE, n, OVERSAMPLE).sum(axis=(1, 3))
            # centre of native pixel 0 is (OVERSAMPLE - 1) / 2 fine pixels after its first
            x, y = ((centre - first + d - (OVERSAMPLE - 1) / 2) / OVERSAMPLE for d in (dx, dy))
            yield (x, y), stamp


def flux_and_error(stamp, model, noise):
    """Least-squares flux, for uniform noise."""
    return np.sum(stamp * model) / np.sum(model**2), noise / np.sqrt(np.sum(model**2))


@pytest.mark.parametrize("n", [21, 41, 61])
def test_flux_of_injected_stars(n):
    if not IMAGE.exists():
        pytest.skip(f"{IMAGE} is absent")
    image = fits.getdata(IMAGE).astype(float)
    fit = fit_psf(image, n_gauss=8, n_negative=2, oversample=OVERSAMPLE, includes_pixel=False)
    mixture = PSFMixture.from_fit(fit)
    rng = np.random.default_rng(11)
    truth, noise, biases, pulls = 1000.0, 1.0, [], []
    for position, stamp in stars(image / image.sum(), n):
        model = mixture.render((n, n), position)
        biases.append(flux_and_error(stamp, model, noise)[0] - 1)
        for _ in range(100):
            flux, error = flux_and_error(truth * stamp + rng.normal(0, noise, stamp.shape), model, noise)
            pulls.append((flux - truth) / error)
    print(f"{n} pixels: bias at each phase {np.round(biases, 5)}, mean {np.mean(biases):+.5f}, ", end="")
    print(f"pulls {np.mean(pulls):+.2f} +- {np.std(pulls):.2f}")
    assert abs(np.mean(biases)) < 0.005
    assert np.abs(biases).max() < 0.02
