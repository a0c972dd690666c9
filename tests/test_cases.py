"""Small inputs that go wrong elsewhere: each is read rightly, or refused in one line."""

import os
import shutil

import numpy as np
import pytest
from astropy.table import Table
from typer.testing import CliRunner

from fphojax.app.check import check_inputs
from fphojax.app.cli import app
from fphojax.app.config import Settings
from fphojax.field.superscene import LinkedSuperScene
from fphojax.inputs import InputError
from fphojax.inputs.catalog import SourceCatalog


@pytest.fixture
def case(cases, tmp_path):
    """Function that copies a case, of which nothing may be written, and gives the copy's folder."""

    def copied(name):
        folder = tmp_path / name
        shutil.copytree(cases / name, folder, copy_function=shutil.copyfile)
        for path in (folder, *folder.rglob("*")):
            os.chmod(path, 0o755 if path.is_dir() else 0o644)
        return folder

    return copied


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


def lines_of(result, folder):
    return result.stdout.replace(f"{folder}/", "").splitlines()


def test_angles_without_a_unit(cases):
    own = SourceCatalog.read(cases / "pa_unit" / "own_lost_unit.ecsv", bands=["F200W"])
    np.testing.assert_array_equal(own.pa, 30.0)
    np.testing.assert_array_equal(own.q, 0.8)
    with pytest.raises(
        InputError, match=r"deg_no_unit\.fits: row 0 \(id 1\): pa is 30, expected radians within 2 pi"
    ):
        SourceCatalog.read(cases / "pa_unit" / "deg_no_unit.fits", bands=["F200W"])


def test_forced_flux_without_a_unit_of_pa(case):
    folder = case("pa_unit") / "forced"
    result = run("check", folder / "lost.yml")
    assert result.exit_code == 0
    lines = lines_of(result, folder)
    assert "lost.ecsv: read as fphojax's layout (keyword FPHOJAX); pa has no unit: degrees" in lines
    assert run("optimize", folder / "lost.yml", "--forced").exit_code == 0
    fitted = SourceCatalog.read(folder / "run_lost" / "optimize_1" / "scene.fits")
    assert fitted.flux[0, 0] == pytest.approx(59.6, abs=0.05)
    assert fitted.pa[0] == pytest.approx(30.0)


def test_units_of_surveys(case):
    folder = case("unit_crash")
    result = run("check", folder / "field.yml")
    assert result.exit_code == 0
    lines = lines_of(result, folder)
    assert "peaks.fits: read as fphojax's layout (keyword FPHOJAX); F200W from nanomaggy to nJy" in lines
    read = SourceCatalog.read(folder / "peaks.fits")
    np.testing.assert_allclose(read.flux[:, 0], np.array([54.0, 36.0]) * 3631)
    raw = (folder / "peaks.fits").read_bytes()
    (folder / "peaks.fits").write_bytes(raw.replace(b"'nanomaggy'", b"'counts   '"))
    result = run("check", folder / "field.yml")
    assert result.exit_code == 2
    assert result.stderr.replace(f"{folder}/", "").splitlines() == [
        "error: peaks.fits: column F200W: unknown unit 'counts', expected nJy or what converts to it"
    ]


def test_text_that_fits_cannot_hold(case):
    folder = case("unicode_extra")
    result = run("check", folder / "field.yml")
    assert result.exit_code == 0
    line = "peaks.ecsv: label: left out, as FITS files of a run cannot hold it: row 1: 'betaβ' is not ASCII"
    assert line in lines_of(result, folder)
    catalog = check_inputs(Settings.from_yaml(folder / "field.yml")).catalog
    with LinkedSuperScene(catalog, catalog.bands, statefile=folder / "scene.fits", roi=0.6) as scene:
        _, active, fixed = scene.checkout_region()
        scene.checkin_region(active, fixed, 1)
    scene = SourceCatalog.read(folder / "scene.fits")
    assert {"vec", "ok", "zphot"} <= set(scene.extra.colnames)
    assert "label" not in scene.extra.colnames
    given = SourceCatalog.read(folder / "peaks.ecsv")
    given.write(folder / "again.ecsv")
    assert Table.read(folder / "again.ecsv")["label"].tolist() == ["alpha", "betaβ"]


@pytest.mark.slow
def test_run_with_text_that_fits_cannot_hold(case):
    folder = case("unicode_extra")
    result = run("run", folder / "field.yml", "--no-notebooks")
    assert result.exit_code == 0, result.output
    assert Table.read(folder / "run" / "catalogs" / "final.fits")["id"].tolist() == ["NGC 1/a", "src b"]
