"""The kernel against plain evaluations, exact pixel integrals and plain autodiff."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from fphojax.core.gaussians import Gaussians
from fphojax.core.pairs import all_pairs, listed_pairs
from fphojax.core.patch import TILE, Patch
from fphojax.core.pixels import _exp2, chi2, render


def one_gaussian(covariance, centre, amplitude=None):
    """A single Gaussian of unit flux as `Gaussians` of shape (1, 1, 1, 1)."""
    precision = np.linalg.inv(covariance)
    peak = 1 / (2 * np.pi * np.sqrt(np.linalg.det(covariance))) if amplitude is None else amplitude
    numbers = (peak, *centre, precision[0, 0], precision[0, 1], precision[1, 1])
    return Gaussians(*(jnp.full((1, 1, 1, 1), number) for number in numbers))


def mock_patch(n=3, dtype=np.float64, seed=0):
    """A square image of n x n tiles, with noise, and an empty tile at the end."""
    rng = np.random.default_rng(seed)
    tile = np.arange(n * n)
    origin = TILE * np.stack([tile % n, tile // n], axis=1)
    data = rng.normal(size=(n * n, TILE * TILE))
    ierr = rng.uniform(0.5, 2.0, data.shape)
    ierr[rng.random(data.shape) < 0.1] = 0
    pad = ((0, 1), (0, 0))
    return Patch(
        data=jnp.asarray(np.pad(np.where(ierr > 0, data, 0), pad), dtype),
        ierr=jnp.asarray(np.pad(ierr, pad), dtype),
        origin=jnp.asarray(np.pad(origin, pad), np.int32),
        exposure=jnp.zeros(n * n + 1, np.int32),
        count=jnp.asarray(n * n, np.int32),
    )


def as_image(tiles, n=3):
    return np.asarray(tiles)[: n * n].reshape(n, n, TILE, TILE).swapaxes(1, 2).reshape(n * TILE, n * TILE)


def exact_image(sigma, centre, side):
    """Integral over every pixel of a circular Gaussian."""
    edges = np.arange(side + 1) - 0.5
    x, y = (np.diff(erf((edges - c) / (np.sqrt(2) * sigma))) / 2 for c in centre)
    return y[:, None] * x[None, :]


def scene(response):
    """Some overlapping Gaussians, corrected where a response asks for it, and their pairs."""
    rng = np.random.default_rng(3)
    shape = (1, 2, 3, 2)
    cxx, cyy = rng.uniform(0.5, 4, (2, *shape))
    cxy = rng.uniform(-0.5, 0.5, shape) * np.sqrt(cxx * cyy)
    det = cxx * cyy - cxy**2
    x, y = rng.uniform(4, 20, (2, *shape))
    numbers = (rng.normal(3, 2, shape), x, y, cyy / det, -cxy / det, cxx / det)
    gaussians = Gaussians(*(jnp.asarray(number) for number in numbers))
    corrected = np.array([[response != "variance", False]])
    return gaussians, lambda patch: all_pairs(patch, gaussians.amplitude, corrected)


def test_exp2(capsys):
    x = np.linspace(-125, 0, 200_001, dtype=np.float32)
    error = np.abs(np.asarray(_exp2(jnp.asarray(x))).astype(float) / np.exp2(x.astype(float)) - 1).max()
    slope = jax.vmap(jax.grad(_exp2))(jnp.asarray([-3.0, -0.25], np.float32))
    with capsys.disabled():
        print(f"\nexp2 in float32: largest relative error {error:.1e}")
    assert error < 3e-7
    np.testing.assert_allclose(slope, np.log(2) * np.exp2([-3.0, -0.25]), rtol=1e-6)
    assert float(_exp2(jnp.float32(-1e4))) < 2e-38


def test_image_is_the_sum_of_gaussians():
    patch = mock_patch()
    gaussians, pairs_of = scene("variance")
    image = as_image(render(gaussians, patch, pairs_of(patch)))
    y, x = np.mgrid[: 3 * TILE, : 3 * TILE]
    expected = np.zeros(x.shape)
    for amplitude, cx, cy, fxx, fxy, fyy in np.stack([np.ravel(g) for g in gaussians], axis=1):
        dx, dy = x - cx, y - cy
        expected += amplitude * np.exp(-0.5 * (fxx * dx**2 + 2 * fxy * dx * dy + fyy * dy**2))
    np.testing.assert_allclose(image, expected, rtol=1e-12, atol=1e-12)
    single = as_image(render(gaussians, patch.astype(np.float32), pairs_of(patch)))
    np.testing.assert_allclose(single, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


# Largest error over the peak in the design's section 5.3, each rounded up in its last digit
LIMITS = {
    "second_order": {0.4: 7.3e-2, 0.6: 2.8e-2, 1.0: 4.5e-3, 1.5: 9.3e-4},
    "variance": {0.4: 2.3e-2, 0.6: 9.1e-3, 1.0: 1.8e-3, 1.5: 3.9e-4},
    "quartic": {0.4: 3.7e-3, 0.6: 1.3e-3, 1.0: 1.2e-4, 1.5: 1.3e-5},
}


@pytest.mark.parametrize("response", LIMITS)
def test_pixel_response_against_exact_integral(response, capsys):
    patch = mock_patch()
    centre = (12.25, 11.75)
    errors = {}
    for sigma in LIMITS[response]:
        variance = sigma**2 + (0 if response == "second_order" else 1 / 12)
        gaussians = one_gaussian(variance * np.eye(2), centre)
        pairs = all_pairs(patch, gaussians.amplitude, np.array([[response != "variance"]]))
        exact = exact_image(sigma, centre, 3 * TILE)
        image = as_image(render(gaussians, patch, pairs, response))
        errors[sigma] = np.abs(image - exact).max() / exact.max()
    with capsys.disabled():
        print(f"\n{response}: error over the peak " + ", ".join(f"{s}: {e:.1e}" for s, e in errors.items()))
    assert all(errors[sigma] < limit for sigma, limit in LIMITS[response].items())


def test_quartic_of_an_inclined_gaussian():
    covariance = np.array([[1.1, 0.5], [0.5, 0.7]])
    centre = np.array([11.3, 12.1])
    patch = mock_patch()
    sub = (np.arange(21) - 10) / 21  # the midpoint rule converges beyond need at this sampling
    y, x = np.mgrid[: 3 * TILE, : 3 * TILE]
    precision = np.linalg.inv(covariance)
    fine = np.broadcast_arrays(x[..., None, None] + sub[:, None], y[..., None, None] + sub[None, :])
    d = np.stack(fine, axis=-1) - centre
    exact = np.exp(-0.5 * np.einsum("...i,ij,...j", d, precision, d)).mean(axis=(-1, -2))
    exact /= 2 * np.pi * np.sqrt(np.linalg.det(covariance))
    gaussians = one_gaussian(covariance + np.eye(2) / 12, centre)
    pairs = all_pairs(patch, gaussians.amplitude, np.array([[True]]))
    error = np.abs(as_image(render(gaussians, patch, pairs, "quartic")) - exact).max() / exact.max()
    plain = all_pairs(patch, gaussians.amplitude)
    plain_error = np.abs(as_image(render(gaussians, patch, plain)) - exact).max() / exact.max()
    assert error < 1.3e-3  # that of a circular Gaussian as narrow as the minor axis
    assert error < 0.1 * plain_error


@pytest.mark.parametrize("response", ["variance", "quartic", "second_order"])
def test_gradient_equals_plain_autodiff(response):
    patch = mock_patch()
    gaussians, pairs_of = scene(response)
    pairs = pairs_of(patch)

    def plain(gaussians):
        residual = patch.data - render(gaussians, patch, pairs, response)
        return jnp.sum((residual * patch.ierr) ** 2)

    value, gradient = eqx.filter_jit(jax.value_and_grad(lambda g: chi2(g, patch, pairs, response)[0]))(
        gaussians
    )
    expected, expected_gradient = jax.jit(jax.value_and_grad(plain))(gaussians)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(chi2(gaussians, patch, pairs, response)[0], expected, rtol=1e-12)
    for ours, theirs in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


def test_weightless_pixels_do_not_count():
    patch = mock_patch()
    gaussians, pairs_of = scene("variance")
    spoiled = eqx.tree_at(lambda p: p.data, patch, jnp.where(patch.ierr > 0, patch.data, 1e6))
    np.testing.assert_allclose(
        chi2(gaussians, spoiled, pairs_of(patch)), chi2(gaussians, patch, pairs_of(patch)), rtol=1e-14
    )


def test_tiles_in_no_list_count_with_a_model_of_zero():
    patch = mock_patch()
    gaussians = one_gaussian(np.eye(2), (4.0, 4.0))
    everywhere = chi2(gaussians, patch, all_pairs(patch, gaussians.amplitude))
    one = np.zeros(1, dtype=int)
    first_only = listed_pairs(patch, one, [one], [one[:0]])
    # the Gaussian is on the first tile, but for a tail of 3.5 sigma
    np.testing.assert_allclose(chi2(gaussians, patch, first_only), everywhere, rtol=1e-4)


def test_sums_are_accurate_for_large_chi2(capsys):
    """Differences of log-likelihood between neighbours at chi2 = 1e7, float32 pixels against float64."""
    patch = mock_patch(n=12, seed=1)
    gaussians, pairs_of = scene("variance")
    pairs = pairs_of(patch)
    image = render(gaussians, patch, pairs)
    scale = np.sqrt(1e7 / np.sum(np.asarray(patch.ierr) > 0))
    noise = np.random.default_rng(5).normal(size=patch.data.shape) / np.maximum(patch.ierr, 1e-9)
    bright = eqx.tree_at(lambda p: p.data, patch, jnp.where(patch.ierr > 0, image + scale * noise, 0))
    perturbed = gaussians._replace(x=gaussians.x + 1e-3, amplitude=gaussians.amplitude * 1.001)

    def difference(patch):
        return -0.5 * float((chi2(perturbed, patch, pairs) - chi2(gaussians, patch, pairs))[0])

    exact = difference(bright)
    error = abs(difference(bright.astype(np.float32)) - exact)
    with capsys.disabled():
        print(f"\nlog-likelihood difference {exact:.4f} at chi2 = 1e7: float32 errs by {error:.1e}")
    assert error < 1e-3
