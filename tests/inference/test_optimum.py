"""The optimiser on mock scenes with known optimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy import units as u
from jax.flatten_util import ravel_pytree
from numpyro.distributions import LogNormal, Normal, Uniform

from fphojax import default_bounds
from fphojax.inference.optimum import optimize, optimize_many


def with_sources(model, values, noise=0.0):
    """The model with the image of given parameters, and the mock's noise times a factor, as its pixels."""
    image = eqx.filter_jit(model.images)({name: jnp.asarray(v) for name, v in values.items()})
    data = jnp.where(model.patch.ierr > 0, noise * model.patch.data + image, 0)
    return eqx.tree_at(lambda m: m.patch.data, model, data)


@pytest.fixture(scope="module")
def scene(make_patcher):
    patcher, catalog = make_patcher(dtype=np.float64)
    model, truth = patcher.prepare_model(active=catalog)
    return model, truth


def rough(model, values, size=0.3, seed=4):
    """Parameters moved at random, by so much in unconstrained units."""
    flat, unravel = ravel_pytree(model.unconstrain(values))
    return model.constrain(unravel(flat + size * np.random.default_rng(seed).normal(size=flat.size)))


def test_noiseless_truth_is_found(scene):
    model, truth = scene
    exact = with_sources(model, truth)
    found = optimize(exact, rough(model, truth), tolerance=1e-10)
    assert found.converged
    assert found.chi2.sum() < 1e-6
    for name, value in truth.items():
        np.testing.assert_allclose(found.values[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def test_gradient_vanishes_at_the_optimum(scene):
    model, truth = scene
    noisy = with_sources(model, truth, noise=1.0)
    for density in ("values", "unconstrained"):
        found = optimize(noisy, rough(model, truth), density=density, tolerance=1e-8)
        assert found.converged

        def cost(u, density=density):
            values = noisy.constrain(u)
            return noisy.potential(u) if density == "unconstrained" else -noisy.log_likelihood(values)

        gradient = ravel_pytree(jax.jit(jax.grad(cost))(found.unconstrained))[0]
        # in units of one standard deviation
        assert np.abs(gradient / np.sqrt(np.diag(found.hessian))).max() < 1e-2


def test_fisher_matrix_gives_the_scatter_of_estimates(scene, capsys):
    """Fluxes over noise realisations scatter as the inverse Fisher matrix says.

    The noise is a tenth of what the weights say, so that the scatter stays where the model is linear.
    """
    model, truth = scene
    estimates = []
    for seed in range(60):
        noise = np.random.default_rng(seed).normal(size=model.patch.data.shape)
        fresh = eqx.tree_at(lambda m: m.patch.data, model, jnp.asarray(noise))
        found = optimize(with_sources(fresh, truth, noise=0.1), truth)
        estimates.append(found.values["flux"].ravel())
    covariance = np.linalg.inv(found.fisher)
    size = truth["flux"].size  # fluxes come first in the flat order
    ratio = np.std(estimates, axis=0) / (0.1 * np.sqrt(np.diag(covariance)[:size]))
    with capsys.disabled():
        print(f"\nscatter of fluxes over 60 noise realisations, in Fisher sigmas: {np.round(ratio, 2)}")
    assert (np.abs(ratio - 1) < 0.35).all()  # 3.8 standard errors of a scatter from 60


def test_parameter_at_its_bound_is_flagged(make_patcher):
    patcher, catalog = make_patcher(dtype=np.float64)
    _wide, truth = patcher.prepare_model(active=catalog)
    bounds = default_bounds(catalog).replace(sersic=(0.6, catalog.sersic.min() - 0.3))
    narrow, start = patcher.prepare_model(
        active=catalog.replace(sersic=np.full(2, catalog.sersic.min() - 0.5)), bounds=bounds
    )
    found = optimize(with_sources(narrow, truth), start)
    assert found.at_bound["sersic"].all()
    assert not found.at_bound["flux"].any()


def test_informative_prior_pulls(make_patcher):
    patcher, catalog = make_patcher(dtype=np.float64)
    mean = catalog.flux[0, 0] + 50
    model, truth = patcher.prepare_model(active=catalog, priors={"flux": Normal(mean, 1e-3)})
    found = optimize(with_sources(model, truth), truth)
    np.testing.assert_allclose(found.values["flux"], mean, atol=1e-2)


def test_position_angle_is_not_caught_at_the_edge_of_its_box(make_patcher):
    """The box is wider than half a turn; from a start near its edge the way to the truth may lead outside."""
    patcher, catalog = make_patcher(n_source=1, dtype=np.float64)
    inclined = catalog.replace(pa=np.rad2deg([-0.9]), q=np.array([0.45]))
    bounds = default_bounds(catalog)  # -30 to 210 degrees
    model, truth = patcher.prepare_model(active=inclined, bounds=bounds)
    found = optimize(with_sources(model, truth), {**truth, "pa": np.array([-0.3])})
    assert not found.at_bound["pa"].any()
    np.testing.assert_allclose(found.values["pa"], np.pi - 0.9, atol=1e-3)


@pytest.mark.parametrize(
    ("half", "as_prior"), [(np.pi / 2, False), (np.pi / 2, True), (np.pi / 2 + 0.1, True)]
)
def test_box_of_half_a_turn(make_patcher, half, as_prior):
    """From its inside to its other end there is no way but over the edge."""
    patcher, catalog = make_patcher(n_source=1, dtype=np.float64)
    catalog = catalog.replace(pa=np.rad2deg([1.9 - np.pi]), q=np.array([0.4]))
    bounds = default_bounds(catalog).replace(pa=np.rad2deg([-half, half]) * u.deg)
    priors = {"pa": Uniform(-half, half)} if as_prior else None
    model, truth = patcher.prepare_model(active=catalog, bounds=bounds, priors=priors)
    found = optimize(with_sources(model, truth), {**truth, "pa": np.array([1.3])})
    assert found.converged
    assert not found.at_bound["pa"].any()
    np.testing.assert_allclose(found.values["pa"], 1.9 - np.pi, atol=1e-3)


def test_no_density_at_the_start(scene):
    """Nothing was found then, and that is said."""
    model, truth = scene
    found = optimize(with_sources(model, truth), {**truth, "flux": np.full_like(truth["flux"], np.nan)})
    assert not found.converged
    assert np.isnan(found.chi2).all()
    with pytest.raises(ValueError, match="density: found 'Values', expected 'values' or 'unconstrained'"):
        optimize(model, truth, density="Values")


def test_negative_flux_under_a_positive_prior(make_patcher):
    """The start is moved to where the density is finite."""
    patcher, catalog = make_patcher(n_source=1, dtype=np.float64)
    start = catalog.replace(flux=np.array([[-3.0, catalog.flux[0, 1]]]))
    options = {"priors": {"flux": LogNormal(5.0, 1.0)}, "listed": False}
    model, values = patcher.prepare_model(active=start, **options)
    _, truth = patcher.prepare_model(active=catalog, **options)
    found = optimize(with_sources(model, truth), values)
    assert found.converged
    np.testing.assert_allclose(found.values["flux"], truth["flux"], rtol=0.05)


def test_many_together_are_found_as_one_by_one(make_patcher, scene):
    """Three of one size, which make a program of four, and one of another."""
    patcher, catalog = make_patcher(dtype=np.float64)
    alone = [patcher.prepare_model(active=catalog[row : row + 1]) for row in (0, 1, 0)]
    scenes = [(with_sources(model, values, noise), values) for noise, (model, values) in enumerate(alone)]
    scenes.insert(1, scene)
    models = [model for model, _ in scenes]
    starts = [rough(*one, seed=number) for number, one in enumerate(scenes)]
    together = optimize_many(models, starts)
    for model, start, found in zip(models, starts, together, strict=True):
        expected = optimize(model, start)
        assert found.converged
        assert found.n_step == expected.n_step
        np.testing.assert_allclose(found.chi2, expected.chi2, rtol=1e-9, atol=1e-9)
        for name, value in expected.values.items():
            np.testing.assert_allclose(found.values[name], value, rtol=1e-5, atol=1e-7, err_msg=name)
