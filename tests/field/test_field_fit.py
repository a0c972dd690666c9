"""A field fitted from Python, without a file of settings."""

import numpy as np
import pytest

import fphojax as fp
from fphojax.inputs.recipe import Recipe
from fphojax.results.fitted_patch import fitted_patch
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

X = np.array([-1.5, 1.5])
BOUNDS = {"n_pix": 3}


@pytest.fixture(scope="module")
def field():
    truth = mock_galaxies(x=X, y=0.0, flux={"F": 80 + 5 * X}, q=0.7, pa=30.0, sersic=1.5, rhalf=0.12)
    return mock_field(truth, [MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.3, width=5.0)], seed=1)


def fitted(field, folder, method, **options):
    return fp.fit_field(field.exposures, field.psfs, field.peaks, method, folder=folder, **options)


def test_an_optimised_field(field, tmp_path):
    done = fitted(field, tmp_path / "run", fp.Optimum(), bounds_kwargs=BOUNDS)
    assert sorted(done.report.patches) == [0, 1]
    assert done.flagged == {}
    assert (
        repr(done) == f"FinishedField({str(tmp_path / 'run')!r}, 2 sources in 2 patches, 0 sources given up)"
    )
    catalog = done.scene.catalog
    error = np.sqrt(np.array([c[0, 0] for c in done.scene.bounds_and_covs([0, 1])[1]]))
    pull = (catalog.flux[:, 0] - field.truth.flux[:, 0]) / error
    print(f"pulls of the fluxes: {np.round(pull, 2)}")
    assert np.abs(pull).max() < 4
    # the folder is that of a run: a patch can be made again, with the pixels that were fitted
    run = fp.RunDirectory.open(tmp_path / "run")
    again = fitted_patch(run, 0)
    direct = Recipe(field.exposures, field.psfs).cut(again.result.region)
    np.testing.assert_array_equal(again.scene.frame.patch.data, direct.patch.data)
    np.testing.assert_allclose(again.scene.frame.patch.ierr, direct.patch.ierr, rtol=1e-6)
    table = fp.final_catalog(str(tmp_path / "run"))
    assert table["F"].tolist() == fp.final_catalog(run)["F"].tolist() == done.to_table()["F"].tolist()
    assert done.to_pandas()["id"].tolist() == table["id"].tolist()
    assert len(table) == 2
    assert str(tmp_path / "run") in done._repr_html_()

    with pytest.raises(fp.InputError, match=r"holds a run, expected a new or empty folder \(resume=True"):
        fitted(field, tmp_path / "run", fp.Optimum(), bounds_kwargs=BOUNDS)
    resumed = fitted(field, tmp_path / "run", fp.Optimum(), bounds_kwargs=BOUNDS, resume=True)
    assert resumed.report.patches == []
    with pytest.raises(
        fp.InputError, match=r"found a run of tolerance=0\.0001, expected tolerance=0\.001 to"
    ):
        fitted(field, tmp_path / "run", fp.Optimum(tolerance=1e-3), bounds_kwargs=BOUNDS, resume=True)


def test_priors_are_kept_by_name_and_numbers(field, tmp_path):
    from numpyro.distributions import LogNormal, Normal

    recipe = Recipe(field.exposures, field.psfs, priors={"rhalf": LogNormal(-2.0, 0.5)})
    fp.fit_field(recipe, None, field.peaks, fp.Optimum(), folder=tmp_path / "run", bounds_kwargs=BOUNDS)
    config = fp.RunDirectory.open(tmp_path / "run").read_config()
    assert config["priors"] == {"rhalf": {"distribution": "LogNormal", "loc": -2.0, "scale": 0.5}}
    strange = Recipe(field.exposures, field.psfs, priors={"q": Normal(np.full(2, 0.5), 0.1)})
    with pytest.raises(fp.InputError, match=r"priors: q: found .* expected a distribution of single numbers"):
        fp.fit_field(strange, None, field.peaks, fp.Optimum(), folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_psfs(field, tmp_path):
    with pytest.raises(fp.InputError, match="psfs: found none, expected a PSFStore"):
        fp.fit_field(field.exposures, None, field.peaks, fp.Optimum(), folder=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_workers_give_what_one_process_gives(field, tmp_path):
    """To the last bit: each patch has its seed."""
    method = fp.NUTS(draws=20, warmup=40, chains=2)
    runs = [
        fitted(field, tmp_path / str(n), method, bounds_kwargs=BOUNDS, workers=n, seed=3).directory
        for n in (None, 2)
    ]
    for number in (0, 1):
        one, two = (run.read_patch(number) for run in runs)
        assert one.draws.sizes["draw"] == 20
        assert one.draws.equals(two.draws)
        np.testing.assert_array_equal(one.mass_matrix, two.mass_matrix)
