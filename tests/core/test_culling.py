"""Culling and merging change no pixel by more than they may; everything is compared with nothing left out."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from fphojax import CircularRegion, Patcher, PSFMixture, PSFStore, default_bounds
from fphojax.core.patch import TILE

TOLERANCE = 1e-3


def plain_image(model, values):
    """The model's listed Gaussians on every tile, evaluated one by one with numpy, without a pixel response."""
    table = np.concatenate(
        [np.stack([np.ravel(g) for g in model.gaussians(values)], axis=1), np.zeros((1, 6))]
    )
    y, x = np.mgrid[:TILE, :TILE].reshape(2, -1)
    images = np.zeros((model.patch.n_tile, TILE * TILE))
    for row in range(int(model.pairs.level[-1])):
        tile, plain, _ = model.pairs.row(row, model.pairs.longest, len(table) - 1)
        amplitude, cx, cy, fxx, fxy, fyy = table[np.asarray(plain)].T[:, :, None]
        dx, dy = x + int(model.patch.origin[tile, 0]) - cx, y + int(model.patch.origin[tile, 1]) - cy
        images[tile] = (amplitude * np.exp(-0.5 * (fxx * dx**2 + 2 * fxy * dx * dy + fyy * dy**2))).sum(
            axis=0
        )
    return images


def with_lists(model, lower, upper, tolerance):
    """The model with lists for a box and a tolerance."""
    return dataclasses.replace(model, tolerance=tolerance).culled(lower, upper)


def random_scene(make_patcher, seed, **kwargs):
    """A model with all pairs, the box around the truth, and some points in it."""
    rng = np.random.default_rng(seed)
    patcher, catalog = make_patcher(n_source=2, side=56, seed=seed, **kwargs)
    catalog = catalog.replace(
        flux=catalog.flux * 10 ** rng.uniform(-1, 1.5),
        rhalf=10 ** rng.uniform(-1.6, -0.3, 2),
        q=rng.uniform(0.3, 1, 2),
    )
    bounds = default_bounds(
        catalog, sqrtq_range=(0.1, 1.0), rhalf_range=(0.001, 5.0), sersic_range=(0.5, 7.9)
    )
    model, start = patcher.prepare_model(active=catalog, bounds=bounds, tolerance=0)
    width = rng.uniform(0.02, 0.3)
    lower = {name: value - width * np.abs(value) for name, value in start.items()}
    upper = {name: value + width * np.abs(value) for name, value in start.items()}
    for name in ("x", "y"):
        lower[name], upper[name] = start[name] - 0.1 * width, start[name] + 0.1 * width
    upper["q"] = np.minimum(upper["q"], 1.0)
    lower["sersic"] = np.maximum(lower["sersic"], 0.5)
    points = [
        {
            name: jnp.asarray(lower[name] + rng.random(np.shape(v)) * (upper[name] - lower[name]))
            for name, v in start.items()
        }
        for _ in range(3)
    ]
    corners = [{name: jnp.asarray(side[name]) for name in start} for side in (lower, upper)]
    return model, lower, upper, points + corners


@pytest.mark.parametrize("seed", range(6))
def test_no_pixel_changes_by_more_than_the_tolerance(make_patcher, seed, capsys):
    model, lower, upper, points = random_scene(make_patcher, seed)
    culled = with_lists(model, lower, upper, TOLERANCE)
    ierr = np.asarray(model.patch.ierr)
    change = max(np.abs((plain_image(culled, p) - plain_image(model, p)) * ierr).max() for p in points)
    share = culled.pairs.n_pair / model.pairs.n_pair
    with capsys.disabled():
        print(f"\nculled and merged: {share:.0%} of the pairs, largest change {change:.1e} of the noise")
    assert change < TOLERANCE
    assert share < 0.9


def test_value_and_gradient(make_patcher):
    model, lower, upper, points = random_scene(make_patcher, 1)
    culled = with_lists(model, lower, upper, TOLERANCE)
    evaluate = eqx.filter_jit(lambda m, v: jax.value_and_grad(m.log_likelihood)(v))
    for point in points:
        (value, gradient), (expected, expected_gradient) = evaluate(culled, point), evaluate(model, point)
        gradient, expected_gradient = ravel_pytree(gradient)[0], ravel_pytree(expected_gradient)[0]
        assert abs(value - expected) < 0.05
        error = jnp.linalg.norm(gradient - expected_gradient) / jnp.linalg.norm(expected_gradient)
        assert error < 1e-4


def test_tolerance_of_zero_keeps_everything(make_patcher):
    model, lower, upper, points = random_scene(make_patcher, 2)
    exact = with_lists(model, lower, upper, 0.0)
    np.testing.assert_allclose(plain_image(exact, points[0]), plain_image(model, points[0]), rtol=1e-10)


def test_only_narrow_gaussians_carry_the_quartic_term(make_patcher, capsys):
    model, lower, upper, points = random_scene(make_patcher, 3, sigma=0.7, pixel_response="quartic")
    culled = with_lists(model, lower, upper, TOLERANCE)
    image = eqx.filter_jit(lambda m, v: m.images(v))
    expected = image(model, points[0])
    change = float(jnp.abs(image(culled, points[0]) - expected).max() / expected.max())
    with capsys.disabled():
        print(f"\nquartic term on narrow Gaussians alone: {change:.1e} of the peak")
    assert change < 1e-3
    assert 0 < int(culled.pairs.begin_corrected[-1]) < 0.5 * culled.pairs.n_pair


def test_psf_with_a_negative_gaussian(make_patcher):
    """Merged, its first two have a negative variance: they are no Gaussian, and stay apart."""
    patcher, catalog = make_patcher(n_source=1, side=16)
    shape = np.array([1.0, 2.0, 6.0])[:, None] * [1.0, 1.0, 0.0]
    psf = PSFMixture([0.9, -0.5, 0.6], np.zeros((3, 2)), shape, includes_pixel=False)
    psfs = PSFStore()
    for band in catalog.bands:
        psfs.add(psf, band)
    patcher = Patcher(patcher.exposures, psfs, pixel_response="variance")
    patcher.build_patch(CircularRegion(53.1, -27.8, 60.0), allbands=catalog.bands)
    full, start = patcher.prepare_model(active=catalog, tolerance=0)
    culled, _ = patcher.prepare_model(active=catalog)
    values = {name: jnp.asarray(value) for name, value in start.items()}
    np.testing.assert_allclose(culled.chi2(values), full.chi2(values), rtol=1e-5)
    gradient, expected = (jax.grad(lambda v, m=m: m.chi2(v).sum())(values) for m in (culled, full))
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(gradient[name], value, atol=1e-3 * scale, err_msg=name)
