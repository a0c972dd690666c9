"""The stage that chooses profiles: what it compares, what it says, and what it hands on."""

import numpy as np
import pytest
import yaml
from astropy.table import Table

from fphojax.app.run.steps import plan
from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import STAGES, next_settings
from fphojax.app.stages import choose as module
from fphojax.app.stages.choose import choose
from fphojax.app.stages.optimize import optimize
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Two galaxies, one of which the catalogue has as bulge and disk, optimised."""
    folder = tmp_path_factory.mktemp("chosen")
    truth = SourceCatalog.from_columns(
        ra=[RA, RA + 2 / 3600],
        dec=[DEC, DEC],
        flux=[[40.0], [50.0]],
        q=0.8,
        pa=29.0,
        sersic=1.0,
        rhalf=0.3,
        roi=0.9,
        bands=("g",),
        id=[1, 2],
    )
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.8, 1.8, 0.0]], includes_pixel=True)
    spec = ExposureSpec("g", "g1", (60, 60), 0.1, 0.0, RA + 1 / 3600, DEC, psf, noise=0.05)
    write_exposure(*simulate_exposures(truth, [spec], seed=2), folder / "g1.fits")
    truth.replace(extra=Table({"profile": ["sersic", "bulge_disk"]})).write(folder / "peaks.ecsv")
    given = {"bandlist": ["g"], "fitsfiles": "g1.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    given |= {
        "bounds_kwargs": {"n_pix": 2, "pixscale": 0.1},
        "choose": {"profiles": ["point", "exponential"]},
    }
    (folder / "field.yml").write_text(yaml.safe_dump(given))
    settings = Settings.from_yaml(folder / "field.yml")
    with pytest.raises(InputError, match="contains no fit, expected one from `fphojax optimize`"):
        choose(settings)
    optimize(settings)
    return settings


def test_single_profiles_are_compared_and_handed_on(settings):
    report = choose(settings)
    table = report.tables["profiles"]
    assert list(table["id"]) == ["1"]
    assert list(table["profile"]) == ["exponential"]
    assert table["p_point"][0] < 1e-6
    assert report.verdict == "Of 1 source: 1 exponential."
    told = next_settings(settings, report)
    assert told.raw_catalog == report.files["catalog"]
    catalog = SourceCatalog.read(told.raw_catalog)
    assert catalog.id.tolist() == ["1", "2_bulge", "2_disk"]
    assert [str(name) for name in catalog["profile"]] == ["exponential", "devaucouleurs", "exponential"]
    assert [str(name) for name in catalog["galaxy"]] == ["", "2", "2"]
    assert np.isfinite(catalog["p_point"][0])


def test_what_cannot_be_trusted_is_said(settings, monkeypatch):
    def made(recipe, catalog, *, rows, margin, **_):
        assert margin == settings.choose.margin
        values = {"id": catalog.id[rows], "profile": ["point"], "p_point": [0.9], "dlnz_point": [0.0]}
        return Table(values | {"trusted": [False]})

    monkeypatch.setattr(module, "choose_profiles", made)
    report = choose(settings)
    assert "1 source with an evidence that is not to be trusted" in report.verdict
    assert report.files["catalog"].parent.name == "choose_2"


def test_a_run_chooses_if_it_is_told_to(settings):
    names = [step.stage for step in plan(settings)]
    assert "choose" not in names
    asked = settings.model_copy(update={"choose": settings.choose.model_copy(update={"in_run": True})})
    names = [step.stage for step in plan(asked)]
    assert names[names.index("choose") :] == ["choose", "sample", "postprocess"]
    assert STAGES["choose"].settings == {"choose"}
