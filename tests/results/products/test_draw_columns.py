"""Columns of the catalogue against numpy and arithmetic on the draws."""

import numpy as np
import pytest

from fphojax.results.products.draw_columns import DrawColumns
from fphojax.results.products.multipatch import parameter_names
from fphojax.results.products.photometry import effective_brightness, kron_radius

BANDS = ("g", "r", "z")
PARAMETERS = tuple(parameter_names(BANDS))
PLACE = {name: p for p, name in enumerate(PARAMETERS)}
CENTRES = {"g": 100.0, "r": 200.0, "z": 150.0, "q": 0.6, "sersic": 2.0, "rhalf": 0.5}


@pytest.fixture
def draws():
    """Two sources, four chains of 100 draws; sersic is held."""
    rng = np.random.default_rng(0)
    made = rng.normal(size=(2, len(PARAMETERS), 4, 100)) * 0.02
    for name, centre in CENTRES.items():
        made[:, PLACE[name]] = centre * (1 + made[:, PLACE[name]])
    made[:, PLACE["sersic"]] = 2.0
    return made


def columns(draws, isophote=25.0):
    found = DrawColumns(BANDS, PARAMETERS, isophote)(draws)
    return {str(name): values for name, values in found.items()}


def percentiles(values):
    return np.quantile(values.reshape(2, -1), [0.16, 0.5, 0.84], axis=1)


def test_percentiles_and_moments(draws):
    found = columns(draws)
    for name in PARAMETERS:
        values = draws[:, PLACE[name]]
        low, middle, high = percentiles(values)
        np.testing.assert_allclose(found[name], middle)
        np.testing.assert_allclose(found[f"{name}_16"], low)
        np.testing.assert_allclose(found[f"{name}_84"], high)
        np.testing.assert_allclose(found[f"{name}_mean"], values.mean(axis=(1, 2)))
        error = f"{name}_err" if name in BANDS else f"{name}_std"
        np.testing.assert_allclose(found[error], values.std(axis=(1, 2)))


def test_held_parameter_counts_for_no_convergence(draws):
    found = columns(draws)
    assert np.isnan(found["sersic_ess_bulk"]).all()
    assert np.isnan(found["sersic_rhat"]).all()
    free = [name for name in PARAMETERS if name != "sersic"]
    smallest = np.min([found[f"{name}_ess_{kind}"] for name in free for kind in ("bulk", "tail")], axis=0)
    np.testing.assert_allclose(found["ess_min"], smallest)
    np.testing.assert_allclose(found["rhat_max"], np.max([found[f"{name}_rhat"] for name in free], axis=0))
    assert (found["ess_min"] > 100).all()
    assert (found["rhat_max"] < 1.05).all()


def test_held_flux_has_no_error(draws):
    draws[0, PLACE["r"]] = 200.0
    found = columns(draws)
    assert np.isnan(found["r_err"][0])
    assert found["r_err"][1] > 0


def test_magnitudes_and_colours(draws):
    found = columns(draws)
    magnitude = 31.4 - 2.5 * np.log10(draws[:, :3])
    low, middle, high = percentiles(magnitude[:, 0])
    # magnitudes are those of the percentiles of the flux; between draws they are not quite the percentiles
    np.testing.assert_allclose(found["mag_g"], middle, atol=1e-4)
    np.testing.assert_allclose([found["mag_g_16"], found["mag_g_84"]], [low, high], atol=1e-4)
    colour = magnitude[:, :2] - magnitude[:, 1:3]
    np.testing.assert_allclose(
        [found[f"colour_g_r{end}"] for end in ("_16", "", "_84")], percentiles(colour[:, 0])
    )
    np.testing.assert_allclose(found["colour_r_z_std"], colour[:, 1].std(axis=(1, 2)))
    for s in range(2):
        flat = colour[s].reshape(2, -1)
        np.testing.assert_allclose(found["colour_cov_g_r_z"][s], np.cov(flat, bias=True)[0, 1])
        fluxes = np.cov(draws[s, :3].reshape(3, -1), bias=True)
        np.testing.assert_allclose(
            [found[f"cov_{pair}"][s] for pair in ("g_r", "g_z", "r_z")], fluxes[np.triu_indices(3, 1)]
        )


def test_negative_fluxes_have_no_magnitude(draws):
    draws[0, PLACE["g"], 0, 0] = -1.0
    found = columns(draws)
    assert np.isfinite(found["mag_g"]).all()  # its median is positive
    assert np.isnan(found["colour_g_r"][0])  # of every draw
    assert np.isnan(found["mue_g"][0])
    assert np.isfinite(found["colour_r_z"]).all()
    draws[1, PLACE["g"]] *= -1
    assert np.isnan(columns(draws)["mag_g"][1])


def test_radii_and_surface_brightness(draws):
    found = columns(draws)
    q, rhalf = draws[:, PLACE["q"]], draws[:, PLACE["rhalf"]]
    stretch = 1 / np.sqrt(q)
    for name, values in {
        "rhalf_major": rhalf * stretch,
        "r_kron": kron_radius(rhalf, np.full_like(rhalf, 2.0)) * stretch,
        "mue_r": 31.4 - 2.5 * np.log10(effective_brightness(draws[:, PLACE["r"]], rhalf, 0 * rhalf + 2.0)),
    }.items():
        expected = percentiles(values)
        atol = 1e-3 if name == "mue_r" else 0
        np.testing.assert_allclose(
            [found[f"{name}{end}"] for end in ("_16", "", "_84")], expected, rtol=1e-5, atol=atol
        )


def test_isophote_runs_where_the_profile_has_its_brightness(draws):
    draws[:, PLACE["r"]], draws[:, PLACE["q"]], draws[:, PLACE["rhalf"]] = 200.0, 0.25, 0.5
    level = effective_brightness(200.0, 0.5, 2.0)
    found = columns(draws, isophote=31.4 - 2.5 * np.log10(level))
    np.testing.assert_allclose(found["r_iso_r"], 0.5 / np.sqrt(0.25), rtol=1e-4)


def test_point_has_no_surface_brightness(draws):
    draws[0, PLACE["rhalf"]] = 0.0
    found = columns(draws)
    for name in ("mu0_g", "mue_g", "r_iso_g"):
        assert np.isnan(found[name][0])
        assert np.isfinite(found[name][1])
    assert found["rhalf_major"][0] == 0
