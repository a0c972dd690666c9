"""Models that are filled up with sources without light."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table
from jax.flatten_util import ravel_pytree
from numpyro.distributions import LogNormal

from fphojax.core.model import clip_to_support
from fphojax.core.padding import padded_model, padded_values, real_values
from fphojax.inference.search import search


@pytest.fixture(scope="module")
def scene(make_patcher):
    patcher, catalog = make_patcher(n_source=3, side=24)
    ties, profiles = {"x": {1: 0}, "y": {1: 0}}, ["sersic", "exponential", "sersic"]
    return patcher.prepare_model(
        active=catalog.replace(extra=Table({"profile": profiles})), ties=ties, listed=False
    )


def test_a_filled_up_model_has_the_same_image(scene):
    model, start = scene
    padded = padded_model(model)
    assert padded.optics.n_source == 4
    images = eqx.filter_jit(lambda model, values: model.images(values))
    values = padded_values(start, padded)
    expected = images(model, start)
    np.testing.assert_allclose(images(padded, values)[: len(expected)], expected, atol=1e-4)
    for name, value in real_values(values, 3).items():
        np.testing.assert_array_equal(value, start[name])


def test_what_fills_up_stays_where_it_is(scene):
    model, start = scene
    padded = padded_model(model)
    inside = padded_values(clip_to_support(start, model.priors), padded)
    optimum = search(padded, inside, np.asarray(False), np.asarray(5), np.asarray(1e-4))
    padded_start = padded.unconstrain(inside)
    flat, unravel = ravel_pytree(padded_start)
    point, information = unravel(optimum.point), unravel(jnp.diag(optimum.system.fisher) + 0 * flat)
    for name, value in padded_start.items():
        np.testing.assert_allclose(point[name][3], value[3], rtol=1e-6, err_msg=name)
        assert not information[name][3].any()
    assert np.abs(optimum.point - flat).max() > 1e-3


def test_models_with_other_priors_keep_their_sources(scene):
    model, _ = scene
    priors = model.priors | {"rhalf": LogNormal(-1.6, 0.6).expand((3,))}
    changed = dataclasses.replace(model, priors=priors)
    assert padded_model(changed).optics.n_source == 3
