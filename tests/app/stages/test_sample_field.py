"""`fphojax run`: what a small field leaves behind, and when nothing is left behind."""

import math
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import yaml
from astropy.io import fits
from matplotlib.image import imread
from standard_error import problems, said
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.field.superscene import SuperScene
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import PatchResult
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import ExposureSpec, simulate_exposures, write_exposure

RA, DEC, SIZE = 150.0, 2.0, 24
SKY = 0.5  # added to the images in g
SNR = 15.0  # cap
RHALF, TIGHT = 0.22, 0.004  # prior of the half-light radius: median [arcsec], relative width

SETTINGS = {
    "bandlist": ["g", "r"],
    "raw_catalog": "peaks.ecsv",
    "fitsfiles": "*.fits",
    "n_gauss_psf": 1,
    # the true index, 1, is out of reach
    "bounds_kwargs": {"sersic_range": [1.6, 4.0], "n_pix": 3, "pixscale": 0.1},
    "priors": {"rhalf": {"distribution": "LogNormal", "loc": math.log(RHALF), "scale": TIGHT}},
    "tweak_background": "tweakbg",
    "tweakbg": {"g": SKY},
    "max_snr": SNR,
    "chains": 2,
    "warmup": 60,
    "sampling_draws": 40,
    "seed": 3,
}


def truth(n_source=1):
    return SourceCatalog.from_columns(
        ra=np.full(n_source, RA),
        dec=DEC + 3e-5 * np.arange(n_source),
        flux=np.full((n_source, 2), [80.0, 120.0]),
        q=0.6,
        pa=29.0,
        sersic=1.0,
        rhalf=RHALF,
        bands=("g", "r"),
        id=7 + np.arange(n_source),
    )


def write_peaks(folder, n_source=1):
    """The truth, but for a rounder and more concentrated shape."""
    truth(n_source).replace(q=np.full(n_source, 0.8), sersic=np.full(n_source, 2.0)).write(
        folder / "peaks.ecsv"
    )


def write_field(folder, **changes):
    """Exposures with PSF images, peak list and settings of one source in two bands; the settings file."""
    folder.mkdir(exist_ok=True)
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[1.4, 1.4, 0.0]], includes_pixel=True)
    specs = [
        ExposureSpec(band, f"{band}1", (SIZE, SIZE), 0.1, angle, RA, DEC, psf, noise=0.1)
        for band, angle in (("g", 10.0), ("r", 70.0))
    ]
    for exposure in simulate_exposures(truth(), specs, seed=1):
        sky = SKY if exposure.band == "g" else 0.0
        write_exposure(exposure.less(-sky), folder / f"{exposure.name}.fits")
    write_peaks(folder)
    return write_settings(folder, **changes)


def write_settings(folder, **changes):
    config = folder / "field.yml"
    config.write_text(yaml.safe_dump(SETTINGS | changes))
    return config


