"""Vectors of shape with their angles doubled."""

import numpy as np
import pytest

from fphojax.inference.half_turns import doubled, doubled_slopes, halved

PAIRS = np.array([[1, 2], [4, 0]])


def test_opposite_vectors_become_the_same():
    points = np.random.default_rng(0).normal(size=(30, 5))
    opposite = points.copy()
    opposite[:, [1, 2]] *= -1
    np.testing.assert_allclose(doubled(opposite, PAIRS), doubled(points, PAIRS), atol=1e-12)
    np.testing.assert_array_equal(doubled(points, PAIRS)[:, 3], points[:, 3])


def test_halved_is_the_inverse_up_to_signs():
    points = np.random.default_rng(1).normal(size=(30, 5))
    back = halved(doubled(points, PAIRS), PAIRS)
    for pair in PAIRS:
        same = np.abs(back[:, pair] - points[:, pair]).max(axis=1) < 1e-9
        opposite = np.abs(back[:, pair] + points[:, pair]).max(axis=1) < 1e-9
        assert (same | opposite).all()
        assert same.any() & opposite.any()
    np.testing.assert_allclose(doubled(back, PAIRS), doubled(points, PAIRS), atol=1e-12)


def test_slopes_are_finite_differences():
    point = np.array([0.3, -1.0, 0.4, 2.0, -0.7])
    step = 1e-6
    columns = [
        (doubled(point + step * e, PAIRS) - doubled(point - step * e, PAIRS)) / (2 * step) for e in np.eye(5)
    ]
    np.testing.assert_allclose(doubled_slopes(point, PAIRS), np.transpose(columns), atol=1e-8)
    assert np.linalg.det(doubled_slopes(point, PAIRS)) == pytest.approx(4)  # the same everywhere


def test_without_vectors_nothing_changes():
    points = np.random.default_rng(2).normal(size=(3, 2))
    none = np.zeros((0, 2), dtype=int)
    np.testing.assert_array_equal(doubled(points, none), points)
    np.testing.assert_array_equal(doubled_slopes(points[0], none), np.eye(2))
