"""The Gaussian approximation on a scene whose posterior is known."""

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from fphojax.inference.laplace import laplace


def test_draws_have_the_covariance_of_the_hessian(make_patcher, capsys):
    patcher, catalog = make_patcher(n_source=1)
    model, truth = patcher.prepare_model(active=catalog)
    chains = laplace(model, truth, draws=2000, chains=2, seed=3)
    assert chains.method == "laplace"
    assert chains.values["flux"].shape == (2, 2000, *np.shape(truth["flux"]))
    flat = {name: value[:, ::4].reshape(1000, *value.shape[2:]) for name, value in chains.values.items()}
    points = jax.vmap(lambda values: ravel_pytree(model.unconstrain(values))[0])(flat)
    origin = ravel_pytree(chains.optimum.unconstrained)[0]
    expected = np.linalg.inv(chains.optimum.hessian)
    np.testing.assert_allclose(chains.covariance, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    # whitened, 1000 draws are standard normal
    white = np.linalg.solve(np.linalg.cholesky(expected), np.asarray(points - origin).T)
    with capsys.disabled():
        print(f"\nsd of whitened draws {white.std(axis=1).min():.3f} to {white.std(axis=1).max():.3f}")
    assert np.abs(np.corrcoef(white) - np.eye(len(white))).max() < 0.15
    assert np.abs(white.std(axis=1) - 1).max() < 0.1
    assert np.abs(white.mean(axis=1)).max() < 0.15
