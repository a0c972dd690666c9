"""Results in catalogue units, and their files."""

import dataclasses

import equinox as eqx
import h5py
import numpy as np
import pytest
import xarray as xr
from small_run import altered

from fphojax.inputs import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.bounds import PARAMETERS
from fphojax.inputs.exposure_nuisance import Nuisance
from fphojax.results.patch_result import POSTERIOR_UNITS, PatchResult, centred_pa


def _equal(name, a, b):
    """Position angles are radians in the file, which rounds them."""
    return np.allclose(a, b, rtol=5e-16, atol=0) if name == "pa" else np.array_equal(a, b)


def _same_catalog(a, b):
    for name in ("id", "ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi"):
        assert _equal(name, getattr(a, name), getattr(b, name)), name
    assert a.bands == b.bands
    assert dict(a.meta) == dict(b.meta)
    assert a.extra.colnames == b.extra.colnames
    for name in a.extra.colnames:
        assert a.extra[name].dtype.kind == b.extra[name].dtype.kind
        assert list(a.extra[name]) == list(b.extra[name])


def _same(a, b):
    _same_catalog(a.active, b.active)
    _same_catalog(a.fixed, b.fixed)
    for name in PARAMETERS:
        assert _equal(name, a.bounds.lower[name], b.bounds.lower[name])
        assert _equal(name, a.bounds.upper[name], b.bounds.upper[name])
    for name in (
        "region",
        "bands",
        "method",
        "fluxes",
        "seed",
        "n_warmup",
        "max_treedepth",
        "n_calls",
        "wall_time",
        "versions",
    ):
        assert getattr(a, name) == getattr(b, name), name
    for name in ("optimum", "at_bound", "prior_width", "exposures", "own_pixels", "nuisance", "mass_matrix"):
        assert getattr(a, name).identical(getattr(b, name)), name
    for name in ("posterior", "sample_stats"):
        assert a.posterior[name].dataset.identical(b.posterior[name].dataset), name


def test_file_reads_back_exactly(fit, tmp_path):
    path = tmp_path / "patch1_samples.nc"
    fit.result.write(path)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    back = PatchResult.read(path)
    _same(fit.result, back)
    back.write(path)  # the file is not held open
    _same(fit.result, PatchResult.read(path))


def test_there_and_back_as_a_data_tree(fit):
    tree = fit.result.to_datatree()
    assert {"posterior", "sample_stats"} < set(tree.children)
    _same(fit.result, PatchResult.from_datatree(tree))


def test_arviz_takes_the_tree_and_gives_it_back(fit, tmp_path):
    """Through a file of ArviZ's, and with half of the draws left out."""
    import arviz

    tree = fit.result.to_datatree()
    summary = arviz.summary(tree, var_names=["sersic"], round_to="none")
    mean = fit.result.draws["sersic"].mean(("chain", "draw"))
    np.testing.assert_allclose(summary["mean"].to_numpy(float), mean, rtol=1e-12)
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with arviz.from_netcdf(tmp_path / "tree.nc") as file:
        _same(fit.result, PatchResult.from_datatree(file.load()))
    later = fit.result.draws.isel(draw=slice(25, None))
    tree["posterior"] = xr.DataTree(later)
    thinned = PatchResult.from_datatree(tree)
    assert thinned.draws.sizes["draw"] == fit.result.draws.sizes["draw"] - 25
    np.testing.assert_array_equal(thinned.final_catalog().sersic, later["sersic"].median(("chain", "draw")))


def test_a_tree_that_is_no_result(fit):
    with pytest.raises(
        InputError, match=r"^data tree: layout None, groups posterior, sample_stats, expected"
    ):
        PatchResult.from_datatree(fit.result.posterior)
    tree = fit.result.to_datatree()
    del tree.attrs["seed"]
    with pytest.raises(
        InputError, match=r"^data tree: cannot be read \(KeyError: 'seed'\), expected the groups"
    ):
        PatchResult.from_datatree(tree)


