"""Construction of the scale-free Sersic table, and its errors relative to the exact profiles.

Images are compared, not profiles: what matters is the profile convolved with a PSF. In Fourier space a circular
profile of unit flux and r_h = 1 is its Hankel transform F_n(k), a mixture is sum_k a_k exp(-(s_k k)^2 / 2), and a
Gaussian PSF of width sigma multiplies both by exp(-(sigma k)^2 / 2). By Parseval's theorem the squared error of the
image is an integral over k, for all widths of the PSF from one set of residuals on a grid of k. The flux inside a
square stamp is fitted as well, because the wings of profiles with large n hardly contribute to the image error.

All coefficients of the table are fitted at once, at Chebyshev nodes over the range of n, by least squares
that are reweighted to minimise the mean of a high power of the errors, and so nearly the worst case.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.polynomial.chebyshev import chebvander
from numpy.typing import ArrayLike
from scipy.linalg import solve
from scipy.special import expit, gammainc, gammaincinv, ive, loggamma

from fphojax.system.progress import Progress

from .sersic import FixedRadiiSersic, ScaleFreeSersic

__all__ = ["fit_sersic_table", "sersic_error_map", "sersic_transform"]

# Cases that are fitted: PSF widths (pixel included) in half-light radii, the axis ratios of the galaxies for
# each of them, and half sides of stamps. Along its major axis, the core of a large flat galaxy appears as if the
# PSF were even narrower, which is the hardest case.
_PSF_WIDTHS = np.concatenate([np.geomspace(0.02, 4.0, 13), [0.0215, 0.03, 0.042]])
_AXIS_RATIOS = np.concatenate([np.ones(13), np.full(3, 0.2)])
_HALF_SIDES = np.geomspace(5.0, 48.0, 15)
# Errors are measured relative to these goals: (n, image, flux), interpolated in n. Only their ratios matter.
_GOALS = np.array(
    [[0.5, 0.25, 0.25], [1.0, 0.4, 0.5], [2.0, 0.8, 0.8], [4.0, 1.5, 1.35], [6.0, 2.3, 1.2], [8.0, 3.2, 1.6]]
)
_NODES = 48
_STEPS = 30
# Reweighted least squares minimise the mean of this power of the errors; fraction by which weights move at once.
_POWER = 16
_CHANGE = 0.04
_REWEIGHTINGS = 200


def sersic_transform(sersic: ArrayLike, k: ArrayLike) -> np.ndarray:
    """Compute the Fourier transform of Sersic profiles of unit flux and unit half-light radius.

    The Mellin transform in k of the Hankel transform is a product of gamma functions,

        M(z) = 2^(z-1) Gamma(z/2) / Gamma(1 - z/2) b^(n z) Gamma(n (2 - z)) / Gamma(2 n),

    and its inverse along Re z = 1 is an integral of exponentially decaying terms, for which the trapezoidal
    rule is exact to rounding. b solves P(2 n, b) = 1/2 (Ciotti 1991).

    Parameters
    ----------
    sersic : array_like, shape (N,)
        Sersic index, 0.5 to 10.
    k : array_like, shape (M,)
        Wave number, in radians per half-light radius, positive.

    Returns
    -------
    transform : array, shape (N, M)
        One at k = 0; good to about 1e-13 / k.
    """
    n, k = np.atleast_1d(sersic).astype("f8")[:, None], np.atleast_1d(k).astype("f8")
    step = 0.1
    z = 1 + 1j * np.arange(0, 60, step)
    log_mellin = (
        (z - 1) * np.log(2)
        + loggamma(z / 2)
        - loggamma(1 - z / 2)
        + n * z * np.log(gammaincinv(2 * n, 0.5))
        + loggamma(n * (2 - z))
        - loggamma(2 * n)
    )
    # The integrand of -Im z is the complex conjugate: twice the real part, but for Im z = 0.
    weights = np.where(z.imag == 0, step / (2 * np.pi), step / np.pi)
    return np.real((weights * np.exp(log_mellin)) @ np.exp(-z[:, None] * np.log(k)))


def sersic_error_map(
    table: ScaleFreeSersic | FixedRadiiSersic, sersic: ArrayLike, widths: ArrayLike, *, q: float = 1.0
) -> np.ndarray:
    """Compute errors of a table's images over Sersic index and PSF width.

    Parameters
    ----------
    table : ScaleFreeSersic or FixedRadiiSersic
        Called with a half-light radius of 1 arcsec.
    sersic : array_like, shape (N,)
        Sersic indices.
    widths : array_like, shape (M,)
        Standard deviations of a Gaussian PSF, in (circularised) half-light radii.
    q : float
        Axis ratio b/a of the galaxy.

    Returns
    -------
    errors : array, shape (N, M)
        Relative L2 error of the convolved image, over the whole plane.
    """
    widths = np.atleast_1d(widths).astype("f8")
    k, measure = _fourier_measure(widths, np.asarray(q, "f8"), points=400)
    exact = sersic_transform(sersic, k)
    amplitudes, variances = (np.asarray(part) for part in table(jnp.asarray(sersic, "f8"), 1.0))
    amplitudes, variances = np.atleast_2d(amplitudes), np.atleast_2d(variances)
    mixture = np.sum(amplitudes[..., None] * np.exp(-0.5 * variances[..., None] * k**2), axis=-2)
    return np.sqrt(((mixture - exact) ** 2 @ measure.T) / (exact**2 @ measure.T))


def fit_sersic_table(
    order: int = 10,
    sersic_range: tuple[float, float] = (0.5, 8.0),
    *,
    degree: int = 10,
    progress: bool = True,
) -> ScaleFreeSersic:
    """Fit the scale-free table of Sersic profiles.

    The same arguments give the same numbers.

    Parameters
    ----------
    order : int
        Number of Gaussians.
    sersic_range : tuple of float
        Smallest and largest Sersic index, 0.5 or more.
    degree : int
        Degree of the Chebyshev series in the Sersic index.
    progress : bool
        Whether to show a progress bar.

    Returns
    -------
    table : ScaleFreeSersic
        The table.

    Raises
    ------
    ValueError
        The order, the range or the degree is out of bounds.
    """
    low, high = (float(edge) for edge in sersic_range)
    if not 0.5 <= low < high <= 10:
        raise ValueError(f"sersic_range: found ({low}, {high}), expected 0.5 <= lower < upper <= 10")
    if order < 2 or degree < 2:
        raise ValueError(f"order, degree: found {order}, {degree}, expected at least 2 each")
    offset = 0.8 * low
    problem = _Problem.build(order, low, high, offset)
    degrees = [*range(2, degree, 2), degree]
    coefficients, weights, damping = problem.start(), problem.even_weights(), 1.0
    n_step = _STEPS * len(degrees) + _REWEIGHTINGS
    with Progress[None](text="Sersic table", units="steps", total=n_step, shown=progress) as bar:
        for count in degrees:
            coefficients = np.pad(coefficients, ((0, 0), (0, count + 1 - coefficients.shape[1])))
            for _ in range(_STEPS):
                coefficients, damping = problem.step(coefficients, weights, damping)
                bar.update()
        for _ in range(_REWEIGHTINGS):
            errors = problem.errors(coefficients)
            target = np.maximum((errors / errors.max()) ** (_POWER - 2), 1e-4)
            weights = weights ** (1 - _CHANGE) * target**_CHANGE
            coefficients, damping = problem.step(coefficients, weights / weights.mean(), damping)
            bar.reach(bar.n + 1, f"largest error {1e-3 * errors.max():.2e}")
    return ScaleFreeSersic(
        jnp.asarray(coefficients[:order]), jnp.asarray(coefficients[order:]), (low, high), offset
    )


def _fourier_measure(widths, axis_ratios, points):
    """Return a grid of k, and per PSF the weights (M, points) of the integral of a squared convolution.

    In the frame where the galaxy is round, the round PSF of width w is an ellipse of widths w sqrt(q) and
    w / sqrt(q); the mean of the square of its transform over all directions is a Bessel function I0.
    """
    narrowest = (widths * np.sqrt(axis_ratios)).min()
    log_k, step = np.linspace(np.log(0.01), np.log(4.5 / narrowest), points, retstep=True)
    k = np.exp(log_k)
    squares = (widths[:, None] * k) ** 2
    q = np.broadcast_to(axis_ratios, widths.shape)[:, None]
    return k, k**2 * step * np.exp(-q * squares) * ive(0, 0.5 * (1 / q - q) * squares)


@dataclass(frozen=True)
class _Problem:
    """The least-squares problem: exact values at the nodes in n, and the residuals of coefficients.

    Coefficients have shape (2 K, degree + 1): those of the steps in log width, then those of the logits.
    """

    order: int
    x: np.ndarray  # (N,) scaled nodes
    sersic: np.ndarray  # (N,)
    k: np.ndarray  # (P,)
    transform: np.ndarray  # (N, P) exact
    measure: np.ndarray  # (N, M, P) of the squared relative error, over the squared goal
    radii: np.ndarray  # (H, A) radii towards the edge of a square stamp
    angle_weights: np.ndarray  # (A,)
    flux: np.ndarray  # (N, H) exact
    flux_goal: np.ndarray  # (N, 1)

    @classmethod
    def build(cls, order, low, high, offset) -> "_Problem":
        x = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
        start, stop = np.log(low - offset), np.log(high - offset)
        sersic = offset + np.exp(0.5 * (start + stop + (stop - start) * x))
        # The ends exactly, lest rounding put the first below 0.5.
        sersic[[0, -1]] = low, high
        image_goal, flux_goal = (1e-3 * np.interp(sersic, _GOALS[:, 0], column) for column in _GOALS.T[1:])
        k, measure = _fourier_measure(_PSF_WIDTHS, _AXIS_RATIOS, points=90)
        transform = sersic_transform(sersic, k)
        measure = measure / (image_goal[:, None] ** 2 * (transform**2 @ measure.T))[..., None]
        nodes, node_weights = np.polynomial.legendre.leggauss(6)
        radii = _HALF_SIDES[:, None] / np.cos(np.pi / 8 * (nodes + 1))
        n = sersic[:, None, None]
        inside = gammainc(2 * n, gammaincinv(2 * n, 0.5) * radii ** (1 / n))
        flux = inside @ (node_weights / 2)
        return cls(order, x, sersic, k, transform, measure, radii, node_weights / 2, flux, flux_goal[:, None])

    def start(self):
        """Return initial coefficients: evenly spaced log widths, amplitudes that fall off to both sides."""
        growth = np.log(self.sersic / 0.5)[:, None]
        narrowest, widest = -2.6 - 0.8 * growth, 0.1 + 1.2 * growth
        step = (widest - narrowest) / (self.order - 1)
        log_widths = narrowest + step * np.arange(self.order)
        logits = np.minimum(log_widths, 0) * 2.4 * self.sersic[:, None] ** -0.8 - np.maximum(log_widths, 0)
        steps = np.repeat(np.log(np.expm1(step)), self.order - 1, axis=1)
        values = np.concatenate([narrowest, steps, logits], axis=1)
        return np.linalg.lstsq(chebvander(self.x, 2), values)[0].T

    def even_weights(self):
        """Return unit weights (N, M + H) of the image and flux errors."""
        return np.ones((self.x.size, self.measure.shape[1] + self.flux.shape[1]))

    def mixture(self, coefficients):
        """Return log widths, steps, amplitudes (N, K) at the nodes, and the basis (N, degree + 1)."""
        basis = chebvander(self.x, coefficients.shape[1] - 1)
        values = basis @ coefficients.T
        steps, logits = values[:, : self.order], values[:, self.order :]
        log_widths = np.cumsum(np.concatenate([steps[:, :1], np.logaddexp(0, steps[:, 1:])], axis=1), axis=1)
        amplitudes = np.exp(logits - logits.max(axis=1, keepdims=True))
        return log_widths, steps, amplitudes / amplitudes.sum(axis=1, keepdims=True), basis

    def components(self, log_widths):
        """Compute transforms (N, K, P), stamp fluxes (N, K, H), and the derivatives of both by log width."""
        variances = np.exp(2 * log_widths)[..., None]
        exponent = -0.5 * variances * self.k**2
        transforms = np.exp(exponent)
        ratio = self.radii**2 / (2 * variances[..., None])
        outside = np.exp(-ratio)
        fluxes = (1 - outside) @ self.angle_weights
        return transforms, 2 * exponent * transforms, fluxes, (-2 * ratio * outside) @ self.angle_weights

    def residuals(self, coefficients):
        """Return mixture minus exact: transforms (N, P), and stamp fluxes in units of their goal (N, H)."""
        log_widths, _, amplitudes, _ = self.mixture(coefficients)
        transforms, _, fluxes, _ = self.components(log_widths)
        image = np.einsum("nk,nkp->np", amplitudes, transforms) - self.transform
        flux = np.einsum("nk,nkh->nh", amplitudes, fluxes) - self.flux
        return image, flux / self.flux_goal

    def slopes(self, coefficients):
        """Return derivatives of both residuals by steps and logits (N, 2 K, P), (N, 2 K, H), and basis."""
        log_widths, steps, amplitudes, basis = self.mixture(coefficients)
        transforms, transform_slopes, fluxes, flux_slopes = self.components(log_widths)
        values = amplitudes[..., None] * np.concatenate([transforms, fluxes], axis=2)
        by_width = amplitudes[..., None] * np.concatenate([transform_slopes, flux_slopes], axis=2)
        by_logit = values - amplitudes[..., None] * values.sum(axis=1, keepdims=True)
        # A step also moves all wider Gaussians.
        by_step = np.cumsum(by_width[:, ::-1], axis=1)[:, ::-1].copy()
        by_step[:, 1:] *= expit(steps[:, 1:, None])
        by_value = np.concatenate([by_step, by_logit], axis=1)
        points = self.k.size
        return by_value[..., :points], by_value[..., points:] / self.flux_goal[..., None], basis

    def errors(self, coefficients):
        """Return image and flux errors (N, M + H), in units of their goals."""
        image, flux = self.residuals(coefficients)
        return np.concatenate(
            [np.sqrt(np.einsum("np,nmp->nm", image**2, self.measure)), np.abs(flux)], axis=1
        )

    def step(self, coefficients, weights, damping):
        """Take a step that lowers the weighted mean squared error (Levenberg 1944, Marquardt 1963).

        Returns the new coefficients and damping.
        """
        shape, images = coefficients.shape, self.measure.shape[1]
        image_weights = np.einsum("nm,nmp->np", weights[:, :images], self.measure)
        flux_weights = weights[:, images:]
        # A weak penalty on rough series determines what the images do not: components without flux.
        ridge = 1e-6 * weights.size * np.tile(np.maximum(1, np.arange(shape[1])) ** 4.0, shape[0])

        def cost(trial):
            image, flux = self.residuals(trial)
            pull = np.sum(ridge * trial.ravel() ** 2)
            return np.sum(image_weights * image**2) + np.sum(flux_weights * flux**2) + pull

        image, flux = self.residuals(coefficients)
        image_slopes, flux_slopes, basis = self.slopes(coefficients)
        by_image, by_flux = image_weights[:, None] * image_slopes, flux_weights[:, None] * flux_slopes
        curvature = by_image @ image_slopes.swapaxes(1, 2) + by_flux @ flux_slopes.swapaxes(1, 2)
        slope = np.einsum("nqp,np->nq", by_image, image) + np.einsum("nqh,nh->nq", by_flux, flux)
        gradient = np.einsum("nq,nd->qd", slope, basis).ravel() + ridge * coefficients.ravel()
        normal = np.einsum("nqr,nd,ne->qdre", curvature, basis, basis, optimize=True)
        normal = normal.reshape(gradient.size, gradient.size) + np.diag(ridge)
        # The floor damps coefficients that affect no image.
        scale = np.diag(normal) + 1e-2 * np.trace(normal) / gradient.size
        before = cost(coefficients)
        for _ in range(16):
            damped = normal + damping * np.diag(scale)
            trial = coefficients - solve(damped, gradient, assume_a="pos").reshape(shape)
            if cost(trial) < before:
                return trial, max(damping / 3, 1e-7)
            damping *= 4
        return coefficients, damping
