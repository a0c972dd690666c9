"""The sampler on a scene whose posterior is known."""

import threading

import arviz
import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference import sample as module
from fphojax.inference.sample import sample


@pytest.fixture(scope="module")
def scene(make_patcher):
    """One bright source, so that the posterior is nearly the Gaussian of the Fisher matrix."""
    patcher, catalog = make_patcher(n_source=1)
    model, truth = patcher.prepare_model(active=catalog)
    image = eqx.filter_jit(model.images)({name: jnp.asarray(v) for name, v in truth.items()})
    data = jnp.where(model.patch.ierr > 0, model.patch.data + 20 * image, 0)
    priors = {**model.priors, "flux": type(model.priors["flux"])(0.0, 1e5 * jnp.ones((1, 2)))}
    bright = eqx.tree_at(lambda m: (m.patch.data, m.priors), model, (data, priors))
    return bright, {**truth, "flux": 20 * truth["flux"]}


@pytest.fixture(scope="module")
def chains(scene):
    return sample(*scene, draws=200, warmup=100, chains=2, seed=3, progress=False)


def test_posterior_is_the_fisher_matrix_where_it_is_gaussian(chains, capsys):
    fisher = np.linalg.inv(chains.optimum.fisher)
    names = [name for name in sorted(chains.values) for _ in range(chains.values[name][0, 0].size)]
    sd = np.concatenate([chains.values[name].std(axis=(0, 1)).ravel() for name in sorted(chains.values)])
    ratio = dict(zip(names, sd / np.sqrt(np.diag(fisher)), strict=True))
    with capsys.disabled():
        print("\nposterior sd over Fisher sd: " + ", ".join(f"{k} {v:.2f}" for k, v in ratio.items()))
    assert all(0.8 < value < 1.25 for value in ratio.values())


def test_chains_mix(chains):
    assert chains.values["flux"].shape == (2, 200, 1, 2)
    assert not chains.statistics["diverging"].any()
    for values in chains.values.values():
        assert (np.asarray(arviz.rhat(np.ascontiguousarray(values.reshape(2, 200, -1)[..., 0]))) < 1.03).all()
    steps = chains.statistics["n_steps"]
    assert (2 ** chains.statistics["tree_depth"] > steps).all()
    assert chains.n_calls > steps.sum()


def test_log_posterior_is_that_of_the_model(scene, chains):
    model, _ = scene
    values = {name: jnp.asarray(value[1, -1]) for name, value in chains.values.items()}
    expected = model.log_likelihood(values) + model.log_prior(values)
    np.testing.assert_allclose(chains.statistics["lp"][1, -1], expected, rtol=1e-6)


def test_same_seed_same_draws(scene, chains):
    again = sample(*scene, draws=200, warmup=100, chains=2, seed=3, progress=False)
    other = sample(*scene, draws=200, warmup=100, chains=2, seed=4, progress=False)
    np.testing.assert_array_equal(again.values["flux"], chains.values["flux"])
    assert (other.values["flux"] != chains.values["flux"]).all()


def test_interruption_keeps_what_is_done(scene, monkeypatch):
    original, calls, lock = module._advance, [], threading.Lock()

    def interrupted(*args):
        with lock:
            calls.append(1)
            if len(calls) == 12:
                raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(module, "_advance", interrupted)
    found = sample(*scene, draws=2000, warmup=60, chains=1, seed=3, progress=False)
    assert found.n_draw == 11 * module.CHUNK - 60
    # of more chains than processors those that had not begun are left out
    calls[:] = []
    several = sample(*scene, draws=2000, warmup=60, chains=9, seed=3, progress=False)
    assert 1 <= several.n_chain < 9
    calls[:] = [1] * 10
    with pytest.raises(KeyboardInterrupt, match="no draws to keep"):
        sample(*scene, draws=2000, warmup=60, chains=1, seed=3, progress=False)
