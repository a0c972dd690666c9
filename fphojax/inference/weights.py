"""Importance weights: smoothed, resampled, and judged."""

from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats
from numpy.typing import ArrayLike

__all__ = ["TRUSTED", "Verdict", "effective_size", "judged", "resampled", "smoothed"]

TRUSTED = 0.7  # k-hat up to which importance sampling is reliable
FEWEST = 5  # different weights in a tail that can be fitted
SURE = 4.0  # standard errors up to which parts of the points may differ
WIDTH_ERROR = 0.05  # largest standard error of a standard deviation, relative


@dataclass(frozen=True)
class Verdict:
    """What weighted points say of themselves.

    Attributes
    ----------
    k_hat : float
        Shape of the tail of the weights; `TRUSTED` at most.
    k_last : float
        The same of the last round's own weights.
    efficiency : float
        Effective points of the last round, by its own weights, for each that it has.
    width_error : float
        Largest standard error of a coordinate's standard deviation, relative: large where a tail rests on few points;
        `WIDTH_ERROR` at most.
    halves, last : float
        Largest difference of a mean or a logarithm of a standard deviation between two halves of the points, and
        between the last round alone and all points, in standard errors; `SURE` at most.
    """

    k_hat: float
    k_last: float
    efficiency: float
    width_error: float
    halves: float
    last: float

    @property
    def trusted(self) -> bool:
        """Whether the weighted points may stand for the density."""
        return (
            max(self.k_hat, self.k_last) <= TRUSTED
            and max(self.halves, self.last) <= SURE
            and self.width_error <= WIDTH_ERROR
        )


def effective_size(log_ratio: np.ndarray) -> float:
    """Return the effective number of points (Kish) of the logarithms of weights; 0 if all are minus infinity."""
    top = log_ratio.max()
    if not np.isfinite(top):
        return 0.0
    weight = np.exp(log_ratio - top)
    return float(weight.sum() ** 2 / np.sum(weight**2))


def smoothed(log_ratio: ArrayLike) -> tuple[np.ndarray, float]:
    """Return importance weights, their tail smoothed by a Pareto distribution (Vehtari et al. 2024), and k-hat.

    Parameters
    ----------
    log_ratio : array (m,)
        Of density and proposal, up to a constant; points where it is not finite have no weight.

    Returns
    -------
    weight : ndarray (m,)
        Their sum is 1; equal if there is no density anywhere.
    k_hat : float
        Infinite where so few points have any weight that there is no tail to fit; 0 where the largest weights, as
        many as a tail has, are equal.
    """
    log_ratio = np.asarray(log_ratio, dtype=float)
    possible = np.isfinite(log_ratio)
    if not possible.any():
        return np.full(len(log_ratio), 1 / len(log_ratio)), np.inf
    weight = np.exp(np.where(possible, log_ratio, -np.inf) - log_ratio[possible].max())
    tail = np.sort(weight)[-int(min(len(weight) / 5, 3 * np.sqrt(len(weight)))) - 1 :]
    if np.count_nonzero(tail > tail[0]) < FEWEST:
        return weight / weight.sum(), 0.0 if tail[0] == tail[-1] else np.inf
    logs, k_hat = array_stats.psislw(-np.where(possible, log_ratio, log_ratio[possible].min()))
    weight = np.where(possible, np.exp(logs - logs.max()), 0.0)
    return weight / weight.sum(), float(k_hat)


def resampled(weight: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Resample point indices systematically by their weights, in random order."""
    ladder = (np.arange(size) + rng.uniform()) / size
    return rng.permutation(
        np.searchsorted(np.cumsum(weight) / weight.sum(), ladder).clip(max=len(weight) - 1)
    )


def judged(points: np.ndarray, weight: np.ndarray, k_hat: float, last: slice, own: np.ndarray) -> Verdict:
    """Judge weighted points.

    Parameters
    ----------
    points : ndarray (m, n)
        In random order within each round.
    weight : ndarray (m,)
    k_hat : float
        Of these weights.
    last : slice
        Points of the last round.
    own : ndarray
        Log ratios of density and the last proposal at these.

    Returns
    -------
    Verdict
    """
    own_weight, k_last = smoothed(own)
    everything = _Widths(points, weight)
    first, second = (_Widths(points[i::2], weight[i::2] / weight[i::2].sum()) for i in (0, 1))
    return Verdict(
        k_hat=k_hat,
        k_last=k_last,
        efficiency=effective_size(own) / len(own),
        width_error=float(everything.log_width_error.max()),
        halves=first.differs(second),
        last=_Widths(points[last], own_weight).differs(everything),
    )


class _Widths:
    """Means and standard deviations of weighted points, and their standard errors."""

    def __init__(self, points: np.ndarray, weight: np.ndarray) -> None:
        self.mean = weight @ points
        squares = (points - self.mean) ** 2
        variance = weight @ squares
        self.log_width = np.log(variance) / 2
        self.mean_error = np.sqrt(weight**2 @ squares)
        self.log_width_error = np.sqrt(weight**2 @ (squares - variance) ** 2) / (2 * variance)

    def differs(self, other):
        """Return the largest difference to others, in standard errors."""
        ratios = [
            np.abs(getattr(self, name) - getattr(other, name))
            / np.hypot(getattr(self, f"{name}_error"), getattr(other, f"{name}_error"))
            for name in ("mean", "log_width")
        ]
        return float(np.max(ratios))