def test_a_result_without_fixed_sources_or_extra_columns(fit, tmp_path):
    active = dataclasses.replace(fit.active, extra=type(fit.active.extra)(), id=np.array([4, 7]))
    active = active.replace(flux_err=np.full((2, 2), 0.1))
    result = PatchResult.from_chains(fit.chains, altered(fit.scene, active=active, fixed=active[:0]))
    result.write(tmp_path / "r.nc")
    back = PatchResult.read(tmp_path / "r.nc")
    _same(result, back)
    assert len(back.fixed) == 0
    assert np.array_equal(back.active.flux_err, active.flux_err)


def test_nuisance_parameters_are_kept_by_exposure(fit, tmp_path):
    rng = np.random.default_rng(2)
    shapes = {"sky": (2, 3), "scale": (2,), "shift": (2, 2)}
    draws = fit.chains.values | {name: rng.normal(size=(3, 50, *shape)) for name, shape in shapes.items()}
    best = fit.chains.optimum.values | {name: rng.normal(size=shape) for name, shape in shapes.items()}
    n = sum(np.size(value) for value in best.values())
    chains = dataclasses.replace(
        fit.chains,
        values=draws,
        optimum=dataclasses.replace(fit.chains.optimum, values=best),
        covariance=np.eye(n),
    )
    nuisance = Nuisance(sky="plane", scale_sigma=0.1, shift_sigma=0.1)
    priors, _, _ = nuisance.build(fit.model.patch, 2)
    model = eqx.tree_at(lambda m: m.priors, fit.model, fit.model.priors | priors)
    result = PatchResult.from_chains(dataclasses.replace(chains, model=model), fit.scene)
    result.write(tmp_path / "r.nc")
    back = PatchResult.read(tmp_path / "r.nc")
    _same(result, back)
    kept = back.nuisance
    assert np.array_equal(kept["sky"].sel(exposure="second", term="columns"), draws["sky"][:, :, 1, 1])
    assert np.array_equal(kept["shift"].sel(axis="north"), draws["shift"][..., 1])
    assert np.array_equal(kept["scale_optimum"], best["scale"])
    assert kept["shift"].attrs["units"] == "arcsec"
    assert {"scale[first]", "shift[second,east]", "sky[first,rows]"} <= set(
        back.mass_matrix["parameter"].values
    )


def test_other_programs_read_the_draws(fit, tmp_path):
    fit.result.write(tmp_path / "r.nc")
    with xr.open_datatree(tmp_path / "r.nc", engine="h5netcdf") as tree:
        posterior = tree["posterior"]
        assert posterior["flux"].dims == ("chain", "draw", "source", "band")
        assert posterior["flux"].sel(source="two", band="R").shape == (3, 50)
        assert {name: posterior[name].attrs["units"] for name in POSTERIOR_UNITS} == POSTERIOR_UNITS
        assert tree["sample_stats"]["diverging"].dtype == bool


def test_positions_are_exact(fit):
    draws, region = fit.result.draws, fit.frame.region
    offset = sky_offsets(draws["ra"].values.ravel(), draws["dec"].values.ravel(), region.ra, region.dec)
    x, y = (fit.chains.values[name].ravel() for name in ("x", "y"))
    error = np.abs(offset - np.stack([x, y], axis=-1)).max()
    print(f"positions back from degrees: largest error {error:.1e} arcsec")
    assert error < 1e-9
    assert draws["ra"].values.min() < 1  # the patch lies across ra = 0
    assert draws["ra"].values.max() > 359


def test_units_and_counts(fit):
    result = fit.result
    np.testing.assert_allclose(np.deg2rad(result.draws["pa"]), fit.chains.values["pa"], rtol=1e-14)
    for name in ("flux", "q", "sersic", "rhalf"):
        assert np.array_equal(result.draws[name], fit.chains.values[name])
    n_pixel = [np.isfinite(fit.frame.image(e, fit.model.patch.data)).sum() for e in range(2)]
    assert result.exposures["n_pixel"].values.tolist() == n_pixel
    assert result.exposures["exposure"].values.tolist() == ["first", "second"]
    assert result.optimum.attrs == {"n_step": 7, "converged": 1}
    names = result.mass_matrix["parameter"].values.tolist()
    assert names[:5] == ["flux[one,B]", "flux[one,R]", "flux[two,B]", "flux[two,R]", "pa[one]"]
    assert names[-1] == "y[two]"


