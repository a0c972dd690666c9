"""The final catalogue of a made-up run: three patches, one source in two of them."""

import dataclasses
import json
import re
from pathlib import Path

import arviz
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.table import Table

from fphojax import RunDirectory, SourceCatalog, final_catalog, summary_table
from fphojax.errors import InputError
from fphojax.results.products.catalog_columns import COLUMNS, columns_document
from fphojax.results.products.multipatch import MultipatchReport
from fphojax.results.products.patch_draws import RunDraws, read_patch_draws

N_CHAIN, N_DRAW = 3, 50  # of the made-up chains


@pytest.fixture
def run(tmp_path, fit, shifted):
    """Source "one" is fitted by patches 0 and 2, "two" by 0 and 1, "three" by none."""
    directory = RunDirectory.create(tmp_path / "run")
    directory.write_patch(0, fit.result)
    directory.write_patch(1, shifted(fit.result, [1], 0.0))
    directory.write_patch(2, shifted(fit.result, [0], 2.5))
    directory.write_scene(fit.truth, {"patches": 3})
    return directory


def test_catalogue_against_arviz_and_numpy(tmp_path, fit):
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(7, fit.result)
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    assert table["id"].tolist() == ["one", "two"]
    assert table.meta["FILTERS"] == "B,R"
    draws = fit.result.centred_draws
    r_hat, size = arviz.rhat(draws), arviz.ess(draws, method="bulk")
    for name in ("ra", "dec", "q", "pa", "sersic", "rhalf", "B", "R"):
        at = {"band": name} if name in "BR" else {}
        one = draws["flux" if at else name].sel(at)
        low, middle, high = one.quantile((0.16, 0.5, 0.84), ("chain", "draw"))
        turn = 360.0 if name == "ra" else np.inf
        np.testing.assert_allclose(table[name], middle % turn if name == "ra" else middle, rtol=1e-12)
        np.testing.assert_allclose(table[f"{name}_16"], low % turn if name == "ra" else low, rtol=1e-12)
        np.testing.assert_allclose(table[f"{name}_84"], high % turn if name == "ra" else high, rtol=1e-12)
        np.testing.assert_allclose(
            table[f"{name}_err" if at else f"{name}_std"], one.std(("chain", "draw")), rtol=1e-6
        )
        np.testing.assert_allclose(table[f"{name}_rhat"], r_hat["flux" if at else name].sel(at), rtol=1e-9)
        np.testing.assert_allclose(table[f"{name}_ess_bulk"], size["flux" if at else name].sel(at), rtol=1e-9)
        np.testing.assert_allclose(
            table[f"{name}_at_bound"], fit.result.at_bound["flux" if at else name].sel(at)
        )
    flux = draws["flux"].stack(n=("chain", "draw")).to_numpy()
    for s in range(2):
        assert table["cov_B_R"][s] == pytest.approx(np.cov(flux[s], ddof=0)[0, 1], rel=1e-9)
    colour = 2.5 * np.log10(flux[:, 1] / flux[:, 0])
    np.testing.assert_allclose(table["colour_B_R"], np.median(colour, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(table["mag_B"], 31.4 - 2.5 * np.log10(table["B"]), rtol=1e-12)
    assert (table["mag_B_16"] < table["mag_B"]).all()
    assert (table["n_draw"] == N_CHAIN * N_DRAW).all()
    assert (table["n_divergent"] == int(fit.result.posterior["sample_stats"]["diverging"].sum())).all()
    assert (table["patch_id"] == 7).all()
    assert (table["flags"] & 8).all()
    assert table["mue_B"].unit == u.mag / u.arcsec**2


def test_sources_of_which_the_data_say_little_are_flagged(tmp_path, fit):
    widths = fit.result.prior_width.copy(deep=True)
    assert widths["ra"][0] == pytest.approx(
        (fit.bounds.upper["x"][0] - fit.bounds.lower["x"][0])
        / np.sqrt(12) / 3600 / np.cos(np.deg2rad(fit.result.region.dec))
    )  # fmt: skip
    widths["sersic"][0] = fit.result.draws["sersic"][..., 0].std() / 0.75
    widths["pa"][1] = fit.result.draws["pa"][..., 1].std() / 0.99  # a round galaxy has none
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, dataclasses.replace(fit.result, prior_width=widths))
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    assert (table["flags"] & 64 > 0).tolist() == [True, False]
    np.testing.assert_allclose(table["sersic_std"][0] / table["sersic_prior_std"][0], 0.75)
    assert table["B_prior_std"].unit == u.nJy
    assert np.isnan(table["pareto_k"]).all()

    tree = {name: fit.result.posterior[name].dataset for name in ("posterior", "sample_stats")}
    lp = tree["sample_stats"]["lp"]
    tree["sample_stats"] = tree["sample_stats"].assign(pareto_k=0.3 * xr.ones_like(lp))
    approximate = dataclasses.replace(
        fit.result, prior_width=xr.Dataset(), posterior=xr.DataTree.from_dict(tree), method="laplace"
    )
    run.write_patch(0, approximate)
    table = final_catalog(run)
    np.testing.assert_array_equal(table["pareto_k"], 0.3)
    assert np.isnan(table["q_prior_std"]).all()
    assert not (table["flags"] & 64).any()


@pytest.mark.parametrize("trusted", [True, False])
def test_draws_by_weights(tmp_path, fit, trusted):
    """Their effective numbers are at most that of the points; only those that are trusted are a sample."""
    statistics = fit.result.posterior["sample_stats"].dataset
    ones = xr.ones_like(statistics["lp"])
    told = {"pareto_k": 0.4 * ones, "effective_size": 60.0 * ones, "efficiency": 0.5 * ones}
    told["trusted"] = ones.astype(bool) & trusted
    tree = {"posterior": fit.result.draws, "sample_stats": statistics.assign(told)}
    run = RunDirectory.create(tmp_path / "run")
    weighted = dataclasses.replace(fit.result, posterior=xr.DataTree.from_dict(tree), method="importance")
    run.write_patch(0, weighted)
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    for name, value in (("pareto_k", 0.4), ("effective_size", 60), ("efficiency", 0.5), ("ess_min", 60)):
        np.testing.assert_array_equal(table[name], value)
    assert (table["ra_ess_bulk"] == 60).all()
    assert (table["ra_ess_tail"] <= 60).all()
    assert (table["flags"] & 32 > 0).tolist() == [not trusted] * 2
    assert (table["flags"] & 2 > 0).tolist() == [trusted] * 2
    assert (np.asarray(summary_table(weighted)["ess_bulk"]) <= 60).all()


def test_medians_are_a_catalogue(run, fit):
    """Column by column what the result of a patch says, written and read back."""
    table = final_catalog(run)
    for suffix in ("fits", "ecsv"):
        path = run.path / f"final.{suffix}"
        table.write(path)
        catalog = SourceCatalog.read(path)
        assert catalog.bands == fit.result.bands
        assert catalog.id.tolist() == ["one", "two"]
        np.testing.assert_allclose(catalog.flux[1], fit.result.final_catalog().flux[1], rtol=1e-12)
        np.testing.assert_allclose(catalog.pa[1], fit.result.final_catalog().pa[1], rtol=1e-12)


def test_chains_of_several_patches_are_combined_and_compared(run, fit):
    table = final_catalog(run)
    assert table["n_patch"].tolist() == [2, 2]
    assert table["n_draw"].tolist() == [2 * N_CHAIN * N_DRAW] * 2
    assert (table["flags"] & 16 > 0).tolist() == [True, False]
    spread = float(fit.result.draws["sersic"].isel(source=0).std())
    middle = float(fit.result.draws["sersic"].isel(source=0).mean())
    assert table["sersic_mean"][0] == pytest.approx(middle + 1.25 * spread, rel=1e-9)

    draws = RunDraws(run)
    report = MultipatchReport(draws.bands)
    for patch in draws.patches():
        for sources in draws.sources(patch):
            report.add(draws.ids[sources.rows], sources)
    comparison = report.table
    assert len(comparison) == 2 * 8
    row = comparison[(comparison["id"] == "one") & (comparison["parameter"] == "sersic")][0]
    assert row["patches"] == "0 2"
    assert row["shift"] == pytest.approx(2.5, rel=1e-9)
    assert row["r_hat"] > 1.3
    quiet = comparison[(comparison["id"] == "two") & (comparison["parameter"] == "R")][0]
    assert quiet["shift"] == 0
    assert quiet["unit"] == "nJy"
    assert draws.unfitted.id.tolist() == ["three"]


def test_empty_report_of_several_patches():
    assert len(MultipatchReport(("B",)).table) == 0


@pytest.fixture
def with_a_point(fit):
    """The result of a patch in which source "two" is a point, and takes its position from the first."""
    posterior = fit.result.draws.copy(deep=True)
    for name, value in {"q": 1.0, "pa": 0.0, "sersic": 1.0, "rhalf": 0.0}.items():
        posterior[name][..., 1] = value
    for name in ("ra", "dec"):
        posterior[name][..., 1] = posterior[name][..., 0]
    tree = xr.DataTree.from_dict(
        {"posterior": posterior, "sample_stats": fit.result.posterior["sample_stats"].dataset}
    )
    return dataclasses.replace(fit.result, posterior=tree)


def test_held_and_tied_parameters(tmp_path, fit, with_a_point):
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, with_a_point)
    profiles = Table({"profile": ["sersic", "point", "sersic"]})
    run.write_scene(fit.truth.replace(extra=profiles), {})
    run.write_config(json.dumps({"ties": {"x": {"two": "one"}, "y": {"two": "one"}}}))
    table = final_catalog(run)
    assert table["profile"].tolist() == ["sersic", "point"]
    assert table["tied"].tolist() == ["", "ra=one dec=one"]
    assert table["ra"][1] == table["ra"][0]
    for name, value in {"q": 1, "pa": 0, "sersic": 1, "rhalf": 0, "rhalf_major": 0, "r_kron": 0}.items():
        assert table[name][1] == value, name
    for name in ("q", "pa", "sersic", "rhalf"):
        assert table[f"{name}_std"][1] == 0
        assert np.isnan([table[f"{name}_{what}"][1] for what in ("rhat", "ess_bulk", "ess_tail")]).all()
    free = ("ra", "dec", "B", "R")
    assert table["rhat_max"][1] == max(table[f"{name}_rhat"][1] for name in free)
    assert table["ess_min"][1] == min(
        table[f"{name}_{what}"][1] for name in free for what in ("ess_bulk", "ess_tail")
    )
    assert np.isfinite(table["rhat_max"]).all()
    for name in ("mu0_B", "mue_R", "r_iso_B"):
        assert np.isfinite(table[name]).tolist() == [True, False]
    assert (table["B_err"] > 0).all()


