"""Posterior of a PSF mixture, for its uncertainty."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from .psf_result import PSFFit
from .psf_solver import Problem, covariance_of, factor_of, solve

__all__ = ["PSFPosterior", "sample_psf"]

_PIXEL_VARIANCE = 1 / 12
# Smallest width that the prior allows [native pixels].
_MIN_WIDTH = 0.05


@dataclasses.dataclass(frozen=True)
class PSFPosterior:
    """Posterior draws of a PSF mixture.

    Attributes
    ----------
    amplitudes : ndarray (chain, draw, K)
    means : ndarray (chain, draw, K, 2)
        Native pixels.
    covariances : ndarray (chain, draw, K, 3)
        xx, yy, xy, native pixels squared.
    noise : ndarray (chain, draw)
        Standard deviation of a pixel, per native pixel and for a PSF scaled as the fit scaled it.
    r_hat : float
        Largest split R-hat of all parameters.
    divergences : int
    """

    amplitudes: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    noise: np.ndarray
    r_hat: float
    divergences: int


def sample_psf(
    fit: PSFFit,
    image: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    num_warmup: int = 500,
    num_samples: int = 500,
    num_chains: int = 2,
    seed: int = 0,
) -> PSFPosterior:
    """Sample the posterior of a mixture found by `fit_psf` with NUTS, starting from the fit.

    The noise of the pixels is unknown, the same for all, and Gaussian; misfit of the mixture counts as noise.
    Priors are uniform: amplitudes between 0 and twice the total (with the signs of the fit), means within half
    of the image, logarithms of the widths along x and y, correlation, logarithm of the noise. Of an
    oversampled image one pixel per native pixel is used, since sums over native pixels overlap.

    Parameters
    ----------
    fit : PSFFit
    image : array (ny, nx)
        The image that was fitted.
    mask : array of bool (ny, nx), optional
        As in the fit.
    num_warmup, num_samples, num_chains : int
        Warm-up steps and draws per chain; number of chains, which run in sequence.
    seed : int

    Returns
    -------
    PSFPosterior
    """
    import jax
    from numpyro.diagnostics import split_gelman_rubin
    from numpyro.infer import MCMC, NUTS, init_to_value

    model, start = _model(fit, fit.effective(image, mask=mask))
    strategy = init_to_value(values=start)
    kernel = NUTS(
        model,
        init_strategy=strategy,
        dense_mass=True,
        adapt_mass_matrix=False,
        inverse_mass_matrix=_inverse_hessian(model, strategy),
        target_accept_prob=0.95,
    )
    mcmc = MCMC(
        kernel,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(seed))
    draws = {name: np.asarray(v) for name, v in mcmc.get_samples(group_by_chain=True).items()}
    parameters = [
        np.log(draws["noise"])[..., None],
        *(draws[n] for n in ("size", "log_width", "correlation")),
    ]
    return PSFPosterior(
        amplitudes=draws["amplitudes"],
        means=draws["means"],
        covariances=draws["covariances"],
        noise=draws["noise"],
        r_hat=float(max(np.max(split_gelman_rubin(p)) for p in [*parameters, draws["means"]])),
        divergences=int(mcmc.get_extra_fields()["diverging"].sum()),
    )


def _inverse_hessian(model, strategy):
    """Return the inverse Hessian of the potential at the start, made positive, as numpyro's mass matrix."""
    import jax
    from jax.flatten_util import ravel_pytree
    from numpyro.infer.util import initialize_model

    info = initialize_model(jax.random.key(0), model, init_strategy=strategy)
    flat, unravel = ravel_pytree(info.param_info.z)
    # differences of the gradient: compiling the second derivative would take longer than all of the sampling
    gradient = jax.jit(jax.grad(lambda z: info.potential_fn(unravel(z))))
    steps = 1e-5 * np.eye(flat.size)
    hessian = np.array([(gradient(flat + h) - gradient(flat - h)) / 2e-5 for h in steps])
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    # directions that the pixels do not constrain are as wide as a uniform prior in its unbounded coordinate
    inverse = vectors @ np.diag(1 / np.maximum(np.abs(values), 0.1)) @ vectors.T
    return {tuple(sorted(info.param_info.z)): inverse}


