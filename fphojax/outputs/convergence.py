"""Convergence of many chains at once: what ArviZ computes parameter by parameter, for arrays of parameters.

The statistics are those of Vehtari et al. (2021, Bayesian Analysis 16, 667), in the form that ArviZ has; a run of
10^4 sources has 10^5 parameters, for which a loop over parameters takes minutes.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

__all__ = ["Convergence", "convergence", "quantiles"]

_TAILS = (0.05, 0.95)
_FEWEST = 4  # draws of a chain
_BLOCK = 8  # parameters at a time, whose draws stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Convergence:
    """Statistics of N parameters, each an array (N,); NaN where there are too few draws or chains.

    Attributes
    ----------
    ess_bulk, ess_tail : ndarray
        Effective sample sizes for the centre, and for the 5 % and 95 % quantiles (the smaller of the two).
    r_hat : ndarray
        Rank-normalised split R-hat, the larger of bulk and folded; NaN for a single chain.
    """

    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    r_hat: np.ndarray


def convergence(draws) -> Convergence:
    """Effective sample sizes and R-hat.

    Parameters
    ----------
    draws : array (N, chain, draw)

    Returns
    -------
    Convergence
    """
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape[-1] < _FEWEST:
        return Convergence(*np.full((3, len(draws)), np.nan))
    parts = [_statistics(draws[first : first + _BLOCK]) for first in range(0, len(draws), _BLOCK)]
    return Convergence(*np.concatenate([np.zeros((3, 0)), *parts], axis=1))


def _statistics(draws):
    """Bulk and tail sizes and R-hat (3, N) of a few parameters."""
    n, n_chain, n_draw = draws.shape
    half = n_draw // 2
    if n_draw % 2:
        split = np.concatenate([draws[..., :half], draws[..., -half:]], axis=1)
    else:
        split = draws.reshape(n, 2 * n_chain, half)
    order, ordered = _in_order(split.reshape(n, -1))
    scores = _normal_scores(order, ordered).reshape(split.shape)
    # ArviZ compares with the quantiles of all draws, those in the middle of an odd number included
    edges = quantiles(np.sort(draws.reshape(n, -1), axis=1) if n_draw % 2 else ordered, _TAILS)
    tails = [(split <= edge[:, None, None]).astype(np.float64) for edge in edges]
    ess_bulk, *ess_tail = _ess(np.concatenate([scores, *tails])).reshape(3, n)
    if n_chain < 2:
        r_hat = np.full(n, np.nan)
    else:
        size = ordered.shape[1]
        # rounded as numpy rounds it: the ranks of the two values next to it hang on the last digit
        middle = (ordered[:, (size - 1) // 2] + ordered[:, size // 2]) / 2
        again, folded = _in_order(np.abs(ordered - middle[:, None]))
        folded_scores = _normal_scores(_taken(order, again), folded).reshape(split.shape)
        r_hat = np.maximum(_r_hat(scores), _r_hat(folded_scores))
    return np.stack([ess_bulk, np.minimum(*ess_tail), r_hat])


def quantiles(ordered, probabilities) -> np.ndarray:
    """Quantiles (probability, N) of ordered rows (N, draw), by linear interpolation as numpy's."""
    place = np.asarray(probabilities) * (ordered.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[-1] - 1)
    return (ordered[..., below] + (place - below) * (ordered[..., above] - ordered[..., below])).T


def _in_order(flat):
    """Where the ordered values of each row (N, n) stand, and these."""
    order = np.argsort(flat, axis=1)
    return order, _taken(flat, order)


def _taken(rows, place):
    """Elements of each row: `numpy.take_along_axis`, in a third of its time."""
    size = rows.shape[1]
    return rows.ravel().take(place + size * np.arange(len(rows))[:, None])


def _normal_scores(order, ordered):
    """Normal scores of the ranks of each parameter's draws (N, n), equal draws sharing the mean of their ranks."""
    n, size = ordered.shape
    # Blom (1958), in steps of half a rank
    table = ndtri((np.arange(2 * size - 1) / 2 + 1 - 3 / 8) / (size + 1 / 4))
    of_rank = np.broadcast_to(table[::2], ordered.shape)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if tied.size:
        of_rank = of_rank.copy()
        of_rank[tied] = table[_shared_ranks(ordered[tied])]
    scores = np.empty(n * size)
    scores[order + size * np.arange(n)[:, None]] = of_rank
    return scores


def _shared_ranks(ordered):
    """Twice the ranks from zero of ordered rows, the mean over runs of equal values."""
    size = ordered.shape[1]
    place = np.arange(size)
    differs = ordered[:, 1:] != ordered[:, :-1]
    first = np.zeros(ordered.shape, dtype=np.int64)
    first[:, 1:] = np.where(differs, place[1:], 0)
    last = np.full(ordered.shape, size - 1)
    last[:, :-1] = np.where(differs, place[:-1], size - 1)
    return np.maximum.accumulate(first, axis=1) + np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]


def _r_hat(values):
    """Potential scale reduction of (N, chain, draw)."""
    size = values.shape[-1]
    within = values.var(axis=-1, ddof=1).mean(axis=1)
    between = size * values.mean(axis=-1).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((between / within + size - 1) / size)


def _ess(values):
    """Effective sample size of (N, chain, draw) by Geyer's initial monotone sequence."""
    _, n_chain, size = values.shape
    total = n_chain * size
    constant = np.ptp(values, axis=(1, 2)) < np.finfo(float).resolution
    means = values.mean(axis=-1)
    covariance = _mean_autocovariance(values - means[..., None])
    within = covariance[:, 0] * size / (size - 1.0)
    variance = within * (size - 1.0) / size
    if n_chain > 1:
        variance = variance + means.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (within[:, None] - covariance) / variance[:, None]
    rho[:, 0] = 1.0
    n_pair = max((size - 3) // 2, 0) + 1  # so far ArviZ looks
    pair = rho[:, 0 : 2 * n_pair : 2] + rho[:, 1 : 2 * n_pair : 2]
    ended = pair <= 0
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), n_pair - 1)
    monotone = np.minimum.accumulate(pair, axis=1)
    kept = np.where(np.arange(n_pair) < last[:, None], monotone, 0).sum(axis=1)
    tail = np.maximum(np.take_along_axis(rho, 2 * last[:, None], axis=1)[:, 0], 0)
    tau = np.maximum(-1 + 2 * kept + tail, 1 / np.log10(total))
    return np.where(constant, total, total / tau)


def _mean_autocovariance(centred):
    """Autocovariance (N, lag), mean over the chains; one inverse transform for all chains of a parameter."""
    size = centred.shape[-1]
    length = next_fast_len(2 * size, real=True)
    spectrum = rfft(centred, n=length, axis=-1)
    squares = np.square(spectrum.view(np.float64)).mean(axis=1)  # of real and imaginary parts in turn
    power = squares[:, ::2] + squares[:, 1::2]
    return irfft(power, n=length, axis=-1)[:, :size] / size
