"""Artificial sources in a field with correlated noise: errors of the pixels alone are too small, and it is said."""

import dataclasses

import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.inject import inject
from fphojax.app.stages.noise import noise
from fphojax.app.stages.optimize import optimize
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC, SIDE, CORRELATION = 150.0, 2.0, 120, 1.2


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A field whose noise has the size that ERR says, but is correlated: optimised, and its noise measured."""
    folder = tmp_path_factory.mktemp("correlated")
    truth = SourceCatalog.from_columns(
        ra=[RA], dec=[DEC], flux=[[40.0]], q=0.8, pa=29.0, sersic=1.0, rhalf=0.3, roi=1.2, bands=("g",)
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (SIDE, SIDE), 0.1, 0.0, RA, DEC, psf, noise=1e-9)
    (white,) = simulate_exposures(truth, [spec], seed=2)
    correlated = gaussian_filter(np.random.default_rng(4).normal(size=(SIDE, SIDE)), CORRELATION, mode="wrap")
    data = white.data + 0.1 * correlated / correlated.std()
    write_exposure(
        dataclasses.replace(white, data=data, ierr=np.full((SIDE, SIDE), 10.0)), folder / "g1.fits"
    )
    truth.write(folder / "peaks.ecsv")
    given = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    given |= {
        "bounds_kwargs": {"n_pix": 2, "pixscale": 0.1},
        "injections": {"number": 16, "modes": ["known"]},
    }
    (folder / "field.yml").write_text(yaml.safe_dump(given))
    settings = Settings.from_yaml(folder / "field.yml")
    with pytest.raises(InputError, match="contains no fit, expected one from `fphojax optimize`"):
        inject(settings)
    optimize(settings)
    noise(settings)
    return settings


@pytest.fixture(scope="module")
def report(settings):
    return inject(settings)


def test_errors_with_the_noise_model_hold(report):
    print(report.verdict)
    (row,) = report.tables["pulls"]
    assert (row["mode"], row["place"], row["band"], row["n"]) == ("known", "empty", "g", 16)
    assert row["sd_alone"] > 1.6 * row["sd"]
    assert abs(row["sd"] - 1) < 3 * row["sd_err"] + 0.1
    assert "of the errors from the pixels' alone" in report.verdict
    for name in ("sources", "pulls_figure"):
        assert report.files[name].is_file()


def test_without_the_noise_model_it_is_to_be_looked_at(settings, report):
    """Another study, which has to be asked for."""
    believed = settings.model_copy(
        update={"noise": settings.noise.model_copy(update={"scale": "none", "correlation": "none"})}
    )
    with pytest.raises(InputError, match="found another study"):
        inject(believed)
    other = inject(believed, overwrite=True)
    assert other.level == "look at this"
    assert other.tables["pulls"]["sd"][0] == pytest.approx(report.tables["pulls"]["sd_alone"][0], rel=0.02)


@pytest.mark.slow
def test_a_search_has_its_own_table(settings):
    block = settings.injections.model_copy(update={"modes": ["detect"], "number": 8})
    report = inject(settings.model_copy(update={"injections": block}), overwrite=True)
    assert set(report.tables) == {"completeness"}
    assert "8 sources searched for" in report.verdict
    assert report.files["completeness_figure"].is_file()
