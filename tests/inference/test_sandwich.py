"""Draws with the spread of the measured noise: against the formula, in their boxes, and unchanged without it."""

import dataclasses

import numpy as np
import pytest

from fphojax.inference.coordinates import Coordinates
from fphojax.inference.covariance import parameter_covariance, places
from fphojax.inference.laplace import laplace
from fphojax.inference.sandwich import sandwich_map, with_noise


@pytest.fixture(scope="module")
def draws(bright_scene):
    return laplace(*bright_scene, draws=1000, chains=2, seed=5)


def flattened(chains):
    """All parameters of all draws but the position angle's half turns, (draw, N)."""
    values = {
        name: value.reshape(chains.n_chain * chains.n_draw, -1) for name, value in chains.values.items()
    }
    values["pa"] = np.mod(values["pa"] - chains.optimum.values["pa"] + np.pi / 2, np.pi)
    return np.concatenate([values[name] for name in sorted(values)], axis=1)


def gradient_noise(fisher, seed=3):
    """A covariance of the gradient that is between one and nine times the Fisher matrix, in other directions."""
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(fisher)
    axes = np.linalg.qr(rng.normal(size=fisher.shape))[0]
    return root @ (axes * rng.uniform(1, 9, len(axes))) @ axes.T @ root.T


def test_covariance_is_the_sandwich(draws):
    noise = gradient_noise(draws.optimum.fisher)
    mapped = with_noise(dataclasses.replace(draws, noise=noise))
    before, after = (np.cov(flattened(chains).T) for chains in (draws, mapped))
    bread = parameter_covariance(draws.model, draws.optimum)
    expected = parameter_covariance(draws.model, draws.optimum, noise)
    ratio = np.sqrt(np.diag(after) / np.diag(before))
    promised = np.sqrt(np.diag(expected) / np.diag(bread))
    print("\nratio of sd", ratio.round(3), "expected", promised.round(3))
    np.testing.assert_allclose(ratio, promised, rtol=0.05)
    scale = np.sqrt(np.diag(after))
    found, stated = after / np.outer(scale, scale), expected / np.sqrt(np.outer(*[np.diag(expected)] * 2))
    np.testing.assert_allclose(found, stated, atol=0.1)
    shift = (flattened(mapped) - flattened(draws)).mean(axis=0) / np.sqrt(np.diag(before))
    assert np.abs(shift).max() < 0.1


def test_noise_as_stated_changes_nothing(draws):
    mapped = with_noise(dataclasses.replace(draws, noise=draws.optimum.fisher))
    for name, value in draws.values.items():
        np.testing.assert_allclose(mapped.values[name], value, rtol=1e-5, atol=1e-7)


def test_every_draw_stays_in_its_box(draws):
    mapped = with_noise(dataclasses.replace(draws, noise=400 * draws.optimum.fisher))
    spread = mapped.values["flux"].std(axis=(0, 1)) / draws.values["flux"].std(axis=(0, 1))
    assert (spread > 5).all()
    for name, value in mapped.values.items():
        prior = draws.model.priors[name]
        assert (value >= np.asarray(prior.low)).all()
        assert (value <= np.asarray(prior.high)).all()


def test_map_of_matrices():
    rng = np.random.default_rng(2)
    h, j = (part @ part.T for part in rng.normal(size=(2, 5, 7)) * np.array([1, 1e3, 1e-3, 1, 10])[:, None])
    change, bread = sandwich_map(h, j), np.linalg.inv(h)
    np.testing.assert_allclose(change @ bread @ change.T, bread @ j @ bread, rtol=1e-4)
    np.testing.assert_allclose(sandwich_map(h, h), np.eye(5), atol=1e-4)


def test_optimum_and_what_is_held(draws):
    """A covariance k times as large where the noise is, and no variance for what is held."""
    model, optimum = draws.model, draws.optimum
    wide = parameter_covariance(model, optimum, 4 * optimum.fisher)
    narrow = parameter_covariance(model, optimum)
    flux = places(optimum.values)["flux"].ravel()
    np.testing.assert_allclose(np.sqrt(np.diag(wide / narrow))[flux], 2, rtol=0.02)
    held = dataclasses.replace(model, held={"x": optimum.values["x"]})
    assert not parameter_covariance(held, optimum, 4 * optimum.fisher)[places(optimum.values)["x"]].any()


def test_many_draws_have_the_coordinates_of_each(draws):
    coordinates = Coordinates.of(draws.model, list(draws.model.priors))
    values = {name: value[0, :20] for name, value in draws.values.items()}
    together = coordinates.of_values(values)
    for number in range(20):
        alone = coordinates.of_values({name: value[number] for name, value in values.items()})
        assert set(alone) == set(together)
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][number], value, rtol=1e-12)
