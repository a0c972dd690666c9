"""Fits with PSF mixtures that leave a residual of their images."""

import numpy as np
import pytest
from astropy.wcs import WCS

from fphojax.field.scene_fit import fit_scene
from fphojax.inference.methods import Laplace, Optimum
from fphojax.inference.noise_matrix import DOUBT
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.products.frame_model import model_image
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_fields import mock_galaxies

# a bright galaxy, and a faint one in its halo
TRUTH = mock_galaxies(
    x=[0, 1.0], y=[0, 0.5], flux={"F1": [50_000, 300]}, q=0.8, pa=30, sersic=[2, 1], rhalf=[0.4, 0.15]
)
WHOLE = PSFMixture([0.7, 0.3], [[0, 0], [0.2, -0.1]], [[1.2, 1.4, 0.2], [8, 7, 1]])
CORE = PSFMixture([1.0], [[0.1, 0.0]], [[2.2, 2.2, 0.0]])
RESIDUAL = WHOLE.render((31, 31), (15, 15)) - CORE.render((31, 31), (15, 15))
CORRECTED = PSFMixture(CORE.amplitudes, CORE.means, CORE.covariances, residual=RESIDUAL)


@pytest.fixture(scope="module")
def exposure():
    """An image without noise, through the whole PSF; pixels have errors of 1 nJy."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ["RA---TAN", "DEC--TAN"], ["deg", "deg"]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.06 / 3600, 0.06 / 3600], [40.5, 40.5]
    wcs.wcs.crval = [float(TRUTH.ra[0]), float(TRUTH.dec[0])]
    empty = Exposure.from_arrays(np.ones((80, 80)), np.ones((80, 80)), wcs, band="F1", name="one")
    image = model_image(Recipe((empty,), store(WHOLE)), empty, TRUTH)
    return Exposure.from_arrays(image, np.ones((80, 80)), wcs, band="F1", name="one")


def store(mixture):
    psfs = PSFStore()
    psfs.add(mixture, "F1")
    return psfs


def pulls(fit):
    """Errors of the fluxes in standard deviations."""
    optimum, std = fit.result.optimum["flux"].to_numpy(), fit.result.optimum_std["flux"].to_numpy()
    return (optimum - TRUTH.flux)[:, 0] / std[:, 0]


def test_a_faint_flux_beside_a_bright_galaxy_is_right(exposure):
    start = TRUTH.replace(flux=TRUTH.flux * 1.3, rhalf=TRUTH.rhalf * 0.8)
    without, with_residual = (
        fit_scene([exposure], store(psf), start, Optimum()) for psf in (CORE, CORRECTED)
    )
    assert np.abs(pulls(without)).max() > 3
    assert np.abs(pulls(with_residual)).max() < 0.5
    print(pulls(without), pulls(with_residual))
    plain, total = (fit.result.optimum_std["flux"].to_numpy()[:, 0] for fit in (without, with_residual))
    optima = (fit.result.optimum["flux"].to_numpy()[:, 0] for fit in (without, with_residual))
    change = np.subtract(*optima)
    np.testing.assert_allclose(total, np.hypot(plain, DOUBT * change), rtol=0.25)  # it is not linear
    for name in ("exposures", "own_pixels"):
        plain, corrected = (
            float(getattr(fit.result, name)["chi2"].sum()) for fit in (without, with_residual)
        )
        print(name, plain, corrected)
        assert plain > 300
        assert corrected < 5


def test_part_of_the_correction_is_an_error(exposure, tmp_path):
    """A fraction of the change that it makes to the flux, in quadrature with the noise; also in the catalogue."""
    start = TRUTH.replace(flux=TRUTH.flux * 1.3)
    fits = {
        name: fit_scene([exposure], store(psf), start, Optimum(forced=True))
        for name, psf in {"without": CORE, "with": CORRECTED}.items()
    }
    flux, error = (
        {name: getattr(fit.result, kind)["flux"].to_numpy()[:, 0] for name, fit in fits.items()}
        for kind in ("optimum", "optimum_std")
    )
    expected = np.hypot(error["without"], DOUBT * (flux["with"] - flux["without"]))
    print("\n", error["with"] / error["without"], expected / error["without"])
    np.testing.assert_allclose(error["with"], expected, rtol=0.03)
    assert expected.max() > 1.2 * error["without"].max()
    assert fits["without"].result.err_scale is None
    scale = fits["with"].result.err_scale.to_numpy()[:, 0]
    np.testing.assert_allclose(scale, expected / error["without"], rtol=0.03)

    run = RunDirectory.create(tmp_path / "run")
    run.write_patch(0, fits["with"].result)
    run.write_scene(TRUTH, {})
    table = final_catalog(run)
    np.testing.assert_array_equal(table["F1_err"], error["with"])
    np.testing.assert_array_equal(table["F1_err_scale"], scale)


@pytest.mark.slow
def test_draws_are_about_the_corrected_optimum(exposure):
    fit = fit_scene([exposure], store(CORRECTED), TRUTH, Laplace(draws=50, chains=1))
    flux = fit.result.draws["flux"].to_numpy()[0, :, :, 0]
    assert (np.abs(flux.mean(axis=0) - TRUTH.flux[:, 0]) < 0.6 * flux.std(axis=0)).all()
