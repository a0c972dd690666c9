"""Forced photometry, barriers, draws without chains, and masked exposures, as a user asks for them."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fphojax import final_catalog
from fphojax.app.cli import app
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

pytestmark = pytest.mark.slow

RA, DEC = 150.0, 2.0
SHAPES = ("ra", "dec", "q", "pa", "sersic", "rhalf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of one galaxy, the second of them masked about it, and a peak list.

    The index of the galaxy is beyond the bounds of `run_with`.
    """
    folder = tmp_path_factory.mktemp("field")
    galaxy = SourceCatalog.from_columns(
        ra=[RA], dec=[DEC], flux=[[80.0]], q=0.6, pa=29.0, sersic=1.0, rhalf=0.2, roi=1.0, bands=("g",)
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    specs = [ExposureSpec("g", name, (40, 40), 0.1, 0.0, RA, DEC, psf, 0.1) for name in ("g1", "g2")]
    seen, masked = simulate_exposures(galaxy, specs, seed=1)
    ierr = masked.ierr.copy()
    ierr[5:35, 5:35] = 0
    for exposure in (seen, dataclasses.replace(masked, ierr=ierr)):
        write_exposure(exposure, folder / f"{exposure.name}.fits")
    galaxy.replace(flux=np.array([[60.0]]), sersic=np.array([2.0])).write(folder / "peaks.ecsv")
    return folder


def run_with(folder, command, **settings):
    """The folder of a run with some settings."""
    settings = {
        "bandlist": ["g"],
        "fitsfiles": "g1.fits",
        "raw_catalog": "peaks.ecsv",
        "n_gauss_psf": 1,
        "bounds_kwargs": {"sersic_range": [1.6, 4.0], "n_pix": 3, "pixscale": 0.1},
    } | settings
    (folder / "field.yml").write_text(yaml.safe_dump(settings))
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    name, *options = command
    result = CliRunner().invoke(
        app, [name, str(folder / "field.yml"), "--out", str(out), "--quiet", *options]
    )
    assert result.exit_code == 0, result.output
    return RunDirectory.open(out)


def flags_of(run):
    """The only source's flags after its last fit; light that goes beyond its pixels asks for another."""
    entry = run.read_log()["patchlog"][-1]
    return next(iter(entry["summary"]["flags"].values()), {})


@pytest.mark.parametrize("start", ["catalog", "prior"])
def test_forced_photometry_holds_positions_and_shapes(folder, start):
    run = run_with(folder, ["optimize", "--forced"], optimize_start=start)
    start, end = SourceCatalog.read(folder / "peaks.ecsv"), run.read_scene()
    for name in SHAPES:
        np.testing.assert_allclose(end[name], start[name], rtol=1e-9, err_msg=name)
    assert abs(end.flux[0, 0] - start.flux[0, 0]) > 5
    assert run.read_patch(0).method == "forced"
    assert flags_of(run) == {}


def test_barriers_keep_parameters_off_their_bounds(folder):
    plain = run_with(folder, ["optimize"])
    assert plain.read_scene().sersic == pytest.approx([1.6], abs=1e-3)
    assert "sersic" in flags_of(plain)["at a bound"]
    kept_off = run_with(folder, ["optimize"], add_barriers=True)
    assert 1.61 < kept_off.read_scene().sersic[0] < 3
    assert flags_of(kept_off) == {}


@pytest.mark.parametrize("sampler", ["laplace", "importance", "auto"])
def test_draws_by_weights_say_how_far_they_are_to_be_trusted(folder, sampler):
    bounds = {"sersic_range": [0.5, 4.0], "n_pix": 3, "pixscale": 0.1}
    small = {"chains": 2, "sampling_draws": 300, "bounds_kwargs": bounds}
    run = run_with(folder, ["sample"], sampler=sampler, **small)
    result = run.read_patch(0)
    assert result.method == {"auto": "importance"}.get(sampler, sampler)
    assert result.draws.sizes["draw"] == 300
    flux = result.draws["flux"].to_numpy()
    assert abs(flux.mean() - 80) < 5 * flux.std()
    (entry,) = run.read_log()["patchlog"]
    assert entry["summary"]["method"] == result.method
    assert entry["summary"]["trusted"]
    assert entry["summary"]["pareto_k"] < 0.7
    if sampler != "laplace":
        assert 500 <= entry["summary"]["effective_size"] == result.effective_size <= 600
    (row,) = final_catalog(run)
    for name in ("method", "pareto_k", "effective_size", "efficiency"):
        assert str(row[name]) == str(entry["summary"].get(name, np.nan))


def test_an_exposure_that_is_masked_in_the_patch_is_told(folder):
    run = run_with(folder, ["optimize"], fitsfiles=["g1.fits", "g2.fits"], add_barriers=True)
    assert flags_of(run)["masked"] == "g2"
    assert run.read_patch(0).exposures["exposure"].to_numpy().tolist() == ["g1"]
