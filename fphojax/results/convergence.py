"""Convergence statistics for many parameters at once, as ArviZ computes them one by one.

The statistics are those of Vehtari et al. (2021, Bayesian Analysis 16, 667), in the form that ArviZ has; a run of
10^4 sources has 10^5 parameters, for which a loop over parameters takes minutes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

__all__ = ["Convergence", "convergence", "quantiles", "r_hat"]

_TAILS = (0.05, 0.95)
_FEWEST = 4  # draws of a chain
_BLOCK = 64  # parameters at a time: with fewer, the overhead of Python dominates


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


def convergence(draws: np.ndarray) -> Convergence:
    """Compute effective sample sizes and R-hat.

    Parameters
    ----------
    draws : array (N, chain, draw)

    Returns
    -------
    Convergence
    """
    return Convergence(*_in_blocks(_statistics, draws, 3))


def r_hat(draws: np.ndarray) -> np.ndarray:
    """Compute R-hat (N,) alone, as in `Convergence`; draws as for `convergence`."""
    return _in_blocks(lambda block: _largest_r_hat(_Ranked(block))[None], draws, 1)[0]


def _in_blocks(statistics, draws, size):
    """Apply a function of draws, with result (size, n), in blocks; return NaN if chains are too short."""
    draws = np.asarray(draws, dtype=np.float64)
    if draws.shape[-1] < _FEWEST:
        return np.full((size, len(draws)), np.nan)
    blocks = [draws[first : first + _BLOCK] for first in range(0, len(draws), _BLOCK)]
    return np.concatenate([np.zeros((size, 0)), *map(statistics, blocks)], axis=1)


class _Ranked:
    """Draws (N, chain, draw) as half-chains, with their order and normal scores."""

    def __init__(self, draws) -> None:
        n, n_chain, n_draw = draws.shape
        half = n_draw // 2
        if n_draw % 2:
            self.split = np.concatenate([draws[..., :half], draws[..., -half:]], axis=1)
        else:
            self.split = draws.reshape(n, 2 * n_chain, half)
        self.n_chain = n_chain
        self.place, self.ordered = _in_order(self.split.reshape(n, -1))
        self.scores = _normal_scores(self.place, self.ordered).reshape(self.split.shape)
        # the quantiles are of all draws, those in the middle of an odd number included
        self.all_ordered = np.sort(draws.reshape(n, -1), axis=1) if n_draw % 2 else self.ordered


def _statistics(draws):
    """Compute bulk and tail sample sizes and R-hat (3, N) of a block of parameters."""
    ranked = _Ranked(draws)
    edges = quantiles(ranked.all_ordered, _TAILS)
    tails = [(ranked.split <= edge[:, None, None]).astype(np.float64) for edge in edges]
    bulk, *tail = _ess(np.concatenate([ranked.scores, *tails])).reshape(3, len(draws))
    return np.stack([bulk, np.minimum(*tail), _largest_r_hat(ranked)])


def _largest_r_hat(ranked):
    """Return the larger of the R-hats of location (bulk) and spread (folded)."""
    if ranked.n_chain < 2:
        return np.full(len(ranked.split), np.nan)
    ordered, size = ranked.ordered, ranked.ordered.shape[1]
    # rounded as numpy rounds it: the ranks of the two values next to it depend on the last digit
    middle = (ordered[:, (size - 1) // 2] + ordered[:, size // 2]) / 2
    # these fall and then rise, which a merge sort puts in order in one pass
    again, folded = _in_order(np.abs(ordered - middle[:, None]), kind="stable")
    scores = _normal_scores(ranked.place.ravel().take(again), folded).reshape(ranked.split.shape)
    return np.maximum(_r_hat(ranked.scores), _r_hat(scores))


def quantiles(ordered: np.ndarray, probabilities: ArrayLike) -> np.ndarray:
    """Compute quantiles (probability, N) of ordered rows (N, draw), with numpy's linear interpolation."""
    place = np.asarray(probabilities) * (ordered.shape[-1] - 1)
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, ordered.shape[-1] - 1)
    return (ordered[..., below] + (place - below) * (ordered[..., above] - ordered[..., below])).T


def _in_order(rows, kind=None):
    """Sort each row (N, n); return the flat indices of the sorted values, and the values."""
    place = np.argsort(rows, axis=1, kind=kind)
    place += rows.shape[1] * np.arange(len(rows))[:, None]
    return place, rows.ravel().take(place)


def _normal_scores(place, ordered):
    """Compute normal scores of each parameter's draws (N, n); equal draws share the mean of their ranks."""
    size = ordered.shape[1]
    # Blom (1958), in steps of half a rank
    table = ndtri((np.arange(2 * size - 1) / 2 + 1 - 3 / 8) / (size + 1 / 4))
    of_rank = np.broadcast_to(table[::2], ordered.shape)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if tied.size:
        of_rank = of_rank.copy()
        of_rank[tied] = table[_shared_ranks(ordered[tied])]
    scores = np.empty(ordered.size)
    scores[place] = of_rank
    return scores


def _shared_ranks(ordered):
    """Compute twice the zero-based ranks of ordered rows, averaged over runs of equal values."""
    size = ordered.shape[1]
    place = np.arange(size)
    differs = ordered[:, 1:] != ordered[:, :-1]
    first = np.zeros(ordered.shape, dtype=np.int64)
    first[:, 1:] = np.where(differs, place[1:], 0)
    last = np.full(ordered.shape, size - 1)
    last[:, :-1] = np.where(differs, place[:-1], size - 1)
    return np.maximum.accumulate(first, axis=1) + np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]


def _r_hat(values):
    """Compute the potential scale reduction of normal scores (N, chain, draw)."""
    size = values.shape[-1]
    means = values.mean(axis=-1)
    squares = np.einsum("ncd,ncd->nc", values, values)  # about zero, the mean of the scores
    within = ((squares - size * means**2) / (size - 1)).mean(axis=1)
    between = size * means.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((between / within + size - 1) / size)


def _ess(values):
    """Compute the effective sample size of (N, chain, draw) by Geyer's initial monotone sequence."""
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
    n_pair = max((size - 3) // 2, 0) + 1  # as far as ArviZ looks
    pair = rho[:, 0 : 2 * n_pair : 2] + rho[:, 1 : 2 * n_pair : 2]
    ended = pair <= 0
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), n_pair - 1)
    monotone = np.minimum.accumulate(pair, axis=1)
    pair_sum = np.where(np.arange(n_pair) < last[:, None], monotone, 0).sum(axis=1)
    tail = np.maximum(np.take_along_axis(rho, 2 * last[:, None], axis=1)[:, 0], 0)
    tau = np.maximum(-1 + 2 * pair_sum + tail, 1 / np.log10(total))
    return np.where(constant, total, total / tau)


def _mean_autocovariance(centred):
    """Compute the autocovariance (N, lag), averaged over chains, by one inverse transform per parameter."""
    size = centred.shape[-1]
    length = next_fast_len(2 * size, real=True)
    spectrum = rfft(centred, n=length, axis=-1)
    parts = spectrum.view(np.float64)  # real and imaginary in turn
    squares = np.einsum("ncf,ncf->nf", parts, parts) / parts.shape[1]
    power = squares[:, ::2] + squares[:, 1::2]
    return irfft(power, n=length, axis=-1)[:, :size] / size
