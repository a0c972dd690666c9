"""Mock fields without images."""

import numpy as np
import pytest

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
