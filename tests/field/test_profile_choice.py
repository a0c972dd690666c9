"""The evidence of profiles: against an integral over a grid, and for sources of known kinds."""

import numpy as np
import pytest
from astropy.table import Table

import fphojax as fp
from fphojax import InputError
from fphojax.field.profile_choice import _judged, choose_profiles, chosen_catalog

KINDS = ["point", "exponential", "devaucouleurs", "bulge_disk"]


@pytest.fixture(scope="module")
def recipe_and_catalog():
    """A star, an exponential, a de Vaucouleurs galaxy, and a bulge with a disk."""
    truth = fp.mock_galaxies(
        x=[-2.2, -0.7, 0.7, 2.2, 2.2],
        y=[0, 0.8, -0.8, 0, 0],
        flux={"g": [40.0, 60, 60, 40, 60], "r": [90.0, 60, 80, 90, 60]},
        q=[0.9, 0.5, 0.8, 0.9, 0.5],
        pa=[20.0, 50, 0, 20, 70],
        sersic=[1.0, 1, 4, 4, 1],
        rhalf=[0.0005, 0.12, 0.12, 0.06, 0.2],
    )
    cameras = [fp.MockCamera(band, width=6.0, noise=0.15) for band in ("g", "r")]
    field = fp.mock_field(truth, cameras, seed=1)
    catalog = truth[[0, 1, 2, 4]]
    flux = catalog.flux + np.array([[0, 0]] * 3 + [[40, 90]])
    shape = {"rhalf": np.maximum(catalog.rhalf, 0.02), "sersic": np.full(4, 2.0), "roi": np.full(4, 0.8)}
    catalog = catalog.replace(flux=flux, **shape)
    return fp.Recipe(field.exposures, field.psfs), catalog


@pytest.fixture(scope="module")
def chosen(recipe_and_catalog):
    return choose_profiles(*recipe_and_catalog)


@pytest.mark.slow
def test_profiles_are_those_of_the_sources(chosen):
    chosen.pprint_all()
    assert chosen["profile"].tolist() == KINDS
    assert chosen["p_point"][0] > 0.7
    assert (chosen["p_point"][1:] < 1e-6).all()
    for row in chosen:
        assert row[f"dlnz_{row['profile']}"] == 0
        # what it is not is at least less probable; that it is chosen allows for the margin
        assert all(row[name] < 1 for name in chosen.colnames if name.startswith("dlnz_"))


def test_odds_and_margin_decide_what_the_data_leave_open():
    evidence = {"point": 0.0, "exponential": 0.8, "sersic": 1.5}
    assert _judged(evidence, dict.fromkeys(evidence, 1.0), 0.0)["profile"] == "sersic"
    assert _judged(evidence, dict.fromkeys(evidence, 1.0), 1.0)["profile"] == "exponential"
    assert _judged(evidence, dict.fromkeys(evidence, 1.0), 2.0)["profile"] == "point"
    found = _judged(evidence, {"point": 1.0, "exponential": 100.0, "sersic": 1.0}, 0.0)
    assert found["profile"] == "exponential"
    assert found["dlnz_sersic"] == pytest.approx(0.7)
    expected = 1 / (1 + 100 * np.exp(0.8) + np.exp(1.5))
    assert found["p_point"] == pytest.approx(expected)
    assert np.isnan(
        _judged({"sersic": 0.0, "exponential": 1.0}, {"sersic": 1, "exponential": 1}, 0)["p_point"]
    )


def test_the_choice_goes_into_the_catalogue(recipe_and_catalog):
    _, catalog = recipe_and_catalog
    chosen = Table({"id": ["1", "2", "3", "5"], "profile": KINDS, "p_point": [0.9, 0.1, 0.2, 0.3]})
    made = chosen_catalog(catalog, chosen[[1, 3]])
    assert made["profile"].tolist() == ["sersic", "exponential", "sersic", "bulge_disk"]
    np.testing.assert_array_equal(np.isnan(made["p_point"]), [True, False, True, False])
    assert fp.split_composites(made).id.tolist() == ["1", "2", "3", "5_bulge", "5_disk"]
    again = chosen_catalog(made, chosen[:1])
    assert again["profile"].tolist() == ["point", "exponential", "sersic", "bulge_disk"]


def test_what_means_nothing_is_refused(recipe_and_catalog):
    for options, message in (
        ({"profiles": ["point", "ring"]}, "profiles: found 'ring', expected some of"),
        ({"profiles": ["point"]}, "profiles: found point, expected two different ones or more"),
        ({"odds": {"point": 0.0}}, "odds of point are 0, expected a positive number"),
    ):
        with pytest.raises(InputError, match=message):
            choose_profiles(*recipe_and_catalog, **options)


def test_evidence_of_a_star_is_the_integral_over_its_position_and_flux():
    """By quadrature over the position, where the likelihood is a parabola in the flux."""
    truth = fp.mock_galaxies(
        x=[0.01], y=[0], flux={"g": [40.0]}, q=[0.7], pa=[20.0], sersic=[1.0], rhalf=[0.1]
    )
    field = fp.mock_field(truth, [fp.MockCamera("g", width=1.2).with_snr(truth, 20)], seed=1)
    catalog = truth.replace(extra=Table({"profile": ["point"]}))
    bounds = fp.default_bounds(catalog, pixscale=0.03, n_pix=1)
    method = fp.Importance(draws=1000, chains=2)
    fit = fp.fit_scene(field.exposures, field.psfs, catalog, method, bounds=bounds)
    found = float(fit.posterior["sample_stats"]["log_evidence"][0, 0])

    model, start = fit.scene.model, fit.scene.start
    low, high = (float(edge) for edge in (bounds.lower["flux"][0, 0], bounds.upper["flux"][0, 0]))
    grid, fluxes = np.linspace(-0.03, 0.03, 31), np.array([0.0, 20.0, 40.0])
    middle = {
        name: np.mean([getattr(model.priors[name], edge)[0] for edge in ("low", "high")]) for name in "xy"
    }
    integrals = np.zeros((len(grid), len(grid)))
    import equinox as eqx

    likelihood = eqx.filter_jit(lambda model, values: model.log_likelihood(values))
    for i, x in enumerate(grid):
        for j, y in enumerate(grid):
            at = {**start, "x": np.array([middle["x"] + x]), "y": np.array([middle["y"] + y])}
            values = [float(likelihood(model, at | {"flux": np.array([[flux]])})) for flux in fluxes]
            parabola = np.polyfit(fluxes, values, 2)
            mean, sd = -parabola[1] / (2 * parabola[0]), np.sqrt(-1 / (2 * parabola[0]))
            integrals[i, j] = np.polyval(parabola, mean) + np.log(sd * np.sqrt(2 * np.pi) / (high - low))
    top = integrals.max()
    inner = np.trapezoid(np.trapezoid(np.exp(integrals - top), grid), grid)
    expected = top + np.log(inner) - 2 * np.log(0.06)
    print(f"log evidence {found:.3f}, by quadrature {expected:.3f}")
    assert found == pytest.approx(expected, abs=0.1)
