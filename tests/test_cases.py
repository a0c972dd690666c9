"""Inputs of public bug reports of other tools: read as they are meant, or refused."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from standard_error import problems
from typer.testing import CliRunner

from fphojax import InputError, PSFStore, SourceCatalog, read_exposures
from fphojax.app.cli import app
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.input_checks import check_inputs
from fphojax.field.superscene import LinkedSuperScene
from fphojax.inputs.stores.stored_exposures import open_stores


@pytest.fixture
def case(cases, tmp_path):
    """Function that copies the folder of a case, of which commands may write into."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(cases / name, folder, copy_function=shutil.copyfile)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    return copy


def invoke(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    print(done.output)
    return done


def test_surface_brightness_without_the_area_of_a_pixel_is_refused(case):
    folder = case("bunit")
    done = invoke("check", folder / "field.yml")
    assert done.exit_code == 2
    line = problems(done.stderr)[0]
    assert line.startswith(
        f"error: {folder}/MJysr.fits: extension SCI: BUNIT = 'MJy/sr', expected nJy per pixel, or the area of a "
        "pixel in PIXAR_SR or PIXAR_A2; `fphojax preprocess` converts other units by the setting"
    )
    with fits.open(folder / "MJysr.fits", mode="update") as hdus:
        before = hdus["SCI"].data.astype(np.float64), hdus["ERR"].data.copy()
        hdus["SCI"].header["PIXAR_A2"] = 0.03**2
    (exposure,) = read_exposures([folder / "MJysr.fits"])
    factor = 1e15 * np.deg2rad(0.03 / 3600) ** 2  # nJy per MJy/sr in a pixel of 0.03 arcsec
    np.testing.assert_allclose(exposure.data, before[0] * factor, rtol=1e-6)
    np.testing.assert_allclose(1 / exposure.ierr, before[1] * factor, rtol=1e-6)
    assert exposure.read_as == "MJy/sr = 21.154 nJy, no mask, FILTER, ICRS"


def test_data_quality_is_applied_by_the_same_rules_everywhere(case):
    folder = case("dq")
    done = invoke("check", folder / "field.yml")
    assert done.exit_code == 0
    assert "14.3 %" in done.stdout
    assert "MJy/sr = 21 nJy, DQ bits 1|512, FILTER, ICRS" in done.stdout
    assert f"note: {folder}/jw_cal.fits: extension DQ is the mask (bad: bits 1|512)" in done.stdout
    assert invoke("preprocess", folder / "p.yml").exit_code == 0
    (stored,) = open_stores(folder / "dq_pix.h5", folder / "dq_meta.json")
    (exposure,) = read_exposures([folder / "jw_cal.fits"])
    bad = fits.getdata(folder / "jw_cal.fits", "DQ") == 1
    assert exposure.masked_fraction == pytest.approx(1 / 7, abs=1e-3)
    data, ierr = stored.window(0, 70, 0, 70)
    np.testing.assert_array_equal(exposure.ierr == 0, bad)
    np.testing.assert_array_equal(data, exposure.data)
    np.testing.assert_array_equal(ierr, exposure.ierr)
    assert stored.read_as == exposure.read_as
    assert np.abs(exposure.data).max() < 500  # no bad pixel is left


def test_every_chip_is_an_exposure(case):
    folder = case("twochip")
    done = invoke("check", folder / "field.yml")
    assert done.exit_code == 0
    for text in ("F200W_1_1", "SCI,1, nJy, no mask, FILTER, ICRS", "F200W_1_2", "SCI,2, nJy, no mask"):
        assert text in done.stdout
    assert "twochip.fits: all chips have the same PSF, extension PSF" in done.stdout
    both = read_exposures([folder / "twochip.fits"])
    for exposure, version in zip(both, (1, 2), strict=True):
        np.testing.assert_array_equal(exposure.data, fits.getdata(folder / "twochip.fits", ("SCI", version)))
        assert exposure.psf_image is not None
    for choice in (("SCI", 2), ["SCI", 2], 3):
        err = 4 if choice == 3 else "ERR"
        (second,) = read_exposures([folder / "twochip.fits"], sci=choice, err=err)
        assert second.name == "F200W_1_2"
        np.testing.assert_array_equal(second.data, both[1].data)


def test_every_chip_goes_into_the_store(case):
    folder = case("twochip")
    assert invoke("preprocess", folder / "ixx.yml").exit_code == 0
    stored = open_stores(folder / "ixx.h5", folder / "ixx.json")
    assert [exposure.name for exposure in stored] == ["ixx_flc_1", "ixx_flc_2"]
    for exposure, version in zip(stored, (1, 2), strict=True):
        counts = fits.getdata(folder / "ixx_flc.fits", ("SCI", version)).astype(np.float64)
        factor = 7e-20 * 8045.0**2 / 2.99792458e18 * 1e32 / 1000  # PHOTFLAM, PHOTPLAM, EXPTIME
        np.testing.assert_allclose(exposure.window(0, 70, 0, 70)[0], counts * factor, rtol=1e-6)
        assert exposure.header["CCDCHIP"] == {1: 2, 2: 1}[version]
    with pytest.raises(InputError, match="SCI,1: BUNIT = 'ELECTRONS', expected nJy, uJy"):
        read_exposures([folder / "ixx_flc.fits"])


def core(mixture):
    """Sigma of the Gaussian that holds most flux [pixels]."""
    return np.sqrt(mixture.covariances[mixture.amplitudes.argmax(), :2].mean())


def psf(cases, store, *options):
    image = cases / "webbpsf" / "webbpsf_F200W.fits"
    command = ["psf", str(image), "--band", "F200W", "--ngauss", "2", "--out", str(store), *options]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    print(done.output)
    return done.output, PSFStore.open(store).lookup("F200W")


def test_webbpsf_image_is_read_at_the_sampling_of_its_header(cases, tmp_path):
    output, made = psf(cases, tmp_path / "p.h5")
    np.testing.assert_allclose(core(made), 0.86, atol=0.02)
    assert not made.includes_pixel
    assert "4, OVERSAMP" in output
    assert "no, oversampled" in output
    assert "extension OVERSAMP was taken; others: DET_SAMP, OVERDIST, DET_DIST" in output


def test_webbpsf_extension_at_the_sampling_of_the_detector(cases, tmp_path):
    output, made = psf(cases, tmp_path / "p.h5", "--extension", "DET_SAMP")
    # the pixel is in: variances are larger by 1/12
    np.testing.assert_allclose(core(made), np.hypot(0.86, 12**-0.5), atol=0.02)
    assert made.includes_pixel
    assert "1, OVERSAMP" in output
    assert "yes, native scale" in output


def test_webbpsf_sampling_can_be_given(cases, tmp_path):
    output, made = psf(cases, tmp_path / "p.h5", "--oversample", "2")
    assert core(made) > 1.5
    assert "2, given" in output
    assert "OVERSAMP is 4 in the header, 2 by --oversample was taken" in output
    output, made = psf(cases, tmp_path / "q.h5", "--pixel-scale", "0.0310")
    np.testing.assert_allclose(core(made), 0.86, atol=0.02)
    assert "4, PIXELSCL" in output


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
    result = invoke("check", folder / "lost.yml")
    assert result.exit_code == 0
    lines = lines_of(result, folder)
    assert "note: lost.ecsv: read as fphojax's layout (keyword FPHOJAX); pa has no unit: degrees" in lines
    assert invoke("optimize", folder / "lost.yml", "--forced").exit_code == 0
    fitted = SourceCatalog.read(folder / "run_lost" / "optimize_1" / "scene.fits")
    assert fitted.flux[0, 0] == pytest.approx(59.6, abs=0.05)
    assert fitted.pa[0] == pytest.approx(30.0)


def test_units_of_surveys(case):
    folder = case("unit_crash")
    result = invoke("check", folder / "field.yml")
    assert result.exit_code == 0
    lines = lines_of(result, folder)
    assert (
        "note: peaks.fits: read as fphojax's layout (keyword FPHOJAX); F200W from nanomaggy to nJy" in lines
    )
    read = SourceCatalog.read(folder / "peaks.fits")
    np.testing.assert_allclose(read.flux[:, 0], np.array([54.0, 36.0]) * 3631)
    raw = (folder / "peaks.fits").read_bytes()
    (folder / "peaks.fits").write_bytes(raw.replace(b"'nanomaggy'", b"'counts   '"))
    result = invoke("check", folder / "field.yml")
    assert result.exit_code == 2
    assert problems(result.stderr.replace(f"{folder}/", "")) == [
        "error: peaks.fits: column F200W: unknown unit 'counts', expected nJy or what converts to it"
    ]


def test_text_that_fits_cannot_hold(case):
    folder = case("unicode_extra")
    result = invoke("check", folder / "field.yml")
    assert result.exit_code == 0
    line = "note: peaks.ecsv: label: left out, as FITS files of a run cannot hold it: row 1: 'betaβ' is not ASCII"
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
    result = invoke("run", folder / "field.yml", "--no-notebooks")
    assert result.exit_code == 0, result.output
    assert Table.read(folder / "run" / "catalogs" / "final.fits")["id"].tolist() == ["NGC 1/a", "src b"]
