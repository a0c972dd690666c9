"""Fluxes at given shapes, against the least-squares solution from rendered templates; and what is flagged."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.distributions import Uniform

from fphojax.core.model import SceneModel
from fphojax.inference.covariance import parameter_covariance, source_covariances
from fphojax.inference.flags import fit_flags
from fphojax.inference.linear_fit import flux_precision, forced_fluxes, held_shapes
from fphojax.inference.optimum import BestFit

BANDS = ("F1", "F2")


@pytest.fixture(scope="module")
def scene(make_patcher):
    """Two sources with noise, listed for nothing; and a flux to start from that is far off."""
    patcher, catalog = make_patcher(dtype=np.float64)
    model, truth = patcher.prepare_model(active=catalog, listed=False)
    image = images(model, truth)
    model = eqx.tree_at(lambda m: m.patch.data, model, model.patch.data + image * (model.patch.ierr > 0))
    return model, truth


images = eqx.filter_jit(SceneModel.images)


def least_squares(model, values):
    """Fluxes (S, B) and precision matrices (B, S, S) from images of single sources."""
    exposure, ierr = np.asarray(model.patch.exposure), np.asarray(model.patch.ierr)
    fluxes, matrices = [], []
    for e in range(2):
        used = exposure == e
        columns = []
        for s in range(2):
            flux = np.zeros((2, 2))
            flux[s, e] = 1.0
            # brighter than it is, so that nothing is left out as too faint
            template = np.asarray(images(model, {**values, "flux": jnp.asarray(1e6 * flux)})) / 1e6
            columns.append((template * ierr)[used].ravel())
        design = np.array(columns)
        data = (np.asarray(model.patch.data) * ierr)[used].ravel()
        matrices.append(design @ design.T)
        fluxes.append(np.linalg.solve(matrices[-1], design @ data))
    return np.array(fluxes).T, np.array(matrices)


def test_forced_fluxes_are_the_least_squares_solution(scene):
    model, truth = scene
    start = {**truth, "flux": truth["flux"] * 0.6}
    found = forced_fluxes(model, start)
    flux, precision = least_squares(model, truth)
    assert found.converged
    np.testing.assert_allclose(found.values["flux"], flux, rtol=1e-6)
    for name in ("x", "y", "q", "pa", "sersic", "rhalf"):
        np.testing.assert_array_equal(found.values[name], truth[name])
    np.testing.assert_allclose(flux_precision(model, found), precision, rtol=1e-6)
    covariance = source_covariances(parameter_covariance(held_shapes(model, start), found), found.values)
    expected = np.linalg.inv(precision)
    for band in range(2):
        np.testing.assert_allclose(covariance[:, band, band], np.diag(expected[band]), rtol=1e-2)
    assert fit_flags(held_shapes(model, start), found, BANDS) == [{}, {}]


def test_sources_at_one_place_with_one_shape(scene):
    """The sum is known, its parts are not: their errors are of the size of the prior."""
    model, truth = scene
    twins = {name: np.array(value) for name, value in truth.items()}
    for name in ("x", "y", "q", "pa", "sersic", "rhalf"):
        twins[name][1] = twins[name][0]
    optics = model.optics
    same = eqx.tree_at(
        lambda o: (o.offset, o.pixel, o.jacobian),
        optics,
        (
            optics.offset[jnp.array([0, 0])],
            optics.pixel[:, jnp.array([0, 0])],
            optics.jacobian[:, jnp.array([0, 0])],
        ),
    )
    priors = {
        name: Uniform(prior.low[jnp.array([0, 0])], prior.high[jnp.array([0, 0])])
        for name, prior in model.priors.items()
    }
    model = dataclasses.replace(model, optics=same, priors=priors)
    found = forced_fluxes(model, twins)
    flags = fit_flags(held_shapes(model, twins), found, BANDS)
    assert [set(row) for row in flags] == [{"degenerate"}] * 2
    assert flags[0]["degenerate"] == "in F1, in F2"
    covariance = source_covariances(parameter_covariance(held_shapes(model, twins), found), found.values)
    width = np.asarray(model.priors["flux"].high - model.priors["flux"].low)[0, 0]
    assert 0.1 * width < np.sqrt(covariance[0, 0, 0]) < width


def test_a_band_without_pixels(scene):
    model, truth = scene
    seen = np.asarray(model.patch.ierr) * (np.asarray(model.patch.exposure) == 0)[:, None]
    masked = eqx.tree_at(lambda m: m.patch.ierr, model, jnp.asarray(seen))
    found = forced_fluxes(masked, truth)
    assert found.converged
    np.testing.assert_allclose(found.values["flux"][:, 1], truth["flux"][:, 1], rtol=1e-6)
    assert fit_flags(held_shapes(masked, truth), found, BANDS) == [{"no data": "in F2"}] * 2


def test_fewer_pixels_than_parameters(scene):
    model, truth = scene
    few = np.zeros(model.patch.ierr.shape)
    few[[0, 4], 30:33] = 1.0
    model = eqx.tree_at(lambda m: m.patch.ierr, model, jnp.asarray(few))
    size = sum(np.size(value) for value in truth.values())
    at = BestFit(
        values=truth,
        unconstrained=truth,
        chi2=np.zeros(2),
        fisher=np.eye(size),
        pull=np.zeros(size),
        hessian=np.eye(size),
        n_step=100,
        converged=False,
        at_bound={name: np.zeros(np.shape(value), bool) for name, value in truth.items()},
    )
    flags = fit_flags(model, at, BANDS)
    assert flags == [{"not converged": "after 100 steps", "few pixels": "6 for 16 parameters"}] * 2
