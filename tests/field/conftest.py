"""Mock fields without images, and images without fields."""

import numpy as np
import pytest
from astropy.wcs import WCS

from fphojax.field.matched_filter import ResidualImage
from fphojax.inputs.catalog import SourceCatalog

BANDS = ("g", "r")


@pytest.fixture(scope="session")
def mock_field():
    """Function that makes a clustered catalogue of `size` sources around a position."""

    def make(size, seed=0, *, ra=0.0, dec=-20.0, density=0.05, rhalf=0.2):
        rng = np.random.default_rng(seed)
        side = np.sqrt(size / density)
        centres = rng.uniform(-side / 2, side / 2, (max(size // 10, 1), 2))
        x, y = (centres[rng.integers(len(centres), size=size)] + rng.normal(0, 2.5, (size, 2))).T / 3600
        return SourceCatalog.from_columns(
            id=np.arange(size) + 1000,
            ra=(ra + x / np.cos(np.deg2rad(dec))) % 360,
            dec=dec + y,
            flux=rng.uniform(1, 10, (size, len(BANDS))),
            q=rng.uniform(0.3, 1, size),
            pa=np.rad2deg(rng.uniform(-1, 1, size)),
            sersic=rng.uniform(1, 4, size),
            rhalf=np.clip(rng.lognormal(np.log(rhalf), 0.5, size), 0.04, 0.9),
            bands=BANDS,
        )

    return make


@pytest.fixture(scope="session")
def spot():
    """Function that gives an image of a Gaussian: shape, x, y, sigma, peak."""

    def made(shape, x, y, sigma, peak):
        row, column = np.indices(shape)
        return peak * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 2 / sigma**2)

    return made


@pytest.fixture(scope="session")
def made_image(spot):
    """Function that makes a residual image of values, pixels of 0.1 arcsec, a PSF of sigma 1.6 pixels."""

    def made(values, error=1.0):
        wcs = WCS(naxis=2)
        wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10.0, 20.0]
        wcs.wcs.cdelt = [-0.1 / 3600, 0.1 / 3600]
        psf = spot((19, 19), 9, 9, 1.6, 1.0)
        return ResidualImage(values, np.full(values.shape, 1 / error), None, wcs, "g", "e", psf / psf.sum())

    return made
