"""A scene fitted in one call, and the figures of what comes of it."""

import numpy as np
import pytest

from fphojax.field.scene_fit import fit_scene, scene_region
from fphojax.figures.interval_plots import plot_intervals, plot_joint
from fphojax.inference.methods import NUTS, Laplace, Optimum
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.noise_model import NoiseModel
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

FEW = NUTS(draws=40, warmup=40, chains=2)
TRUTH = mock_galaxies(x=0, y=0, flux={"F1": [80], "F2": [50]}, q=0.6, pa=30, sersic=2.0, rhalf=0.15)


@pytest.fixture(scope="module")
def field():
    return mock_field(
        TRUTH, [MockCamera("F1", pixel_scale=0.06, width=1.2), MockCamera("F2", pixel_scale=0.06)]
    )


@pytest.fixture(scope="module")
def fit(field):
    return fit_scene(field.exposures, field.psfs, field.peaks, FEW, bands=["F1"])


def test_region_holds_the_radii_of_influence():
    pair = mock_galaxies(x=[0, 2.0], y=[0, 0], flux={"F1": [1, 1]}, q=1, pa=0, sersic=1, rhalf=[0.1, 0.2])
    region = scene_region(pair)
    assert region.radius == pytest.approx((2.0 + 0.5 + 1.0) / 2, rel=1e-6)
    assert region.contains(pair.ra, pair.dec).all()


def test_truth_is_found(fit):
    table = fit.to_table(TRUTH)
    pull = (table["value"] - table["truth"]) / (table["upper"] - table["lower"]) * 2
    print(np.round(np.asarray(pull), 2))
    assert np.sqrt(np.mean(pull**2)) < 2.5
    assert fit.result.bands == ("F1",)
    assert fit.result.bounds.upper["x"].item() == pytest.approx(2 * 0.06, rel=1e-6)  # pixels of the exposures
    assert repr(fit).startswith("SceneFit(Scene(1 active and 0 fixed sources, ")  # what a notebook shows
    assert repr(fit).endswith(" in F1), 2 chains of 40 draws)")


def test_bounds_are_those_of_the_bands_by_name(field):
    turned = TRUTH.select_bands(("F2", "F1"))
    bounds = default_bounds(turned)
    result = fit_scene(field.exposures, field.psfs, turned, Laplace(draws=40, chains=1), bounds=bounds).result
    assert result.bands == result.bounds.bands == ("F1", "F2")
    np.testing.assert_array_equal(result.bounds.upper["flux"], bounds.upper["flux"][:, ::-1])
    flux = result.draws["flux"].to_numpy()
    assert ((result.bounds.lower["flux"] <= flux) & (flux <= result.bounds.upper["flux"])).all()


def test_fast_method_agrees_with_chains(field, fit):
    fast = fit_scene(field.exposures, field.psfs, field.peaks, Laplace(draws=200, chains=1), bands=["F1"])
    assert fast.result.method == "laplace"
    assert fast.result.draws.sizes["draw"] == 200
    for name in ("flux", "ra", "dec", "rhalf"):
        ours, theirs = (found.result.draws[name].to_numpy().ravel() for found in (fast, fit))
        shift, ratio = (ours.mean() - theirs.mean()) / theirs.std(), ours.std() / theirs.std()
        print(f"{name}: {shift:+.2f} sd, sd ratio {ratio:.2f}")
        assert abs(shift) < 0.6
        assert 0.6 < ratio < 1.6


def test_intervals_are_drawn_beside_the_truth(fit):
    figure = plot_intervals({"one": fit.result, "two": fit.result}, TRUTH)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:2] == ["flux F1 [nJy]", r"$\Delta$ ra [mas]"]
    median = fit.result.draws["flux"].median().item()
    drawn = [line.get_xdata() for line in figure.axes[0].lines]
    assert any(np.isclose(np.atleast_1d(x)[0], median) for x in drawn)
    # the truth is where positions are counted from
    assert any(np.all(np.asarray(line.get_xdata()) == 0) for line in figure.axes[1].lines)


def test_joint_draws_with_their_correlation(fit):
    figure = plot_joint({"one": fit.result}, [((1, "flux", "F1"), (1, "rhalf"))], TRUTH)
    (axis,) = figure.axes
    draws = fit.result.draws
    expected = np.corrcoef(draws["flux"].to_numpy().ravel(), draws["rhalf"].to_numpy().ravel())[0, 1]
    assert axis.get_title() == f"draws, correlation {expected:+.2f}"
    assert axis.get_xlabel() == "source 1: flux F1 [nJy]"


def test_errors_follow_the_noise_that_is_given(field):
    """Twice as large as the images say."""
    args = field.exposures, field.psfs, field.peaks, Optimum()
    plain, noisy = (fit_scene(*args, bands=["F1"], noise=noise) for noise in (None, NoiseModel(scale=2.0)))
    ratio = np.asarray(noisy.result.optimum_std["flux"] / plain.result.optimum_std["flux"])
    print("ratio of flux errors", ratio.ravel().round(3))
    # priors and what PSF mixtures leave do not grow
    np.testing.assert_allclose(ratio, 2, rtol=0.1)
    np.testing.assert_allclose(noisy.result.err_scale, ratio, rtol=1e-6)
    np.testing.assert_array_equal(noisy.result.optimum["flux"], plain.result.optimum["flux"])


def test_table_of_an_optimum_has_its_errors(field):
    best = fit_scene(field.exposures, field.psfs, field.peaks, Optimum(), bands=["F1"])
    table = best.to_table(TRUTH)
    flux = table[table["parameter"] == "flux"][0]
    error = float(best.result.optimum_std["flux"].to_numpy()[0, 0])
    assert error > 0
    assert flux["upper"] - flux["value"] == pytest.approx(error)
    assert flux["value"] - flux["lower"] == pytest.approx(error)
    assert (np.asarray(table["upper"]) > np.asarray(table["lower"])).all()
