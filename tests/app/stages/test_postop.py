"""What optimisation finds and hands over to sampling, where a flux ended at an edge of its box."""

import re

import numpy as np
import pytest

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import next_settings
from fphojax.app.stages.optimize import optimize
from fphojax.app.stages.postop import postop
from fphojax.field.superscene import SuperScene
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.run_directory import RunDirectory

TRUTH = np.array([50.0, 52.0])


@pytest.fixture(scope="module")
def handed(tiny, tmp_path_factory):
    """Two galaxies of 50 and 52 nJy, of which the first is said to have 20.0 +- 0.5: settings and report."""
    folder = tmp_path_factory.mktemp("postop")
    path = tiny.write_field(folder, n_source=2)
    peaks = SourceCatalog.read(folder / "peaks.ecsv")
    flux = np.array([[20.0], [52.0]])
    peaks.replace(flux=flux, flux_err=np.array([[0.5], [np.nan]])).write(folder / "peaks.ecsv")
    settings = Settings.from_yaml(path)
    fitted = optimize(settings)
    return settings, fitted, postop(settings, run=fitted.files["run"])


def test_a_flux_at_an_edge_is_marked(handed):
    _, fitted, report = handed
    found = SourceCatalog.read(report.files["catalog"])
    assert found.flux[0, 0] == pytest.approx(22.5, abs=0.01)
    assert found["flux_at_bound"].tolist() == ["F", ""]
    assert np.isnan(found.flux_err).ravel().tolist() == [True, False]
    assert report.tables["fluxes"]["at a bound"].tolist() == [1]
    assert "1 flux of 1 source ended at an edge of the box" in report.verdict
    errors = SuperScene.resume(fitted.files["run"] / "scene.fits").catalog.flux_err.ravel()
    point = (
        0.3 * np.sqrt(4 * np.pi) * 2 / np.sqrt(8 * np.log(2))
    )  # noise 0.3, PSF two pixels wide at half height
    assert (errors > point).all()
    assert (errors < 5 * point).all()


def test_no_box_is_made_of_it(handed):
    _, _, report = handed
    found = SourceCatalog.read(report.files["catalog"])
    bounds = default_bounds(found, **bounds_options(Settings.from_yaml(report.files["settings"])))
    assert (bounds.lower["flux"].ravel() < TRUTH).all()
    assert (bounds.upper["flux"].ravel() > TRUTH).all()
    width = np.ravel(bounds.upper["flux"] - bounds.lower["flux"])
    assert width[0] > 200
    assert width[1] == pytest.approx(2 * 25 * found.flux_err[1, 0]), "a long tail has room in it"


def test_a_width_that_the_settings_name_stays(handed):
    settings, _, report = handed
    narrow = settings.changed(bounds_kwargs={"n_sig_flux": 4.0})
    for given, expected in ((settings, 25.0), (narrow, 4.0)):
        assert next_settings(given, report).bounds_kwargs.n_sig_flux == expected


def test_what_a_flux_at_an_edge_leaves_is_a_misfit(handed):
    """In the table of sources that need a look, and in the catalogue of the run."""
    _, fitted, _ = handed
    flagged = fitted.tables["flagged"]
    assert flagged["ended"].tolist() == ["at a bound, model limited"]
    found = re.fullmatch(r"flux, .*; chi2/dof ([\d.]+) in F", flagged["why"][0])
    table = final_catalog(RunDirectory(fitted.files["run"]))
    ratio = table["chi2"] / table["n_pixel"]
    assert float(found[1]) == pytest.approx(ratio[0], abs=0.051)
    assert ratio[0] > 3
    assert (table["flags"] & 128 > 0).tolist() == [True, False]
    scene = SuperScene.resume(fitted.files["run"] / "scene.fits").catalog
    np.testing.assert_allclose(table["F_err"], scene.flux_err[:, 0], rtol=1e-9)
    np.testing.assert_allclose(table["F_err_scaled"][0], table["F_err"][0] * np.sqrt(ratio[0]), rtol=1e-9)
