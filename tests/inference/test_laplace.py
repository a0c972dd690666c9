"""The normal approximation beside chains, and its weights."""

import numpy as np
import pytest

from fphojax.inference.laplace import laplace
from fphojax.inference.weights import TRUSTED


@pytest.fixture(scope="module")
def fast(bright_scene):
    return laplace(*bright_scene, draws=400, chains=2, seed=5)


def test_posterior_is_that_of_chains(chains, fast, capsys):
    assert fast.statistics["pareto_k"].max() < TRUSTED
    assert fast.statistics["trusted"].all()
    assert fast.fluxes == chains.fluxes
    for name, values in fast.values.items():
        ours, theirs = (found.reshape(-1, *found.shape[2:]) for found in (values, chains.values[name]))
        shift = (ours.mean(axis=0) - theirs.mean(axis=0)) / theirs.std(axis=0)
        ratio = ours.std(axis=0) / theirs.std(axis=0)
        with capsys.disabled():
            print(
                f"\n{name}: shift {np.ravel(shift).round(2)} sd, sd ratio {np.ravel(ratio).round(2)}", end=""
            )
        assert (np.abs(shift) < 0.25).all()
        assert ((ratio > 0.8) & (ratio < 1.25)).all()


def test_draws_are_full_ones(bright_scene, fast):
    """Those of one point differ in what is drawn apart from it, and their density is that of the model."""
    model, _ = bright_scene
    assert fast.values["flux"].shape == (2, 400, 1, 2)
    assert len(np.unique(fast.values["flux"][..., 0, 0])) == 800
    values = {name: value[1, -1] for name, value in fast.values.items()}
    expected = model.log_likelihood(values) + model.log_prior(values)
    np.testing.assert_allclose(fast.statistics["lp"][1, -1], expected, rtol=1e-6)
