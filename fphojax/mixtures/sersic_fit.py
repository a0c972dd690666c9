"""How the scale-free Sersic table is made, and how far it is from the exact profiles.

Images are compared, not profiles: what counts is the profile after a PSF. In Fourier space a circular
profile of unit flux and r_h = 1 is its Hankel transform F_n(k), a mixture is sum_k a_k exp(-(s_k k)^2 / 2),
and a Gaussian PSF of width sigma multiplies both by exp(-(sigma k)^2 / 2). By Parseval's theorem the squared
error of the image is an integral over k, for all widths of the PSF from one set of residuals on a grid of k.
The flux inside a square stamp is watched beside it, because the wings of large n hardly show in that integral.

All coefficients of the table are fitted at once, at Chebyshev nodes over the range of n, by least squares
with weights that are raised where the error is largest (Lawson 1961), towards the smallest worst case.
"""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.optimize import least_squares
from scipy.special import expit, gammainc, gammaincinv, loggamma
from tqdm import tqdm

from .sersic import ScaleFreeSersic

__all__ = ["fit_sersic_table", "sersic_error_map", "sersic_transform"]

# What an image sees: PSF widths (with the pixel's) and half sides of stamps, in half-light radii.
_PSF_WIDTHS = np.geomspace(0.015, 4.0, 14)
_HALF_SIDES = np.geomspace(4.0, 40.0, 14)
# Errors are judged relative to these goals: (n, image, flux), interpolated in n. Only their ratios matter.
_GOALS = np.array(
    [[0.5, 0.2, 0.2], [1.0, 0.4, 0.5], [2.0, 0.75, 0.9], [4.0, 1.0, 1.1], [6.0, 1.3, 1.4], [8.0, 2.2, 2.0]]
)
_NODES = 48
_REWEIGHTINGS = 24


