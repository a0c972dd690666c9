"""`fphojax psf`: images to a store, with a verdict."""

import numpy as np
import pytest
from astropy.io import fits
from standard_error import problems
from typer.testing import CliRunner

from fphojax import PSFMixture, PSFStore
from fphojax.app.cli import app

MIXTURE = PSFMixture([0.7, 0.3], np.zeros((2, 2)), [[1.5, 1.3, 0.1], [6.0, 6.5, -0.4]], includes_pixel=True)


@pytest.fixture
def write_image(tmp_path):
    def write(name, *, extension=None, **header):
        image = MIXTURE.render((31, 31), (15, 15))
        hdu = fits.PrimaryHDU(image) if extension is None else fits.ImageHDU(image, name=extension)
        hdu.header.update(header)
        path = tmp_path / name
        fits.HDUList([hdu] if extension is None else [fits.PrimaryHDU(), hdu]).writeto(path)
        return str(path)

    return write


def invoke(*arguments):
    return CliRunner().invoke(app, ["psf", *map(str, arguments)])


def test_one_image_is_the_band_psf(write_image, tmp_path):
    store = tmp_path / "psfs.h5"
    done = invoke(
        write_image("a.fits"), "--band", "F1", "--ngauss", 2, "--out", store, "--figures", tmp_path / "f"
    )
    assert done.exit_code == 0, done.output
    assert "good" in done.output
    assert f"wrote {store}" in done.output.replace("\n", "")
    found = PSFStore.open(store).lookup("F1")
    assert found.includes_pixel
    np.testing.assert_allclose(found.covariances, MIXTURE.covariances, atol=1e-4)
    assert (tmp_path / "f" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("residual", "number"), [(None, 2), (0.5, 1), (1e-3, 2)])
def test_residual_decides_on_the_number(residual, number, write_image, tmp_path):
    """Stores say what a mixture means for a star, and so does the command."""
    store = tmp_path / "psfs.h5"
    options = [] if residual is None else ["--residual", residual]
    done = invoke(write_image("a.fits"), "--band", "F1", "--out", store, *options)
    assert done.exit_code == 0, done.output
    found = PSFStore.open(store).lookup("F1")
    assert len(found.amplitudes) == number
    assert "With these PSF mixtures, a bright point source's flux is off by up to" in done.output
    assert (abs(found.point_flux_error) > 0.01) == (number == 1)
    assert f"{100 * found.point_flux_error:+.2f} %" in done.output


def test_images_of_exposures_and_of_detector_positions(write_image, tmp_path):
    store = tmp_path / "psfs.h5"
    images = [
        write_image("a.fits", extension="PSF", EXPID="e1", PIXRESP=False),
        write_image("b.fits", PIXRESP=False),
    ]
    assert invoke(*images, "--band", "F1", "--ngauss", 2, "--out", store).exit_code == 0
    for image, x in zip(images, (10, 500), strict=True):
        place = ["--location", x, 20]
        assert invoke(image, "--band", "F2", "--ngauss", 2, "--out", store, *place).exit_code == 0
    made = PSFStore.open(store)
    assert set(made.exposures("F1")) == {"e1", "b"}
    assert not made.lookup("F1", exposure="e1").includes_pixel
    assert made.lookup("F2", location=(490, 0)).detector_location == (500, 20)


def test_one_detector_position_is_fitted_anew(write_image, tmp_path):
    """With --overwrite; the others stay."""
    store, image = tmp_path / "psfs.h5", write_image("a.fits")
    made = PSFStore()
    mixtures = [
        PSFMixture([1.0], [[0.0, 0.0]], [[2.0, 2.0, 0.0]], includes_pixel=True, detector_location=(x, 20))
        for x in (10, 500, 900)
    ]
    made.add(mixtures, "F1")
    made.write(store)
    again = ["--band", "F1", "--ngauss", 2, "--out", store, "--location", 500, 20]
    assert invoke(image, *again).exit_code == 2
    assert invoke(image, *again, "--overwrite").exit_code == 0
    found = {m.detector_location: len(m.amplitudes) for m in PSFStore.open(store).mixtures("F1")}
    assert found == {(10, 20): 1, (500, 20): 2, (900, 20): 1}


def core_off_centre(folder):
    image = MIXTURE.render((31, 31), (15.3, 14.8))
    fits.PrimaryHDU(image).writeto(folder / "off.fits")
    return folder / "off.fits"


def mean_offset(mixture):
    return mixture.amplitudes @ mixture.means


@pytest.mark.parametrize(
    ("option", "words", "offset"),
    [
        ([], "as it is", (0.3, -0.2)),
        (["--as-it-is"], "as it is", (0.3, -0.2)),
        (["--recentre"], "recentred", (0.0, 0.0)),
    ],
)
def test_core_off_the_centre_by_less_than_half_a_pixel(option, words, offset, tmp_path):
    store = tmp_path / "psfs.h5"
    done = invoke(core_off_centre(tmp_path), "--band", "F1", "--ngauss", 2, "--out", store, *option)
    assert done.exit_code == 0, done.output
    assert f"+0.300 -0.200, {words}" in done.output
    np.testing.assert_allclose(mean_offset(PSFStore.open(store).lookup("F1")), offset, atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "centre", "words"),
    [
        ((30, 30), (14.5, 14.5), "+0.000 +0.000"),
        ((30, 30), (15, 15), "+0.500 +0.500, recentred"),
        ((30, 31), (15, 14), "+0.000 -0.500, recentred"),
        ((25, 41), (20, 12), "+0.000 +0.000"),
    ],
)
def test_even_sized_and_oblong_images(shape, centre, words, tmp_path):
    fits.PrimaryHDU(MIXTURE.render(shape, centre)).writeto(tmp_path / "a.fits")
    done = invoke(tmp_path / "a.fits", "--band", "F1", "--ngauss", 2, "--out", tmp_path / "p.h5")
    assert done.exit_code == 0, done.output
    assert words in done.output
    assert ("recentred" in done.output) == ("recentred" in words)
    found = PSFStore.open(tmp_path / "p.h5").lookup("F1")
    np.testing.assert_allclose(mean_offset(found), 0, atol=1e-3)
    np.testing.assert_allclose(found.covariances, MIXTURE.covariances, atol=0.05)