def test_a_source_whose_fluxes_do_not_vary_has_no_errors(tmp_path, fit):
    frozen = fit.result.draws.copy(deep=True)
    frozen["flux"][:, :, 0, :] = 7.0
    tree = {"posterior": frozen, "sample_stats": fit.result.posterior["sample_stats"].dataset}
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, dataclasses.replace(fit.result, posterior=xr.DataTree.from_dict(tree)))
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    assert np.isnan(table["B_err"]).tolist() == [True, False]
    assert table["R_err"][1] > 0
    table.write(tmp_path / "final.fits")
    read = SourceCatalog.read(tmp_path / "final.fits")
    np.testing.assert_array_equal(np.isnan(read.flux_err), [[True, True], [False, False]])


def test_errors_of_optima(tmp_path, fit):
    """They are those of the pixels, and not the scatter of the points that several patches found."""
    tree = {"posterior": fit.result.draws.isel(chain=[0], draw=[0])}
    tree["sample_stats"] = fit.result.posterior["sample_stats"].dataset.isel(chain=[0], draw=[0])
    std = fit.result.prior_width.copy(deep=True)
    std["flux"][:] = [[1.0, 2.0], [np.nan, 4.0]]
    point = dataclasses.replace(
        fit.result, posterior=xr.DataTree.from_dict(tree), method="optimum", optimum_std=std
    )
    assert point.final_catalog("optimum").flux_err.tolist()[0] == [1.0, 2.0]
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, dataclasses.replace(point, optimum_std=3 * std))
    run.write_patch(1, point)
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    assert table["B_err"].tolist()[0] == 1.0
    assert np.isnan(table["B_err"][1])
    assert table["R_err"].tolist() == [2.0, 4.0]


