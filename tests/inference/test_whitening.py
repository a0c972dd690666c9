"""Known covariances of single sources in the mass matrix."""

import numpy as np
import pytest

from fphojax.inference.covariance import places
from fphojax.inference.optimum import optimize
from fphojax.inference.posterior import posterior_around
from fphojax.inference.whitening import rescale_to_blocks

NAMES = ("x", "y", "q", "pa", "sersic", "rhalf")


@pytest.fixture(scope="module", params=[True, False], ids=["integrated", "sampled"])
def fitted(request, make_patcher):
    """Two sources; optimum, covariance of its coordinates, and derivatives of the parameters by them."""
    patcher, catalog = make_patcher(n_source=2)
    model, start = patcher.prepare_model(active=catalog)
    optimum = optimize(model, start, density="unconstrained")
    posterior, origin, spread, slopes = posterior_around(
        model, optimum, integrate_fluxes=request.param, ellipticity=False
    )
    by_differences = _slopes(posterior, optimum, origin, 0)
    at = places(optimum.values)
    rows = np.concatenate([at["flux"][0], [at[name][0] for name in NAMES]])
    np.testing.assert_allclose(slopes[rows], by_differences, rtol=1e-4, atol=1e-6)
    return optimum, spread, slopes, by_differences, {"with_fluxes": not request.param}


def _slopes(posterior, optimum, origin, source):
    """Derivatives of the parameters of a source by all coordinates, by finite differences."""

    def parameters(point):
        values = posterior.coordinates.values(posterior.unravel(posterior.expanded(point)))
        values = optimum.values | {name: np.asarray(value) for name, value in values.items()}
        return np.concatenate([values["flux"][source], [values[name][source] for name in NAMES]])

    steps = 1e-6 * np.eye(len(origin))
    return np.stack([parameters(origin + step) - parameters(origin - step) for step in steps], axis=1) / 2e-6


def test_widths_are_the_known_ones_and_correlations_stay(fitted):
    """The first source's covariance times nine."""
    optimum, spread, slopes, columns, how = fitted
    n_band = optimum.values["flux"].shape[1]
    known = np.full((2, n_band + 6, n_band + 6), np.nan)
    np.testing.assert_array_equal(rescale_to_blocks(spread, slopes, optimum, known, **how), spread)

    known[0] = 9 * columns @ spread @ columns.T
    found = rescale_to_blocks(spread, slopes, optimum, known, **how)
    factor = np.where((columns != 0).any(axis=0), 3.0, 1.0)
    assert 6 <= np.count_nonzero(factor == 3) == len(factor) // 2
    np.testing.assert_allclose(found, np.outer(factor, factor) * spread, rtol=1e-4, atol=1e-9)


def test_a_parameter_without_width_keeps_its_own(fitted):
    optimum, spread, slopes, _, how = fitted
    n_band = optimum.values["flux"].shape[1]
    held = np.zeros((2, n_band + 6, n_band + 6))
    found = rescale_to_blocks(spread, slopes, optimum, held, **how)
    np.testing.assert_allclose(found, spread, rtol=1e-9, atol=1e-12)
