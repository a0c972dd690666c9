"""Draws of correlated normal numbers inside a box, and the probability of the box."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fphojax.inference.box_draws import drawn_inside
from fphojax.inference.fluxes import Integral

MEAN = np.array([1.0, -2.0, 0.5])
LOW, HIGH = np.array([1.5, -np.inf, 0.0]), np.array([np.inf, -2.5, 40.0])
INDEPENDENT = np.diag([4.0, 1.0, 0.25])
CORRELATED = INDEPENDENT + np.array([[0, 1.2, 0], [1.2, 0, -0.3], [0, -0.3, 0]])
TRIES = 16


@jax.jit
def found(key, precision, low=LOW, high=HIGH):
    integral = Integral(jnp.zeros(()), jnp.asarray(MEAN), jnp.linalg.cholesky(jnp.asarray(precision)))
    normal, (first, second) = jax.random.normal(key, (4, 3)), jax.random.split(key)
    uniform, offset = jax.random.uniform(first, (3, TRIES)), jax.random.uniform(second)
    edges = jnp.asarray(low), jnp.asarray(high)
    log_share, draws, outside = drawn_inside(uniform, offset, normal, integral, *edges)
    return jnp.exp(log_share), draws, outside


@pytest.fixture(scope="module")
def many():
    """Shares of 20,000 estimates, and draws from each, correlated."""
    keys = jax.random.split(jax.random.key(1), 20000)
    return jax.vmap(lambda key: found(key, CORRELATED))(keys)


@pytest.fixture(scope="module")
def inside():
    """Draws inside by rejection, and their share."""
    draws = np.random.default_rng(0).multivariate_normal(MEAN, np.linalg.inv(CORRELATED), 1_000_000)
    kept = ((draws > LOW) & (draws < HIGH)).all(axis=1)
    return draws[kept], kept


def test_the_probability_of_independent_numbers_is_exact():
    """Also far out."""
    sd, low = 1 / np.sqrt(np.diag(INDEPENDENT)), np.array([4.0, -np.inf, 0.0])
    expected = np.prod(stats.norm.cdf((HIGH - MEAN) / sd) - stats.norm.cdf((low - MEAN) / sd))
    assert found(jax.random.key(0), INDEPENDENT, low)[0] == pytest.approx(expected, rel=1e-9)


def test_the_probability_of_correlated_numbers_is_right_in_the_mean(many, inside):
    share, kept = np.asarray(many[0]), inside[1]
    error = np.hypot(share.std() / np.sqrt(len(share)), kept.std() / np.sqrt(len(kept)))
    assert share.mean() == pytest.approx(kept.mean(), abs=4 * error)


def test_draws_are_those_inside(many, inside):
    """The first of each point, weighted by its estimate of the probability, as importance sampling does it."""
    share, draws = np.asarray(many[0]), np.asarray(many[1])
    assert ((draws >= LOW) & (draws <= HIGH)).all()
    weight, draws, expected = share / share.sum(), draws[:, 0], inside[0]
    mean = weight @ draws
    sd = np.sqrt(weight @ (draws - mean) ** 2)
    shift = (mean - expected.mean(axis=0)) / expected.std(axis=0)
    print(f"shift {shift.round(3)} sd, ratio of sd {(sd / expected.std(axis=0)).round(3)}")
    np.testing.assert_allclose(shift, 0, atol=0.03)
    np.testing.assert_allclose(sd, expected.std(axis=0), rtol=0.03)


def test_draws_of_a_wide_box_are_those_of_the_normal():
    share, draws, outside = found(jax.random.key(3), CORRELATED, np.full(3, -np.inf), np.full(3, np.inf))
    assert share == pytest.approx(1)
    assert not outside.any()
    whitened = (np.asarray(draws) - MEAN) @ np.linalg.cholesky(CORRELATED)
    np.testing.assert_allclose(whitened, jax.random.normal(jax.random.key(3), (4, 3)), atol=1e-12)
