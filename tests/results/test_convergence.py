"""Effective sample sizes and R-hat are ArviZ's, for chains that mix well, badly, with ties, or not at all."""

import numpy as np
import pytest
from arviz_stats.base import array_stats

from fphojax.results.convergence import convergence, quantiles, r_hat

AXES = {"chain_axis": 1, "draw_axis": 2}


def chains(n_chain, n_draw):
    """Autoregressive chains of various lengths of memory; one with ties, one that disagrees, one constant."""
    rng = np.random.default_rng(n_chain)
    draws = rng.normal(size=(20, n_chain, n_draw))  # more than a block
    memory = np.resize([0, 0.5, 0.9, 0.99, -0.5, -0.9], 20)[:, None]
    for t in range(1, n_draw):
        draws[..., t] += memory * draws[..., t - 1]
    draws[3] = np.round(draws[3], 1)
    draws[5, 0] += 5
    return draws


@pytest.mark.parametrize(("n_chain", "n_draw"), [(4, 200), (1, 101), (3, 50), (2, 7)])
def test_statistics_are_those_of_arviz(n_chain, n_draw):
    draws = chains(n_chain, n_draw)
    found = convergence(draws)
    np.testing.assert_allclose(found.ess_bulk, array_stats.ess(draws, method="bulk", **AXES), rtol=1e-12)
    tails = array_stats.ess(draws, method="tail", prob=(0.05, 0.95), **AXES)
    np.testing.assert_allclose(found.ess_tail, tails, rtol=1e-12)
    np.testing.assert_array_equal(r_hat(draws), found.r_hat)
    if n_chain == 1:
        assert np.isnan(found.r_hat).all()
    else:
        np.testing.assert_allclose(found.r_hat, array_stats.rhat(draws, method="rank", **AXES), rtol=1e-12)


def test_constant_and_short_chains():
    assert convergence(np.ones((1, 2, 100))).ess_bulk == 200
    for values in vars(convergence(np.ones((2, 4, 3)))).values():
        assert np.isnan(values).all()
    assert convergence(np.ones((0, 4, 100))).r_hat.shape == (0,)
    assert np.isnan(r_hat(np.ones((2, 4, 3)))).all()


def test_quantiles_are_those_of_numpy():
    draws = np.random.default_rng(0).normal(size=(3, 41))
    probabilities = (0.0, 0.16, 0.5, 1.0)
    found = quantiles(np.sort(draws, axis=1), probabilities)
    np.testing.assert_allclose(found, np.quantile(draws, probabilities, axis=1), rtol=1e-12)
