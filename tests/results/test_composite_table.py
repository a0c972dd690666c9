"""Totals and shares of composite sources, from draws and from optima, against galaxies of two exact profiles."""

import numpy as np
import pytest
from astropy.table import Table

import fphojax as fp
from fphojax.results.composite_table import composite_table, share_and_error, total_and_error

FLUX = {"g": np.array([40.0, 60.0]), "r": np.array([90.0, 60.0])}  # of bulge and disk


@pytest.fixture(scope="module")
def field():
    truth = fp.mock_galaxies(
        x=[0, 0], y=[0, 0], flux=FLUX, q=[0.9, 0.5], pa=[20.0, 50.0], sersic=[4.0, 1.0], rhalf=[0.08, 0.22]
    )
    cameras = [fp.MockCamera(band, width=3.0).with_snr(truth[1:], 80) for band in FLUX]
    return fp.mock_field(truth, cameras, seed=1)


@pytest.fixture(scope="module")
def start():
    flux = {band: [values.sum()] for band, values in FLUX.items()}
    single = fp.mock_galaxies(x=[0.01], y=[0], flux=flux, q=[0.7], pa=[45.0], sersic=[2.0], rhalf=[0.18])
    return single.replace(extra=Table({"profile": ["bulge_disk"]}))


@pytest.fixture(scope="module")
def optimum(field, start):
    return fp.fit_scene(field.exposures, field.psfs, start, fp.Optimum())


@pytest.fixture(scope="module")
def drawn(field, start):
    return fp.fit_scene(field.exposures, field.psfs, start, fp.Importance(draws=500, chains=2))


@pytest.mark.parametrize("fit", ["optimum", "drawn"])
def test_totals_and_shares_are_those_of_the_truth(fit, request):
    (row,) = request.getfixturevalue(fit).composites()
    for band, (bulge, disk) in FLUX.items():
        for name, truth in (
            (band, bulge + disk),
            (f"bt_{band}", bulge / (bulge + disk)),
            (f"bulge_{band}", bulge),
            (f"disk_{band}", disk),
        ):
            value, error = (float(getattr(row[key], "value", row[key])) for key in (name, f"{name}_err"))
            print(f"{fit} {name}: {value:.4g} +- {error:.2g}, truth {truth:.4g}")
            assert abs(value - truth) < 3 * error
            assert error < 0.15 * truth


def test_errors_of_optimum_and_draws_agree(optimum, drawn):
    """The total is known better than its parts, whose errors cancel."""
    (one,), (other,) = optimum.composites(), drawn.composites()
    for name in ("g", "bt_g", "r", "bt_r", "disk_rhalf"):
        ratio = float(one[f"{name}_err"] / other[f"{name}_err"])
        print(f"{name}: ratio of errors {ratio:.2f}")
        assert 0.75 < ratio < 1.3
    assert one["r_err"] < 0.8 * one["bulge_r_err"]


def test_covariance_of_an_optimum_is_kept_in_the_file(optimum, tmp_path):
    optimum.result.write(tmp_path / "patch.nc")
    again = fp.PatchResult.read(tmp_path / "patch.nc")
    np.testing.assert_array_equal(again.flux_covariance, optimum.result.flux_covariance)
    for column, values in composite_table(again).items():
        assert str(list(values)) == str(list(optimum.composites()[column]))


def test_chains_need_no_covariance(drawn):
    assert drawn.result.flux_covariance is None


def test_share_to_first_order_is_that_of_many_draws():
    rng = np.random.default_rng(2)
    mean, matrix = np.array([3.0, 7.0]), np.array([[0.04, -0.02], [-0.02, 0.09]])
    draws = rng.multivariate_normal(mean, matrix, 40_000).T[:, None]
    point = mean[:, None, None]
    for function in (total_and_error, share_and_error):
        (value, error), (expected, scatter) = function(point, matrix[None]), function(draws, None)
        np.testing.assert_allclose(value, expected, rtol=5e-3)
        np.testing.assert_allclose(error, scatter, rtol=0.02)


def test_a_band_without_light_has_no_share():
    share, error = share_and_error(np.zeros((2, 1, 1)), np.eye(2)[None])
    assert np.isnan(share).all()
    assert np.isnan(error).all()


def test_without_composites_the_table_is_empty(field, start):
    fit = fp.fit_scene(field.exposures, field.psfs, start.without(["profile"]), fp.Optimum())
    assert len(fit.composites()) == 0
    assert fit.result.flux_covariance is None
