"""The detection stage without a fit: the images give the first catalogue."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from astropy.io import fits
from matplotlib.image import imread

from fphojax.app.run.steps import settings_read
from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import first_read_after
from fphojax.app.stages import detect as module
from fphojax.app.stages import residual_images as images_module
from fphojax.app.stages.detect import detect
from fphojax.app.stages.folders import run_at
from fphojax.app.stages.input_checks import check_inputs
from fphojax.app.stages.optimize import optimize
from fphojax.detection.source_search import detect_on_images
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.residuals import RunResiduals
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


def write_field(folder, **changes):
    """Two point-like sources in two bands, and settings without a catalogue."""
    truth = SourceCatalog.from_columns(
        ra=[RA, RA + 4e-4],
        dec=[DEC, DEC - 3e-4],
        flux=[[40.0, 60.0], [20.0, 30.0]],
        q=0.8,
        pa=29.0,
        sersic=1.0,
        rhalf=0.05,
        bands=("g", "r"),
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    specs = [ExposureSpec(band, f"{band}1", (48, 44), 0.1, 20.0, RA, DEC, psf, noise=0.1) for band in "gr"]
    for exposure in simulate_exposures(truth, specs, seed=1):
        write_exposure(exposure, folder / f"{exposure.name}.fits")
    settings = {
        "bandlist": ["r", "g"],
        "fitsfiles": "*1.fits",
        "n_gauss_psf": 1,
        "bounds_kwargs": {"sersic_range": [2.0, 4.0]},
    }
    (folder / "field.yml").write_text(yaml.safe_dump(settings | changes))
    return truth, Settings.from_yaml(folder / "field.yml")


def test_images_give_the_first_catalogue(tmp_path):
    truth, settings = write_field(tmp_path)
    report = detect(settings)
    assert (
        "2 sources found in the images, above 5 standard deviations; expected false detections <="
        in report.verdict
    )
    assert report.files["catalog"] == tmp_path / "output" / "detect_1" / "sources.fits"
    found = SourceCatalog.read(report.files["catalog"])
    assert found.bands == ("r", "g")
    assert found["origin"].tolist() == ["detected", "detected"]
    np.testing.assert_allclose(3600 * (found.dec - truth.dec), 0, atol=0.05)
    np.testing.assert_allclose(found.flux, truth.flux[:, ::-1], rtol=0.25)
    np.testing.assert_allclose(found.sersic, 2.0)  # the guess, brought within the bounds
    assert report.tables["sources"]["id"].tolist() == found.id.tolist()
    assert report.files["regions"].read_text().count("ellipse") == 2
    assert imread(report.files["figure"]).std() > 0.05
    assert detect(settings).files["figure"].parent.name == "detect_2"


def test_settings_say_how_to_detect(tmp_path):
    _, settings = write_field(tmp_path)
    between = float(np.mean(detect(settings).tables["sources"]["significance"]))
    high = settings.changed(detection={"threshold": between})
    assert "1 source found in the images" in detect(high).verdict
    assert len(detect(high, threshold=10.0).tables["sources"]) == 2  # what is given by hand counts
    apart = settings.changed(detection={"minimum_separation": 3.0})
    assert len(detect(apart).tables["sources"]) == 1
    assert "detection" in settings_read(settings, "catalog", first=False)
    assert "detection" not in settings_read(settings.changed(raw_catalog="a.fits"), "catalog", first=False)
    assert "detection" in first_read_after("optimize")


def test_a_level_that_is_left_is_told(tmp_path):
    _, settings = write_field(tmp_path)
    with fits.open(tmp_path / "r1.fits", mode="update") as file:
        file["SCI"].data += 0.05
    report = detect(settings)
    assert "2 sources found" in report.verdict
    assert "Residual level in 1 exposure, up to +0.52 of the pixel noise (r1, band r)" in report.verdict
    noise = report.tables["noise"]
    assert noise["exposure"].tolist() == ["r1", "g1"]
    np.testing.assert_allclose(noise["level"].value, [0.05, 0], atol=0.01)
    np.testing.assert_allclose(noise["pixel_scatter"], 1, atol=0.1)


def test_structure_is_listed_apart(tmp_path, monkeypatch):
    _, settings = write_field(tmp_path)

    def found_otherwise(images, **options):
        found = detect_on_images(images, **options)
        return dataclasses.replace(found, catalog=found.catalog[:1], structure=found.catalog[1:])

    monkeypatch.setattr(module, "detect_on_images", found_otherwise)
    report = detect(settings)
    assert "1 source found" in report.verdict
    assert "Structure of brighter galaxies (structure.fits): 1 peak." in report.verdict
    assert len(SourceCatalog.read(report.files["catalog"])) == 1
    assert len(SourceCatalog.read(report.files["structure"])) == 1
    assert len(report.tables["structure"]) == 1
    assert report.files["regions"].read_text().count("ellipse") == 2


def test_residuals_have_the_sky_of_the_settings(tmp_path, monkeypatch):
    """A level was found after the fit: it is taken off everywhere, and so is the model."""
    write_field(tmp_path)
    settings = Settings.from_yaml(
        tmp_path / "field.yml", {"tweak_background": "tweakbg", "tweakbg": {"g": 0.5}}
    )
    checked = check_inputs(settings, needs_catalog=False)
    (exposure,) = (e for e in checked.exposures if e.band == "g")
    data = exposure.window(0, exposure.shape[1], 0, exposure.shape[0])[0]
    model = 0.25 * np.arange(data.size).reshape(data.shape)
    frames = SimpleNamespace(image=lambda exposure: model)
    monkeypatch.setattr(images_module.FrameModel, "of_catalog", lambda run, patcher: frames)
    fit = SimpleNamespace(path=tmp_path)
    searched = {image.band: image for image in images_module.residual_images(settings, checked, fit, False)}
    np.testing.assert_allclose(searched["g"].residual, data - 0.5 - model, atol=1e-3)
    np.testing.assert_array_equal(searched["g"].model, model)


@pytest.fixture(scope="module")
def far_light(tmp_path_factory):
    """A galaxy whose light reaches far beyond its patch, after an optimisation: `detect` on it."""
    folder = tmp_path_factory.mktemp("far")
    truth = SourceCatalog.from_columns(
        ra=[RA], dec=[DEC], flux=[[4000.0]], q=0.8, pa=0.5, sersic=1.0, rhalf=0.6, roi=0.8, bands=("g",)
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (80, 80), 0.1, 0.0, RA, DEC, psf, noise=0.1)
    (exposure,) = simulate_exposures(truth, [spec], seed=2)
    write_exposure(exposure, folder / "g1.fits")
    truth.write(folder / "peaks.ecsv")
    bounds = {"n_pix": 1, "pixscale": 0.1, "rhalf_range": [0.1, 2.0]}
    given = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    given |= {"bounds_kwargs": bounds, "patch_maxradius": 0.8}  # else the patch would grow
    (folder / "field.yml").write_text(yaml.safe_dump(given))
    settings = Settings.from_yaml(folder / "field.yml")
    optimize(settings)
    return settings, detect(settings)


def test_light_beyond_a_patch_is_no_ring_of_sources(far_light):
    settings, report = far_light
    run = run_at(None, settings)
    pixels = RunResiduals(run).read("g", "g1")
    inside = np.zeros((80, 80), dtype=bool)
    inside[pixels.y, pixels.x] = True
    checked = check_inputs(settings)
    (image,) = images_module.residual_images(settings, checked, run, False)
    chi = image.residual * image.ierr
    data = checked.exposures[0].window(0, 80, 0, 80)[0] * image.ierr
    assert np.count_nonzero(inside) < 0.3 * inside.size
    assert np.count_nonzero(data[~inside] > 5) > 500  # light that no patch has
    assert np.sqrt(np.mean(chi[inside] ** 2)) < 1.1
    assert np.sqrt(np.mean(chi[~inside] ** 2)) < 1.2
    assert "0 sources found in the residuals of a fit of 1 source" in report.verdict


def test_a_catalogue_wants_a_fit(tmp_path):
    truth, _ = write_field(tmp_path)
    truth.replace(sersic=np.full(2, 2.0)).write(tmp_path / "peaks.ecsv")
    text = (tmp_path / "field.yml").read_text() + "raw_catalog: peaks.ecsv\n"
    (tmp_path / "field.yml").write_text(text)
    settings = Settings.from_yaml(tmp_path / "field.yml")
    with pytest.raises(InputError, match=r"output: contains no fit, expected one from `fphojax optimize`"):
        detect(settings)
    assert not (tmp_path / "output").exists()
