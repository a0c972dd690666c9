"""Where the light of fitted sources ends, and which radii of influence become larger."""

import numpy as np
import pytest
from scipy.special import gammaincinv

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.reach import beyond_patches, light_ends, wider
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.photometry import effective_brightness
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures

NOISE = 0.1  # nJy in a pixel of 0.1 arcsec


@pytest.fixture(scope="module")
def catalog():
    return SourceCatalog.from_columns(
        ra=[10.0] * 4,
        dec=5.0,
        flux=[[1000.0, 10.0], [1000.0, 1000.0], [-3.0, -1.0], [50.0, 50.0]],
        q=[1.0, 0.5, 0.9, 0.9],
        pa=0.0,
        sersic=[1.0, 4.0, 1.0, 1.0],
        rhalf=[0.3, 0.5, 0.2, 0.0],
        roi=[1.0, 1.0, 1.0, 1.0],
        bands=("g", "r"),
    )


@pytest.fixture(scope="module")
def exposures(catalog):
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    names = [("g", "shallow", 3 * NOISE), ("g", "deep", NOISE), ("r", "r", NOISE)]
    specs = [
        ExposureSpec(band, name, (20, 20), 0.1, 0.0, 10.0, 5.0, psf, noise) for band, name, noise in names
    ]
    return simulate_exposures(catalog, specs, seed=1)


def test_light_ends_at_a_fifth_of_the_noise_of_the_deepest_exposure(catalog, exposures):
    found = light_ends(catalog, exposures)
    level = 0.2 * NOISE / 0.01  # nJy per arcsec^2
    for row, (n, q) in enumerate([(1.0, 1.0), (4.0, 0.5)]):
        b = gammaincinv(2 * n, 0.5)
        profile = effective_brightness(1000.0, catalog.rhalf[row], n) * np.exp(
            -b * ((found[row] * np.sqrt(q) / catalog.rhalf[row]) ** (1 / n) - 1)
        )
        assert profile == pytest.approx(level, rel=1e-3)
    assert found[2] == 0
    assert found[3] < 0.01


def test_radii_grow_where_light_ends_beyond_the_pixels(catalog, exposures):
    settings = Settings(bandlist=["g", "r"], fitsfiles=["a.fits"])
    ends = light_ends(catalog, exposures)
    assert 1.3 < ends[0] < 3 < ends[1]
    np.testing.assert_allclose(wider(catalog, ends, settings), [ends[0], 3.0, 1.0, 1.0])
    far = settings.changed(buffer=0.6, patch_maxradius=2.5)
    np.testing.assert_allclose(wider(catalog, ends, far)[1:], [2.5, 1.0, 1.0])
    enough = catalog.replace(roi=np.full(4, 0.95 * ends[0]))
    assert wider(enough, ends, settings)[0] == enough.roi[0]


def test_sources_that_no_patch_holds_are_named(catalog, exposures):
    settings = Settings(bandlist=["g", "r"], fitsfiles=["a.fits"], patch_maxradius=2.5)
    found = beyond_patches(catalog, light_ends(catalog, exposures), settings)
    assert list(found) == [str(catalog.id[1])]
    assert found[str(catalog.id[1])].startswith("light reaches 4.")
    assert found[str(catalog.id[1])].endswith(
        "patches 2.5: raise patch_maxradius, or put the source into big_catalog"
    )
