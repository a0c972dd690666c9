"""Methods are values, of one kind of result."""

import dataclasses

import numpy as np
import pytest

from fphojax.inference.covariance import best_fit_as_chains
from fphojax.inference.importance import importance
from fphojax.inference.methods import NUTS, Auto, Importance, Laplace, Optimum
from fphojax.inference.optimum import optimize


def test_methods_are_values():
    assert NUTS(draws=10) == NUTS(draws=10) != NUTS(draws=11)
    with pytest.raises(dataclasses.FrozenInstanceError):
        NUTS().draws = 3
    assert "draws=10" in repr(Laplace(draws=10))


def test_each_gives_chains_of_its_model(bright_scene):
    model, start = bright_scene
    for method, name, size in (
        (Optimum(), "optimum", (1, 1)),
        (Optimum(forced=True), "forced", (1, 1)),
        (Laplace(draws=20, chains=2), "laplace", (2, 20)),
        (Importance(draws=20, chains=2), "importance", (2, 20)),
        (Auto(draws=20, warmup=20, chains=2), "importance", (2, 20)),
        (NUTS(draws=10, warmup=20, chains=2), "nuts", (2, 10)),
    ):
        (chains,) = method.fit([model], [start], seeds=[3])
        assert chains.method == name
        assert (chains.n_chain, chains.n_draw) == size
        assert chains.is_point == (size == (1, 1))
        assert chains.model.optics.pixel is model.optics.pixel
        assert chains.seed == 3


def test_a_refused_scene_is_sampled_as_nuts_alone_does(bright_scene, monkeypatch):
    """Here the first of two; the second keeps its weighted draws."""
    model, start = bright_scene
    found = [importance(model, start, draws=10, chains=2, seed=seed) for seed in (3, 4)]
    refused = found[0].statistics | {"trusted": np.zeros((2, 10), dtype=bool)}
    found[0] = dataclasses.replace(found[0], statistics=refused)
    monkeypatch.setattr(Importance, "fit", lambda self, models, starts, **options: list(found))
    options = {"draws": 10, "warmup": 20, "chains": 2}
    first, second = Auto(**options).fit([model, model], [start, start], seeds=[3, 4])
    (expected,) = NUTS(**options).fit([model], [start], seeds=[3])
    assert (first.method, second.method) == ("nuts", "importance")
    for name, values in expected.values.items():
        np.testing.assert_array_equal(first.values[name], values)
    assert first.n_calls == expected.n_calls + found[0].n_calls
    assert first.wall_time > found[0].wall_time
    assert second is found[1]


def test_an_optimum_is_that_of_optimize(bright_scene):
    model, start = bright_scene
    (chains,) = Optimum().fit([model], [start], seeds=[0])
    expected = best_fit_as_chains(model, optimize(model, start))
    for name, value in expected.values.items():
        np.testing.assert_array_equal(chains.values[name], value)


def test_forced_photometry_holds_positions_and_shapes(bright_scene):
    model, start = bright_scene
    moved = start | {"rhalf": np.asarray(start["rhalf"]) * 1.1}
    (chains,) = Optimum(forced=True).fit([model], [moved], seeds=[0])
    for name in ("x", "y", "q", "sersic", "rhalf"):
        np.testing.assert_allclose(chains.values[name][0, 0], moved[name], rtol=1e-12)
    assert not np.allclose(chains.values["flux"][0, 0], moved["flux"], rtol=1e-6)


def test_only_sources_that_were_never_fitted_start_at_draws_from_the_prior(bright_scene):
    model, start = bright_scene
    known = np.eye(8)[None]
    method = Optimum(from_prior=True)
    same = method._draw_start(model, start, known, 5)
    for name, value in start.items():
        np.testing.assert_array_equal(same[name], value)
    drawn = method._draw_start(model, start, np.full((1, 8, 8), np.nan), 5)
    assert all((np.asarray(drawn[name]) != np.asarray(start[name])).all() for name in ("rhalf", "q", "x"))
