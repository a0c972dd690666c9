"""Importance sampling on scenes whose posterior is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Uniform

from fphojax import Nuisance
from fphojax.inference import importance as module
from fphojax.inference.coordinates import Coordinates
from fphojax.inference.importance import importance, importance_many
from fphojax.inference.methods import Importance
from fphojax.inference.posterior import Posterior
from fphojax.inference.sampling import continued


@pytest.fixture(scope="module")
def fast(bright_scene):
    return importance(*bright_scene, draws=500, chains=2, seed=5)


@pytest.fixture(scope="module")
def cut_off(bright_scene):
    """The scene with a box of fluxes that ends where the data put the first flux; the result, and that edge."""
    model, start = bright_scene
    edge = float(importance(model, start, draws=200, chains=2).values["flux"][..., 0, 0].mean())
    upper = np.array([[edge, 1e5]])
    inside = start | {"flux": np.minimum(start["flux"], 0.99 * upper)}
    boxed = dataclasses.replace(model, priors={**model.priors, "flux": Uniform(0.0, upper)})
    return importance(boxed, inside, draws=1000, chains=2, seed=1), edge


def test_posterior_is_that_of_chains(chains, fast):
    assert fast.fluxes == chains.fluxes == "integrated"
    for name, values in fast.values.items():
        ours, theirs = (found.reshape(-1, *found.shape[2:]) for found in (values, chains.values[name]))
        shift = (ours.mean(axis=0) - theirs.mean(axis=0)) / theirs.std(axis=0)
        ratio = ours.std(axis=0) / theirs.std(axis=0)
        print(f"{name}: shift {np.ravel(shift).round(2)} sd, sd ratio {np.ravel(ratio).round(2)}")
        assert (np.abs(shift) < 0.25).all()
        assert ((ratio > 0.8) & (ratio < 1.25)).all()


def test_draws_say_what_they_are_worth(fast):
    told = {name: fast.statistics[name] for name in ("trusted", "pareto_k", "effective_size", "efficiency")}
    assert all(values.shape == (2, 500) and len(np.unique(values)) == 1 for values in told.values())
    trusted, k_hat, effective, efficiency = (values[0, 0] for values in told.values())
    assert trusted
    assert k_hat < 0.7
    assert 500 <= effective <= 1000
    assert 0.5 < efficiency < 1
    n_point = fast.n_calls - fast.optimum.n_step
    assert n_point % module.BATCH == 0
    assert effective == pytest.approx(efficiency * n_point)


def test_draws_are_full_ones(bright_scene, fast):
    """Those of one point differ in what is drawn apart from it, and their density is that of the model."""
    model, _ = bright_scene
    assert fast.values["flux"].shape == (2, 500, 1, 2)
    assert len(np.unique(fast.values["flux"][..., 0, 0])) == 1000
    assert len(np.unique(fast.values["x"])) < 1000
    values = {name: value[1, -1] for name, value in fast.values.items()}
    expected = model.log_likelihood(values) + model.log_prior(values)
    np.testing.assert_allclose(fast.statistics["lp"][1, -1], expected, rtol=1e-6)


def test_same_seed_same_draws(bright_scene, fast):
    again, other = (importance(*bright_scene, draws=500, chains=2, seed=seed) for seed in (5, 6))
    for name, values in fast.values.items():
        np.testing.assert_array_equal(again.values[name], values)
    assert not np.isin(other.values["flux"], fast.values["flux"]).any()


def test_a_flux_at_the_edge_of_its_box_has_half_a_normal(fast, cut_off):
    """Integrated out over all values, and weighted by the share inside the box."""
    found, edge = cut_off
    assert found.fluxes == "integrated"
    assert found.statistics["trusted"].all()
    first, second = (found.values["flux"][..., 0, band] for band in (0, 1))
    assert (first <= edge).all()
    sd = fast.values["flux"][..., 0, 0].std()
    assert (edge - first.mean()) / sd == pytest.approx(np.sqrt(2 / np.pi), abs=0.15)
    assert first.std() / sd == pytest.approx(np.sqrt(1 - 2 / np.pi), abs=0.08)
    assert second.std() > 0.5 * fast.values["flux"][..., 0, 1].std()


def test_repetitions_are_numbered():
    assert module._repetition(np.array([3, 1, 3, 0, 3, 1])).tolist() == [0, 0, 1, 0, 2, 1]


@pytest.mark.slow
def test_many_scenes_together_have_the_draws_of_each(bright_scene, fast):
    model, start = bright_scene
    _, together = importance_many([model, model], [start, start], seeds=[4, 5], draws=500, chains=2)
    assert together.n_calls == fast.n_calls
    for name, values in fast.values.items():
        np.testing.assert_allclose(together.values[name], values, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("many", [False, True])
def test_an_interruption_ends_it(bright_scene, monkeypatch, many):
    model, start = bright_scene

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "evaluated", interrupted)
    scenes = [[model] * (1 + many), [start] * (1 + many)]
    with pytest.raises(KeyboardInterrupt):
        Importance().fit(*scenes, seeds=[0, 1])


def test_there_is_no_going_on(fast):
    with pytest.raises(ValueError, match="importance"):
        continued(fast)


def test_coordinates_belong_to_sources(make_patcher):
    """Those of two galaxies alternate; those of exposures are a block of their own."""
    patcher, catalog = make_patcher(n_source=2)
    model, start = patcher.prepare_model(active=catalog, nuisance=Nuisance(shift_sigma=0.01))
    coordinates = Coordinates.of(model, list(model.priors))
    template = jax.tree.map(jnp.asarray, coordinates.of_values(start))
    active = jnp.asarray(np.concatenate([np.ravel(coordinates.active[name]) for name in sorted(template)]))
    posterior = Posterior(model, coordinates, None, template, active, jnp.asarray(2))
    sources = module._sources(posterior)
    numbers = posterior.expanded(np.arange(len(sources)))
    place = jax.tree.map(lambda number: np.asarray(number).astype(int), posterior.unravel(numbers))
    expected = {"flux": [0, 0, 1, 1], "shape": [[0, 0], [1, 1]], "shift": [2, 2, 2, 2], "x": [0, 1]}
    for name, owner in expected.items():
        assert sources[place[name]].tolist() == owner
    np.testing.assert_array_equal(module._pairs(posterior), place["shape"])
