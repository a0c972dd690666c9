"""Mixtures of Student t distributions, and their fit to weighted points."""

from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, logsumexp

__all__ = ["Mixture", "moments"]

FREEDOM = (
    8.0  # degrees of freedom: of a unit normal in 6 dimensions, 0.9 of the points are effective, in 24 0.65
)
STEPS = 15  # of expectation and maximisation; the points of the next round correct what is left
ROUNDING = 1e-10  # of the variances, added to keep matrices positive definite


class Mixture(NamedTuple):
    """A mixture of K multivariate t distributions in n dimensions.

    Attributes
    ----------
    share : ndarray (K,)
        Their sum is 1.
    mean : ndarray (K, n)
    factor : ndarray (K, n, n)
        Lower Cholesky factors of the scale matrices.
    """

    share: np.ndarray
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def unit(cls, n: int) -> "Mixture":
        """Return a single component at zero, with a unit matrix for its scale."""
        return cls(np.ones(1), np.zeros((1, n)), np.eye(n)[None])

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the logarithm of the normalised density at points (m, n)."""
        return logsumexp(self._parts(points)[0], axis=0)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points (size, n) in random order, of each component as many as its share asks for."""
        ladder = (np.arange(size) + rng.uniform()) / size
        component = np.searchsorted(np.cumsum(self.share), ladder).clip(max=len(self.share) - 1)
        length = np.sqrt(FREEDOM / rng.chisquare(FREEDOM, size))
        steps = length[:, None] * rng.normal(size=(size, self.mean.shape[1]))
        points = self.mean[component] + np.einsum("mij,mj->mi", self.factor[component], steps)
        return rng.permutation(points)

    def moved(self, shift: np.ndarray, matrix: np.ndarray) -> "Mixture":
        """Return the mixture of shift + matrix @ x, with a lower triangular matrix."""
        return Mixture(self.share, shift + self.mean @ matrix.T, matrix @ self.factor)

    def resized(
        self, size: int, points: np.ndarray, weight: np.ndarray, rng: np.random.Generator
    ) -> "Mixture":
        """Drop the least components, or add some of the largest one's shape at points chosen by weight."""
        if size <= len(self.share):
            kept = np.argsort(self.share)[-size:]
            return Mixture(self.share[kept] / self.share[kept].sum(), self.mean[kept], self.factor[kept])
        rows = rng.choice(len(weight), size - len(self.share), p=weight)
        shape = self.factor[np.argmax(self.share)]
        return Mixture(
            np.full(size, 1 / size),
            np.concatenate([self.mean, points[rows]]),
            np.concatenate([self.factor, np.broadcast_to(shape, (len(rows), *shape.shape))]),
        )

    def fitted(self, points: np.ndarray, weight: np.ndarray) -> "Mixture":
        """Fit the mixture to weighted points by expectation and maximisation, starting from here.

        Scale matrices are shrunk towards the covariance of all points, with the weight of n + 2 points; components of
        fewer effective points than dimensions are dropped.

        Parameters
        ----------
        points : ndarray (m, n)
        weight : ndarray (m,)
            Their sum is 1.
        """
        n, mixture = points.shape[1], self
        _, common = moments(points, weight)
        for _ in range(STEPS):
            parts, squares = mixture._parts(points)
            belongs = weight * np.exp(parts - logsumexp(parts, axis=0))
            total = belongs.sum(axis=1)
            effective = total**2 / np.maximum((belongs**2).sum(axis=1), np.finfo(float).tiny)
            kept = np.flatnonzero(effective >= min(n, effective.max()))
            means, factors = [], []
            for k in kept:
                near = belongs[k] * (FREEDOM + n) / (FREEDOM + squares[k])
                mean = near @ points / near.sum()
                centred = points - mean
                scale = (near[:, None] * centred).T @ centred / total[k]
                scale = (effective[k] * scale + (n + 2) * common) / (effective[k] + n + 2)
                means.append(mean)
                factors.append(np.linalg.cholesky(scale))
            mixture = Mixture(total[kept] / total[kept].sum(), np.array(means), np.array(factors))
        return mixture

    def _parts(self, points):
        """Return the log of share times density, and the squared distance in scales, (K, m) each."""
        n = points.shape[1]
        whitening = np.linalg.inv(self.factor)  # of triangular matrices of a few rows
        squares = np.stack(
            [
                np.sum((matrix @ (points - mean).T) ** 2, axis=0)
                for mean, matrix in zip(self.mean, whitening, strict=True)
            ]
        )
        volume = np.log(np.diagonal(self.factor, axis1=1, axis2=2)).sum(axis=1)
        constant = gammaln((FREEDOM + n) / 2) - gammaln(FREEDOM / 2) - 0.5 * n * np.log(np.pi * FREEDOM)
        level = np.log(self.share) + constant - volume
        return level[:, None] - 0.5 * (FREEDOM + n) * np.log1p(squares / FREEDOM), squares


def moments(points: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (n,) and covariance (n, n) of weighted points (m, n); the sum of the weights is 1."""
    mean = weight @ points
    centred = points - mean
    covariance = (weight[:, None] * centred).T @ centred
    return mean, covariance + ROUNDING * np.diag(np.diag(covariance))
