"""The PSF stage: each mixture is written when it is fitted, and the centre is as the settings say."""

import numpy as np
import pytest
import yaml
from astropy.io import fits

from fphojax import PSFMixture, PSFStore
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.detect import detect
from fphojax.app.stages.fields import fit_sources
from fphojax.app.stages.input_checks import check_inputs
from fphojax.app.stages.psf import plot_worst_psf, psf
from fphojax.errors import InputError
from fphojax.field.patch_fit import PatchFit
from fphojax.field.scheduler import PatchOutcome
from fphojax.inference.methods import Optimum
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.mixtures import psf_fit
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 150.0, 2.0


@pytest.fixture
def folder(tmp_path):
    """Three exposures of one band; the core of each PSF image is off its centre by 0.1, 0.2, 0.3 pixel."""
    truth = SourceCatalog.from_columns(
        ra=[RA], dec=[DEC], flux=[[50.0]], q=0.8, pa=0.5, sersic=1.0, rhalf=0.1, bands=("g",)
    )
    specs = []
    for i in (1, 2, 3):
        mixture = PSFMixture([1.0], [[0.1 * i, 0.0]], [[1.0 + i, 1.0 + i, 0.0]], includes_pixel=True)
        specs.append(ExposureSpec("g", f"g{i}", (20, 20), 0.1, 0.0, RA, DEC, mixture, noise=0.1))
    for exposure in simulate_exposures(truth, specs, seed=1):
        write_exposure(exposure, tmp_path / f"{exposure.name}.fits")
    truth.write(tmp_path / "peaks.ecsv")
    return tmp_path


def settings(folder, **changes):
    content = {"bandlist": ["g"], "fitsfiles": "g*.fits", "raw_catalog": "peaks.ecsv", "n_gauss_psf": 1}
    (folder / "field.yml").write_text(yaml.safe_dump(content | {"outbase": "run"} | changes))
    return Settings.from_yaml(folder / "field.yml")


@pytest.fixture
def fitted(monkeypatch):
    """Numbers of Gaussians and of the exposure of each fit; the fit number `stop` is interrupted."""

    class Fits(list):
        stop = None

        def __call__(self, image, *, name, n_gauss, **options):
            if len(self) == self.stop:
                raise KeyboardInterrupt
            self.append((name.rpartition("/")[2], n_gauss))
            return fit_psf(image, name=name, n_gauss=n_gauss, **options)

    fits_ = Fits()
    monkeypatch.setattr(psf_fit, "fit_psf", fits_)
    return fits_


def test_interrupted_stage_goes_on(folder, fitted):
    given, path = settings(folder), folder / "run" / "psfs.h5"
    fitted.stop = 2
    with pytest.raises(
        KeyboardInterrupt, match=r"2 of 3 PSFs are fitted and kept in .*; the same command continues"
    ):
        psf(given)
    assert PSFStore.open(path).exposures("g") == ["g1", "g2"]
    fitted.stop = None
    report = psf(given)
    assert fitted == [("g1.fits", 1), ("g2.fits", 1), ("g3.fits", 1)]
    store = PSFStore.open(path)
    widths = [store.lookup("g", name).covariances[0, 0] for name in report.tables["psfs"]["exposure"]]
    np.testing.assert_allclose(widths, [2.0, 3.0, 4.0], rtol=1e-3)
    assert plot_worst_psf(given, report) is not None
    assert len(fitted) == 3


def test_other_settings_and_other_images_are_fitted_anew(folder, fitted):
    psf(settings(folder))
    with fits.open(folder / "g2.fits", mode="update") as hdus:
        hdus["PSF"].data = hdus["PSF"].data[::-1, ::-1].copy()
    fitted.clear()
    psf(settings(folder))
    assert fitted == [("g2.fits", 1)]
    fitted.clear()
    psf(settings(folder, n_gauss_psf=2))
    assert fitted == [("g1.fits", 2), ("g2.fits", 2), ("g3.fits", 2)]
    (folder / "g3.fits").unlink()
    psf(settings(folder, n_gauss_psf=2))
    assert PSFStore.open(folder / "run" / "psfs.h5").exposures("g") == ["g1", "g2"]


@pytest.mark.parametrize(("centre", "words"), [("as it is", "as it is"), ("recentre", "recentred")])
def test_offset_of_the_core_is_said_and_taken_out_if_asked(folder, centre, words):
    report = psf(settings(folder, psf_centre=centre))
    offsets = [f"+0.{i}00 +0.000, {words}" for i in (1, 2, 3)]
    assert list(report.tables["psfs"]["core off centre"]) == offsets
    store = PSFStore.open(report.files["psfs"])
    means = [store.lookup("g", f"g{i}").means[0, 0] for i in (1, 2, 3)]
    expected = (0.1, 0.2, 0.3) if centre == "as it is" else 0
    np.testing.assert_allclose(means, expected, atol=2e-3)


