"""What optimisation hands over to sampling, where a flux ended at an edge of its box."""

import numpy as np
import pytest

from fphojax.app.boxes import bounds_options
from fphojax.app.config import Settings
from fphojax.app.stages.optimize import optimize
from fphojax.app.stages.postop import postop
from fphojax.field.superscene import SuperScene
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.catalog import SourceCatalog

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
    run = optimize(settings).files["run"]
    return settings, run, postop(settings, run=run)


def test_a_flux_at_an_edge_is_marked(handed):
    _, run, report = handed
    found = SourceCatalog.read(report.files["catalog"])
    assert found.flux[0, 0] == pytest.approx(22.5, abs=0.01)
    assert found["flux_at_bound"].tolist() == ["F", ""]
    assert np.isnan(found.flux_err).ravel().tolist() == [True, False]
    assert report.tables["fluxes"]["at a bound"].tolist() == [1]
    assert "1 flux of 1 source ended at an edge of the box" in report.verdict
    errors = SuperScene.resume(run / "scene.fits").catalog.flux_err.ravel()
    point = (
        0.3 * np.sqrt(4 * np.pi) * 2 / np.sqrt(8 * np.log(2))
    )  # noise 0.3, PSF two pixels wide at half height
    assert (errors > point).all()
    assert (errors < 5 * point).all()


def test_no_box_is_made_of_it(handed):
    settings, _, report = handed
    found = SourceCatalog.read(report.files["catalog"])
    bounds = default_bounds(found, **bounds_options(settings))
    assert (bounds.lower["flux"].ravel() < TRUTH).all()
    assert (bounds.upper["flux"].ravel() > TRUTH).all()
    width = np.ravel(bounds.upper["flux"] - bounds.lower["flux"])
    assert width[0] > 200
    assert width[1] == pytest.approx(10 * found.flux_err[1, 0])
