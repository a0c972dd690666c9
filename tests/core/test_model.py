"""Gradients of the log posterior, transforms, normal equations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.distributions import LogNormal, Normal, TruncatedNormal

PRIORS = {
    "box": {},
    "unbounded": {
        "flux": Normal(300.0, 100.0),
        "x": Normal(0.0, 0.05),
        "y": Normal(0.0, 0.05),
        "sersic": LogNormal(0.6, 0.4),
        "rhalf": LogNormal(-1.8, 0.5),
        "q": TruncatedNormal(0.6, 0.2, low=0.05, high=1.0),
    },
}


@pytest.fixture(scope="module", params=PRIORS)
def scene(request, make_patcher):
    """Model in float64, the same in float32, and a point away from the optimum."""
    models = []
    for dtype in (np.float64, np.float32):
        patcher, catalog = make_patcher(dtype=dtype)
        model, start = patcher.prepare_model(active=catalog, priors=PRIORS[request.param])
        models.append(model)
    truth = {name: jnp.asarray(value) for name, value in start.items()}
    image = eqx.filter_jit(models[0].images)(truth)
    models = [with_image(model, image) for model in models]
    unconstrained = models[0].unconstrain(truth)
    flat, unravel = ravel_pytree(unconstrained)
    away = unravel(flat + 0.05 * np.random.default_rng(1).normal(size=flat.size))
    return *models, away


def with_image(model, image):
    """The model with the sources' image added to its pixels."""
    data = jnp.where(model.patch.ierr > 0, model.patch.data + image.astype(model.patch.data.dtype), 0)
    return eqx.tree_at(lambda m: m.patch.data, model, data)


def test_gradient_against_finite_differences(scene, capsys):
    model, _, point = scene
    flat, unravel = ravel_pytree(point)
    potential = eqx.filter_jit(lambda m, u: m.potential(unravel(u)))
    gradient = np.asarray(
        eqx.filter_jit(lambda m, u: jax.grad(lambda v: m.potential(unravel(v)))(u))(model, flat)
    )

    def central(i, step):
        shift = step * np.eye(flat.size)[i]
        return float(potential(model, flat + shift) - potential(model, flat - shift)) / (2 * step)

    # Richardson's extrapolation of central differences: error of fourth order in the step
    step = 1e-3
    numeric = np.array([(4 * central(i, step / 2) - central(i, step)) / 3 for i in range(flat.size)])
    error = np.abs(gradient / numeric - 1)
    with capsys.disabled():
        print(f"\ngradient of the log posterior, float64, against finite differences: {error.max():.1e}")
    assert error.max() < 1e-6


def test_float32_gradient(scene, capsys):
    double, single, point = scene
    gradients = [
        ravel_pytree(eqx.filter_jit(lambda m, u: jax.grad(m.potential)(u))(model, point))[0]
        for model in (double, single)
    ]
    error = float(jnp.linalg.norm(gradients[1] - gradients[0]) / jnp.linalg.norm(gradients[0]))
    with capsys.disabled():
        print(f"\ngradient in float32 against float64: {error:.1e} of its norm")
    assert error < 1e-4


def test_potential_is_the_log_posterior_with_jacobian(scene):
    model, _, point = scene
    values = model.constrain(point)
    log_jacobian = sum(
        jnp.sum(transform.log_abs_det_jacobian(point[name], values[name]))
        for name, transform in model.transforms.items()
    )
    expected = -(model.log_likelihood(values) + model.log_prior(values) + log_jacobian)
    np.testing.assert_allclose(model.potential(point), expected, rtol=1e-12)


def test_unconstrain_inverts_constrain(scene):
    model, _, point = scene
    back = model.unconstrain(model.constrain(point))
    for name, value in point.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-9, atol=1e-9)


def test_fisher_matrix_against_the_jacobian_of_the_image(scene):
    model, _, point = scene
    values = model.constrain(point)
    flat, unravel = ravel_pytree(values)
    ierr = np.asarray(model.patch.ierr)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda v: model.images(unravel(v))))(flat)) * ierr[..., None]
    expected = np.einsum("tpi,tpj->ij", jacobian, jacobian)
    scale = np.sqrt(np.diag(expected))
    found = np.asarray(eqx.filter_jit(lambda m, v: m.fisher(v))(model, values))
    np.testing.assert_allclose(found / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-4)
