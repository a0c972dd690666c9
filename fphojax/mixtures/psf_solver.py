"""Least squares of a sum of Gaussians: variable projection with analytic derivatives.

The amplitudes enter linearly and are solved for, with their signs bounded, inside every step of a
Levenberg-Marquardt iteration over means and covariances (Golub & Pereyra 1973, SIAM J. Numer. Anal. 10, 413,
in the approximation of Kaufman 1975, BIT 15, 49). A covariance is ``floor * I + L L^T`` with L lower
triangular, and so positive definite by construction. Besides the pixels, the flux within a set of radii is
compared: faint wings contain much flux, but carry hardly any weight in the sum over pixels.
"""

import dataclasses
import functools

import numpy as np
from scipy.optimize import nnls

__all__ = ["Components", "Problem", "covariance_of", "factor_of", "gaussians", "residual_and_basis", "solve"]

# Weight of "the amplitudes sum to the total" relative to the norm of the image: large enough to be exact in practice.
_SUM_WEIGHT = 1e4
# Damping beyond which a step is too short to be worth trying.
_MAX_DAMPING = 1e8


@dataclasses.dataclass(frozen=True)
class Problem:
    """Pixels to be fitted, and constraints on a solution.

    Attributes
    ----------
    x, y, data, weight : ndarray (n_pixel,)
        Offsets from the source, flux per native pixel, and square root of the weight (the number of pixels
        that an entry stands for), ordered by distance from the source.
    rings : ndarray of int (n_ring,)
        First pixel of each ring; the first is 0.
    ring_scale : float
        Weight of the flux within a ring's outer radius against that of a pixel.
    floor : float
        Smallest eigenvalue of a covariance.
    response : float
        Variance per axis that is added to each covariance before comparing with the data (pixel response).
    total : float or None
        Sum of the amplitudes; None leaves it free.
    background : bool
        Whether a constant is fitted as well.
    fixed_centre : bool
        Whether all means are zero.
    mean_limit : float
        Largest absolute value of a mean's coordinate.
    width_limit : float
        Largest absolute value of an entry of L.
    """

    x: np.ndarray
    y: np.ndarray
    data: np.ndarray
    weight: np.ndarray
    rings: np.ndarray
    ring_scale: float
    floor: float
    response: float
    total: float | None
    background: bool
    fixed_centre: bool
    mean_limit: float
    width_limit: float

    def weighted(self, values: np.ndarray) -> np.ndarray:
        """Convert functions (p, n_pixel) to columns (n_pixel + n_ring, p) of the least-squares problem."""
        pixels = values * self.weight
        rings = np.add.reduceat(pixels * self.weight, self.rings, axis=1)
        return np.concatenate([pixels, self.ring_scale * np.cumsum(rings, axis=1)], axis=1).T

    @functools.cached_property
    def target(self) -> np.ndarray:
        """Return the data as a column (n_pixel + n_ring,) of the least-squares problem."""
        return self.weighted(self.data[None])[:, 0]

    @functools.cached_property
    def sum_weight(self) -> float:
        """Return the weight of the equation that fixes the sum of the amplitudes."""
        return _SUM_WEIGHT * np.linalg.norm(self.target)


@dataclasses.dataclass(frozen=True)
class Components:
    """A mixture during the search: shapes, signs, amplitudes and their cost.

    Attributes
    ----------
    theta : ndarray (K, 5)
        mean x, mean y, L_11, L_21, L_22.
    signs : ndarray (K,)
        +1 or -1.
    amplitudes : ndarray (K,)
    background : float
    cost : float
        Weighted sum of squared residuals.
    """

    theta: np.ndarray
    signs: np.ndarray
    amplitudes: np.ndarray
    background: float
    cost: float


def covariance_of(theta: np.ndarray, floor: float) -> np.ndarray:
    """Return the covariances (K, 3) [xx, yy, xy] of the parameters (K, 5)."""
    l11, l21, l22 = theta[:, 2], theta[:, 3], theta[:, 4]
    return np.stack([l11**2 + floor, l21**2 + l22**2 + floor, l11 * l21], axis=1)


def factor_of(covariances: np.ndarray, floor: float) -> np.ndarray:
    """Return Cholesky factors (K, 3) [L_11, L_21, L_22] of the covariances (K, 3) minus the floor."""
    xx, yy, xy = np.asarray(covariances, float).T
    l11 = np.sqrt(np.maximum(xx - floor, 1e-4 * floor))
    l21 = xy / l11
    return np.stack([l11, l21, np.sqrt(np.maximum(yy - floor - l21**2, 1e-4 * floor))], axis=1)