def test_at_bound_counts_draws(fit):
    values = {name: value.copy() for name, value in fit.chains.values.items()}
    values["q"][:, :10, 1] = fit.bounds.upper["q"][1] * (1 - 1e-5)
    values["flux"][0, :, 0, 1] = fit.bounds.lower["flux"][0, 1]
    chains = dataclasses.replace(fit.chains, values=values)
    result = PatchResult.from_chains(chains, fit.scene)
    assert result.at_bound["q"].values[1] >= 0.2
    np.testing.assert_allclose(result.at_bound["flux"].values, [[0, 1 / 3], [0, 0]])
    assert result.at_bound["ra"].values.tolist() == [0, 0]


def test_final_catalogue(fit):
    values = {name: value.reshape(-1, *value.shape[2:]) for name, value in fit.chains.values.items()}
    median, mean, last, optimum = (
        fit.result.final_catalog(kind) for kind in ("median", "mean", "last", "optimum")
    )
    values["pa"] = np.rad2deg(values["pa"] - [0, np.pi])  # the mean within (-90, 90] degrees
    start = fit.chains.optimum.values | {"pa": np.rad2deg(fit.chains.optimum.values["pa"])}
    for name in ("flux", "q", "sersic", "rhalf", "pa"):
        np.testing.assert_allclose(getattr(median, name), np.median(values[name], axis=0), rtol=1e-13)
        np.testing.assert_allclose(getattr(mean, name), values[name].mean(axis=0), rtol=1e-13)
        np.testing.assert_allclose(getattr(last, name), values[name][-1], rtol=1e-13)
        np.testing.assert_allclose(getattr(optimum, name), start[name], rtol=1e-13)
    np.testing.assert_allclose(median.flux_err, values["flux"].std(axis=0), rtol=1e-12)
    offset = sky_offsets(median.ra, median.dec, fit.frame.region.ra, fit.frame.region.dec)
    np.testing.assert_allclose(offset[:, 0], np.median(values["x"], axis=0), atol=1e-9)
    offset = sky_offsets(mean.ra, mean.dec, fit.frame.region.ra, fit.frame.region.dec)
    np.testing.assert_allclose(offset[:, 0], values["x"].mean(axis=0), atol=1e-9)
    assert np.all((mean.ra >= 0) & (mean.ra < 360))
    assert median.id.tolist() == ["one", "two"]
    assert list(median.extra["n_iter"]) == [0, 3]
    with pytest.raises(ValueError, match="kind is 'mode', expected"):
        fit.result.final_catalog("mode")


@pytest.mark.parametrize("centre", [0.0, 89.9, -90.0, 175.0, 200.0])
def test_angles_near_the_wrap(centre):
    rng = np.random.default_rng(1)
    deviation = rng.normal(scale=5, size=(2, 4000, 1))
    turns = 180 * rng.integers(-1, 2, size=deviation.shape)
    pa = xr.DataArray(centre + deviation + turns, dims=("chain", "draw", "source"))
    centred = centred_pa(pa)
    assert float(centred.std()) == pytest.approx(deviation.std(), rel=1e-12)
    distance = (float(centred.mean()) - centre - deviation.mean() + 90) % 180 - 90
    assert distance == pytest.approx(0, abs=1e-10)
    np.testing.assert_allclose((centred - pa + 90) % 180, 90, atol=1e-9)


def test_files_that_are_no_results(tmp_path):
    path = tmp_path / "r.nc"
    with pytest.raises(InputError, match=r"r\.nc: no such file, expected the result of a patch"):
        PatchResult.read(path)
    path.write_text("nothing")
    with pytest.raises(InputError, match=r"r\.nc: cannot be read .* expected the result of a patch"):
        PatchResult.read(path)
    path.unlink()
    with h5py.File(path, "w") as file:
        file["other"] = 1
    with pytest.raises(InputError, match=r"r\.nc: layout None, groups none, expected layout 1"):
        PatchResult.read(path)
