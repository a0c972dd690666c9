"""The covariance of the gradient under correlated noise, against sums over all pairs of pixels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fphojax.core.model import SceneModel
from fphojax.core.noise_kernels import autocorrelation, noise_kernel
from fphojax.core.patch import TILE
from fphojax.inference.noise_matrix import DOUBT, noise_matrix
from fphojax.inputs.exposure_nuisance import Nuisance

LAGS = np.stack(np.mgrid[-3:4, -3:4])
SLOPING = 0.8 * np.exp(-0.5 * (LAGS[0] ** 2 + LAGS[1] ** 2 + LAGS[0] * LAGS[1]) / 1.2**2)


@pytest.fixture(scope="module")
def scene(make_patcher):
    """Two sources in two bands, with a plane as sky, a scale and a shift of every exposure; one parameter is tied."""
    nuisance = Nuisance(sky="plane", scale_sigma=0.1, shift_sigma=0.1)
    patcher, catalog = make_patcher(n_source=2)
    return patcher.prepare_model(active=catalog, ties={"q": {1: 0}}, nuisance=nuisance, listed=False)


def dense(model, values, correlations):
    """J by the derivatives of the images, and the covariance of every pair of pixels."""
    flat, unravel = ravel_pytree({name: jnp.asarray(value, float) for name, value in values.items()})
    slopes = np.asarray(jax.jit(jax.jacfwd(lambda vector: model.images(unravel(vector))))(flat), float)
    weighted = slopes * np.asarray(model.patch.ierr)[..., None]
    total = np.zeros((flat.size, flat.size))
    for e, correlation in enumerate(correlations):
        tile, pixel = np.nonzero(
            (np.asarray(model.patch.exposure) == e)[:, None] & (np.asarray(model.patch.ierr) > 0)
        )
        place = np.asarray(model.patch.origin)[tile] + np.stack([pixel % TILE, pixel // TILE], axis=1)
        lag = place[:, None] - place[None] + len(correlation) // 2
        inside = ((lag >= 0) & (lag < len(correlation))).all(axis=2)
        lag = np.where(inside[..., None], lag, 0)
        between = np.where(inside, correlation[lag[..., 1], lag[..., 0]], 0)
        columns = weighted[tile, pixel]
        total += columns.T @ between @ columns
    return total


def test_equals_sums_over_pairs_of_pixels(scene):
    model, values = scene
    kernels = [noise_kernel(SLOPING), noise_kernel(np.array([[1.7]]))]
    # the shape of the pixel response is left out of the derivatives of both
    expected = dense(model, values, [autocorrelation(kernel) for kernel in kernels])
    found = noise_matrix(model, values, kernels)
    scale = np.sqrt(np.maximum(np.diag(expected), 1e-30))
    np.testing.assert_allclose(found / np.outer(scale, scale), expected / np.outer(scale, scale), atol=2e-4)
    np.testing.assert_allclose(autocorrelation(kernels[0])[len(kernels[0]) - 1][-1], 0, atol=1e-3)


def test_without_correlation_it_is_the_fisher_matrix(scene):
    model, values = scene
    arrays = {name: jnp.asarray(value, float) for name, value in values.items()}
    fisher = np.asarray(eqx.filter_jit(SceneModel.fisher)(model, arrays))
    found = noise_matrix(model, values, [noise_kernel(np.array([[4.0]]))] * 2)
    scale = np.sqrt(np.maximum(np.diag(fisher), 1e-30))
    np.testing.assert_allclose(found / np.outer(scale, scale), 4 * fisher / np.outer(scale, scale), atol=1e-5)


def test_a_correction_in_doubt_adds_the_square_of_its_gradient(scene):
    """The gradients T^T W c of exposures of one band add up, those of bands are independent."""
    model, values = scene
    flat, unravel = ravel_pytree({name: jnp.asarray(value, float) for name, value in values.items()})
    slopes = np.asarray(jax.jit(jax.jacfwd(lambda vector: model.images(unravel(vector))))(flat), float)
    n_real = int(model.patch.count)
    correction = np.random.default_rng(4).normal(1.0, 1.0, (n_real, TILE * TILE))
    ierr = np.asarray(model.patch.ierr, float)[:n_real]
    gradients = np.einsum("tpn,tp->tn", slopes[:n_real], ierr**2 * correction)
    band = np.asarray(model.optics.band)[np.asarray(model.patch.exposure)[:n_real]]
    assert len(set(band.tolist())) == 2
    expected = sum(np.outer(g, g) for g in (gradients[band == b].sum(axis=0) for b in (0, 1)))
    plain = noise_matrix(model, values)
    added = noise_matrix(model, values, correction=correction) - plain
    scale = np.sqrt(np.maximum(np.diag(expected), 1e-30))
    np.testing.assert_allclose(
        added / np.outer(scale, scale), DOUBT**2 * expected / np.outer(scale, scale), atol=2e-4
    )
    np.testing.assert_array_equal(noise_matrix(model, values, correction=0 * correction), plain)


@pytest.mark.parametrize("seed", range(5))
def test_is_positive_whatever_was_measured(scene, seed):
    """Also where the measured correlation is of no noise: its power is negative."""
    model, values = scene
    measured = np.random.default_rng(seed).normal(size=(7, 7))
    measured[3, 3] = 2.0
    found = noise_matrix(model, values, [noise_kernel(measured)] * 2)
    scale = np.sqrt(np.maximum(np.diag(found), 1e-30))
    assert np.linalg.eigvalsh(found / np.outer(scale, scale)).min() > -1e-9


def test_kernel_has_the_measured_correlation():
    half = len(noise_kernel(SLOPING)) - 1
    found = autocorrelation(noise_kernel(SLOPING))[half - 3 : half + 4, half - 3 : half + 4]
    np.testing.assert_allclose(found, SLOPING, atol=5e-3)
