"""Tables against numpy."""

import dataclasses

import numpy as np
import pytest

from fphojax.inputs import InputError
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import degrees_of_freedom, exposure_table, summary_table


def _rows(table, parameter):
    return table[table["parameter"] == parameter]


def test_quantiles_are_numpys(fit):
    table = summary_table(fit.result)
    assert len(table) == 2 * 8
    assert "truth" not in table.colnames
    for name in ("flux", "q", "sersic", "rhalf", "pa"):
        values = fit.chains.values[name]
        values = np.rad2deg(values - [0, np.pi]) if name == "pa" else values  # the mean within (-90, 90]
        expected = np.quantile(values.reshape(-1, *values.shape[2:]), [0.5, 0.16, 0.84], axis=0)
        for column, quantile in zip(("value", "lower", "upper"), expected, strict=True):
            np.testing.assert_allclose(_rows(table, name)[column], quantile.ravel(), rtol=1e-13)
    assert list(_rows(table, "flux")["band"]) == ["B", "R"] * 2
    assert list(_rows(table, "flux")["id"]) == ["one", "one", "two", "two"]
    assert np.all((table["r_hat"] < 1.1) & (table["r_hat"] > 0.95))
    assert np.all((table["ess_bulk"] > 60) & (table["ess_bulk"] < 400))
    print(
        f"150 independent draws: r_hat up to {table['r_hat'].max():.3f}, "
        f"ESS from {table['ess_bulk'].min():.0f} to {table['ess_bulk'].max():.0f}"
    )


def test_angles_that_differ_by_half_turns_agree(fit):
    """Chains on different turns, and draws on both sides of the wrap, are one posterior."""
    plain = summary_table(fit.result, fit.truth)
    values = dict(fit.chains.values)
    values["pa"] = values["pa"] + np.pi * np.arange(-1, 2)[:, None, None]
    chains = dataclasses.replace(fit.chains, values=values)
    turned = PatchResult.from_chains(chains, fit.scene)
    turned = summary_table(turned, fit.truth)
    for column in ("value", "lower", "upper", "r_hat", "truth"):
        np.testing.assert_allclose(_rows(turned, "pa")[column], _rows(plain, "pa")[column], rtol=1e-9)


def test_truth_is_found_by_id(fit):
    truth = fit.truth[[2, 1, 0]]
    truth = truth.replace(pa=truth.pa + 3 * 180)
    table = summary_table(fit.result, truth)
    assert list(_rows(table, "flux")["truth"]) == [100.0, 50.0, 60.0, 80.0]
    ra = _rows(table, "ra")
    assert np.all((ra["upper"] - ra["lower"] > 0) & (ra["upper"] - ra["lower"] < 1e-6))
    np.testing.assert_allclose(ra["truth"], fit.truth.ra[:2], rtol=1e-14)
    assert np.all(np.abs(ra["truth"] - ra["value"]) < 1e-6)
    angles = _rows(table, "pa")
    assert np.all(np.abs(angles["truth"] - angles["value"]) < 5)
    with pytest.raises(InputError, match="truth has no source two, expected all fitted sources"):
        summary_table(fit.result, fit.truth[[0, 2]])


def test_exposures(fit):
    table = exposure_table(fit.result)
    n_pixel = np.asarray(table["n_pixel"])
    assert list(table["band"]) == ["B", "R"]
    assert list(table["chi2"]) == [600.0, 500.0]
    dof = degrees_of_freedom(n_pixel, 16)
    assert dof.sum() == pytest.approx(n_pixel.sum() - 16)
    np.testing.assert_allclose(table["chi2_dof"], table["chi2"] / dof)