def gaussians(
    x: np.ndarray, y: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate unit Gaussians at points.

    Parameters
    ----------
    x, y : ndarray (n,)
    means : ndarray (K, 2)
    covariances : ndarray (K, 3)
        xx, yy, xy.

    Returns
    -------
    density : ndarray (K, n)
    u, v : ndarray (K, n)
        The offset multiplied by the inverse covariance.
    precision : ndarray (K, 3)
        Inverse covariances xx, yy, xy.
    """
    cxx, cyy, cxy = covariances.T
    det = cxx * cyy - cxy**2
    precision = np.stack([cyy / det, cxx / det, -cxy / det], axis=1)
    fxx, fyy, fxy = precision.T[:, :, None]
    dx, dy = x[None] - means[:, :1], y[None] - means[:, 1:]
    u, v = fxx * dx + fxy * dy, fxy * dx + fyy * dy
    density = np.exp(-0.5 * (dx * u + dy * v)) / (2 * np.pi * np.sqrt(det))[:, None]
    return density, u, v, precision


def _columns(problem, theta):
    """Evaluate the unit Gaussians (K, n) of the parameters, and what their derivatives need."""
    cov = covariance_of(theta, problem.floor)
    cov[:, :2] += problem.response
    return gaussians(problem.x, problem.y, theta[:, :2], cov)


def _linear(problem, density, signs):
    """Solve for bounded amplitudes and background; also return residual and basis of the used columns."""
    k = len(signs)
    matrix = problem.weighted(density) * signs
    if problem.background:
        # a constant of either sign: two columns for the non-negative solver
        one = problem.weighted(np.ones((1, problem.x.size)))
        matrix = np.concatenate([matrix, one, -one], axis=1)
    target = problem.target
    if problem.total is not None:
        row = np.zeros((1, matrix.shape[1]))
        row[0, :k] = problem.sum_weight * signs
        matrix = np.concatenate([matrix, row])
        target = np.append(target, problem.sum_weight * problem.total)
    basis, triangle = np.linalg.qr(matrix)
    solution, _ = nnls(triangle, basis.T @ target, maxiter=100 * matrix.shape[1])
    used = solution > 0
    if not used.all():
        basis = np.linalg.qr(matrix[:, used])[0]
    residual = target - matrix @ solution
    background = solution[k] - solution[k + 1] if problem.background else 0.0
    return solution[:k] * signs, float(background), residual, basis


def _jacobian(problem, theta, amplitudes, evaluated):
    """Return the weighted derivative (n_pixel + n_ring, 5 K) of the model by the parameters."""
    density, u, v, precision = evaluated
    n = density * amplitudes[:, None]
    fxx, fyy, fxy = precision.T[:, :, None]
    dxx, dyy, dxy = 0.5 * n * (u * u - fxx), 0.5 * n * (v * v - fyy), n * (u * v - fxy)
    l11, l21, l22 = theta[:, 2:].T[:, :, None]
    jac = np.empty((len(theta), 5, problem.x.size))
    jac[:, 0], jac[:, 1] = (0.0, 0.0) if problem.fixed_centre else (n * u, n * v)
    jac[:, 2] = 2 * l11 * dxx + l21 * dxy
    jac[:, 3] = 2 * l21 * dyy + l11 * dxy
    jac[:, 4] = 2 * l22 * dyy
    return problem.weighted(jac.reshape(5 * len(theta), -1))


def _clip(problem, theta):
    """Clip the parameters to their bounds."""
    theta = theta.copy()
    theta[:, :2] = np.clip(theta[:, :2], -problem.mean_limit, problem.mean_limit)
    theta[:, 2:] = np.clip(theta[:, 2:], -problem.width_limit, problem.width_limit)
    return theta


def solve(
    problem: Problem, theta: np.ndarray, signs: np.ndarray, *, max_iter: int = 50, rtol: float = 1e-8
) -> Components:
    """Minimise the weighted squared residual from a start.

    Parameters
    ----------
    problem : Problem
    theta : ndarray (K, 5)
        Start: mean x, mean y, L_11, L_21, L_22.
    signs : ndarray (K,)
        Signs of the amplitudes.
    max_iter : int
    rtol : float
        Stop when two steps in a row lower the cost by less than this fraction.

    Returns
    -------
    Components
    """
    theta = _clip(problem, theta)
    evaluated = _columns(problem, theta)
    amplitudes, background, residual, basis = _linear(problem, evaluated[0], signs)
    cost = residual @ residual
    damping, small = 1e-2, 0
    for _ in range(max_iter):
        jac = _jacobian(problem, theta, amplitudes, evaluated)
        n = len(jac)
        inside = jac.T @ basis[:n]
        normal = jac.T @ jac - inside @ inside.T
        gradient = jac.T @ residual[:n]
        diagonal = np.diag(normal)
        diagonal = np.maximum(diagonal, 1e-12 * max(diagonal.max(), np.finfo(float).tiny))
        accepted = False
        while damping < _MAX_DAMPING:
            step = np.linalg.solve(normal + damping * np.diag(diagonal), gradient)
            trial = _clip(problem, theta + step.reshape(theta.shape))
            trial_columns = _columns(problem, trial)
            outcome = _linear(problem, trial_columns[0], signs)
            new_cost = outcome[2] @ outcome[2]
            if new_cost < cost:
                accepted = True
                break
            damping = max(damping, 1e-12) * 6
        if not accepted:
            break
        gain = 1 - new_cost / cost
        theta, evaluated, cost = trial, trial_columns, new_cost
        amplitudes, background, residual, basis = outcome
        damping = max(damping / 5, 1e-14)
        small = small + 1 if gain < rtol else 0
        if small == 2 or cost == 0:
            break
    return Components(theta, signs, amplitudes, background, float(cost))


def residual_and_basis(problem: Problem, components: Components) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted residual of a mixture, and an orthonormal basis of its amplitudes' columns."""
    density = _columns(problem, components.theta)[0]
    _, _, residual, basis = _linear(problem, density, components.signs)
    return residual, basis
