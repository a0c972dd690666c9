"""What tests of posteriors share."""

import pytest


@pytest.fixture(scope="session")
def bright_scene(make_patcher):
    """One bright source, so that the posterior is nearly the Gaussian of the Fisher matrix."""
    import equinox as eqx
    import jax.numpy as jnp

    patcher, catalog = make_patcher(n_source=1)
    model, truth = patcher.prepare_model(active=catalog)
    image = eqx.filter_jit(model.images)({name: jnp.asarray(v) for name, v in truth.items()})
    data = jnp.where(model.patch.ierr > 0, model.patch.data + 20 * image, 0)
    priors = {**model.priors, "flux": type(model.priors["flux"])(0.0, 1e5 * jnp.ones((1, 2)))}
    bright = eqx.tree_at(lambda m: (m.patch.data, m.priors), model, (data, priors))
    return bright, {**truth, "flux": 20 * truth["flux"]}


@pytest.fixture(scope="session")
def chains(bright_scene):
    """Two chains of 200 draws of it."""
    from fphojax import sample

    return sample(*bright_scene, draws=200, warmup=100, chains=2, seed=3, progress=False)
