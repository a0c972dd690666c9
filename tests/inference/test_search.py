"""What the search learns of the Hessian."""

import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference.search import _damped_step, _second_order, _System


def system(gradient, hessian):
    return _System(
        jnp.zeros(()),
        jnp.asarray(gradient),
        jnp.asarray(hessian),
        jnp.zeros(1),
        jnp.asarray(hessian),
        -jnp.asarray(gradient),
    )


@pytest.fixture
def rng():
    return np.random.default_rng(4)


@pytest.fixture
def quadratic(rng):
    """Exact Hessian, the Gauss-Newton part of it, and the two ends of a step."""
    size = 6
    root, rest = rng.normal(size=(2, size, size))
    gauss_newton = root @ root.T
    exact = gauss_newton + 0.1 * (rest + rest.T) + np.eye(size)
    before, after = rng.normal(size=(2, size))
    return exact, gauss_newton, before, after


def test_learnt_hessian_explains_the_step(quadratic, rng):
    """Secant equation: with what was learnt, the matrix gives the change of the gradient."""
    exact, gauss_newton, before, after = quadratic
    ends = (system(exact @ point, gauss_newton) for point in (before, after))
    known = rng.normal(size=exact.shape)
    learnt = np.asarray(_second_order(jnp.asarray(known + known.T), *ends, jnp.asarray(after - before)))
    change = after - before
    error = np.abs((gauss_newton + learnt) @ change - exact @ change).max()
    print(f"largest error of the secant equation {error:.1e}")
    assert error < 1e-10
    np.testing.assert_allclose(learnt, learnt.T, rtol=0, atol=1e-12)


def test_nothing_is_learnt_without_a_step(quadratic):
    exact, gauss_newton, before, _ = quadratic
    known = jnp.asarray(exact)
    ends = system(exact @ before, gauss_newton), system(exact @ before, gauss_newton)
    np.testing.assert_array_equal(_second_order(known, *ends, jnp.zeros(len(before))), known)


def test_nothing_is_learnt_where_the_slope_falls(quadratic):
    """A step along which the density is convex would make the matrix indefinite."""
    exact, gauss_newton, before, after = quadratic
    known = jnp.zeros(exact.shape)
    ends = (system(-exact @ point, gauss_newton) for point in (before, after))
    np.testing.assert_array_equal(_second_order(known, *ends, jnp.asarray(after - before)), known)


def test_a_parameter_that_would_go_far_does_not_keep_the_others_back():
    """The position angle of a point, say: its curvature is that of rounding."""
    size = np.array([1.0, 1e-3, 30.0])
    correlation = np.array([[1, 0.3, -0.2], [0.3, 1, 0.1], [-0.2, 0.1, 1]])
    hessian = correlation * size[:, None] * size
    gradient = -hessian @ [1.0, 500.0, -0.5]
    free = jnp.zeros(3, dtype=bool)
    step = _damped_step(
        system(gradient, hessian),
        jnp.zeros((3, 3)),
        jnp.asarray(1e-9),
        (free, free),
        jnp.full(3, 2.0),
        jnp.asarray(False),
    )
    # the best of all steps that take the second one just as far as it may go
    rest = [0, 2]
    best = -np.linalg.solve(hessian[np.ix_(rest, rest)], (gradient + 2 * hessian[1])[rest])
    print("step", step.move, "best", best)
    assert float(step.move[1]) == pytest.approx(2)
    np.testing.assert_allclose(step.move[jnp.asarray(rest)], best, rtol=1e-6)
    gain = -(gradient @ step.move + step.move @ hessian @ step.move / 2)
    np.testing.assert_allclose(step.predicted, gain)
    assert float(step.remaining_gain) == pytest.approx(float(gain), rel=1e-6), (
        "no more is left than a step of that length can gain"
    )
