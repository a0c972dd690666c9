"""Adaptive importance sampling of a density (Cornuet et al. 2012): points, their weights, and whether these will do.

Rounds of points are drawn from a proposal, which is fitted to all weighted points after each.  A point has the weight
p / q, with q the mean of the proposals of all rounds, each by its number of points: early rounds, drawn from poor
proposals, are of little use but do no harm.
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from .proposal import Proposal
from .weights import Verdict, effective_size, judged, smoothed

__all__ = ["Weighted", "adapted"]

ROUND = 32  # points of the first rounds, for every dimension
FEWEST = 256  # points of these
ALIKE = 3  # rounds of that size, before they grow by a factor of two each
LARGEST = 8  # times that size: the largest round
MOST = 48  # times that size: points after which the answer is no
HOPELESS = 12  # times that size: the answer is no if there are fewer effective points than dimensions
LEAST = 5  # effective points, for every dimension, to which weights are flattened before a fit


class Weighted(NamedTuple):
    """Weighted points.

    Attributes
    ----------
    points : ndarray (m, n)
    weight : ndarray (m,)
        With their tail smoothed; their sum is 1.
    effective : float
        Effective number of points.
    verdict : Verdict
    log_integral : float
        Logarithm of the integral of the density, as it was given: the mean of the weights before smoothing.
    """

    points: np.ndarray
    weight: np.ndarray
    effective: float
    verdict: Verdict
    log_integral: float


class _Rounds:
    """Points of all rounds, with the logarithm of their weights."""

    def __init__(self, n: int) -> None:
        self.points, self.value = np.zeros((0, n)), np.zeros(0)
        self.log_sum = np.zeros(0)  # of the densities of all proposals, each times its number of points
        self.proposals: list[tuple[float, Proposal]] = []
        self.last, self.own = slice(0, 0), np.zeros(0)

    def add(self, proposal, points, value):
        """Add a round, and weight all points anew."""
        size = np.log(len(points))
        mine = size + proposal.log_density(points)
        others = [log_size + other.log_density(points) for log_size, other in self.proposals]
        before = np.logaddexp(self.log_sum, size + proposal.log_density(self.points))
        self.log_sum = np.concatenate([before, logsumexp([mine, *others], axis=0)])
        value = np.where(np.isfinite(value), value, -np.inf)
        self.own, self.last = value - mine, slice(len(self.points), len(self.points) + len(points))
        self.points, self.value = np.concatenate([self.points, points]), np.concatenate([self.value, value])
        self.proposals.append((size, proposal))

    @property
    def log_ratio(self):
        return self.value - self.log_sum

    def result(self):
        """Return all points, their weights, and the verdict."""
        weight, k_hat = smoothed(self.log_ratio)
        verdict = judged(self.points, weight, k_hat, self.last, self.own)
        effective = float(1 / np.sum(weight**2)) if np.isfinite(k_hat) else 0.0
        return Weighted(self.points, weight, effective, verdict, float(logsumexp(self.log_ratio)))


def adapted(
    start: Proposal, wanted: float, rng: np.random.Generator, batch: int = 1
) -> Generator[np.ndarray, np.ndarray, Weighted]:
    """Draw weighted points from a density, until there are enough effective ones or this is seen to be in vain.

    Parameters
    ----------
    start : Proposal
        From which the first round is drawn.
    wanted : float
        Effective number of points.
    rng : numpy Generator
    batch : int
        The number of points of a round is a multiple of this.

    Yields
    ------
    ndarray (m, n)
        Points; it is sent the log of the density at each, up to a constant, minus infinity where there is none.

    Returns
    -------
    Weighted
    """
    n = len(start.mean)
    unit = max(FEWEST, ROUND * n)
    rounds, proposal, size = _Rounds(n), start, unit
    while True:
        points = proposal.draw(batch * int(np.ceil(size / batch)), rng)
        rounds.add(proposal, points, (yield points))
        effective, total = effective_size(rounds.log_ratio), len(rounds.points)
        if effective >= wanted and (result := rounds.result()).verdict.trusted:
            return result
        if total >= MOST * unit or (total >= HOPELESS * unit and effective < n):
            return rounds.result()
        proposal = proposal.fitted(rounds.points, _flattened(rounds.log_ratio, LEAST * n), rng)
        largest = unit * 2.0 ** max(len(rounds.proposals) + 1 - ALIKE, 0)
        efficiency = max(effective_size(rounds.own) / len(points), 0.01)
        size = np.clip((wanted - effective) / efficiency, unit, min(largest, LARGEST * unit))


def _flattened(log_ratio, least):
    """Return weights, whose logarithms are shrunk until there are enough effective points to fit to."""
    possible = np.isfinite(log_ratio)
    if not possible.any():
        return np.full(len(log_ratio), 1 / len(log_ratio))
    low, high, power = 0.0, 1.0, 1.0
    least = min(least, possible.sum() / 2)

    def flat(power):
        return np.where(possible, power * np.where(possible, log_ratio, 0.0), -np.inf)

    if effective_size(log_ratio) < least:
        for _ in range(30):
            power = (low + high) / 2
            low, high = (power, high) if effective_size(flat(power)) > least else (low, power)
    weight = np.exp(flat(power) - flat(power).max())
    return weight / weight.sum()
