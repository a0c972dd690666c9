"""PSF images fitted one after another: each is in the store when it is fitted, and none is mixed with another."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from fphojax import PSFMixture, PSFStore
from fphojax.app.cli import app
from fphojax.app.stages.psf_fits import PSFJob, fit_into, gaussian_options
from fphojax.errors import InputError
from fphojax.mixtures import psf_fit
from fphojax.mixtures.psf_fit import fit_psf


def image(sigma, centre=(7.0, 7.0), flux=1.0):
    mixture = PSFMixture([flux], [[0.0, 0.0]], [[sigma**2, sigma**2, 0.0]], includes_pixel=True)
    return mixture.render((15, 15), centre)


def job(name, sigma=1.2, *, exposure=..., location=None, **options):
    standard = {"n_gauss": 1, "n_negative": 0, "oversample": 1.0, "includes_pixel": True, "recentre": False}
    return PSFJob(
        name, image(sigma), "F", name if exposure is ... else exposure, location, standard | options
    )


JOBS = [job(f"e{i}", 1.0 + 0.1 * i) for i in range(5)]


class Fits(list):
    """Names of the images that were fitted; at the image `stop`, Ctrl-C comes instead."""

    stop = None

    def __call__(self, image, *, name, **options):
        if name == self.stop:
            raise KeyboardInterrupt
        self.append(name)
        return fit_psf(image, name=name, **options)


@pytest.fixture
def fitted_names(monkeypatch):
    names = Fits()
    monkeypatch.setattr(psf_fit, "fit_psf", names)
    return names


def widths(path):
    store = PSFStore.open(path)
    return {name: store.lookup("F", name).covariances[0, 0] for name in store.exposures("F")}


def test_ctrl_c_keeps_what_was_fitted_and_the_same_call_goes_on(fitted_names, tmp_path):
    path = tmp_path / "psfs.h5"
    fitted_names.stop = "e2"
    with pytest.raises(KeyboardInterrupt) as caught:
        fit_into(path, JOBS)
    assert str(caught.value) == (
        f"interrupted: 2 of 5 PSFs are fitted and kept in {path}; the same command continues"
    )
    np.testing.assert_allclose(list(widths(path).values()), [1.0, 1.21], rtol=1e-6)
    assert list(tmp_path.iterdir()) == [path]
    fitted_names.stop = None
    fitted_names.clear()
    found = fit_into(path, JOBS)
    assert fitted_names == ["e2", "e3", "e4"]
    assert [psf.reused for psf in found] == [True, True, False, False, False]
    np.testing.assert_allclose(list(widths(path).values()), (1.0 + 0.1 * np.arange(5)) ** 2, rtol=1e-6)
    whole = tmp_path / "whole.h5"
    fit_into(whole, JOBS)
    assert widths(whole) == widths(path)


def test_what_is_kept_is_judged_as_it_was(tmp_path):
    jobs = [job("a", n_gauss=2), job("b", n_gauss=1, oversample=2.0, includes_pixel=False)]
    first, again = fit_into(tmp_path / "psfs.h5", jobs), fit_into(tmp_path / "psfs.h5", jobs)
    for one, other in zip(first, again, strict=True):
        assert (one.reused, other.reused) == (False, True)
        np.testing.assert_array_equal(one.fit.covariances, other.fit.covariances)
        for name in ("relative_l2", "ee_error", "worst_pixel", "flux_outside", "size_model", "pedestal"):
            expected = getattr(one.fit.verdict, name)
            np.testing.assert_allclose(getattr(other.fit.verdict, name), expected, atol=1e-12)
        assert one.fit.offset == other.fit.offset


@pytest.mark.parametrize(
    "other",
    [
        job("e1", 1.3),
        job("e1", n_gauss=2),
        job("e1", recentre=True),
        job("e1", includes_pixel=False),
        job("e1", oversample=2.0),
        job("e1", n_gauss=2, n_negative=1),
    ],
)
def test_other_images_and_options_are_not_mixed_in(other, fitted_names, tmp_path):
    path = tmp_path / "psfs.h5"
    fit_into(path, [job("e0"), job("e1")])
    before = path.read_bytes()
    fitted_names.clear()
    with pytest.raises(
        InputError, match=r"has a PSF for band F, exposure e1 already, not of e1 with these opt"
    ):
        fit_into(path, [job("e0"), other])
    assert path.read_bytes() == before
    assert fitted_names == []
    fit_into(path, [job("e0"), other], replace=True)
    assert fitted_names == ["e1"]


def test_a_mixture_of_unknown_origin_is_not_taken_for_this_image(tmp_path):
    store = PSFStore()
    store.add(PSFMixture([1.0], [[0, 0]], [[1.44, 1.44, 0]]), "F", "e0")
    store.write(tmp_path / "psfs.h5")
    with pytest.raises(InputError, match="has a PSF for band F, exposure e0 already"):
        fit_into(tmp_path / "psfs.h5", [job("e0")])


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (
            job("e9", exposure="e0"),
            "e9: found another PSF of band F, exposure e0, expected one; the first is e0",
        ),
        (
            job("e9")._replace(image=np.full((15, 15), np.nan)),
            "e9: 225 of 225 unmasked pixels are not finite",
        ),
        (job("e9")._replace(image=np.ones((15, 15))), "e9: smaller than the core of its PSF"),
        (job("e9", oversample=2.5, includes_pixel=False), "e9: oversample is 2.5, expected a whole number"),
        (job("a/b"), "'a/b' cannot name a group"),
        (job("parameters"), "'parameters' cannot name a group"),
    ],
)
def test_all_images_are_looked_at_before_the_first_is_fitted(last, words, fitted_names, tmp_path):
    with pytest.raises(InputError) as caught:
        fit_into(tmp_path / "psfs.h5", [*JOBS, last])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert fitted_names == []
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_or_a_broken_store_is_found_before_the_first_is_fitted(fitted_names, tmp_path):
    with pytest.raises(InputError, match="no such folder, expected one to write psfs"):
        fit_into(tmp_path / "none" / "psfs.h5", JOBS)
    (tmp_path / "psfs.h5").write_text("no store")
    with pytest.raises(InputError, match="not an HDF5 file, expected a PSF store"):
        fit_into(tmp_path / "psfs.h5", JOBS)
    assert fitted_names == []


def test_detector_positions_join(tmp_path):
    path = tmp_path / "psfs.h5"
    places = [(10.0, 20.0), (500.0, 20.0)]
    for i, place in enumerate(places):
        fit_into(path, [job("a", 1.0 + i, exposure=None, location=place)])
    again = fit_into(path, [job("a", 1.0, exposure=None, location=places[0])])
    assert again[0].reused
    assert [m.detector_location for m in PSFStore.open(path).mixtures("F")] == places
    with pytest.raises(
        InputError, match=r"expected True: the PSFs of band F at other positions in .* include the"
    ):
        fit_into(path, [job("a", exposure=None, location=(9.0, 9.0), includes_pixel=False)])


def test_mixtures_of_another_store_are_taken_over(fitted_names, tmp_path):
    known, path = tmp_path / "known.h5", tmp_path / "psfs.h5"
    first = fit_into(known, JOBS[:3])
    other = JOBS[1]._replace(options=JOBS[1].options | {"n_gauss": 2})
    fitted_names.clear()
    fitted_names.stop = "e3"
    with pytest.raises(KeyboardInterrupt, match="3 of 4 PSFs are fitted and kept"):
        fit_into(path, [JOBS[0], other, JOBS[2], JOBS[3]], existing=known)
    assert fitted_names == ["e1"]  # of other options
    assert list(widths(path)) == ["e0", "e1", "e2"]
    assert widths(path)["e0"] == first[0].fit.covariances[0, 0]
    fitted_names.clear()
    found = fit_into(None, JOBS[:3], existing=known)
    assert [psf.reused for psf in found] == [True] * 3
    assert found[2].fit.verdict.point_flux_error == first[2].fit.verdict.point_flux_error
    assert fitted_names == []
    fit_into(None, JOBS[:1], existing=tmp_path / "none.h5")
    assert fitted_names == ["e0"]


def test_a_store_says_how_good_its_mixtures_are(tmp_path):
    (found,) = fit_into(tmp_path / "psfs.h5", [job("a", n_gauss=None, target_l2=0.1)])
    kept = PSFStore.open(tmp_path / "psfs.h5").lookup("F", "a")
    assert kept.relative_l2 == found.fit.verdict.relative_l2 < 0.1
    assert kept.point_flux_error == found.fit.verdict.point_flux_error
    (again,) = fit_into(tmp_path / "psfs.h5", [found.job])
    assert again.reused


def test_numbers_given_are_known_as_before():
    """The digest of a fit with a given number says nothing of the residual: stores of earlier versions are kept."""
    assert gaussian_options(4, 0.02) == {"n_gauss": 4}
    assert gaussian_options(None, 0.02) == {"n_gauss": None, "target_l2": 0.02}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_processes_change_nothing(workers, tmp_path):
    found = fit_into(tmp_path / "psfs.h5", JOBS, workers=workers)
    assert [psf.job.name for psf in found] == [f"e{i}" for i in range(5)]
    np.testing.assert_allclose(
        [psf.fit.covariances[0, 0] for psf in found], list(widths(tmp_path / "psfs.h5").values())
    )


def test_nothing_is_kept_without_a_path(fitted_names):
    fitted_names.stop = "e2"
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted: 2 of 5 PSFs are fitted$"):
        fit_into(None, JOBS)


def write_images(folder, n):
    for i in range(n):
        fits.PrimaryHDU(image(1.0 + 0.1 * i)).writeto(folder / f"e{i}.fits")
    return [str(folder / f"e{i}.fits") for i in range(n)]


def test_command_says_how_to_go_on_after_ctrl_c(fitted_names, tmp_path):
    paths, store = write_images(tmp_path, 4), tmp_path / "p.h5"
    command = ["psf", *paths, "--band", "F", "--ngauss", "1", "--out", str(store)]
    fitted_names.stop = paths[2]
    stopped = CliRunner().invoke(app, command)
    assert stopped.exit_code == 130
    assert f"error: interrupted: 2 of 4 PSFs are fitted and kept in {store}; the same" in stopped.output
    assert PSFStore.open(store).exposures("F") == ["e0", "e1"]
    fitted_names.stop = None
    fitted_names.clear()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert fitted_names == paths[2:]
    assert ["in store" in line for line in done.output.splitlines() if "good" in line] == [
        True,
        True,
        False,
        False,
    ]
    assert PSFStore.open(store).exposures("F") == ["e0", "e1", "e2", "e3"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_real_kill_loses_only_the_image_that_is_being_fitted(number, tmp_path):
    core = PSFMixture([0.6, 0.4], np.zeros((2, 2)), [[2.0, 1.5, 0.3], [9.0, 9.0, 1.0]])
    for i in range(20):
        hdu = fits.PrimaryHDU(core.render((61, 61), (30 + 0.05 * i, 30)) + 1e-4 * (i + 1) * np.eye(61))
        hdu.writeto(tmp_path / f"e{i}.fits")
    paths, store = [str(tmp_path / f"e{i}.fits") for i in range(20)], tmp_path / "p.h5"
    command = [sys.executable, "-m", "fphojax", "psf", *paths, "--band", "F", "--ngauss", "5", "--out"]
    process = subprocess.Popen([*command, str(store)], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    limit = time.monotonic() + 60
    while not (store.is_file() and len(PSFStore.open(store).exposures("F")) >= 2):
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=60)
    kept = PSFStore.open(store)
    n = len(kept.exposures("F"))
    print(f"{number!r}: {n} of 20 kept, status {process.returncode}")
    assert 2 <= n < 20
    assert process.returncode != 0
    done = subprocess.run([*command, str(store)], capture_output=True, text=True, check=True)
    assert sum("in store" in line for line in done.stdout.splitlines()) == n
    subprocess.run([*command, str(tmp_path / "whole.h5")], capture_output=True, check=True)
    assert widths(store) == widths(tmp_path / "whole.h5")
