"""Sky, flux scale and shift of exposures: likelihood, derivatives, pair lists."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fphojax import Nuisance, default_bounds

ALL = Nuisance(sky="plane", sky_sigma=2.0, scale_sigma=0.1, shift_sigma=0.05)


@pytest.fixture(scope="module")
def scene(make_patcher):
    """Model in float64 with all nuisance parameters, and a point where none of them is at its mean."""
    patcher, catalog = make_patcher(dtype=np.float64)
    model, start = patcher.prepare_model(active=catalog, nuisance=ALL)
    rng = np.random.default_rng(5)
    values = start | {
        "sky": rng.normal(scale=0.5, size=(2, 3)),
        "scale": np.array([1.1, 0.93]),
        "shift": rng.normal(scale=0.05, size=(2, 2)),
    }
    return model, {name: jnp.asarray(value) for name, value in values.items()}


def test_chi2_is_that_of_the_image(scene):
    model, values = scene
    patch = model.patch
    chi = (patch.data - model.images(values)) * patch.ierr
    expected = jax.ops.segment_sum(jnp.sum(chi**2, axis=1), patch.exposure, 2)
    np.testing.assert_allclose(model.chi2(values), expected, rtol=1e-12)


def test_sky_scale_and_shift_act_on_the_image(make_patcher, scene):
    """A shift is a change of all positions, a scale one of all fluxes, a plane has its coefficients' values."""
    model, values = scene
    patcher, catalog = make_patcher(dtype=np.float64)
    plain, start = patcher.prepare_model(active=catalog, tolerance=0)
    sources = {name: jnp.asarray(start[name]) for name in start}
    for e in range(2):
        moved = sources | {
            "x": sources["x"] + values["shift"][e, 0],
            "y": sources["y"] + values["shift"][e, 1],
            "flux": sources["flux"] * values["scale"][e],
        }
        sky = model.images(values) - plain.images(moved)
        image = patcher.frame.image(e, sky)
        middle, by_x, by_y = values["sky"][e]
        corners = middle + by_x * np.array([-1, 1]) + by_y * np.array([[-1], [1]])
        np.testing.assert_allclose(image[[0, -1]][:, [0, -1]], corners, atol=1e-3)
        assert np.abs(np.diff(image, n=2, axis=0)).max() < 1e-3  # a plane


def test_gradient_against_finite_differences(scene):
    model, values = scene
    flat, unravel = ravel_pytree(values)
    log_density = eqx.filter_jit(lambda m, v: m.log_likelihood(unravel(v)) + m.log_prior(unravel(v)))
    gradient = eqx.filter_jit(
        lambda m, v: jax.grad(lambda v: m.log_likelihood(unravel(v)) + m.log_prior(unravel(v)))(v)
    )(model, flat)
    names = ravel_pytree({k: jnp.full(jnp.shape(v), i) for i, (k, v) in enumerate(values.items())})[0]
    of_nuisance = np.flatnonzero(np.isin(names, [list(values).index(k) for k in ("sky", "scale", "shift")]))
    assert of_nuisance.size == 12
    for i in of_nuisance:

        def central(step, i=i):
            shift = step * np.eye(flat.size)[i]
            return float(log_density(model, flat + shift) - log_density(model, flat - shift)) / (2 * step)

        numeric = (4 * central(5e-5) - central(1e-4)) / 3
        np.testing.assert_allclose(gradient[i], numeric, rtol=1e-6)


def test_fisher_matrix_against_the_jacobian_of_the_image(scene):
    model, values = scene
    flat, unravel = ravel_pytree(values)
    ierr = np.asarray(model.patch.ierr)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda v: model.images(unravel(v))))(flat)) * ierr[..., None]
    expected = np.einsum("tpi,tpj->ij", jacobian, jacobian)
    scale = np.sqrt(np.diag(expected))
    fisher = np.asarray(eqx.filter_jit(lambda m, v: m.fisher(v))(model, values))
    np.testing.assert_allclose(fisher / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-4)


def test_pair_lists_hold_for_shifted_and_scaled_exposures(make_patcher):
    patcher, catalog = make_patcher(dtype=np.float64, side=64)
    nuisance = Nuisance(scale_sigma=0.1, shift_sigma=0.1)
    # small, so that Gaussians end inside the image
    catalog = catalog.replace(sersic=np.full(2, 1.0), rhalf=np.full(2, 0.08), q=np.full(2, 0.8))
    bounds = default_bounds(catalog).replace(sersic=(0.9, 1.1), rhalf=(0.07, 0.09), q=(0.7, 0.9))
    culled, start = patcher.prepare_model(active=catalog, bounds=bounds, nuisance=nuisance)
    every, _ = patcher.prepare_model(active=catalog, bounds=bounds, nuisance=nuisance, tolerance=0)
    unmoved, _ = patcher.prepare_model(active=catalog, bounds=bounds)
    assert unmoved.pairs.n_pair < culled.pairs.n_pair < every.pairs.n_pair
    values = start | {"scale": np.array([1.4, 0.7]), "shift": np.array([[0.4, -0.45], [-0.3, 0.45]])}
    values = {name: jnp.asarray(value) for name, value in values.items()}
    difference = np.asarray(culled.images(values) - every.images(values)) * np.asarray(every.patch.ierr)
    # besides culling, the polynomial is left out where Gaussians are wide: 1e-4 of a source's peak
    assert np.abs(difference).max() < 1e-4 + 1e-4 * float(every.images(values).max())


def test_nothing_by_default(make_patcher):
    patcher, catalog = make_patcher()
    model, start = patcher.prepare_model(active=catalog)
    assert model.basis is None
    assert not {"sky", "scale", "shift"} & (set(model.priors) | set(start))
