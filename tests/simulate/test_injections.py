"""Artificial sources in the images of a run: where they are, how they look, and what is measured of them."""

import numpy as np
import pytest
from astropy.table import Table

import fphojax as fp
from fphojax import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.results.fitted_patch import open_recipe
from fphojax.simulate.injection_study import InjectionStudy, injection_study
from fphojax.simulate.injection_tables import completeness_table, error_floor, pull_table
from fphojax.simulate.injections import NAME, Injections


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three galaxies in two bands, optimised."""
    flux = {"g": [60.0, 40, 50], "r": [80.0, 60, 40]}
    shape = {"q": [0.6, 0.8, 0.5], "pa": [20, 110, 50], "sersic": [1.5, 2.0, 1.0], "rhalf": [0.15, 0.1, 0.12]}
    truth = fp.mock_galaxies(x=[-1.5, 1.4, 0.2], y=[-1.2, 1.3, 0], flux=flux, **shape)
    cameras = [fp.MockCamera(band, width=6.0).with_snr(truth, 60) for band in flux]
    field = fp.mock_field(truth, cameras, seed=3)
    folder = tmp_path_factory.mktemp("injected") / "run"
    return fp.fit_field(field.exposures, field.psfs, truth, fp.Optimum(), folder=folder).directory


@pytest.fixture(scope="module")
def make(run):
    recipe, catalog = open_recipe(run), run.read_scene()
    return lambda **options: Injections(recipe, catalog, **{"seed": 4} | options)


@pytest.fixture(scope="module")
def study(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    modes = ("known", "free", "detect")
    return injection_study(run, number=4, modes=modes, places=("random",), folder=folder, seed=2)


def test_places_are_what_they_are_called(make):
    empty, crowded = make(places=("empty",)), make(places=("crowded",))
    catalog = empty.catalog
    for number in range(3):
        for injections, near in ((empty, False), (crowded, True)):
            injection = injections.injection(number)
            truth = injection.truth
            distance = np.hypot(*sky_offsets(catalog.ra, catalog.dec, truth.ra[0], truth.dec[0]).T)
            assert (distance < 4 * catalog.rhalf).any() == near
            assert (len(injection.neighbours) > 0) == near
            assert near or (distance > catalog.roi).all()


def test_signal_to_noise_ratio_is_that_of_the_pixels(make):
    """What is added to them, over their errors."""
    injections = make(places=("random",), snr=(20, 40))
    for number in range(3):
        injection = injections.injection(number)
        empty = injections.recipe.cut(injection.frame.region)
        added = np.asarray(injection.frame.patch.data, float) - np.asarray(empty.patch.data, float)
        signal = (added * np.asarray(empty.patch.ierr)) ** 2
        band = np.asarray(empty.patch.exposure)
        largest = np.sqrt(max(signal[band == b].sum() for b in range(2)))
        assert 20 <= injection.snr <= 40
        assert largest == pytest.approx(injection.snr, rel=1e-3)
        assert injection.truth.id.tolist() == [NAME]


def test_the_same_number_is_the_same_source(make):
    first, again, other = (make(places=("random",)).injection(number) for number in (5, 5, 6))
    np.testing.assert_array_equal(first.frame.patch.data, again.frame.patch.data)
    assert first.truth.ra[0] != other.truth.ra[0]


def test_sources_without_flux_change_nothing(make):
    injections = make(places=("random",), snr=(0, 0))
    injection = injections.injection(1)
    assert (injection.truth.flux == 0).all()
    empty = injections.recipe.cut(injection.frame.region)
    np.testing.assert_array_equal(injection.frame.patch.data, empty.patch.data)
    result = fp.fit(injections.scene(injection, known=True), fp.Optimum(forced=True)).result
    flux, error = (np.asarray(table["flux"])[0] for table in (result.optimum, result.optimum_std))
    assert (np.abs(flux) < 4 * error).all()
    assert (flux != 0).all()


def test_photons_of_the_source_add_noise(make):
    """Their variance is that of the light over the gain, and is part of the errors."""
    options = {"places": ("random",), "snr": (300, 300)}
    plain, noisy = (make(**options, gain=gain).injection(2) for gain in ({}, {"g": 2.0}))
    assert plain.truth.ra[0] == noisy.truth.ra[0]
    of_g = np.asarray(plain.frame.patch.exposure) == 0
    before, after = (np.asarray(i.frame.patch.ierr, float)[of_g] for i in (plain, noisy))
    used = before > 0
    added = after[used] ** -2 - before[used] ** -2
    light = make(**options).image(plain, 0)
    assert added.sum() == pytest.approx(np.nansum(np.maximum(light, 0)) / 2, rel=1e-3)
    difference = np.asarray(noisy.frame.patch.data - plain.frame.patch.data, float)
    pull = difference[of_g][used][added > 1e-3 * added.max()] / np.sqrt(added[added > 1e-3 * added.max()])
    assert 0.7 < pull.std() < 1.3
    assert (difference[~of_g] == 0).all()


def test_stars_and_models_of_ones_own(make):
    models = fp.mock_galaxies(x=[0], y=[0], flux={"g": [1.0], "r": [3.0]}, q=0.9, pa=0, sersic=1, rhalf=0.05)
    injection = make(models=models, stars=1.0, places=("random",)).injection(0)
    assert injection.truth["profile"].tolist() == ["point"]
    assert injection.truth.flux[0, 1] == pytest.approx(3 * injection.truth.flux[0, 0])


def test_fluxes_are_measured_to_their_errors(study):
    sources = study.sources
    assert len(sources) == 4 * 2 * 2
    pull = (sources["flux"] - sources["truth"]) / sources["err"]
    print(np.round(pull, 1))
    assert (np.abs(pull) < 4.5).all()
    known = sources[sources["mode"] == "known"]
    assert np.isnan(known["rhalf_err"]).all()
    np.testing.assert_allclose(known["rhalf"], known["rhalf_true"], rtol=1e-6)
    np.testing.assert_allclose(sources["err_alone"], sources["err"])  # the run has no noise model
    free = sources[sources["mode"] == "free"]
    assert (np.hypot(free["shift_x"], free["shift_y"]) < 0.06).all()


def test_bright_sources_are_found(study):
    found = study.detections
    assert len(found) == 4
    bright = found[(found["snr"] > 15) & ~found["confused"]]
    assert bright["found"].all()
    assert {"mag_g", "mag_r"} <= set(found.colnames)


def test_a_study_goes_on_where_it_ended(study, run, monkeypatch):
    from fphojax.simulate import injection_study as module

    done = []
    original = module._Job.done
    monkeypatch.setattr(module._Job, "done", lambda job, task: done.append(task) or original(job, task))
    options = {"modes": ("known", "free", "detect"), "places": ("random",), "folder": study.folder}
    again = injection_study(run, number=4, seed=2, **options)
    assert done == []
    np.testing.assert_array_equal(again.sources["flux"], study.sources["flux"])
    (study.folder / "parts" / "free_00003_00003.ecsv").unlink()
    again = injection_study(run, number=4, seed=2, **options)
    assert [mode for mode, _ in done] == ["free"]
    np.testing.assert_allclose(again.sources["flux"], study.sources["flux"], rtol=1e-6)
    read = InjectionStudy.read(study.folder)
    np.testing.assert_array_equal(read.sources["flux"], again.sources["flux"])
    with pytest.raises(InputError, match="found another study, expected one with the same options"):
        injection_study(run, number=4, seed=3, **options)


def test_options_that_mean_nothing_are_refused(run, make, tmp_path):
    with pytest.raises(InputError, match="modes: found 'bright', expected some of known, free, detect"):
        injection_study(run, modes=("bright",), folder=tmp_path / "new")
    with pytest.raises(InputError, match=r"snr is \[0, 5\], expected two positive numbers"):
        make(snr=(0, 5))
    with pytest.raises(InputError, match="places: found 'dark'"):
        make(places=("dark",))
    with pytest.raises(InputError, match="found no finished study"):
        InjectionStudy.read(tmp_path)
    assert not (tmp_path / "new").exists()


def made(spread, n=4000, fraction=0.0):
    """Fluxes that scatter by so many of their errors, and by a fraction of the flux."""
    rng = np.random.default_rng(1)
    truth = 10 ** rng.uniform(1, 3, n)
    table = Table({"truth": truth, "err": np.full(n, 2.0), "err_alone": np.full(n, 1.0)})
    scatter = np.hypot(2.0 * spread, fraction * truth)
    table["flux"] = truth + scatter * rng.normal(size=n)
    for name in ("rhalf", "rhalf_true", "rhalf_err", "shift_x", "shift_x_err", "shift_y", "shift_y_err"):
        table[name] = 1.0
    table["mode"], table["place"], table["band"], table["snr"] = "free", "empty", "g", truth / 2
    return table


def test_pulls_are_those_of_the_errors():
    (row,) = pull_table(made(1.2))
    assert row["sd"] == pytest.approx(1.2, rel=0.04)
    assert row["sd_alone"] == pytest.approx(2.4, rel=0.04)
    assert row["within_1"] == pytest.approx(59.5, abs=2.5)
    assert row["beyond_2"] == pytest.approx(9.6, abs=1.5)
    assert len(pull_table(made(1.2), edges=[0, 20, 1000])) == 2


def test_the_floor_is_what_is_missing():
    assert error_floor(made(0.9)) == 0
    assert error_floor(made(1.0, fraction=0.03)) == pytest.approx(0.03, rel=0.1)
    assert np.isnan(error_floor(made(1.0)[:0]))


def test_completeness_leaves_out_what_was_there_before():
    table = Table({"place": ["empty"] * 4, "snr": [3.5, 3.6, 7.0, 7.1], "mag_g": [26.0, 26, 25, 25]})
    table["found"], table["confused"] = [False, True, True, True], [False, False, False, True]
    found = completeness_table(table)
    assert found["n"].tolist() == [2, 1]
    np.testing.assert_allclose(found["found"], [0.5, 1])
    assert (found["found_err"] > 0).all()
    assert len(completeness_table(Table())) == 0


def test_figures(study):
    assert len(study.plot_pulls().axes) == 4
    assert study.plot_completeness().axes
