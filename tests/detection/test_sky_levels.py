import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from fphojax.detection.sky_levels import ResidualPixels, mask_sources, residual_levels, tweaked_background
from fphojax.inputs import InputError
from fphojax.inputs.source_catalog import SourceCatalog

SIZE = 120


def pixels(image, ierr, *, name="e", band="r"):
    y, x = np.indices(image.shape).reshape(2, -1)
    return ResidualPixels(name, band, x, y, image.ravel(), np.broadcast_to(ierr, image.shape).ravel())


def sky_noise(rng, correlation):
    """Noise of unit standard deviation, correlated over some pixels."""
    noise = rng.normal(size=(SIZE, SIZE))
    if correlation:
        noise = gaussian_filter(noise, correlation, mode="wrap") * 2 * np.sqrt(np.pi) * correlation
    return noise


@pytest.mark.parametrize("correlation", [0, 1.5])
def test_pulls_of_levels(correlation):
    rng = np.random.default_rng(1)
    exposures, truth = [], rng.normal(size=300)
    for level in truth:
        sigma = rng.uniform(0.5, 2, (SIZE, SIZE))
        # errors of correlated noise understate that of a mean: this is what the tiles are for
        exposures.append(pixels(level + sigma * sky_noise(rng, correlation), 1 / sigma))
    table = residual_levels(exposures)
    pull = (table["level"].value - truth) / table["error"].value
    formal = np.sqrt(np.mean([1 / np.sum(e.ierr**2) for e in exposures]))
    ratio = np.median(table["error"].value) / formal
    print(
        f"\ncorrelation {correlation}: pulls {pull.mean():.3f} +- {pull.std():.3f}, error/formal {ratio:.2f}"
    )
    assert abs(pull.mean()) < 3 / np.sqrt(len(pull))
    assert 0.85 < pull.std() < 1.2
    assert (ratio > 3) if correlation else (0.9 < ratio < 1.1)


def test_residuals_of_sources_are_clipped():
    rng = np.random.default_rng(2)
    sigma = 2.0
    image = 0.3 + sigma * sky_noise(rng, 0)
    y, x = np.indices(image.shape)
    for x0, y0 in rng.uniform(10, SIZE - 10, (25, 2)):
        image += 40 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / 2.0**2)
    (row,) = residual_levels([pixels(image, 1 / sigma)])
    level, error = row["level"].value, row["error"].value
    print(
        f"mean {image.mean():.3f}, median {np.median(image):.3f}, level {level:.3f} +- {error:.3f}, true 0.3"
    )
    assert abs(level - 0.3) < 0.2 * (image.mean() - 0.3)
    assert row["n_used"] < row["n_pixel"] == SIZE**2
    assert row["chi2_dof"] == pytest.approx(np.mean((image / sigma) ** 2))


def test_circles_around_sources_are_left_out():
    header = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 30.0, "CRVAL2": 60.0, "CRPIX1": 20.0}
    header |= {"CRPIX2": 30.0, "CD1_1": 0.0, "CD1_2": 1e-4, "CD2_1": 1e-4, "CD2_2": 0.0}
    wcs = WCS(header)
    ra, dec = wcs.pixel_to_world_values([5.2, 33.3, 300.0], [8.1, 20.0, 7.0])
    catalog = SourceCatalog.from_columns(
        ra=ra, dec=dec, flux=[1.0, 1.0, 1.0], q=0.8, pa=0.0, sersic=1.0, rhalf=0.2, bands=("r",)
    )
    everything = pixels(np.zeros((50, 40)), 1.0)
    unmasked = mask_sources(everything, wcs, catalog, [0.36 * 6, 0.36 * 3.5, 5.0])
    outside = np.hypot(everything.x - 5.2, everything.y - 8.1) > 6
    outside &= np.hypot(everything.x - 33.3, everything.y - 20.0) > 3.5
    np.testing.assert_array_equal(unmasked.x, everything.x[outside])
    np.testing.assert_array_equal(unmasked.y, everything.y[outside])
    assert mask_sources(everything, wcs, catalog[[]], 1.0) is everything


def test_a_pixel_of_several_patches_counts_once():
    rng = np.random.default_rng(3)
    exposure = pixels(sky_noise(rng, 0), 1.0)
    half = exposure.x < SIZE // 2
    shuffled = rng.permutation(2 * len(exposure.x) - np.count_nonzero(half))

    def joined(name):
        values = getattr(exposure, name)
        return np.concatenate([values, values[~half]])[shuffled]

    twice = ResidualPixels("e", "r", *(joined(name) for name in ("x", "y", "residual", "ierr")))
    one, two = residual_levels([exposure, twice])
    for name in one.colnames:
        if name in ("exposure", "band"):
            assert one[name] == two[name]
        else:
            assert u.allclose(one[name], two[name], rtol=1e-12)


def test_levels_per_band():
    rng = np.random.default_rng(4)
    exposures = [
        pixels(level + sigma * sky_noise(rng, 0), 1 / sigma, name=f"{band}{i}", band=band)
        for i, (band, level, sigma) in enumerate([("g", 0.5, 1.0), ("r", -0.2, 1.0), ("r", -0.2, 3.0)])
    ]
    table = residual_levels(iter(exposures))
    assert table["exposure"].tolist() == ["g0", "r1", "r2"]
    assert table["level"].unit == u.nJy
    tweak = tweaked_background(table, present={"g": 1.0, "z": 7.0})
    level, error = table["level"].value, table["error"].value
    assert tweak["g"] == pytest.approx(1 + level[0])
    weights = 1 / error[1:] ** 2
    assert tweak["r"] == pytest.approx(np.sum(weights * level[1:]) / weights.sum())
    assert tweak["z"] == 7.0
    assert abs(tweak["r"] + 0.2) < 4 / SIZE


def test_exposures_without_pixels():
    empty = pixels(np.zeros((3, 3)), 0.0)
    table = residual_levels([empty])
    assert np.isnan(table["level"][0])
    assert table["n_pixel"][0] == 0
    assert tweaked_background(table) == {}
    assert len(residual_levels([])) == 0
    with pytest.raises(InputError, match="exposure e: arrays of the shapes"):
        ResidualPixels("e", "r", np.zeros(3, int), np.zeros(3, int), np.zeros(2), np.ones(3))


def test_few_tiles_give_no_error_below_that_of_white_noise():
    """Eight tiles may agree by chance; white noise of known size over 30 realisations."""
    y, x = (axis.ravel() for axis in np.indices((36, 36)))
    white = 1 / np.sqrt(x.size)
    errors = []
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(size=x.size)
        pixels = ResidualPixels("e", "F", x, y, noise, np.ones(x.size))
        errors.append(residual_levels([pixels], tile=16)["error"][0].value / white)
    print(
        f"error over that of white noise: {min(errors):.2f} to {max(errors):.2f}, median {np.median(errors):.2f}"
    )
    assert min(errors) > 0.9
    assert np.median(errors) < 1.3
