"""PSFEx models against GalSim's reader of the same files."""

import numpy as np
import pytest
from astropy.io import fits
from numpy.testing import assert_allclose

from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.psfex import fit_psfex, read_psfex


def write_model(path, *, degree=2, sampling=0.5, n=41, names=("X_IMAGE", "Y_IMAGE"), drop=None, n_basis=None):
    """A model whose width, centre and ellipticity vary with position."""
    y, x = np.mgrid[:n, :n] - n // 2
    x, y = x * sampling, y * sampling
    core = np.exp(-0.5 * (x**2 + y**2) / 1.5**2)
    core *= sampling**2 / core.sum()
    rest = [0.05 * core * term for term in (x**2 - 2.25, y**2 - 2.25, x * y, x, y, x**2 - y**2)]
    n_basis = (degree + 1) * (degree + 2) // 2 if n_basis is None else n_basis
    basis = np.array([core, *rest])[:n_basis].astype("f4")
    columns = [fits.Column("PSF_MASK", f"{basis.size}E", dim=f"({n},{n},{n_basis})", array=basis[None])]
    table = fits.BinTableHDU.from_columns(columns, name="PSF_DATA")
    table.header.update(POLNAXIS=2 if degree else 0, PSF_SAMP=sampling, PSFNAXIS=3)
    table.header.update(PSFAXIS1=n, PSFAXIS2=n, PSFAXIS3=n_basis, PSF_FWHM=3.5)
    if degree:
        table.header.update(POLNGRP=1, POLDEG1=degree, POLGRP1=1, POLGRP2=1)
        for i, (name, zero, scale) in enumerate(
            zip(names, (1024.5, 2048.5), (2000.0, 4000.0), strict=True), 1
        ):
            table.header.update({f"POLNAME{i}": name, f"POLZERO{i}": zero, f"POLSCAL{i}": scale})
    if drop:
        del table.header[drop]
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


@pytest.mark.parametrize("sampling", [0.5, 0.7])
def test_images_agree_with_galsim(tmp_path, sampling):
    galsim = pytest.importorskip("galsim", exc_type=ImportError)
    from galsim.des import DES_PSFEx

    path = tmp_path / "model.psf"
    write_model(path, sampling=sampling)
    ours, theirs = read_psfex(path), DES_PSFEx(str(path))
    for x, y in ((100.0, 3000.0), (1024.5, 2048.5), (1900.0, 50.0)):
        psf = theirs.getPSF(galsim.PositionD(x, y))
        drawn = psf.drawImage(nx=41, ny=41, scale=sampling, method="no_pixel", use_true_center=True).array
        image = ours.image(x - 1, y - 1)
        error = np.abs(image / image.sum() - drawn / drawn.sum()).max() / (image.max() / image.sum())
        print(f"sampling {sampling}, position ({x}, {y}): largest difference {error:.1e} of the peak")
        assert error < 2e-4


@pytest.mark.parametrize("sampling", [1.0, 0.45])
def test_mixtures_on_a_grid(tmp_path, sampling):
    path = tmp_path / "model.psf"
    write_model(path, sampling=sampling, n=61)
    mixtures = fit_psfex(path, n_grid=2, n_gauss=2)
    assert [m.detector_location for m in mixtures] == [
        (523.5, 1047.5), (1523.5, 1047.5), (523.5, 3047.5), (1523.5, 3047.5)
    ]  # fmt: skip
    model = read_psfex(path)
    for m in mixtures:
        assert m.includes_pixel
        n = 61
        image = model.image(*m.detector_location)
        x = (np.arange(n) - n // 2) * sampling
        second = np.sum(image * x**2) / image.sum() - (np.sum(image * x) / image.sum()) ** 2
        mean = m.amplitudes @ m.means / m.amplitudes.sum()
        ours = m.amplitudes @ (m.covariances[:, 0] + m.means[:, 0] ** 2) - mean[0] ** 2
        print(f"sampling {sampling}: second moment {ours:.4f}, of the image {second:.4f}")
        assert_allclose(ours, second, rtol=0.02)
    store = PSFStore()
    store.add(mixtures, "r", "exposure")
    assert store.lookup("r", "exposure", (600, 900)).detector_location == (523.5, 1047.5)


def test_constant_model_gives_one_mixture(tmp_path):
    write_model(tmp_path / "model.psf", degree=0, sampling=1.0)
    (mixture,) = fit_psfex(tmp_path / "model.psf", n_gauss=1)
    assert mixture.detector_location is None
    assert_allclose(mixture.covariances[0], [2.25, 2.25, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"drop": "PSF_SAMP"}, "'PSF_SAMP' not found in PSF_DATA"),
        ({"names": ("X_IMAGE", "MAG_AUTO")}, "depends on X_IMAGE, MAG_AUTO"),
        ({"n_basis": 4}, "4 images in PSF_MASK, expected 6 for degree 2"),
    ],
)
def test_bad_models_give_one_line(tmp_path, options, words):
    path = tmp_path / "model.psf"
    write_model(path, **options)
    with pytest.raises(InputError, match=words) as caught:
        read_psfex(path)
    print(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_psfex(tmp_path / "none.psf")
    fits.PrimaryHDU().writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="no extension PSF_DATA"):
        read_psfex(tmp_path / "image.fits")
