"""Gradients of the log posterior, transforms, normal equations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.table import Table
from jax.flatten_util import ravel_pytree
from numpyro.distributions import DoublyTruncatedPowerLaw, LogNormal, Normal, TruncatedNormal

from fphojax import InputError
from fphojax.core.model import support_edges


def profiled(catalog, profiles):
    """The catalogue with special profiles."""
    return catalog.replace(extra=Table({"profile": profiles}))


PRIORS = {
    "box": {},
    "unbounded": {
        "flux": Normal(300.0, 100.0),
        "x": Normal(0.0, 0.05),
        "y": Normal(0.0, 0.05),
        "sersic": LogNormal(0.6, 0.4),
        "rhalf": LogNormal(-1.8, 0.5),
        "q": TruncatedNormal(0.6, 0.2, low=0.05, high=1.0),
    },
}


@pytest.fixture(scope="module", params=PRIORS)
def scene(request, make_patcher):
    """Model in float64, the same in float32, and a point away from the optimum."""
    models = []
    for dtype in (np.float64, np.float32):
        patcher, catalog = make_patcher(dtype=dtype)
        model, start = patcher.prepare_model(active=catalog, priors=PRIORS[request.param])
        models.append(model)
    truth = {name: jnp.asarray(value) for name, value in start.items()}
    image = eqx.filter_jit(models[0].images)(truth)
    models = [with_image(model, image) for model in models]
    unconstrained = models[0].unconstrain(truth)
    flat, unravel = ravel_pytree(unconstrained)
    values = unravel(flat + 0.05 * np.random.default_rng(1).normal(size=flat.size))
    return *models, values


def with_image(model, image):
    """The model with the sources' image added to its pixels."""
    data = jnp.where(model.patch.ierr > 0, model.patch.data + image.astype(model.patch.data.dtype), 0)
    return eqx.tree_at(lambda m: m.patch.data, model, data)


def test_gradient_against_finite_differences(scene, capsys):
    model, _, point = scene
    flat, unravel = ravel_pytree(point)
    potential = eqx.filter_jit(lambda m, u: m.potential(unravel(u)))
    gradient = np.asarray(
        eqx.filter_jit(lambda m, u: jax.grad(lambda v: m.potential(unravel(v)))(u))(model, flat)
    )

    def central(i, step):
        shift = step * np.eye(flat.size)[i]
        return float(potential(model, flat + shift) - potential(model, flat - shift)) / (2 * step)

    # Richardson's extrapolation of central differences: error of fourth order in the step
    step = 1e-3
    numeric = np.array([(4 * central(i, step / 2) - central(i, step)) / 3 for i in range(flat.size)])
    error = np.abs(gradient / numeric - 1)
    with capsys.disabled():
        print(f"\ngradient of the log posterior, float64, against finite differences: {error.max():.1e}")
    assert error.max() < 1e-6


def test_float32_gradient(scene, capsys):
    double, single, point = scene
    gradients = [
        ravel_pytree(eqx.filter_jit(lambda m, u: jax.grad(m.potential)(u))(model, point))[0]
        for model in (double, single)
    ]
    error = float(jnp.linalg.norm(gradients[1] - gradients[0]) / jnp.linalg.norm(gradients[0]))
    with capsys.disabled():
        print(f"\ngradient in float32 against float64: {error:.1e} of its norm")
    assert error < 1e-4


def test_potential_is_the_log_posterior_with_jacobian(scene):
    model, _, point = scene
    values = model.constrain(point)
    log_jacobian = sum(
        jnp.sum(transform.log_abs_det_jacobian(point[name], values[name]))
        for name, transform in model.transforms.items()
    )
    expected = -(model.log_likelihood(values) + model.log_prior(values) + log_jacobian)
    np.testing.assert_allclose(model.potential(point), expected, rtol=1e-12)