def fphojax(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Settings file, folder and printed text of one run, which the tests leave as it is."""
    config = write_field(tmp_path_factory.mktemp("field"))
    result = fphojax("sample", config)
    print(result.output)
    assert result.exit_code == 0, result.output
    return config, config.parent / "output", result


@pytest.fixture(scope="module")
def samples(finished):
    return PatchResult.read(finished[1] / "patches" / "patch0_samples.nc")


def test_every_file_is_there(finished):
    config, folder, _ = finished
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "field.yml",
        "psfs.h5",
        "scene.bounds.h5",
        "scene.covs.h5",
        "scene.fits",
        "scene_log.json",
        "patches/patch0_samples.nc",
        "patches/patch0_residuals.h5",
        "figures/patch0_residuals.png",
    }
    assert (folder / "field.yml").read_bytes() == config.read_bytes()


def test_settings_and_log_read_back(finished, samples):
    run = RunDirectory(finished[1])
    settings = run.read_config()
    assert settings["seed"] == 3
    assert settings["raw_catalog"] == str(finished[0].parent / "peaks.ecsv")
    (entry,) = run.read_log()["patchlog"]
    assert entry["taskID"] == 0
    assert entry["n_iter"] == 40
    assert entry["sources"] == [0]
    assert entry["summary"]["n_calls"] == samples.n_calls
    assert entry["summary"]["seed"] == samples.seed
    assert run.patches() == [0]


def test_samples_read_back(samples):
    assert dict(samples.draws["flux"].sizes) == {"chain": 2, "draw": 40, "source": 1, "band": 2}
    assert samples.draws["source"].to_numpy().tolist() == [7]
    assert samples.bands == ("g", "r")
    assert len(samples.fixed) == 0
    for statistic in ("diverging", "n_steps", "acceptance_rate", "energy", "tree_depth", "lp"):
        assert dict(samples.posterior["sample_stats"][statistic].sizes) == {"chain": 2, "draw": 40}


def test_scene_holds_the_medians(finished, samples):
    scene = SourceCatalog.read(finished[1] / "scene.fits")
    assert scene.id.tolist() == [7]
    assert scene.bands == ("g", "r")
    median = samples.draws.median(("chain", "draw"))
    np.testing.assert_allclose(scene.flux, median["flux"], rtol=1e-12)
    np.testing.assert_allclose(scene.q, median["q"], rtol=1e-12)
    np.testing.assert_allclose(scene.flux_err, samples.draws["flux"].std(("chain", "draw")), rtol=1e-12)


def test_residuals_with_sky_level_and_cap(finished):
    """Tests tweakbg and max_snr, too."""
    config, folder, _ = finished
    with h5py.File(folder / "patches" / "patch0_residuals.h5") as file:
        for band, sky in (("g", SKY), ("r", 0.0)):
            group = file[band][f"{band}1"]
            assert set(group) == {"xpix", "ypix", "data", "ierr", "residual"}
            pixels = {name: group[name][:] for name in group}
            exposure = Exposure.from_fits(config.parent / f"{band}1.fits")
            at = pixels["ypix"], pixels["xpix"]
            assert len(np.unique(np.ravel_multi_index(at, exposure.shape))) == len(at[0]) > 300
            np.testing.assert_allclose(pixels["data"], exposure.data[at] - sky, atol=1e-6)
            raised = pixels["ierr"] < 0.999 * exposure.ierr[at]
            snr = np.abs(pixels["data"]) * pixels["ierr"]
            print(f"{band}: errors of {raised.sum()} of {raised.size} pixels raised")
            assert raised.any()
            np.testing.assert_allclose(snr[raised], SNR, rtol=1e-5)
            assert snr.max() < 1.00001 * SNR
            faint = np.hypot(at[0] - 11.5, at[1] - 11.5) > 9
            assert abs(np.mean(pixels["residual"][faint])) < 0.1 * SKY


def test_prior_of_the_settings_reaches_the_model(samples):
    rhalf = samples.draws["rhalf"]
    print(
        f"rhalf {float(rhalf.mean()):.4f} +- {float(rhalf.std()):.4f}, prior {RHALF} +- {TIGHT * RHALF:.5f}"
    )
    assert abs(rhalf.mean() - RHALF) < 5 * TIGHT * RHALF
    assert rhalf.std() < 1.3 * TIGHT * RHALF


def test_tables_are_printed(finished, samples):
    text = finished[2].stdout
    assert "chi2/dof" in text
    assert "g1" in text
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    at_bound = float(samples.at_bound["sersic"][0])
    print(f"sersic: {at_bound:.0%} of the draws at the bound")
    assert at_bound > 0.05
    assert "at bound" in lines["sersic"]
    assert "at bound" not in lines["dec"]
    assert "2 chains of 40 draws" in text
    assert f"run directory: {finished[1]}" in text
    assert all(
        len(line.rstrip()) <= 80 or line.startswith(("figure", "run directory")) for line in text.splitlines()
    )
    assert problems(finished[2].stderr) == []  # no progress bars off a terminal
    begun, fitting, *later = said(finished[2].stderr)
    assert begun.endswith(f"results in {finished[1]}")
    assert fitting == "sampling 1 source in 2 exposures of g, r"
    compiling = [line for line in later if not line.startswith(("warm-up: ", "sampling: ", "field: "))]
    assert set(compiling) <= {"compiling programs for 1 source in 2 exposures"}


def test_figure_is_an_image(finished):
    image = imread(finished[1] / "figures" / "patch0_residuals.png")
    assert min(image.shape[:2]) > 300
    assert np.ptp(image[..., :3]) > 0.5


def test_finished_run_is_not_replaced_unasked(finished):
    config, folder, _ = finished
    before = contents(folder)
    result = fphojax("sample", config)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert problems(result.stderr) == [
        f"error: {folder}: holds a run, expected a new or empty folder (`fphojax sample` with "
        "--resume goes on with it, with --overwrite replaces it)"
    ]
    assert contents(folder) == before


def test_same_seed_same_draws_in_place_of_an_earlier_run(finished, samples, tmp_path):
    folder = tmp_path / "again"
    (folder / "patches").mkdir(parents=True)
    shutil.copy(finished[1] / "config.json", folder)
    shutil.copy(finished[1] / "patches" / "patch0_samples.nc", folder / "patches" / "patch5_samples.nc")
    result = fphojax("sample", finished[0], "--out", folder, "--overwrite", "--quiet")
    assert result.exit_code == 0, result.output
    run = RunDirectory(folder)
    assert run.patches() == [0]
    assert run.read_patch(0).draws.equals(samples.draws)


@pytest.mark.parametrize("words", ["", "interrupted during warm-up: no draws to keep"])
def test_interruption_is_one_line(finished, monkeypatch, words):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt(words)

    monkeypatch.setattr("fphojax.app.stages.sample.sample_field", interrupted)
    result = fphojax("sample", finished[0])
    assert result.exit_code == 130
    assert problems(result.stderr) == [f"error: {words or 'interrupted'}"]


def test_source_that_cannot_be_fitted_is_given_up_with_its_reason(tmp_path):
    config = write_field(tmp_path / "field", max_snr=0.0)
    for band in ("g", "r"):
        with fits.open(config.parent / f"{band}1.fits", mode="update") as hdus:
            hdus["ERR"].data[1:, 1:] = np.inf
    result = fphojax("sample", config)
    print(result.output)
    assert result.exit_code == 1
    assert problems(result.stderr) == [
        "error: source 7 was given up: InputError: region ra=150.000000 dec=2.000000 radius=1.10 arcsec: no exposure "
        "in g, r has a valid pixel there, expected at least one"
    ]
    assert "1 sources were given up" in result.stdout
    scene = RunDirectory(config.parent / "output").read_scene()
    assert scene["fit_flag"][0].startswith("InputError: region")
    assert scene.rhalf == pytest.approx(RHALF)
    assert RunDirectory(config.parent / "output").patches() == []

    before = contents(config.parent)
    again = fphojax("sample", config, "--resume")
    assert (again.exit_code, problems(again.stderr)) == (1, problems(result.stderr))  # it is not tried anew
    assert contents(config.parent) == before


def test_fit_whose_draws_all_diverge_has_failed(tmp_path, monkeypatch):
    """Tried again with another seed; then its source keeps its parameters, and nothing is written of it."""
    config, seeds = write_field(tmp_path / "field"), []

    def diverged(model, start, *, seed, draws, chains, **_):
        seeds.append(seed)
        return SimpleNamespace(
            n_draw=draws, is_point=False, statistics={"diverging": np.ones((chains, draws), dtype=bool)}
        )

    monkeypatch.setattr(
        "fphojax.field.settled.optimize", lambda model, start, **_: SimpleNamespace(values=start)
    )
    monkeypatch.setattr("fphojax.inference.methods.sample", diverged)
    result = fphojax("sample", config)
    assert result.exit_code == 1
    assert problems(result.stderr) == ["error: source 7 was given up: RuntimeError: all 80 draws diverged"]
    assert len(seeds) == len(set(seeds)) == 2
    run = RunDirectory(config.parent / "output")
    assert run.patches() == []
    assert run.read_scene().rhalf == pytest.approx(RHALF)


def test_draws_that_ctrl_c_has_cut_short_are_made_again(tmp_path, monkeypatch):
    """A run that goes on has all of them, as one that was not interrupted."""
    config = write_field(tmp_path / "field")
    monkeypatch.setattr(
        "fphojax.field.settled.optimize", lambda model, start, **_: SimpleNamespace(values=start)
    )
    monkeypatch.setattr(
        "fphojax.inference.methods.sample", lambda *_, **__: SimpleNamespace(n_draw=39, is_point=False)
    )
    result = fphojax("sample", config)
    assert result.exit_code == 130
    assert "0 of 1 sources are done" in result.stderr
    run = RunDirectory(config.parent / "output")
    assert run.patch_files() == []
    (out,) = SuperScene.resume(run.scene_path).out
    assert out.number == 0


def test_going_on_with_a_run_that_is_done(finished, tmp_path):
    """Nothing is fitted, and what is there stays; other settings than the run's are refused, the target's apart."""
    config, folder, _ = finished
    shutil.copytree(folder, tmp_path / "out")
    run = RunDirectory(tmp_path / "out")
    before = run.read_log(), run.patches(), run.read_patch(0).draws
    assert fphojax("sample", config, "--out", run.path, "--resume", "--quiet").exit_code == 0
    assert (run.read_log(), run.patches()) == before[:2]
    assert run.read_patch(0).draws.equals(before[2])

    other, there = config.with_name("other.yml"), contents(run.path)
    for name, value, old in (("seed", 4, 3), ("warmup", 61, 60), ("bandlist", ["g"], ["g", "r"])):
        other.write_text(yaml.safe_dump(SETTINGS | {name: value}))
        result = fphojax("sample", other, "--out", run.path, "--resume", "--quiet")
        assert result.exit_code == 2
        assert problems(result.stderr) == [
            f"error: {other}: {name}: found {value}, expected {old} as in {run.path}/config.json, the run to go on "
            "with"
        ]
        assert contents(run.path) == there
    other.unlink()


# ------------------------------------------------------------------------------------------------
# Refusals: one line each, and nothing is written


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    return write_field(tmp_path_factory.mktemp("field")).parent


@pytest.fixture
def refused(field, tmp_path):
    """Function that runs the field with changed files and settings, and returns the lines of the refusal."""

    def refused(*, spoil=None, **changes):
        shutil.copytree(field, tmp_path, dirs_exist_ok=True)
        if spoil is not None:
            spoil(tmp_path)
        config = write_settings(tmp_path, **changes)
        before = contents(tmp_path)
        result = fphojax("sample", config, "--quiet")
        lines = result.stderr.replace(f"{tmp_path}/", "").splitlines()
        print(*lines, sep="\n")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert contents(tmp_path) == before
        assert not (tmp_path / "output").exists()
        return [line.removeprefix("error: ") for line in lines]

    return refused


def test_inputs_are_checked_first(refused):
    assert refused(raw_catalog="sources.fits", fitsfiles=["g1.fits", "r1.fits", "z1.fits"]) == [
        "z1.fits: no such file, expected a FITS image",
        "sources.fits: no such file, expected a catalogue (FITS or ECSV)",
    ]


def test_forced_photometry_is_no_sampling(refused):
    (line,) = refused(forced_photometry=True)
    assert line == (
        "field.yml: forced_photometry: found true, expected false: sampling fits positions and shapes, too; "
        "`fphojax optimize` measures fluxes alone"
    )


def test_missing_psf(refused):
    store = PSFStore()
    store.add(PSFMixture([1.0], [[0, 0]], [[2, 2, 0]]), "r")
    lines = refused(psfstorefile="psf.h5", spoil=lambda folder: store.write(folder / "psf.h5"))
    assert lines == ["psf.h5: no PSF for band g, exposure g1; psf.h5 has r"]


def test_tied_sources_fit_into_a_patch(refused):
    (line,) = refused(
        maxactive_per_patch=1, ties={"x": {"8": "7"}}, spoil=lambda folder: write_peaks(folder, 2)
    )
    assert line == (
        "sources 7, 8: 2 that reach 1.2 arcsec are to be fitted together, expected at most 1 within 15 arcsec"
    )
