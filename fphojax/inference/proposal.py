"""What importance sampling draws from: mixtures of t distributions, one for every source.

The posterior of a source is bent and has tails, but beyond a correlation that hardly depends on another source.  So
the density of n coordinates is a product over blocks (the coordinates of one source each): after a linear map that
removes the correlations, each block has a mixture of its own.  Four components for each of four sources describe what
256 of all coordinates would.

One draw in ten has one block from a wider mixture: the normal of all draws, stretched along the regression on one of
its coordinates.  What lies in a long tail in one direction, where the other coordinates follow, is found by these;
a distribution that is wider in all directions would hardly ever hit it.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from .student import Mixture, moments

__all__ = ["Proposal"]

COMPONENTS = 4  # of the mixture of a block, at most
PER_COMPONENT = 8  # effective points, for every dimension of a block, for one more component
WIDE = 0.1  # share of the draws with a block from the wider mixture
STRETCH = 4.0  # of the wider mixture, in standard deviations


class Proposal(NamedTuple):
    """A density of n coordinates, from which points are drawn.

    Attributes
    ----------
    mean : ndarray (n,)
    factor : ndarray (n, n)
        Lower triangular: coordinates are mean + factor @ z.
    blocks : tuple of slice
        Which parts of z have mixtures of their own.
    core, wide : tuple of Mixture
        Of every block.
    """

    mean: np.ndarray
    factor: np.ndarray
    blocks: tuple[slice, ...]
    core: tuple[Mixture, ...]
    wide: tuple[Mixture, ...]

    @classmethod
    def start(cls, mean: np.ndarray, covariance: np.ndarray, sizes: tuple[int, ...]) -> "Proposal":
        """Return a proposal of given mean and covariance, with blocks of given sizes."""
        ends = np.cumsum(sizes)
        blocks = tuple(slice(int(end - size), int(end)) for size, end in zip(sizes, ends, strict=True))
        return cls(
            mean,
            np.linalg.cholesky(covariance),
            blocks,
            tuple(map(Mixture.unit, sizes)),
            tuple(_stretched(np.zeros(size), np.eye(size)) for size in sizes),
        )

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the logarithm of the normalised density at points (m, n)."""
        z = solve_triangular(self.factor, (points - self.mean).T, lower=True).T
        core, wide = (
            np.stack([part.log_density(z[:, block]) for block, part in zip(self.blocks, parts, strict=True)])
            for parts in (self.core, self.wide)
        )
        instead = np.log(WIDE / len(self.blocks)) + wide - core
        both = logsumexp(np.vstack([np.full((1, len(z)), np.log(1 - WIDE)), instead]), axis=0)
        return core.sum(axis=0) + both - np.log(np.diag(self.factor)).sum()

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points (size, n)."""
        z = np.empty((size, len(self.mean)))
        # rows are in random order: the first ones are as good as any
        ends = np.round(np.linspace(0, WIDE * size + rng.uniform(), len(self.blocks) + 1)).astype(int)
        for i, block in enumerate(self.blocks):
            z[:, block] = self.core[i].draw(size, rng)
            z[ends[i] : ends[i + 1], block] = self.wide[i].draw(ends[i + 1] - ends[i], rng)
        return self.mean + rng.permutation(z) @ self.factor.T

    def fitted(self, points: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> "Proposal":
        """Fit the proposal to weighted points (m, n), starting from here; the sum of the weights is 1.

        A mixture has as many components as the effective number of points can carry.
        """
        n, effective = points.shape[1], 1 / np.sum(weight**2)
        mean, covariance = moments(points, weight)
        # few points make correlations by chance
        scale = (effective * covariance + (n + 2) * np.diag(np.diag(covariance))) / (effective + n + 2)
        factor = np.linalg.cholesky(scale)
        z = solve_triangular(factor, (points - mean).T, lower=True).T
        core, wide = [], []
        for block, mixture in zip(self.blocks, self.core, strict=True):
            own = factor[block, block]
            shift = solve_triangular(own, self.mean[block] - mean[block], lower=True)
            mixture = mixture.moved(shift, solve_triangular(own, self.factor[block, block], lower=True))
            most = effective / (PER_COMPONENT * z[:, block].shape[1])
            mixture = mixture.resized(int(np.clip(most, 1, COMPONENTS)), z[:, block], weight, rng)
            core.append(mixture.fitted(z[:, block], weight))
            wide.append(_stretched(*moments(z[:, block], weight)))
        return Proposal(mean, factor, self.blocks, tuple(core), tuple(wide))


def _stretched(mean, covariance):
    """Return a mixture of as many t distributions as dimensions, each stretched along the regression on one."""
    columns = covariance / np.sqrt(np.diag(covariance))
    factors = [
        np.linalg.cholesky(covariance + (STRETCH**2 - 1) * np.outer(column, column)) for column in columns.T
    ]
    n = len(mean)
    return Mixture(np.full(n, 1 / n), np.broadcast_to(mean, (n, n)), np.stack(factors))