def unchanged(_, tasks):
    """Leave the sources as they were."""
    return [
        PatchOutcome(final=task.active, n_iter=1, block_covs=np.ones((1, 7, 7)), summary={}) for task in tasks
    ]


def fit(given, folder=None, **options):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PatchFit, "__call__", unchanged)
        fit_sources(given, folder or given.outbase, Optimum(), target_niter=1, **options)


def test_a_fit_that_was_interrupted_at_its_psfs_goes_on(folder, fitted):
    given, path = settings(folder), folder / "run" / "psfs.h5"
    fitted.stop = 1
    with pytest.raises(KeyboardInterrupt, match=r"1 of 3 PSFs .* the same command with --resume continues"):
        fit(given)
    assert PSFStore.open(path).exposures("g") == ["g1"]
    fitted.stop = None
    fit(given, resume=True)
    assert [name for name, _ in fitted] == ["g1.fits", "g2.fits", "g3.fits"]
    assert PSFStore.open(path).exposures("g") == ["g1", "g2", "g3"]


def test_stages_take_over_what_the_stage_psf_fitted(folder, fitted):
    given = settings(folder)
    psf(given)
    assert len(fitted) == 3
    fit(given, given.outbase / "optimize_1")
    detect(given, images=True)
    assert len(fitted) == 3
    stores = [PSFStore.open(given.outbase / name) for name in ("psfs.h5", "optimize_1/psfs.h5")]
    for name in ("g1", "g2", "g3"):
        one, other = (store.lookup("g", name) for store in stores)
        np.testing.assert_array_equal(one.covariances, other.covariances)
    other = settings(folder, n_gauss_psf=2)
    fit(other, given.outbase / "optimize_2")
    assert fitted[3:] == [("g1.fits", 2), ("g2.fits", 2), ("g3.fits", 2)]


def test_an_interrupted_detection_keeps_its_psfs(folder, fitted):
    given = settings(folder)
    fitted.stop = 2
    with pytest.raises(KeyboardInterrupt, match="2 of 3 PSFs are fitted and kept"):
        detect(given, images=True)
    fitted.stop = None
    detect(given, images=True)
    psf(given)
    assert [name for name, _ in fitted] == ["g1.fits", "g2.fits", "g3.fits"]


def test_detection_leaves_the_psfs_of_a_run_as_they_are(folder):
    given = settings(folder)
    fit(given)
    before = given.fitted_psfs.read_bytes()
    detect(settings(folder, n_gauss_psf=2), images=True)
    assert given.fitted_psfs.read_bytes() == before


def test_number_is_chosen_by_the_wanted_residual(folder, fitted):
    """A PSF of a single Gaussian needs one; settings of earlier versions name the number."""
    (folder / "field.yml").write_text(yaml.safe_dump({"bandlist": ["g"], "fitsfiles": "g*.fits"}))
    default = Settings.from_yaml(folder / "field.yml")
    assert (default.n_gauss_psf, default.psf_residual) == (None, 0.01)
    report = psf(default)
    assert list(report.tables["psfs"]["Gaussians"]) == [1, 1, 1]
    assert "3 PSF images fitted with 1 Gaussians; the largest residual is" in report.verdict
    assert "With these PSF mixtures, a bright point source's flux is off by" in report.verdict
    assert "more than its noise above S/N" in report.verdict
    assert [n for _, n in fitted] == [None] * 3
    checked = check_inputs(default, needs_catalog=False)
    assert "is off by" in checked.psf_meaning()
    assert "to be fitted" not in checked.psf_meaning()
    other = check_inputs(settings(folder, n_gauss_psf=4, outbase="output"))
    assert other.psf_meaning().startswith("3 PSF images are not fitted yet: the stage psf will report")


def test_store_that_does_not_say_how_good_it_is(folder):
    psf(settings(folder))
    store = PSFStore.open(folder / "run" / "psfs.h5")
    store.add(PSFMixture([1.0], [[0.0, 0.0]], [[3.0, 3.0, 0.0]]), "g", "g2")
    store.write(folder / "own.h5")
    given = settings(folder, psfstorefile="own.h5")
    report = psf(given)
    table = report.tables["psfs"]
    np.testing.assert_array_equal(np.isfinite(table["point flux error"]), [True, False, True])
    assert "For 1 PSF mixture of the store, the flux error of bright point sources is not" in report.verdict
    assert plot_worst_psf(given, report) is None


def test_a_fit_does_not_go_on_with_other_psfs(folder):
    given = settings(folder)
    fit(given)
    before = (folder / "run" / "psfs.h5").read_bytes()
    with fits.open(folder / "g2.fits", mode="update") as hdus:
        hdus["PSF"].data = hdus["PSF"].data[::-1, ::-1].copy()
    with pytest.raises(
        InputError, match=r"has a PSF for band g, exposure g2 already, not of .*g2.fits with these"
    ):
        fit(given, resume=True)
    assert (folder / "run" / "psfs.h5").read_bytes() == before
