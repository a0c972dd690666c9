"""Ranks of truths: of distributions for which they are known."""

import numpy as np
import pytest

from fphojax.simulate.ranks import axial_rank, covered, holm, rank, uniformity

N_TRUTH, N_DRAW = 4000, 400


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_rank_counts_draws_below():
    draws = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]])
    assert rank(draws, np.array([2.5, 4.0])).tolist() == [0.5, 0.0]


def test_right_posterior_has_uniform_ranks_and_right_coverage(rng):
    truth = rng.normal(size=N_TRUTH)
    data = truth + rng.normal(size=N_TRUTH)  # posterior: Normal(data / 2, 1 / 2)
    draws = data / 2 + np.sqrt(0.5) * rng.normal(size=(N_DRAW, N_TRUTH))
    ranks = rank(draws, truth)
    assert uniformity(ranks) > 0.01
    for level in (0.50, 0.68, 0.95):
        fraction, error = covered(ranks, level)
        assert error == pytest.approx(np.sqrt(level * (1 - level) / N_TRUTH))
        assert abs(fraction - level) < 3 * error


@pytest.mark.parametrize(("shift", "stretch"), [(0.2, 1.0), (0.0, 0.8), (0.0, 1.25)])
def test_wrong_posteriors_are_found(rng, shift, stretch):
    truth = rng.normal(size=N_TRUTH)
    draws = shift + stretch * rng.normal(size=(N_DRAW, N_TRUTH))
    assert uniformity(rank(draws, truth)) < 1e-6


@pytest.mark.parametrize("width", [0.1, 1.0, 100.0])
def test_position_angles_across_the_wrap(rng, width):
    """Narrow posteriors near the wrap, wide ones, and those that know nothing."""
    truth = rng.uniform(-np.pi / 2, np.pi / 2, N_TRUTH)
    data = truth + width * rng.normal(
        size=N_TRUTH
    )  # on a circle with a uniform prior, the posterior is as wide
    draws = data + width * rng.normal(size=(N_DRAW, N_TRUTH))
    ranks = axial_rank(draws, truth)
    assert uniformity(ranks) > 0.01
    turned = draws + np.pi * rng.integers(-2, 3, draws.shape)
    np.testing.assert_allclose(axial_rank(turned, truth + np.pi), ranks, atol=1 / N_DRAW)
    assert abs(covered(ranks, 0.68)[0] - 0.68) < 3 * covered(ranks, 0.68)[1]


def test_narrow_position_angles_are_found_wrong(rng):
    truth = rng.uniform(-np.pi / 2, np.pi / 2, N_TRUTH)
    draws = truth + 0.2 * rng.normal(size=N_TRUTH) + 0.1 * rng.normal(size=(N_DRAW, N_TRUTH))
    assert covered(axial_rank(draws, truth), 0.68)[0] < 0.45


def test_uniformity_of_known_counts():
    # 20 ranks in one half and 30 in the other: chi-squared 2 with one degree of freedom
    assert uniformity([0.2] * 20 + [0.8] * 30, bins=2) == pytest.approx(0.157299, abs=1e-6)
    assert uniformity(np.linspace(0.005, 0.995, 100)) == pytest.approx(1.0)


def test_holm():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]).tolist() == [1.0, 1.0]


def test_holm_keeps_its_promise(rng):
    """Where all is well, one family in a hundred has a corrected p-value below 0.01."""
    rate = np.mean([holm(rng.uniform(size=20)).min() < 0.01 for _ in range(5000)])
    assert rate == pytest.approx(0.01, abs=0.005)
