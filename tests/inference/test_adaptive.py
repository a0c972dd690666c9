"""Adaptive importance sampling of densities that are known."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from fphojax.inference.adaptive import FEWEST, HOPELESS, MOST, ROUND, adapted
from fphojax.inference.proposal import Proposal


def weighted(log_density, sizes, wanted=1500.0, seed=0, batch=1, start=None):
    """The result for a density, and the numbers of points of its rounds."""
    n = sum(sizes)
    start = Proposal.start(np.zeros(n), np.eye(n), sizes) if start is None else start
    rounds, counts = adapted(start, wanted, np.random.default_rng(seed), batch), []
    points = next(rounds)
    while True:
        counts.append(len(points))
        try:
            points = rounds.send(log_density(points))
        except StopIteration as end:
            return end.value, counts


def check_moments(result, mean, sd):
    """Means and standard deviations within five standard errors."""
    found = result.weight @ result.points
    width = np.sqrt(result.weight @ (result.points - found) ** 2)
    print(f"effective {result.effective:.0f} of {len(result.points)}, {result.verdict}")
    np.testing.assert_allclose(found, mean, atol=5 * np.max(sd) / np.sqrt(result.effective))
    np.testing.assert_allclose(width / sd, 1, atol=0.1)


COVARIANCE = np.diag([1.0, 4.0, 0.25, 1.0, 1.0, 9.0]) + 0.2


def normal(points):
    return stats.multivariate_normal(np.full(6, 0.7), COVARIANCE).logpdf(points)


def banana(points):
    """Bent in two blocks of two coordinates."""
    x, y = points[:, ::2], points[:, 1::2]
    return -0.5 * np.sum(x**2 + ((y - x**2 / 2) / 0.5) ** 2, axis=1)


def heavy(points):
    return stats.multivariate_t(np.zeros(3), np.eye(3), df=5).logpdf(points)


@pytest.mark.parametrize("sizes", [(6,), (2, 4)])
def test_a_normal(sizes):
    result, _ = weighted(normal, sizes)
    assert result.verdict.trusted
    assert result.effective >= 1500
    assert result.verdict.efficiency > 0.6
    check_moments(result, 0.7, np.sqrt(np.diag(COVARIANCE)))


def test_bent_densities():
    result, _ = weighted(banana, (2, 2))
    assert result.verdict.trusted
    check_moments(result, [0, 0.5, 0, 0.5], [1, np.sqrt(0.25 + 0.5), 1, np.sqrt(0.25 + 0.5)])


def test_a_density_of_heavy_tails():
    result, _ = weighted(heavy, (3,))
    assert result.verdict.trusted
    check_moments(result, 0, np.full(3, np.sqrt(5 / 3)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("apart", [4.0, 8.0, 60.0])
def test_two_modes_are_both_found_or_refused(apart, seed):
    """The start is on one of them; what is so far that no point gets there is beyond what weights can know."""

    def density(points):
        other = points - np.array([apart, 0, 0])
        return logsumexp([-0.5 * np.sum(points**2, axis=1), -0.5 * np.sum(other**2, axis=1)], axis=0)

    result, _ = weighted(density, (3,), seed=seed)
    right = abs(result.weight @ result.points[:, 0] - apart / 2) < 0.1 * apart
    one = result.points[result.weight > 0, 0].max() < apart / 2
    assert right or not result.verdict.trusted or (one and apart == 60.0)


def test_a_start_far_off_and_too_narrow():
    start = Proposal.start(np.full(6, 3.0), 0.3 * np.eye(6), (6,))
    result, _ = weighted(normal, (6,), start=start)
    assert result.verdict.trusted
    check_moments(result, 0.7, np.sqrt(np.diag(COVARIANCE)))


def test_points_without_density_have_no_part():
    """Half a normal."""

    def density(points):
        with np.errstate(divide="ignore"):
            return normal(points) + np.log(points[:, 0] > 0.7)

    result, _ = weighted(density, (6,))
    assert result.verdict.trusted
    mean = result.weight @ result.points[:, 0]
    assert mean == pytest.approx(0.7 + np.sqrt(1.2) * np.sqrt(2 / np.pi), abs=0.1)
    assert result.weight[result.points[:, 0] < 0.7].sum() < 1e-3


def test_the_same_seed_gives_the_same_points():
    first, again, other = (weighted(banana, (2, 2), seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.points, again.points)
    np.testing.assert_array_equal(first.weight, again.weight)
    assert not np.isin(first.points, other.points).any()


def test_rounds_grow_with_the_dimension_and_are_whole_batches():
    for sizes, least in (((2,), FEWEST), ((12, 12), ROUND * 24)):
        _, counts = weighted(lambda points: -0.5 * np.sum(points**2, axis=1), sizes, batch=100, wanted=3000.0)
        assert all(count % 100 == 0 for count in counts)
        assert least <= counts[0] < least + 100
        assert counts[-1] > counts[0]


def test_a_density_that_cannot_be_met_ends_in_a_refusal():
    """A shell of many dimensions, thin and far from the start; and points without any density."""
    n = 20

    def shell(points):
        return -0.5 * ((np.linalg.norm(points, axis=1) - 50) / 0.01) ** 2

    result, counts = weighted(shell, (n,))
    assert not (result.verdict.trusted and result.effective >= 1500)
    assert sum(counts) <= (HOPELESS + 8) * ROUND * n < MOST * ROUND * n
    result, _ = weighted(lambda points: np.full(len(points), -np.inf), (2,))
    assert not result.verdict.trusted
    assert result.effective == 0
