"""Coverage of intervals: of quantiles that are known, and of fits whose truths come from the prior."""

import numpy as np
import pytest

from fphojax.inference.methods import Laplace
from fphojax.inputs.bounds import default_bounds
from fphojax.simulate.coverage import CoverageStudy, _draw_catalog, coverage_study
from fphojax.simulate.mock_fields import MockCamera, mock_galaxies


@pytest.fixture(scope="module")
def galaxy():
    return mock_galaxies(x=0, y=0, flux={"F200W": [100]}, q=0.7, pa=40, sersic=1.5, rhalf=0.12)


@pytest.fixture(scope="module")
def bounds(galaxy):
    limits = default_bounds(
        galaxy, sqrtq_range=(0.6, 0.95), rhalf_range=(0.08, 0.16), sersic_range=(1.0, 2.5)
    )
    return limits.replace(flux=(60, 140))


def test_uniform_quantiles_are_covered_and_others_are_not():
    uniform = np.random.default_rng(1).uniform(size=(2000, 2))
    outer = np.where(uniform < 0.5, uniform**2, 1 - (1 - uniform) ** 2)
    table = CoverageStudy({"right": uniform, "too narrow": outer}).table()
    print(table)
    right, narrow = table
    assert right["error"] == pytest.approx(np.sqrt(0.68 * 0.32 / 4000))
    for level in (0.50, 0.68, 0.95):
        assert abs(right[f"{level:.0%}"] - level) < 3 * np.sqrt(level * (1 - level) / 4000)
    # of the outer ones, x with x^2 > 0.16 and its mirror image lie in the central 68 %
    assert narrow["68%"] == pytest.approx(2 * (0.5 - 0.4), abs=0.03)


def test_truths_are_drawn_in_the_bands_by_name(galaxy):
    pair = galaxy.replace(
        bands=("F1", "F2"), flux=np.column_stack([galaxy.flux[:, 0], 9 * galaxy.flux[:, 0]])
    )
    truth = _draw_catalog(pair, default_bounds(pair).select_bands(("F2", "F1")), np.random.default_rng(0))
    assert not default_bounds(pair).violations(truth, ["flux"])


def test_truths_fill_the_bounds(galaxy, bounds):
    catalogs = [_draw_catalog(galaxy, bounds, np.random.default_rng(number)) for number in range(200)]
    for name in ("flux", "q", "pa", "sersic", "rhalf"):
        values = np.array([getattr(one, name) for one in catalogs]).ravel()
        low, high = bounds.lower[name].item(), bounds.upper[name].item()
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high >= values.max() > high - 0.05 * (high - low)
    north = np.array([one.dec - galaxy.dec for one in catalogs]) * 3600
    assert 0.05 < np.abs(north).max() <= 0.06


def test_figure(tmp_path):
    study = CoverageStudy({"flux": np.linspace(0, 1, 100), "q": np.linspace(0, 1, 100)})
    figure = study.plot()
    assert [axis.get_title() for axis in figure.axes] == ["flux", "q"]
    assert {patch.get_height() for patch in figure.axes[0].patches[:10]} == {10}


@pytest.mark.slow
def test_bright_galaxies_are_covered_by_the_fast_method(galaxy, bounds, capsys):
    camera = MockCamera("F200W", width=1.2).with_snr(galaxy, 150)
    study = coverage_study(galaxy, [camera], bounds, Laplace(draws=200, chains=2), n_scene=100, seed=2)
    table = study.table()
    with capsys.disabled():
        print()
        print(table)
    assert study.quantiles["flux"].shape == (100, 1, 1)
    assert study.quantiles["x"].shape == (100, 1)
    for row in table:
        assert abs(row["68%"] - 0.68) < 3.5 * row["error"]