def test_errors_with_the_misfit(tmp_path, fit):
    """Chi-squared of 90 in 10 pixels of one band makes errors three times as large, and a flag."""
    pixels = fit.result.own_pixels.copy(deep=True)
    assert fit.result.exposures["band"].to_numpy().tolist() == ["B", "R"]
    pixels["chi2"][:] = [[90.0, 5.0], [140.0, 20.0]]
    pixels["n_pixel"][:] = [
        [10, 10],
        [100, 10],
    ]  # 140: below 1.5 a pixel; 20: 2.2 standard deviations above 10
    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, dataclasses.replace(fit.result, own_pixels=pixels))
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    np.testing.assert_allclose(table["B_err_scaled"] / table["B_err"], [3.0, np.sqrt(1.4)], rtol=1e-12)
    np.testing.assert_allclose(table["R_err_scaled"] / table["R_err"], [1.0, np.sqrt(2.0)], rtol=1e-12)
    assert (table["flags"] & 128 > 0).tolist() == [True, False]
    assert table["chi2"].tolist() == [95.0, 160.0]
    assert table["n_pixel"].tolist() == [20, 110]
    names = table.colnames
    assert names.index("B_err_scaled") == names.index("B_err") + 1


def test_single_points_of_older_versions_have_no_errors(tmp_path, fit):
    tree = {"posterior": fit.result.draws.isel(chain=[0], draw=[0])}
    tree["sample_stats"] = fit.result.posterior["sample_stats"].dataset.isel(chain=[0], draw=[0])
    run = RunDirectory.create(tmp_path / "run")
    point = dataclasses.replace(fit.result, posterior=xr.DataTree.from_dict(tree), method="optimum")
    run.write_patch(0, point)
    run.write_scene(fit.truth, {})
    table = final_catalog(run)
    assert not {"B_err", "B_err_scaled"} & set(table.colnames)
    assert np.isnan(table["rhat_max"]).all()
    assert (table["flags"] & 32).all()
    np.testing.assert_array_equal(table["chi2"], fit.result.own_pixels["chi2"].sum("exposure"))


