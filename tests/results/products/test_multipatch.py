"""Table of sources in several patches against their draws."""

from types import SimpleNamespace

import numpy as np

from fphojax.results.convergence import r_hat
from fphojax.results.patch_result import POSTERIOR_UNITS
from fphojax.results.products.multipatch import (
    MultipatchReport,
    largest_shift,
    parameter_names,
    parameters_first,
)
from fphojax.results.products.patch_draws import SourceDraws

BANDS = ("g", "r")


def draws(n_source=2, *, shift=0.0, seed=0):
    """Draws of sources in two patches of two chains each; the means of q differ by `shift`."""
    rng = np.random.default_rng(seed)
    values = {
        name: rng.normal(size=(n_source, 4, 50) + ((2,) if name == "flux" else ()))
        for name in POSTERIOR_UNITS
    }
    values["q"][:, 2:] += shift
    return values


def sources(values, *patches):
    parts = [[SimpleNamespace(patch=number) for number in of] for of in patches]
    return SourceDraws(np.arange(len(parts)), parts, values)


def test_parameters_stand_in_the_order_of_their_names():
    values = draws()
    stacked = parameters_first(values)
    names = list(parameter_names(BANDS))
    assert names[:2] == ["g", "r"]
    assert stacked.shape == (2, len(names), 4, 50)
    np.testing.assert_array_equal(stacked[:, 1], values["flux"][..., 1])
    for name in ("ra", "pa", "rhalf"):
        np.testing.assert_array_equal(stacked[:, names.index(name)], values[name])
    units = parameter_names(BANDS)
    assert units["g"] == units["r"] == "nJy"
    assert units["rhalf"] == "arcsec"


def test_row_of_each_parameter_of_shared_sources():
    values = draws(shift=3.0)
    report = MultipatchReport(BANDS)
    report.add(np.array(["one", "two"]), sources(values, (3, 8), (8,)))
    table = report.table
    assert set(table["id"]) == {"one"}
    assert list(table["parameter"]) == list(parameter_names(BANDS))
    row, q = table[list(table["parameter"]).index("q")], values["q"][0]
    assert (row["n_patch"], row["patches"], row["unit"]) == (2, "3 8", "")
    means, scatter = [q[:2].mean(), q[2:].mean()], [q[:2].std(), q[2:].std()]
    np.testing.assert_allclose([row["mean"], row["std"]], [q.mean(), q.std()])
    np.testing.assert_allclose([row["lowest"], row["highest"]], [min(means), max(means)])
    np.testing.assert_allclose(row["shift"], (max(means) - min(means)) / np.mean(scatter))
    np.testing.assert_allclose(row["r_hat"], r_hat(q[None])[0])
    assert 2.5 < row["shift"] < 3.5
    assert row["r_hat"] > 1.5
    assert largest_shift(parameters_first(values)[0], 2) == max(table["shift"]) == row["shift"]


def test_held_parameters_do_not_shift():
    values = draws()
    values["sersic"][:] = 4.0
    stacked = parameters_first(values)[0]
    assert 0 < largest_shift(stacked, 2) < 1
    assert largest_shift(stacked[[list(parameter_names(BANDS)).index("sersic")]], 2) == 0


def test_no_source_in_several_patches():
    report = MultipatchReport(BANDS)
    report.add(np.array(["one", "two"]), sources(draws(), (1,), (2,)))
    full = MultipatchReport(BANDS)
    full.add(np.array(["one"]), sources(draws(1), (1, 2)))
    assert len(report.table) == 0
    assert report.table.colnames == full.table.colnames