def test_unconstrain_inverts_constrain(scene):
    model, _, point = scene
    back = model.unconstrain(model.constrain(point))
    for name, value in point.items():
        np.testing.assert_allclose(back[name], value, rtol=1e-9, atol=1e-9)


def test_fisher_matrix_against_the_jacobian_of_the_image(scene):
    model, _, point = scene
    values = model.constrain(point)
    flat, unravel = ravel_pytree(values)
    ierr = np.asarray(model.patch.ierr)
    jacobian = np.asarray(jax.jit(jax.jacfwd(lambda v: model.images(unravel(v))))(flat)) * ierr[..., None]
    expected = np.einsum("tpi,tpj->ij", jacobian, jacobian)
    scale = np.sqrt(np.diag(expected))
    fisher = np.asarray(eqx.filter_jit(lambda m, v: m.fisher(v))(model, values))
    np.testing.assert_allclose(fisher / np.outer(scale, scale), expected / np.outer(scale, scale), atol=1e-4)


def test_point_source_is_its_psf(make_patcher):
    patcher, catalog = make_patcher(n_source=1, dtype=np.float64)
    model, start = patcher.prepare_model(active=profiled(catalog, ["point"]))
    gaussians = model.gaussians({name: jnp.asarray(value) for name, value in start.items()})
    covariance = np.linalg.inv(
        np.stack([gaussians.fxx, gaussians.fxy, gaussians.fxy, gaussians.fyy], axis=-1).reshape(-1, 2, 2)
    ).reshape(*gaussians.x.shape, 2, 2)
    psf = np.asarray(model.merged_optics.psf_covariance)[:, :, None]
    np.testing.assert_allclose(
        covariance[..., 0, 0], np.broadcast_to(psf[..., 0] + 1 / 12, gaussians.x.shape)
    )
    assert model.fisher({name: jnp.asarray(value) for name, value in start.items()})[-3:, -3:].any()


def test_values_at_edges_and_held_ones_have_finite_unconstrained_values(make_patcher):
    """An optimum lies on the edge of its box, or beside it where a profile holds a parameter: chains start there."""
    patcher, catalog = make_patcher(n_source=2, dtype=np.float64)
    rhalf = LogNormal(np.log(0.2), 0.5)
    model, start = patcher.prepare_model(
        active=profiled(catalog, ["point", "sersic"]), priors={"rhalf": rhalf}, tolerance=0
    )
    high = np.asarray(support_edges(model.priors["q"])[1])
    values = {name: np.asarray(value) for name, value in model.effective({**start, "q": high}).items()}
    values["sersic"] = np.array([1.0, support_edges(model.priors["sersic"])[1][1]])
    values["pa"] = np.array(support_edges(model.priors["pa"])[0])
    point = model.unconstrain(values)
    back = model.constrain(point)
    assert values["rhalf"][0] == 0  # outside the support
    for name in values:
        assert np.isfinite(point[name]).all(), name
        low, high = support_edges(model.priors[name])
        assert ((back[name] > low) & (back[name] < high)).all(), name
    for name in ("q", "pa", "sersic"):
        width = np.ptp([np.asarray(edge)[1] for edge in support_edges(model.priors[name])])
        far = abs(back[name][1] - values[name][1]) / width
        print(f"{name} of the free source: moved by {far:.1e} of its box")
        assert far == pytest.approx(1e-3)


@pytest.mark.parametrize(("profile", "index"), [("exponential", 1.0), ("devaucouleurs", 4.0)])
def test_special_profiles_hold_the_index(make_patcher, profile, index):
    patcher, catalog = make_patcher(n_source=2, dtype=np.float64)
    model, start = patcher.prepare_model(active=profiled(catalog, [profile, "sersic"]), tolerance=0)
    values = {name: jnp.asarray(value) for name, value in start.items()}
    free, _ = patcher.prepare_model(active=catalog, tolerance=0)
    expected = free.chi2({**values, "sersic": values["sersic"].at[0].set(index)})
    np.testing.assert_allclose(model.chi2(values), expected, rtol=1e-12)
    gradient = jax.grad(model.log_likelihood)(values)
    assert gradient["sersic"][0] == 0
    assert gradient["sersic"][1] != 0