def test_runs_that_do_not_fit_together(run, fit, tmp_path):
    run.write_scene(fit.truth[1:], {})
    with pytest.raises(InputError, match=r"scene\.fits: no source one, expected all that patches fitted"):
        final_catalog(run)
    run.samples_path(1).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"patch1_samples\.nc: cannot be read"):
        final_catalog(run)
    empty = RunDirectory.create(tmp_path / "empty")
    empty.write_scene(fit.truth, {})
    with pytest.raises(InputError, match="no patch has a result"):
        final_catalog(empty)


def test_draws_that_are_read_quickly_are_the_results(tmp_path, fit):
    fit.result.write(tmp_path / "patch.nc")
    draws = read_patch_draws(tmp_path / "patch.nc", 4)
    assert draws.patch == 4
    assert draws.ids.tolist() == fit.result.active.id.tolist()
    assert draws.bands == fit.result.bands
    for name, values in draws.values.items():
        expected = fit.result.centred_draws[name].transpose("source", "chain", "draw", ...).to_numpy()
        np.testing.assert_allclose(values, expected, rtol=1e-13)
    assert draws.region == dataclasses.astuple(fit.result.region)


def test_every_column_is_documented():
    document = Path(__file__).parents[3] / "docs" / "catalog_columns.md"
    assert document.read_text() == columns_document(), (
        "python -m fphojax.results.products.catalog_columns prints it"
    )


def test_every_documented_column_is_there(run):
    """All but the covariance of colours, which takes three bands, and columns of components (test_composite_rows)."""
    places = {"PARAMETER": "(ra|dec|q|pa|sersic|rhalf|B|R)", r"BAND[23]?": "(B|R)"}
    names, absent = final_catalog(run).colnames, set()
    for column in COLUMNS:
        pattern = column.name
        for place, values in places.items():
            pattern = re.sub(place, values, pattern)
        if not any(re.fullmatch(pattern, name) for name in names):
            absent.add(column.name)
    of_components = {name for name in absent if name.startswith(("COMPONENT_", "bt_"))}
    assert len(of_components) == 6
    assert absent - of_components == {"colour_cov_BAND_BAND2_BAND3"}