def _model(fit, effective):
    """Build the numpyro model of a mixture, and its starting values from the fit."""
    import jax.numpy as jnp
    import numpyro
    from numpyro import distributions as dist

    step = max(round(effective.oversample), 1)
    used = np.zeros_like(effective.good)
    used[step // 2 :: step, step // 2 :: step] = True
    used &= effective.good
    x, y = (c[used] for c in np.meshgrid(effective.x, effective.y))
    data = effective.values[used]
    response = 0.0 if fit.includes_pixel else _PIXEL_VARIANCE
    k = len(fit.amplitudes)
    signs, total = np.sign(fit.amplitudes), np.abs(fit.amplitudes).sum()
    reach = 0.25 * min(np.ptp(effective.x), np.ptp(effective.y))
    low, high = np.log(_MIN_WIDTH), np.log(4 * reach)
    amplitudes, means, covariances = _optimum(fit, x, y, data - fit.background, response, reach)
    misfit = np.std(data - fit.values(effective)[used]) + 1e-8 * data.max()

    def model():
        size = numpyro.sample("size", dist.Uniform(0, 2 * total).expand([k]).to_event(1))
        means = numpyro.sample("means", dist.Uniform(-reach, reach).expand([k, 2]).to_event(2))
        log_width = numpyro.sample("log_width", dist.Uniform(low, high).expand([k, 2]).to_event(2))
        correlation = numpyro.sample("correlation", dist.Uniform(-1, 1).expand([k]).to_event(1))
        noise = numpyro.sample("noise", dist.LogUniform(1e-3 * misfit, 1e3 * misfit))
        width = jnp.exp(log_width)
        xy = correlation * width[:, 0] * width[:, 1]
        amplitudes = numpyro.deterministic("amplitudes", signs * size)
        covariances = jnp.concatenate([width**2, xy[:, None]], axis=1)
        numpyro.deterministic("covariances", covariances)
        xx, yy = covariances[:, :2].T + response
        det = xx * yy - xy**2
        dx, dy = x[:, None] - means[:, 0], y[:, None] - means[:, 1]
        exponent = -0.5 * (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
        values = jnp.exp(exponent) @ (amplitudes / (2 * jnp.pi * jnp.sqrt(det))) + fit.background
        numpyro.sample("pixels", dist.Normal(values, noise), obs=data)

    width = np.sqrt(covariances[:, :2])
    start = {
        "size": np.clip(np.abs(amplitudes), 1e-6 * total, 1.99 * total),
        "means": np.clip(means, -0.99 * reach, 0.99 * reach),
        "log_width": np.clip(np.log(width), low + 1e-3, high - 1e-3),
        "correlation": np.clip(covariances[:, 2] / (width[:, 0] * width[:, 1]), -0.999, 0.999),
        "noise": misfit,
    }
    return model, start


def _optimum(fit, x, y, data, response, reach):
    """Refit amplitudes, means and covariances to the pixels alone, starting from the fit."""
    floor = _MIN_WIDTH**2
    problem = Problem(
        x=x,
        y=y,
        data=data,
        weight=np.ones(data.size),
        rings=np.array([0]),
        ring_scale=0.0,
        floor=floor,
        response=response,
        total=None,
        background=False,
        fixed_centre=False,
        mean_limit=reach,
        width_limit=2 * reach,
    )
    theta = np.concatenate([fit.means, factor_of(fit.covariances, floor)], axis=1)
    best = solve(problem, theta, np.sign(fit.amplitudes), max_iter=200, rtol=1e-12)
    return best.amplitudes, best.theta[:, :2], covariance_of(best.theta, floor)
