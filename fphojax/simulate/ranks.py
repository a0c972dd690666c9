"""Ranks of truths among the draws of their posteriors, and tests of many of them.

If truths come from the prior and posteriors are correct, the fraction of draws below the truth (its rank, over the
number of draws) is uniform between 0 and 1 (Talts et al. 2018).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chisquare

__all__ = ["axial_rank", "covered", "holm", "rank", "uniformity"]


def rank(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the fraction of draws below the truth.

    Parameters
    ----------
    draws : array (n, ...)
    truth : array (...)
    """
    return (np.asarray(draws) < truth).mean(axis=0)


def axial_rank(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the `rank` of a position angle, counted from perpendicular to the mean of draws and truth.

    So central intervals are those around the mean. With the mean of the draws alone, the draws would lie closer to it
    than the truth does, which matters where the angle is hardly constrained.

    Parameters
    ----------
    draws : array (n, ...)
        Radians, modulo pi.
    truth : array (...)
    """
    draws = np.asarray(draws)
    mean = np.angle(np.exp(2j * draws).sum(axis=0) + np.exp(2j * np.asarray(truth))) / 2
    return rank(np.mod(draws - mean + np.pi / 2, np.pi), np.mod(truth - mean + np.pi / 2, np.pi))


def covered(ranks: np.ndarray, level: float) -> tuple[float, float]:
    """Return the fraction of truths in a level's central interval, and its expected standard deviation."""
    ranks = np.ravel(ranks)
    return float(np.mean(np.abs(ranks - 0.5) < level / 2)), float(np.sqrt(level * (1 - level) / ranks.size))


def uniformity(ranks: np.ndarray, *, bins: int = 10) -> float:
    """Return the p-value of the chi-squared test that independent ranks are uniform between 0 and 1."""
    counts, _ = np.histogram(ranks, bins=bins, range=(0, 1))
    return float(chisquare(counts).pvalue)


def holm(p_values: ArrayLike) -> np.ndarray:
    """Correct p-values for their number (Holm 1979): how often chance makes any of them as small."""
    p_values = np.asarray(p_values, dtype=float)
    order = np.argsort(p_values)
    corrected = np.empty_like(p_values)
    steps = p_values[order] * np.arange(p_values.size, 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
