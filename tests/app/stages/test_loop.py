"""The loop on a mock field: a source that the peak list lacks, and a sky that the images still have."""

import dataclasses

import numpy as np
import pytest
import yaml

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.loop import loop
from fphojax.app.stages.postop import postop
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

pytestmark = pytest.mark.slow

RA, DEC, NOISE, SKY = 150.0, 2.0, 0.1, {"g": 0.03, "r": -0.05}


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Truth, settings and the loop's report; the second source of three is missing in the peak list."""
    folder = tmp_path_factory.mktemp("field")
    truth = SourceCatalog.from_columns(
        ra=RA + np.array([-4e-4, 0.0, 4e-4]),
        dec=DEC + np.array([2e-4, -3e-4, 1e-4]),
        flux=[[60.0, 90.0], [20.0, 30.0], [50.0, 40.0]],
        q=[0.6, 0.8, 0.7],
        pa=[29.0, 57.0, 115.0],
        sersic=[1.2, 1.5, 2.0],
        rhalf=[0.25, 0.15, 0.2],
        roi=[1.0, 1.0, 1.0],
        bands=("g", "r"),
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    specs = [ExposureSpec(band, f"{band}1", (60, 64), 0.1, 20.0, RA, DEC, psf, NOISE) for band in "gr"]
    for exposure in simulate_exposures(truth, specs, seed=1):
        write_exposure(
            dataclasses.replace(exposure, data=exposure.data + SKY[exposure.band]),
            folder / f"{exposure.name}.fits",
        )
    truth[[0, 2]].replace(q=np.full(2, 0.8), sersic=np.full(2, 1.5)).write(folder / "peaks.ecsv")
    settings = {
        "bandlist": ["g", "r"],
        "fitsfiles": "*1.fits",
        "raw_catalog": "peaks.ecsv",
        "n_gauss_psf": 1,
        "buffer": 3.0,
        "bounds_kwargs": {"sersic_range": [0.5, 5.0], "n_pix": 3, "pixscale": 0.1},
    }
    (folder / "field.yml").write_text(yaml.safe_dump(settings))
    settings = Settings.from_yaml(folder / "field.yml")
    return truth, settings, loop(settings)


def test_tables(field):
    _, settings, report = field
    print(report.verdict)
    exposures = report.tables["exposures"]
    print(exposures)
    assert exposures["exposure"].tolist() == ["g1", "r1"]
    assert (exposures["before"] > 1.1).all()
    np.testing.assert_allclose(exposures["chi2_dof"], 1, atol=0.1)
    stages = report.tables["stages"]
    assert stages["stage"].tolist() == [
        "optimize",
        "background",
        "noise",
        "detect",
        "optimize",
        "postop",
    ]
    assert "1 source added" in report.verdict
    names = {path.name for path in settings.outbase.iterdir()}
    made = {"optimize_1", "optimize_2", "background_1.yml", "noise_1.json", "detect_1"}
    assert names == made | {"postop.fits", "postop.yml"}


def test_the_missing_source_and_the_sky_are_found(field):
    truth, settings, report = field
    found = SourceCatalog.read(report.files["catalog"])
    assert found["origin"].tolist() == ["catalog", "catalog", "detected"]
    row = [0, 2, 1]
    pull = (found.flux - truth.flux[row]) / found.flux_err
    print(f"fluxes {found.flux.round(2).tolist()}, pulls {pull.round(2).tolist()}")
    assert (np.abs(pull) < 4).all()
    assert (np.hypot((found.ra - truth.ra[row]), (found.dec - truth.dec[row])) * 3600 < 0.03).all()
    sky = Settings.from_yaml(settings.outbase / "background_1.yml").tweakbg
    assert sky == pytest.approx(SKY, abs=0.02)


def test_sampling_can_start_from_it(field):
    _, settings, report = field
    next_ = Settings.from_yaml(report.files["settings"])
    assert next_.raw_catalog == report.files["catalog"]
    assert next_.bandlist == settings.bandlist
    assert next_.outbase == settings.outbase
    assert postop(settings).files == {name: report.files[name] for name in ("catalog", "settings")}


def test_patches_of_an_optimisation_are_marked(field):
    run = RunDirectory(field[1].outbase / "optimize_2")
    result = run.read_patch(run.patches()[-1])
    assert result.method == "optimum"
    assert result.draws.sizes["draw"] == 1
    with pytest.raises(InputError, match="write_residuals is false"):
        loop(field[1].model_copy(update={"write_residuals": False}))
