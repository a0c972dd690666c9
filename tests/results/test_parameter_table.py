"""The rounded table of parameters: digits, order, what is flagged."""

import dataclasses

import numpy as np

from fphojax.results.parameter_table import parameter_table, rounded
from fphojax.results.summary import summary_table


def test_digits_are_those_that_are_known(fit):
    table, summary = parameter_table(fit.result, fit.truth), summary_table(fit.result, fit.truth)
    assert table.colnames == [
        "source",
        "parameter",
        "unit",
        "truth",
        "value",
        "68 % interval",
        "r_hat",
        "ESS",
        "flags",
    ]
    for shown, exact in zip(table, summary, strict=True):
        width = exact["upper"] - exact["lower"]
        step = 10.0 ** -len(shown["value"].partition(".")[2])
        assert 0.009 * width < step < 0.11 * width
        assert abs(float(shown["value"]) - exact["value"]) <= 0.51 * step
        low, high, *unit = shown["68 % interval"].split()
        scale = 3.6e6 if exact["parameter"] in ("ra", "dec") else 1
        assert unit == (["mas"] if scale > 1 else [])
        assert float(low) < 0 < float(high)
        np.testing.assert_allclose(float(high) - float(low), width * scale, rtol=0.12)
    assert table["parameter"][:2].tolist() == ["flux B", "flux R"]


def test_digits_before_the_point_that_are_not_known(fit):
    summary = summary_table(fit.result)[:1]
    summary["value"], summary["lower"], summary["upper"] = 912_042.3, 907_079.2, 917_005.1
    (row,) = rounded(summary)
    assert (row["value"], row["68 % interval"]) == ("912000", "-5000 +5000")


def test_sources_are_in_the_order_of_the_catalogue(fit):
    extra = fit.active.extra.copy()
    extra["source_index"] = [7, 2]  # as a patch has them, which starts with its seed
    result = dataclasses.replace(fit.result, active=fit.active.replace(extra=extra))
    names = list(dict.fromkeys(parameter_table(result)["source"].tolist()))
    assert names == fit.active.id[::-1].tolist()
    plain, turned = summary_table(fit.result), summary_table(result)
    name = fit.active.id[0]
    np.testing.assert_array_equal(turned["value"][turned["id"] == name], plain["value"][plain["id"] == name])


def test_flags_and_held_parameters(fit):
    summary = summary_table(fit.result)[:4]
    summary["r_hat"], summary["at_bound"] = [1.0, 1.5, np.nan, 1.0], [0.2, 0.0, 0.0, 0.0]
    summary["lower"][3] = summary["upper"][3] = summary["value"][3]
    table = rounded(summary)
    assert table["flags"].tolist() == ["at bound", "r_hat", "r_hat", ""]
    assert table["68 % interval"][3] == "held"


def test_an_optimum_has_no_convergence(fit):
    one = fit.result.posterior["posterior"].dataset.isel(chain=[0], draw=[0])
    posterior = fit.result.posterior.copy()
    posterior["posterior"] = posterior["posterior"].__class__(one)
    result = dataclasses.replace(fit.result, posterior=posterior, optimum_std=fit.result.optimum * 0 + 0.5)
    assert np.isnan(summary_table(result)["r_hat"]).all()
    table = parameter_table(result)
    assert "r_hat" not in table.colnames
    assert set(table["flags"]) <= {"", "at bound"}
