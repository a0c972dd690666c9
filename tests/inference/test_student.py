"""Mixtures of t distributions: their density, draws, and fits."""

import numpy as np
import pytest
from scipy import stats

from fphojax.inference.student import FREEDOM, Mixture, moments

SHARE = np.array([0.3, 0.7])
MEAN = np.array([[-3.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
FACTOR = np.array([np.diag([1.0, 0.5, 2.0]), [[0.7, 0, 0], [0.3, 1.2, 0], [-0.2, 0.1, 0.4]]])


@pytest.fixture
def mixture():
    return Mixture(SHARE, MEAN, FACTOR)


def test_density_is_that_of_scipy(mixture):
    points = np.random.default_rng(0).normal(size=(50, 3)) * 3
    expected = sum(
        share * stats.multivariate_t(mean, factor @ factor.T, df=FREEDOM).pdf(points)
        for share, mean, factor in zip(SHARE, MEAN, FACTOR, strict=True)
    )
    np.testing.assert_allclose(np.exp(mixture.log_density(points)), expected, rtol=1e-10)


def test_draws_have_the_moments_of_the_mixture(mixture):
    draws = mixture.draw(40_000, np.random.default_rng(1))
    mean = SHARE @ MEAN
    covariance = sum(
        share * (factor @ factor.T * FREEDOM / (FREEDOM - 2) + np.outer(centre - mean, centre - mean))
        for share, centre, factor in zip(SHARE, MEAN, FACTOR, strict=True)
    )
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.15)


def test_moved_is_the_mixture_of_the_mapped_points(mixture):
    shift, matrix = np.array([1.0, -2.0, 0.5]), np.tril(np.arange(1.0, 10.0).reshape(3, 3))
    points = np.random.default_rng(2).normal(size=(20, 3))
    there = mixture.moved(shift, matrix).log_density(shift + points @ matrix.T)
    volume = np.log(np.linalg.det(matrix))
    np.testing.assert_allclose(there + volume, mixture.log_density(points), rtol=1e-10)


def test_a_fit_to_weighted_points_is_the_mixture(mixture):
    """The points are those of a wide normal, and have the weights that make them draws of the mixture."""
    wide = stats.multivariate_normal(np.zeros(3), 16 * np.eye(3), seed=np.random.default_rng(3))
    points = wide.rvs(40_000)
    weight = np.exp(mixture.log_density(points) - wide.logpdf(points))
    weight /= weight.sum()
    start = Mixture.unit(3).resized(2, points, weight, np.random.default_rng(4))
    found = start.fitted(points, weight)
    order = np.argsort(found.mean[:, 0])
    np.testing.assert_allclose(found.share[order], SHARE, atol=0.03)
    np.testing.assert_allclose(found.mean[order], MEAN, atol=0.15)
    scales = [factor @ factor.T for factor in FACTOR]
    np.testing.assert_allclose([f @ f.T for f in found.factor[order]], scales, atol=0.3)


def test_components_of_few_points_are_dropped():
    points = np.random.default_rng(5).normal(size=(300, 3))
    points[0] = 50.0
    far = Mixture(np.full(2, 0.5), np.array([np.zeros(3), np.full(3, 50.0)]), np.stack([np.eye(3)] * 2))
    found = far.fitted(points, np.full(300, 1 / 300))
    assert len(found.share) == 1
    np.testing.assert_allclose(found.mean[0], 0, atol=0.3)


def test_moments_are_those_of_numpy():
    points, weight = np.random.default_rng(6).normal(size=(40, 3)), np.arange(40.0) / np.arange(40.0).sum()
    mean, covariance = moments(points, weight)
    np.testing.assert_allclose(mean, np.average(points, axis=0, weights=weight))
    np.testing.assert_allclose(covariance, np.cov(points.T, aweights=weight, ddof=0), rtol=1e-8, atol=1e-12)