def test_tied_components_share_a_centre(make_patcher):
    """A disk at the centre of its bulge: gradients and Fisher matrix are those of the common position."""
    patcher, catalog = make_patcher(n_source=2, dtype=np.float64)
    model, start = patcher.prepare_model(active=catalog, ties={"x": {1: 0}, "y": {1: 0}}, tolerance=0)
    values = {name: jnp.asarray(value) for name, value in start.items()}
    tied_values = {
        **values,
        "x": values["x"].at[1].set(values["x"][0]),
        "y": values["y"].at[1].set(values["y"][0]),
    }
    free, _ = patcher.prepare_model(active=catalog, tolerance=0)
    np.testing.assert_allclose(model.chi2(values), free.chi2(tied_values), rtol=1e-12)
    gradient, untied_gradient = (
        jax.grad(model.log_likelihood)(values),
        jax.grad(free.log_likelihood)(tied_values),
    )
    np.testing.assert_allclose(gradient["x"], [untied_gradient["x"].sum(), 0], rtol=1e-9)
    fisher, unravel = model.fisher(values), ravel_pytree(values)[1]
    flags = unravel(jnp.diag(fisher))
    assert flags["x"][1] == 0
    assert flags["x"][0] > 0
    full = free.fisher(tied_values)
    x = ravel_pytree({name: jnp.full(jnp.shape(v), name == "x", float) for name, v in values.items()})[0] > 0
    np.testing.assert_allclose(flags["x"][0], full[np.ix_(x, x)].sum(), rtol=1e-9)


def test_refused_profiles_and_ties(make_patcher):
    patcher, catalog = make_patcher(n_source=2)
    for options, message in (
        (
            {"active": profiled(catalog, ["sersic", "bulge"])},
            "row 1: profile is 'bulge', expected one of sersic, exponential",
        ),
        ({"ties": {"z": {1: 0}}}, "found parameter 'z', expected one of flux, x, y"),
        ({"ties": {"x": {1: 2}}}, "found x of row 1 tied to row 2, expected free rows below 2"),
    ):
        with pytest.raises(InputError, match=message):
            patcher.prepare_model(**{"active": catalog} | options)


def test_model_without_lists_has_no_likelihood(make_patcher):
    patcher, catalog = make_patcher()
    model, values = patcher.prepare_model(active=catalog, listed=False)
    for function in (lambda: model.log_likelihood(values), model.segments):
        with pytest.raises(
            ValueError, match="pairs: found none, expected those of a model made with listed=True"
        ):
            function()


def test_widths_of_priors(make_patcher):
    """By formula, by draws, for a parameter that is held and for one that is tied."""
    patcher, catalog = make_patcher(n_source=3)
    priors = {"q": DoublyTruncatedPowerLaw(-0.5, 0.2, 1.0), "rhalf": Normal(0.2, jnp.array([0.1, 0.2, 0.3]))}
    model, _ = patcher.prepare_model(
        active=profiled(catalog, ["sersic", "exponential", "sersic"]), priors=priors, ties={"rhalf": {1: 2}}
    )
    widths = model.prior_widths()
    low, high = np.sqrt([0.2, 1.0])  # uniform in sqrt(b/a)
    mean, square = ((high**n - low**n) / n / (high - low) for n in (3, 5))
    np.testing.assert_allclose(widths["q"], np.sqrt(square - mean**2), rtol=0.03)
    np.testing.assert_allclose(widths["rhalf"], [0.1, 0.3, 0.3], rtol=1e-6)
    assert np.isnan(widths["sersic"]).tolist() == [False, True, False]
    assert {name: width.shape for name, width in widths.items()} == {
        name: prior.batch_shape for name, prior in model.priors.items()
    }