def test_sky_in_the_image_is_complained_about(tmp_path):
    fits.PrimaryHDU(MIXTURE.render((31, 31), (15, 15)) + 1e-4).writeto(tmp_path / "a.fits")
    done = invoke(tmp_path / "a.fits", "--band", "F1", "--ngauss", 3, "--out", tmp_path / "p.h5")
    assert done.exit_code == 0, done.output
    assert "pedestal 0.0877 > 0.05" in done.output


@pytest.mark.parametrize(
    "option",
    [
        ("--extension", "1"),
        ("--oversample", 2),
        ("--pixel-scale", 0.1),
        ("--includes-pixel",),
        ("--recentre",),
        ("--location", 1, 2),
        ("--figures", "f"),
    ],
)
def test_options_that_a_psfex_file_has_no_use_for(option, tmp_path):
    done = invoke(tmp_path / "a.psf", "--band", "F1", "--out", tmp_path / "p.h5", *option)
    assert done.exit_code == 2
    assert f"error: {option[0]}: found with {tmp_path / 'a.psf'}, expected none" in done.output


def test_bands_and_scales_that_contradict(write_image, tmp_path):
    store = tmp_path / "psfs.h5"
    image = write_image("a.fits", FILTER="F200W", PIXELSCL=0.031)
    both = invoke(image, "--band", "F1", "--out", store, "--oversample", 2, "--pixel-scale", 0.03)
    assert both.exit_code == 2
    assert "error: --pixel-scale: found --oversample 2 beside it, expected one of them" in both.output
    done = invoke(image, "--band", "F1", "--ngauss", 2, "--out", store, "--pixel-scale", 0.031)
    assert done.exit_code == 0
    assert "note: a.fits: FILTER is F200W, taken as the PSF of band F1" in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--oversample", "inf"], "oversample is inf, expected a whole number"),
        (["--oversample", "20", "--no-includes-pixel"], "expected 3 or more native pixels on a side"),
        (["--pixel-scale", "inf"], "--pixel-scale: found inf, expected arcsec"),
        (["--location", "nan", "1"], "--location: found nan 1.0, expected finite pixels"),
        (["--ngauss", "0"], "n_gauss is 0, expected 1 to 64"),
        (["--ngauss", "1000000"], "n_gauss is 1000000, expected 1 to 64"),
        (["--ngauss", "2", "--negative", "2"], "n_negative is 2, expected 0 to n_gauss - 1"),
        (["--band", ""], "'' cannot name a group"),
        (["--band", "a/b"], "'a/b' cannot name a group"),
        (["--band", "made_from"], "'made_from' cannot name a group"),
        (["--extension", "-1"], "no extension -1, found PRIMARY"),
        (["--out", "none/p.h5"], "none: no such folder, expected one to write p.h5 to"),
        (["--out", "a.fits"], "a.fits: not an HDF5 file, expected a PSF store"),
        (["--out", "a.fits/p.h5"], "a.fits: no such folder"),
        (["--out", "."], ".: found a folder, expected the name of a file"),
        (["--out", 300 * "x"], "found a name of 300 bytes, expected at most 249"),
        (["--figures", "a.fits/f"], "--figures: a.fits is a file, expected a folder"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options, words, write_image, tmp_path, monkeypatch):
    image = write_image("a.fits")
    monkeypatch.chdir(tmp_path)
    standard = {"--band": "F1", "--out": "p.h5", "--ngauss": "1"}
    given = [x for key, value in standard.items() if key not in options for x in (key, value)]
    done = invoke(image, *given, *options)
    assert done.exit_code == 2, done.output
    assert len(problems(done.output)) == 1
    assert words in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


def test_names_with_brackets_are_shown_as_they_are(write_image, tmp_path):
    image = write_image("[bold]x.fits", extension="[RED]A")
    done = invoke(image, "--band", "F1", "--ngauss", 1, "--out", tmp_path / "p.h5")
    assert done.exit_code == 0, done.output
    assert "[bold]x  [RED]A" in done.output


def test_refusals(write_image, tmp_path):
    store = tmp_path / "psfs.h5"
    image = write_image("a.fits")
    assert invoke(image, "--band", "F1", "--ngauss", 2, "--out", store).exit_code == 0
    before = store.read_bytes()
    again = invoke(image, "--band", "F1", "--ngauss", 3, "--out", store)
    assert again.exit_code == 2
    assert "has a PSF for band F1 already" in again.output
    assert invoke(image, image, "--band", "F2", "--out", store, "--location", 1, 2).exit_code == 2
    missing = invoke(tmp_path / "none.fits", "--band", "F2", "--out", store)
    assert missing.exit_code == 2
    assert "none.fits" in missing.output
    assert store.read_bytes() == before
