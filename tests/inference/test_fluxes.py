"""The integral over fluxes and sky, and draws of them."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import LogNormal

from fphojax.inference.fluxes import linear_part
from fphojax.inputs.exposure_nuisance import Nuisance


@pytest.fixture(scope="module")
def scene(make_patcher):
    """Two sources in two bands with a sky, the flux of one tied to nothing; data are the model and noise."""
    patcher, catalog = make_patcher(n_source=2)
    model, start = patcher.prepare_model(active=catalog, nuisance=Nuisance(sky="constant", sky_sigma=0.3))
    start = {name: jnp.asarray(value) for name, value in start.items()}
    image = eqx.filter_jit(model.images)(start)
    data = jnp.where(model.patch.ierr > 0, model.patch.data + image, 0)
    return eqx.tree_at(lambda m: m.patch.data, model, data), start


@pytest.fixture(scope="module")
def integral(scene):
    model, start = scene
    linear = _linear_part(model)
    return eqx.filter_jit(lambda linear, values: linear.integral(linear.equations(model, values)))(
        linear, start
    )


def _linear_part(model):
    return dataclasses.replace(linear_part(model), segments=model.segments())


def test_integral_is_the_posterior_over_the_conditional(scene, integral):
    """p(theta) = p(theta, f) / p(f | theta), whatever f."""
    model, start = scene
    linear = _linear_part(model)
    assert linear.mean.size == 2 * 2 + 2
    joint = eqx.filter_jit(lambda m, v: m.log_likelihood(v) + jnp.sum(m.priors["sky"].log_prob(v["sky"])))
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3):
        vector = np.asarray(integral.mean) + rng.normal(size=6) * 0.5
        values = linear.filled(jax.random.key(0), model, start, jnp.asarray(vector))
        whitened = np.asarray(integral.factor).T @ (vector - np.asarray(integral.mean))
        conditional = np.log(np.diag(integral.factor)).sum() - whitened @ whitened / 2
        found.append(float(joint(model, values)) - conditional)
    np.testing.assert_allclose(np.diff(found), 0, atol=2e-3)
    constant = np.sum(np.log(np.asarray(model.priors["sky"].scale)) + np.log(2 * np.pi) / 2)
    np.testing.assert_allclose(found[0] + constant, integral.log_value, atol=2e-3)


def test_derivative(scene):
    model, start = scene
    linear = _linear_part(model)
    value = eqx.filter_jit(lambda v: linear.integral(linear.equations(model, v)).log_value)
    gradient = eqx.filter_jit(jax.grad(lambda v: linear.log_integral(model, v)))(start)
    for name, step in (("x", 1e-4), ("q", 1e-3), ("pa", 1e-3), ("sersic", 1e-2), ("rhalf", 1e-4)):
        up, down = ({**start, name: start[name].at[1].add(sign * step)} for sign in (1, -1))
        expected = (value(up) - value(down)) / (2 * step)
        np.testing.assert_allclose(gradient[name][1], expected, rtol=2e-2, atol=0.05 / step * 1e-2)


def test_draws_have_the_conditional(scene, integral):
    model, start = scene
    linear = _linear_part(model)
    draw = eqx.filter_jit(jax.vmap(lambda key: linear.draw(key, model, start)))
    flat, outside, chi2 = draw(jax.random.split(jax.random.key(1), 300))
    whitened = (flat - np.asarray(integral.mean)) @ np.asarray(integral.factor)
    assert np.abs(whitened.mean(axis=0)).max() < 4 / np.sqrt(300)
    assert np.abs(np.cov(whitened.T) - np.eye(6)).max() < 5 / np.sqrt(300)
    assert not outside.any()
    one = linear.filled(jax.random.key(2), model, start, flat[7])
    np.testing.assert_allclose(chi2[7], jnp.sum(eqx.filter_jit(model.chi2)(one)), rtol=1e-6)


def test_priors_that_do_not_allow_it(scene):
    model, _ = scene
    other = {**model.priors, "flux": LogNormal(jnp.zeros((2, 2)), 1.0)}
    assert (
        linear_part(eqx.tree_at(lambda m: m.priors, model, other, is_leaf=lambda x: x is model.priors))
        is None
    )
