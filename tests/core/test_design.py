"""One pass over the pixels against plain derivatives of the images."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fphojax.core.nearby import SMALLEST, coarsely_padded
from fphojax.inputs.exposure_nuisance import Nuisance


@pytest.fixture(scope="module")
def scene(make_patcher):
    patcher, catalog = make_patcher(dtype=np.float64)
    model, values = patcher.prepare_model(
        active=catalog, nuisance=Nuisance(sky="constant"), tolerance=0, listed=True
    )
    values = {name: jnp.asarray(value) for name, value in values.items()}
    return model, {**values, "sky": values["sky"] + 0.3}


@pytest.mark.slow
def test_equations_at_other_fluxes_and_sky(scene, capsys):
    """The design is taken at some fluxes; chi-squared and its gradient are asked for at others."""
    model, values = scene
    changed = {**values, "flux": values["flux"] * 0.7 - 20, "sky": values["sky"] - 0.5}

    @eqx.filter_jit
    def both(model, values, changed):
        chi2, rhs, _ = model.equations(model.design(values), changed)
        return chi2, rhs, model.chi2(changed), jax.grad(lambda v: jnp.sum(model.chi2(v)))(changed)

    chi2, rhs, expected, gradient = both(model, values, changed)
    np.testing.assert_allclose(chi2, expected, rtol=1e-6)
    gradient = -0.5 * ravel_pytree(gradient)[0]
    # in units of the standard deviation of a parameter
    fisher = np.diag(model.fisher(changed))
    deviation = np.abs(rhs - gradient) / np.sqrt(fisher)
    with capsys.disabled():
        print(f"\ngradient of the equations against autodiff: {deviation.max():.1e} standard deviations")
    assert deviation.max() < 1e-3


def test_image_of_a_model_without_lists(scene, make_patcher):
    """Where sources are left out, they are fainter than a ten thousandth of the noise."""
    model, values = scene
    patcher, catalog = make_patcher(dtype=np.float64)
    lean, _ = patcher.prepare_model(active=catalog, nuisance=Nuisance(sky="constant"), listed=False)
    image = np.asarray(eqx.filter_jit(lambda m, v: m.images(v))(lean, values))
    full = np.asarray(eqx.filter_jit(lambda m, v: m.images(v))(model, values))
    n = int(model.patch.count)
    assert np.abs(image[:n] - full[:n]).max() < 1e-4


def test_few_lengths_of_patches(scene):
    model, _ = scene
    padded = coarsely_padded(model.patch)
    assert padded.n_tile in [SMALLEST * 4**i for i in range(6)]
    assert not np.asarray(padded.ierr)[model.patch.n_tile :].any()
    assert coarsely_padded(padded).n_tile == padded.n_tile
