"""Proposals: the density is that of their draws, and fits follow the points."""

import numpy as np
import pytest
from scipy import stats

from fphojax.inference.proposal import COMPONENTS, STRETCH, WIDE, Proposal

COVARIANCE = np.array([[1.0, 0.5, 0.3, 0], [0.5, 2.0, 0, 0.2], [0.3, 0, 1.0, -0.4], [0, 0.2, -0.4, 1.5]])
MEAN = np.array([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3)])
def test_density_is_that_of_the_draws(sizes):
    """The mean of normal densities over it is one, for a normal about the middle and one in a tail."""
    proposal = Proposal.start(MEAN, COVARIANCE, sizes)
    draws = proposal.draw(60_000, np.random.default_rng(0))
    density = proposal.log_density(draws)
    for shift in (0.0, 0.8):
        target = stats.multivariate_normal(MEAN + shift, 0.5 * COVARIANCE)
        ratio = np.exp(target.logpdf(draws) - density)
        assert ratio.mean() == pytest.approx(1, abs=5 * ratio.std() / np.sqrt(len(ratio)))
        assert ratio.std() / np.sqrt(len(ratio)) < 0.03


def test_some_draws_are_far_out_in_one_block_along_the_regression():
    proposal = Proposal.start(np.zeros(4), np.eye(4), (2, 2))
    draws = proposal.draw(20_000, np.random.default_rng(1))
    far = np.abs(draws) > 1.5 * STRETCH
    share = far.any(axis=1).mean()
    assert 0.1 * WIDE < share < WIDE
    assert (far[:, :2].any(axis=1) & far[:, 2:].any(axis=1)).mean() < 0.05 * share


def test_a_fit_is_better_than_the_start():
    """Points of a bent density in each of two blocks, which are correlated."""
    rng = np.random.default_rng(2)
    points = rng.normal(size=(6000, 4))
    points[:, [1, 3]] = 0.3 * points[:, [1, 3]] + points[:, [0, 2]] ** 2
    points[:, 2] += 0.5 * points[:, 0]
    held_out, points = points[:2000], points[2000:]
    weight = np.full(len(points), 1 / len(points))
    start = Proposal.start(points.mean(axis=0), np.cov(points.T), (2, 2))
    fitted = start
    for _ in range(3):
        fitted = fitted.fitted(points, weight, rng)
    assert {len(part.share) for part in fitted.core} == {COMPONENTS}
    gain = fitted.log_density(held_out).mean() - start.log_density(held_out).mean()
    print(f"gain {gain:.2f} a point")
    assert gain > 0.7


def test_few_points_make_one_component():
    points = np.random.default_rng(3).normal(size=(40, 6))
    start = Proposal.start(np.zeros(6), np.eye(6), (6,))
    fitted = start.fitted(points, np.full(40, 1 / 40), np.random.default_rng(4))
    assert [len(part.share) for part in fitted.core] == [1]
    assert np.isfinite(fitted.log_density(points)).all()
