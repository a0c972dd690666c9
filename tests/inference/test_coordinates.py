"""Coordinates of chains: the way there and back, and their density."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table
from jax.flatten_util import ravel_pytree
from numpyro.distributions import HalfNormal, LogUniform, Uniform

from fphojax.inference.coordinates import Coordinates, TruncatedNormals

NAMES = ("x", "y", "q", "pa", "sersic", "rhalf")


@pytest.fixture(scope="module")
def model(make_patcher):
    """Four sources: one held to be a point, one tied to another in size."""
    patcher, catalog = make_patcher(n_source=4)
    priors = {"sersic": HalfNormal(3.0), "rhalf": LogUniform(0.01, 3.0)}
    return patcher.prepare_model(
        active=catalog.replace(extra=Table({"profile": ["sersic"] * 3 + ["point"]})),
        priors=priors,
        ties={"rhalf": {1: 0}},
    )


def test_there_and_back(model):
    model, start = model
    widths = {name: np.full(np.shape(start[name]), 0.02) for name in NAMES}
    for vector, known in ((True, ()), (False, ()), (True, (start, widths))):
        coordinates = Coordinates.of(model, NAMES, *known, ellipticity=vector)
        point = coordinates.of_values(start)
        back = coordinates.values({name: jnp.asarray(value) for name, value in point.items()})
        drawn = model.effective({name: jnp.asarray(value) for name, value in start.items()})
        for name in NAMES:
            apart = np.asarray(back[name] - drawn[name])
            apart = (apart + np.pi / 2) % np.pi - np.pi / 2 if name == "pa" else apart
            np.testing.assert_allclose(apart, 0, atol=1e-9)
        # x, y of four sources, the shapes and indices of three, two sizes of their own
        assert sum(np.count_nonzero(mask) for mask in coordinates.active.values()) == 4 + 4 + 3 * 3 + 2


@pytest.mark.parametrize("vector", [True, False])
def test_density_is_the_prior_times_the_jacobian(model, vector):
    model, start = model
    coordinates = Coordinates.of(model, NAMES, ellipticity=vector)
    whole, unravel = ravel_pytree(jax.tree.map(jnp.asarray, coordinates.of_values(start)))
    active = np.asarray(ravel_pytree(coordinates.active)[0])
    flat = np.asarray(whole)[active]

    def expanded(u):
        return unravel(whole.at[np.flatnonzero(active)].set(u))

    free = {name: np.arange(4) for name in ("x", "y")} | {n: np.arange(3) for n in ("q", "pa", "sersic")}
    free["rhalf"] = np.array([0, 2])

    def values_of(u):
        values = coordinates.values(expanded(u))
        return jnp.concatenate([values[name][index] for name, index in free.items()])

    slope = jax.jit(jax.jacfwd(values_of))
    density = jax.jit(lambda u: coordinates.log_density(expanded(u)))
    prior_of = jax.jit(
        lambda values: sum(jnp.sum(model.priors[name].log_prob(values[name])[i]) for name, i in free.items())
    )
    for seed in range(3):
        u = flat + np.random.default_rng(seed).normal(0, 0.5, flat.size)
        values = coordinates.values(expanded(u))
        prior = prior_of(values)
        if vector:  # the same galaxy in every turn that the prior's range holds
            high = np.asarray(model.priors["pa"].high)[:3]
            prior += np.log(1 + np.floor((high - np.asarray(values["pa"])[:3]) / np.pi)).sum()
        expected = prior + np.linalg.slogdet(slope(u))[1]
        np.testing.assert_allclose(density(u), expected, rtol=1e-9)


@pytest.fixture(scope="module")
def normals():
    """In boxes from -1 to 2: narrow in the middle, at either edge, and flat."""
    width = np.array([3e-3, 0.3, 3.0, 30.0])
    return TruncatedNormals.of(-np.ones(4), 2 * np.ones(4), np.array([0.5, -1.0, 2.0, 0.5]), width)


def test_a_normal_cut_off_by_its_box_is_a_unit_normal(normals):
    """Its density in u, times the derivative."""
    for u in (*np.linspace(-8, 8, 33), -30.0, 30.0):
        value, slope = normals.values(jnp.full(4, u))
        assert ((value >= -1) & (value <= 2)).all()
        z = (value - normals.centre) / normals.width
        density = np.exp(slope - z**2 / 2 + u**2 / 2)
        np.testing.assert_allclose(density, normals.width * normals.share, rtol=1e-6)
    np.testing.assert_allclose(normals.values(jnp.full(4, 5.0))[0][0], 0.5 + 5 * 3e-3, rtol=1e-9)


def test_normals_there_and_back(normals):
    for u in (0.0, 1e-3, -2.5, 5.0):
        np.testing.assert_allclose(normals.numbers(normals.values(jnp.full(4, u))[0]), u, atol=1e-6)


def test_slopes_are_those_of_the_values(normals):
    """Also at the middle of a box, where both tails are alike."""
    for u in (0.0, 1e-3, -2.5, 5.0):
        by_jax = jax.jacfwd(lambda n: normals.values(n)[0])(jnp.full(4, u))
        slope = np.exp(normals.values(jnp.full(4, u))[1])
        np.testing.assert_allclose(by_jax, np.diag(slope), rtol=1e-6)


TURNS = pytest.mark.parametrize(
    "half_turns", [1, 4 / 3, 2, 2.6]
)  # width of the prior of the angle; 4/3 by default


@TURNS
def test_uniform_shapes_are_unit_normal_vectors(model, half_turns):
    """Normal vectors give shapes uniform in q, and in the angle over the whole range of its prior."""
    model = _with_uniform_shapes(model[0], half_turns)
    coordinates = Coordinates.of(model, ("q", "pa"))
    draws = jax.random.normal(jax.random.key(0), (4000, 4, 2))

    def one(key, vectors):
        return coordinates.turned(key, coordinates.values(_with_scalars(vectors)))

    values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000), draws)
    for name, low, high in (("q", 0.2, 1.0), ("pa", -1.0, -1.0 + half_turns * np.pi)):
        scaled = np.sort((np.asarray(values[name])[:, :3].ravel() - low) / (high - low))
        assert np.abs(scaled - (np.arange(scaled.size) + 0.5) / scaled.size).max() < 1.95 / np.sqrt(
            scaled.size
        )


@TURNS
def test_density_is_the_same_in_every_direction(model, half_turns):
    """Also where the range of angles holds some directions once more than others: at a jump of the density no step
    of a chain is short enough, and its step size collapses."""
    model = _with_uniform_shapes(model[0], half_turns)
    coordinates = Coordinates.of(model, ("q", "pa"))
    angle = np.linspace(0, 2 * np.pi, 501)
    vectors = jnp.asarray(1.3 * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    every = _with_scalars(jnp.broadcast_to(vectors[:, None], (501, 4, 2)))
    values, density = jax.jit(jax.vmap(coordinates.values_and_density))(every)
    np.testing.assert_allclose(density, density[0], rtol=1e-12)
    ellipticity = np.exp(2j * np.asarray(values["pa"][:, 0]))
    step = 2 * np.pi / 500
    assert np.abs(np.diff(ellipticity)).max() < 2 * step * half_turns / np.floor(half_turns) + 1e-12
    back = coordinates.of_values({name: np.asarray(value[100]) for name, value in values.items()})
    same = np.sign(np.sum(back["shape"][0] * vectors[100]))
    np.testing.assert_allclose(same * back["shape"][:3], every["shape"][100][:3], atol=1e-9)


def test_a_value_held_outside_its_box_has_coordinates(make_patcher):
    """The half-light radius of a point is zero, in a box of which the logarithm is taken."""
    import dataclasses

    patcher, catalog = make_patcher(n_source=2)
    model, truth = patcher.prepare_model(active=catalog)
    radius = np.array([0.0, np.nan])
    model = dataclasses.replace(model, held={**model.held, "rhalf": radius})
    coordinates = Coordinates.of(model, list(model.priors), truth, None)
    found = coordinates.of_values({**truth, "rhalf": np.where(np.isnan(radius), truth["rhalf"], radius)})
    assert np.isfinite(found["rhalf"]).all()
    assert not coordinates.active["rhalf"][0]
    assert coordinates.values(found)["rhalf"][0] == 0


def _with_scalars(vectors):
    """Coordinates of shapes: vectors, and the scalars of the source that has none."""
    nothing = jnp.zeros(vectors.shape[:-1])
    return {"shape": vectors, "q": nothing, "pa": nothing}


def _with_uniform_shapes(model, half_turns):
    import dataclasses

    shape = model.priors["q"].batch_shape
    priors = {
        "q": Uniform(0.2 * jnp.ones(shape), 1.0),
        "pa": Uniform(-jnp.ones(shape), -1.0 + half_turns * np.pi),
    }
    return dataclasses.replace(model, priors={**model.priors, **priors})
