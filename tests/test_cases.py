"""Inputs of public bug reports of other tools: read as they are meant, or refused."""

import numpy as np
from typer.testing import CliRunner

from fphojax import PSFStore
from fphojax.app.cli import app


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
