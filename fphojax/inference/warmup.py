"""Warm-up of chains that start near the optimum: as short as their draws allow.

It proceeds in rounds of 20 draws of every chain.  In the first round the chains leave their starting points.  After
each further one, the draws of all chains together are tested against a unit normal, as far as so few allow; if they
fail, a new whitening is estimated once there are enough draws: sampling noise in their covariance must do less harm
than the present whitening.  If that is far off, the new one is first estimated from few draws, and again from more;
until then trees are short.
"""

from collections.abc import Callable

import numpy as np

from .lockstep import Task
from .nuts import ChainState, moved
from .whitening import Whitening, from_draws, mixed_covariance

__all__ = ["ROUND", "warm_up"]

ROUND = 20  # draws of a chain

SPREAD = 1.6  # factor by which a variance may differ from 1, beyond chance, before the whitening is replaced
ENOUGH = 10  # draws per dimension for a final whitening
MAX_MEAN_OFFSET = 1.0  # standard deviations by which the mean of a chain may differ from that of all
OFF_TARGET = 0.12  # the same for the mean acceptance rate


def warm_up(
    run: Callable[[Whitening, list[ChainState], bool], Task[tuple[list[ChainState], list[dict]]]],
    states: list[ChainState],
    whitening: Whitening,
    *,
    most: int,
    target_accept: float,
    full_cov: bool,
    active: np.ndarray,
) -> Task[tuple[list[ChainState], Whitening, int, int]]:
    """Adapt whitening and step sizes of chains in rounds of draws; a task, see `lockstep`.

    Parameters
    ----------
    run : callable
        Called with whitening, states, and whether trees must be short; a task (see `lockstep`) that returns new
        states and the draws of each chain; see `nuts.advance`.
    states : list of ChainState
    whitening : Whitening
    most : int
        Largest number of rounds; at least the first.
    target_accept : float
    full_cov : bool
    active : bool array (m,)
        Which coordinates move; draws and whitening are of these alone.

    Returns
    -------
    states : list of ChainState
    whitening : Whitening
    n_round : int
    n_calls : int
    """
    first, n_calls, recent, for_good = whitening, 0, [], True
    for n_round in range(1, max(most, 1) + 1):
        states, draws = yield from run(whitening, states, whitening is first)
        n_calls += int(sum(part["n_steps"].sum() for part in draws))
        if n_round == 1:
            continue
        recent.append(np.stack([part["v"] for part in draws]))
        v = np.concatenate(recent, axis=1)
        flat = v.reshape(-1, v.shape[-1])
        eigenvalues = np.linalg.eigvalsh(mixed_covariance(flat))
        settled = for_good and _white(v, eigenvalues)
        acceptance = np.mean([part["acceptance_rate"] for part in draws])
        if settled and abs(acceptance - target_accept) < OFF_TARGET:
            break
        enough = len(flat) >= ENOUGH * flat.shape[1]
        if not settled and n_round < most and (enough or _far_off(len(flat), eigenvalues)):
            new = from_draws(whitening, flat, full_cov=full_cov)
            states = [moved(state, whitening, new, active) for state in states]
            whitening, recent, for_good = new, [], enough
    return states, whitening, n_round, n_calls


def _far_off(m, eigenvalues):
    """Return whether the covariance of m draws is a better estimate than a unit matrix."""
    n = len(eigenvalues)
    if m <= n:
        return False
    # condition number of the covariance of m independent draws; squared because these draws are correlated
    chance = ((1 + np.sqrt(n / m)) / (1 - np.sqrt(n / m))) ** 2
    return eigenvalues[-1] > chance**2 * eigenvalues[0]


def _white(v, eigenvalues):
    """Return whether draws (chain, draw, n) are consistent with a unit normal, the same in every chain."""
    m, n = v.shape[0] * v.shape[1], v.shape[2]
    # extreme eigenvalues for m / 2 independent draws (Marchenko & Pastur 1967): the m draws are correlated
    limit = SPREAD * (1 + np.sqrt(2 * n / m)) ** 2
    mean_offset = np.abs(v.mean(axis=1) - v.mean(axis=(0, 1))).max()
    return eigenvalues[0] > 1 / limit and eigenvalues[-1] < limit and mean_offset < MAX_MEAN_OFFSET