def sersic_transform(sersic, k):
    """Fourier transform of Sersic profiles of unit flux and unit half-light radius.

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


def sersic_error_map(table, sersic, widths):
    """Errors of a table's images over Sersic index and PSF width.

    Parameters
    ----------
    table : ScaleFreeSersic or FixedRadiiSersic
        Called with a half-light radius of 1 arcsec.
    sersic : array_like, shape (N,)
        Sersic indices.
    widths : array_like, shape (M,)
        Standard deviations of a Gaussian PSF, in half-light radii.

    Returns
    -------
    errors : array, shape (N, M)
        Relative L2 error of the convolved image, over the whole plane.
    """
    widths = np.atleast_1d(widths).astype("f8")
    k, measure = _fourier_measure(widths, points=400)
    exact = sersic_transform(sersic, k)
    amplitudes, variances = (np.asarray(part) for part in table(jnp.asarray(sersic, "f8"), 1.0))
    amplitudes, variances = np.atleast_2d(amplitudes), np.atleast_2d(variances)
    mixture = np.sum(amplitudes[..., None] * np.exp(-0.5 * variances[..., None] * k**2), axis=-2)
    return np.sqrt(((mixture - exact) ** 2 @ measure.T) / (exact**2 @ measure.T))


def fit_sersic_table(order=10, sersic_range=(0.5, 8.0), *, degree=12, progress=True):
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
        The table of the smallest worst error that was found.

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
    with tqdm(total=len(degrees) + _REWEIGHTINGS, desc="Sersic table", disable=not progress) as bar:
        coefficients = problem.start()
        weights = problem.even_weights()
        for count in degrees:
            padding = count + 1 - coefficients.shape[1]
            coefficients = problem.solve(
                np.pad(coefficients, ((0, 0), (0, padding))), weights, evaluations=20
            )
            bar.update()
        best, worst = coefficients, np.inf
        for _ in range(_REWEIGHTINGS):
            errors = problem.errors(coefficients)
            weights = np.maximum(weights * errors / np.sqrt(np.mean(errors**2)), 1e-4)
            coefficients = problem.solve(coefficients, weights / weights.mean(), evaluations=8)
            if (largest := problem.errors(coefficients).max()) < worst:
                best, worst = coefficients, largest
            bar.set_postfix(worst=f"{1e-3 * worst:.2e}", refresh=False)
            bar.update()
    return ScaleFreeSersic(jnp.asarray(best[:order]), jnp.asarray(best[order:]), (low, high), offset)


def _fourier_measure(widths, points):
    """Grid of k, and for each PSF width the weights (M, points) of the integral of f(k) exp(-(width k)^2) k dk."""
    log_k, step = np.linspace(np.log(0.01), np.log(4.5 / widths.min()), points, retstep=True)
    k = np.exp(log_k)
    return k, k**2 * np.exp(-((widths[:, None] * k) ** 2)) * step


@dataclass(frozen=True)
class _Problem:
    """The least-squares problem: exact numbers at the nodes in n, and what turns coefficients into residuals.

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
    def build(cls, order, low, high, offset):
        x = -np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
        start, stop = np.log(low - offset), np.log(high - offset)
        sersic = offset + np.exp(0.5 * (start + stop + (stop - start) * x))
        # The ends to the last bit, lest 0.5 become something below it.
        sersic[[0, -1]] = low, high
        image_goal, flux_goal = (1e-3 * np.interp(sersic, _GOALS[:, 0], column) for column in _GOALS.T[1:])
        k, measure = _fourier_measure(_PSF_WIDTHS, points=90)
        transform = sersic_transform(sersic, k)
        # Narrower than 0.02 are only the two sharpest PSFs, one axis of a flat galaxy: let them err by more.
        goal = image_goal[:, None] * np.where(_PSF_WIDTHS < 0.02, 1.5, 1.0)
        measure = measure / (goal**2 * (transform**2 @ measure.T))[..., None]
        nodes, node_weights = np.polynomial.legendre.leggauss(6)
        radii = _HALF_SIDES[:, None] / np.cos(np.pi / 8 * (nodes + 1))
        n = sersic[:, None, None]
        inside = gammainc(2 * n, gammaincinv(2 * n, 0.5) * radii ** (1 / n))
        flux = inside @ (node_weights / 2)
        return cls(order, x, sersic, k, transform, measure, radii, node_weights / 2, flux, flux_goal[:, None])

    def start(self):
        """Evenly spaced log widths in a range that grows with n, amplitudes that fall off to both sides."""
        growth = np.log(self.sersic / 0.5)
        narrowest = -0.5 - 1.75 * growth
        step = np.log(np.expm1((0.7 + 2.95 * growth) / (self.order - 1)))
        fall = -2.5 * np.linspace(-1, 1, self.order) ** 2
        values = np.concatenate([narrowest[None], np.tile(step, (self.order - 1, 1))])
        widths = np.linalg.lstsq(chebvander(self.x, 2), values.T)[0].T
        return np.concatenate([widths, np.stack([fall, 0 * fall, 0 * fall], axis=1)])

    def even_weights(self):
        """Weights (N, M + H) of the PSF widths and of the stamps, all one."""
        return np.ones((self.x.size, self.measure.shape[1] + self.radii.shape[0]))

    def mixture(self, coefficients):
        """Log widths, steps, amplitudes (N, K) at the nodes, and the basis (N, degree + 1)."""
        basis = chebvander(self.x, coefficients.shape[1] - 1)
        values = basis @ coefficients.T
        steps, logits = values[:, : self.order], values[:, self.order :]
        log_widths = np.cumsum(np.concatenate([steps[:, :1], np.logaddexp(0, steps[:, 1:])], axis=1), axis=1)
        amplitudes = np.exp(logits - logits.max(axis=1, keepdims=True))
        return log_widths, steps, amplitudes / amplitudes.sum(axis=1, keepdims=True), basis

    def components(self, log_widths):
        """Transforms (N, K, P), stamp fluxes (N, K, H) of the Gaussians, and their derivatives by log width."""
        variances = np.exp(2 * log_widths)[..., None]
        exponent = -0.5 * variances * self.k**2
        transforms = np.exp(exponent)
        ratio = self.radii**2 / (2 * variances[..., None])
        outside = np.exp(-ratio)
        fluxes = (1 - outside) @ self.angle_weights
        return transforms, 2 * exponent * transforms, fluxes, (-2 * ratio * outside) @ self.angle_weights

    def errors(self, coefficients):
        """Image and flux errors (N, M + H), in units of their goals."""
        log_widths, _, amplitudes, _ = self.mixture(coefficients)
        transforms, _, fluxes, _ = self.components(log_widths)
        image = np.einsum("nk,nkp->np", amplitudes, transforms) - self.transform
        flux = np.einsum("nk,nkh->nh", amplitudes, fluxes) - self.flux
        image = np.sqrt(np.einsum("np,nmp->nm", image**2, self.measure))
        return np.concatenate([image, np.abs(flux) / self.flux_goal], axis=1)

    def solve(self, coefficients, weights, evaluations):
        """Least squares from the given coefficients, by so many evaluations at most."""
        shape, widths = coefficients.shape, self.measure.shape[1]
        image_weights = np.sqrt(np.einsum("nm,nmp->np", weights[:, :widths], self.measure) / weights.size)
        flux_weights = np.sqrt(weights[:, widths:] / weights.size) / self.flux_goal
        # A slight pull towards smooth series settles what the images do not: components without flux near n = 0.5.
        ridge = np.tile(1e-3 * np.arange(shape[1]) ** 2, shape[0])

        def residuals(flat):
            log_widths, _, amplitudes, _ = self.mixture(flat.reshape(shape))
            transforms, _, fluxes, _ = self.components(log_widths)
            image = np.einsum("nk,nkp->np", amplitudes, transforms) - self.transform
            flux = np.einsum("nk,nkh->nh", amplitudes, fluxes) - self.flux
            return np.concatenate(
                [(image_weights * image).ravel(), (flux_weights * flux).ravel(), ridge * flat]
            )

        def jacobian(flat):
            log_widths, steps, amplitudes, basis = self.mixture(flat.reshape(shape))
            transforms, transform_slopes, fluxes, flux_slopes = self.components(log_widths)
            values = np.concatenate(
                [image_weights[:, None] * transforms, flux_weights[:, None] * fluxes], axis=2
            )
            slopes = np.concatenate(
                [image_weights[:, None] * transform_slopes, flux_weights[:, None] * flux_slopes], axis=2
            )
            values, slopes = amplitudes[..., None] * values, amplitudes[..., None] * slopes
            by_logit = values - amplitudes[..., None] * values.sum(axis=1, keepdims=True)
            # A step moves all wider Gaussians along.
            by_step = np.cumsum(slopes[:, ::-1], axis=1)[:, ::-1].copy()
            by_step[:, 1:] *= expit(steps[:, 1:, None])
            by_value = np.concatenate([by_step, by_logit], axis=1)
            by_coefficient = np.einsum("nqp,nd->npqd", by_value, basis)
            points = self.k.size
            parts = [by_coefficient[:, :points], by_coefficient[:, points:]]
            return np.concatenate([part.reshape(-1, flat.size) for part in parts] + [np.diag(ridge)])

        result = least_squares(
            residuals,
            coefficients.ravel(),
            jacobian,
            x_scale="jac",
            gtol=1e-10,
            ftol=1e-6,
            xtol=1e-8,
            max_nfev=evaluations,
        )
        return result.x.reshape(shape)
