"""The noise stage on a mock field with correlated noise: what it finds, and what the fit after it makes of that."""

import dataclasses

import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import next_settings
from fphojax.app.stages.input_checks import check_inputs
from fphojax.app.stages.noise import noise
from fphojax.app.stages.optimize import optimize
from fphojax.errors import InputError
from fphojax.figures.noise_plots import plot_noise
from fphojax.inputs.noise_model import NoiseModel
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC, SIDE, TRUE_SCALE = 150.0, 2.0, 150, 0.7


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """Settings, the fit with the errors of the image, the noise in its residuals, and the fit with it."""
    folder = tmp_path_factory.mktemp("noisy")
    truth = SourceCatalog.from_columns(
        ra=[RA], dec=[DEC], flux=[[40.0]], q=0.8, pa=29.0, sersic=1.0, rhalf=0.3, roi=1.5, bands=("g",)
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (SIDE, SIDE), 0.1, 0.0, RA, DEC, psf, noise=0.1)
    (white,) = simulate_exposures(truth, [dataclasses.replace(spec, noise=1e-9)], seed=2)
    correlated = gaussian_filter(np.random.default_rng(4).normal(size=(SIDE, SIDE)), 0.8, mode="wrap")
    data = white.data + 0.1 * TRUE_SCALE * correlated / correlated.std()
    write_exposure(
        dataclasses.replace(white, data=data, ierr=np.full((SIDE, SIDE), 10.0)), folder / "g1.fits"
    )
    truth.write(folder / "peaks.ecsv")
    given = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    given["bounds_kwargs"] = {"n_pix": 2, "pixscale": 0.1}
    (folder / "field.yml").write_text(yaml.safe_dump(given))
    settings = Settings.from_yaml(folder / "field.yml")
    first = optimize(settings)
    measured = noise(settings)
    told = next_settings(settings, first, measured)
    return told, first, measured, optimize(told)


def test_finds_scale_and_correlation(field):
    _, _, report, _ = field
    print(report.verdict)
    (row,) = report.tables["noise"]
    assert row["scale"] == pytest.approx(TRUE_SCALE, rel=0.03)
    assert row["row"] == pytest.approx(np.exp(-1 / 4 / 0.8**2), abs=0.03)
    assert row["column"] == pytest.approx(float(row["row"]), abs=0.05)
    # in an image of this size it is known to 5 %
    assert row["galaxy"] == pytest.approx(TRUE_SCALE * np.sqrt(4 * np.pi / (1 / 0.64 + 1 / 9)), rel=0.15)
    assert report.level == "pass"
    assert "Noise of 1 exposure: 0.7" in report.verdict
    assert report.files["noise"].name == "noise_1.json"
    axes = plot_noise(NoiseModel.read(report.files["noise"])).axes
    drawn = axes[0].containers[0].lines[0].get_ydata()
    ring = (np.exp(-1 / 4 / 0.8**2) + np.exp(-2 / 4 / 0.8**2)) / 2  # with the diagonals
    np.testing.assert_allclose(np.asarray(drawn[:2], float), [1, ring], atol=0.05)


def test_the_next_fit_has_its_errors(field):
    settings, first, _, second = field
    assert settings.noise_file.name == "noise_1.json"
    before, after = (final_catalog(RunDirectory(report.files["run"])) for report in (first, second))
    ratio = after["g_err"][0] / before["g_err"][0]
    assert np.isnan(before["g_err_scale"][0])
    assert after["g_err_scale"][0] == pytest.approx(ratio, rel=1e-3)
    assert 1.1 < ratio < 1.9
    assert after["g"][0] == pytest.approx(before["g"][0], rel=1e-4)
    handed = SourceCatalog.read(second.files["catalog"])
    assert handed.flux_err[0, 0] == pytest.approx(after["g_err"][0], rel=1e-3)


def test_settings_may_believe_the_errors(field):
    """Size and correlation can be left out, both or one, or the size be given."""
    settings, *_ = field
    options = {"scale": "none", "correlation": "none"}
    believed = settings.changed(noise=options, outbase=str(settings.outbase / "believed"))
    assert np.isnan(final_catalog(RunDirectory(optimize(believed).files["run"]))["g_err_scale"][0])
    given = settings.changed(
        noise={"scale": 3.0, "correlation": "none"}, outbase=str(settings.outbase / "given")
    )
    found = final_catalog(RunDirectory(optimize(given).files["run"]))
    assert found["g_err_scale"][0] == pytest.approx(3, rel=0.02)


def test_a_file_that_is_not_there_is_a_problem(field, tmp_path):
    settings, *_ = field
    checked = check_inputs(settings.changed(noise_file=str(tmp_path / "nothing.json")))
    assert [str(tmp_path / "nothing.json") in problem for problem in checked.problems] == [True]
    NoiseModel({}).write(tmp_path / "other.json")
    notes = check_inputs(settings.changed(noise_file=str(tmp_path / "other.json"))).notes
    assert any("other.json: no noise of 1 exposure, such as g1" in note for note in notes)


def test_it_wants_a_fit(field, tmp_path):
    settings, *_ = field
    with pytest.raises(InputError, match="contains no fit, expected one from `fphojax optimize`"):
        noise(settings.changed(outbase=str(tmp_path)))
