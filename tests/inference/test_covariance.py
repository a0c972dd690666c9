"""Covariances at an optimum, those at an edge among them."""

import dataclasses
from itertools import product

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Uniform

from fphojax.core.model import PARAMETERS, SceneModel
from fphojax.inference.covariance import parameter_covariance, places, source_covariances
from fphojax.inference.optimum import optimize

SHAPES = PARAMETERS[1:]
fisher_at = eqx.filter_jit(SceneModel.fisher)
images = eqx.filter_jit(SceneModel.images)


@pytest.fixture(scope="module")
def tied(make_patcher):
    """Two sources at one place, and the first of them alone."""
    patcher, catalog = make_patcher(n_source=2)
    ties = {"x": {1: 0}, "y": {1: 0}}
    model, start = patcher.prepare_model(active=catalog, ties=ties, listed=False)
    return model, optimize(model, start)


def test_a_tied_parameter_has_the_covariances_of_the_other(tied):
    model, optimum = tied
    covariance = parameter_covariance(model, optimum)
    place = places(optimum.values)
    for name in ("x", "y"):
        first, second = place[name]
        np.testing.assert_array_equal(covariance[first], covariance[second])
        assert 0 < covariance[first, first] < 0.1**2  # arcsec
    n_band = optimum.values["flux"].shape[1]
    positions = source_covariances(covariance, optimum.values)[:, n_band : n_band + 2, n_band : n_band + 2]
    np.testing.assert_array_equal(positions[0], positions[1])
    assert (np.linalg.eigvalsh(covariance) > -1e-9 * np.diag(covariance).max()).all()


def test_places_are_those_of_the_vector():
    values = {"y": np.zeros(2), "flux": np.zeros((2, 3)), "x": np.zeros(2)}
    found = places(values)
    assert found["flux"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["x"].tolist(), found["y"].tolist()) == ([6, 7], [8, 9])


def point_precision(model, values):
    """J^T W J (S, B) of the fluxes of point sources at the places of the sources, all else known."""
    n_source, n_band = np.shape(values["flux"])
    points = {**values, "rhalf": np.full(n_source, 1e-4), "q": np.full(n_source, 1.0)}
    points = {name: jnp.asarray(value, float) for name, value in points.items()}
    points["flux"] = jnp.full((n_source, n_band), 1e6)  # so that no pixel is left out as too faint
    free = dataclasses.replace(model, tied={}, held={})
    return np.diag(np.asarray(fisher_at(free, points)))[places(values)["flux"]]


def flux_errors(model, optimum):
    covariance = source_covariances(parameter_covariance(model, optimum), optimum.values)
    n_band = optimum.values["flux"].shape[1]
    return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)[:, :n_band])


def boxed(model, **limits):
    """The model with other boxes of some parameters."""
    priors = {
        name: Uniform(
            *(jnp.broadcast_to(jnp.asarray(side, float), model.priors[name].batch_shape) for side in pair)
        )
        for name, pair in limits.items()
    }
    return dataclasses.replace(model, priors=model.priors | priors)


EDGES = {
    "inside": {},
    "fluxes at the upper edge": {"flux": (-100.0, 60.0)},
    "fluxes at the lower edge": {"flux": (900.0, 5000.0)},
    "fluxes in a box narrower than their errors": {"flux": (600.0, 601.0)},
    "round": {"q": (0.9, 1.0)},
    "rhalf at the lower edge": {"rhalf": (0.3, 0.9)},
    "rhalf at the upper edge": {"rhalf": (0.003, 0.05)},
    "index and position at an edge": {"sersic": (4.0, 5.0), "x": (-0.01, 0.01)},
}


@pytest.fixture(scope="module")
def random_optima(make_patcher):
    """Optima of random scenes, their parameters free and tied, at each of the edges: (what, model, optimum).

    The second source lies at the corner of one image and beyond that of the other.
    """
    made = []
    for seed, (ties, (what, limits)) in enumerate(product(({}, {"flux": {1: 0}}), EDGES.items())):
        patcher, catalog = make_patcher(n_source=2, seed=40 + seed, dtype=np.float64)
        rng = np.random.default_rng(seed)
        away = np.array([0.0, rng.uniform(0.55, 0.75)]) / 3600
        catalog = catalog.replace(
            ra=catalog.ra + away, dec=catalog.dec + away, rhalf=catalog.rhalf * rng.choice([0.35, 1.0], 2)
        )
        model, truth = patcher.prepare_model(active=catalog, ties=ties, listed=False)
        image = images(model, {name: jnp.asarray(value) for name, value in truth.items()})
        data = model.patch.data + image * (model.patch.ierr > 0)
        boxes = dict(limits)
        if "x" in boxes:
            boxes["x"] = tuple(truth["x"] + 0.05 + side for side in boxes["x"])
        model = boxed(eqx.tree_at(lambda m: m.patch.data, model, data), **boxes)
        made.append((what, model, optimize(model, truth)))
    return made


def test_no_flux_error_is_below_half_of_that_of_a_point_source(random_optima):
    """The law: in the same pixels, at the same place, all else known; fluxes that are one flux count together.

    Where a source lies off the pixels, which its wings alone reach, that of its own known profile may be less.
    """
    for what, model, optimum in random_optima:
        source = np.asarray(model.tied.get("flux", [0, 1]))
        point = point_precision(model, optimum.values)
        together = np.stack([point[source == row].sum(axis=0) for row in source])
        own = np.diag(optimum.fisher)[places(optimum.values)["flux"]][source]
        ratio = flux_errors(model, optimum) * np.sqrt(np.maximum(together, own))
        assert (ratio > 0.5).all(), f"{what}: {ratio}"
    at_edge = [any(flags.any() for flags in optimum.at_bound.values()) for _, _, optimum in random_optima]
    assert sum(at_edge) >= 12


def test_where_in_its_box_a_parameter_lies_is_of_no_account(random_optima):
    _, model, optimum = random_optima[0]
    place, n_free = places(optimum.values), optimum.fisher.shape[0]
    width = {name: np.full(np.shape(optimum.values[name]), 0.4) for name in (*SHAPES, "flux")}
    width["flux"] *= 1000
    found = []
    for part in (0.0, 0.5, 1.0):
        low = {name: optimum.values[name] - part * width[name] for name in width}
        box = {name: (low[name], low[name] + width[name]) for name in width}
        found.append(parameter_covariance(boxed(model, **box), optimum))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    np.testing.assert_allclose(found[2], found[1], rtol=1e-9)
    assert found[0].shape == (n_free, n_free)
    blind = dataclasses.replace(
        optimum, fisher=np.zeros_like(optimum.fisher)
    )  # what is open is as the prior is
    variance = np.diag(parameter_covariance(boxed(model, **box), blind))
    for name in width:
        np.testing.assert_allclose(variance[place[name]], width[name] ** 2 / 12, rtol=1e-9)
