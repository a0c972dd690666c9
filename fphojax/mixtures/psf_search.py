"""The way to a good minimum: mixtures grown one Gaussian at a time, from several starts."""

import dataclasses

import numpy as np

from .psf_solver import covariance_of, factor_of, gaussians, solve

__all__ = ["search"]

# Entries that wings are binned down to while Gaussians are added, and for the last polish.
_SEARCH_PIXELS, _POLISH_PIXELS = 3_000, 20_000
# Steps while candidates compete, for the winner of a round, and for the last polish.
_SHORT, _LONG, _POLISH = 8, 40, 60
# Gaussians that are taken out and put in again elsewhere, one after the other, to leave local minima.
_EXCHANGES = 3
# Factors of L_11, L_21, L_22 of a new Gaussian relative to the existing one that it is put beside.
_STRETCHES = ((0.5, 0.5, 0.5), (1.5, 1.5, 1.5), (2.5, 2.5, 2.5), (2.0, 0.0, 0.7), (0.7, 0.0, 2.0))


def search(problem, core, *, n_gauss, n_negative, target_l2, max_gauss, seed):
    """Find the mixture that minimises the squared residual.

    Parameters
    ----------
    problem : Problem
    core : ndarray (3,)
        Covariance xx, yy, xy of the core.
    n_gauss : int or None
        Number of Gaussians; None for the smallest that reaches ``target_l2``.
    n_negative : int
        How many of them are negative.
    target_l2, max_gauss : float, int
        Aim and limit of a free number.
    seed : int

    Returns
    -------
    Components
    """
    rough = _binned(problem, _SEARCH_PIXELS)
    rng = np.random.default_rng(seed)
    wanted = max_gauss if n_gauss is None else n_gauss
    aim = 0.0
    if n_gauss is None:
        # what binning has averaged away is residual, too
        norm, binned_norm = (np.sum((p.weight * p.data) ** 2) for p in (problem, rough))
        aim = target_l2**2 * norm - (norm - binned_norm)
    theta = np.concatenate([np.zeros(2), factor_of(core[None], problem.floor)[0]])[None]
    grown = solve(rough, theta, np.ones(1), max_iter=_LONG)
    n_positive = wanted - n_negative
    # a round that finds no use for another Gaussian may be repeated: the next one starts elsewhere
    for _ in range(wanted + 2):
        if len(grown.signs) == wanted or grown.cost <= aim:
            break
        sign = 1.0 if np.count_nonzero(grown.signs > 0) < n_positive else -1.0
        grown = _without_idle(_grow(rough, grown, sign, rng))
    if n_gauss is not None:
        grown = _exchanged(rough, grown, rng)
    fine = _binned(problem, _POLISH_PIXELS)
    return solve(fine, grown.theta, grown.signs, max_iter=_POLISH, rtol=1e-10)


def _binned(problem, n_pixel):
    """The problem with all pixels near the source, and the mean of square blocks of the others."""
    excess = problem.x.size / n_pixel
    if excess < 1.5:
        return problem
    stride = int(np.ceil(np.sqrt(2 * excess)))
    columns, rows = (np.unique(np.round(c, 6), return_inverse=True)[1] for c in (problem.x, problem.y))
    block = (rows // stride) * problem.x.size + columns // stride
    near = np.arange(problem.x.size) < n_pixel // 2
    block[near] = -1 - np.arange(n_pixel // 2)
    block = np.unique(block, return_inverse=True)[1]
    weight = np.bincount(block, problem.weight**2)
    x, y, data = (
        np.bincount(block, problem.weight**2 * v) / weight for v in (problem.x, problem.y, problem.data)
    )
    order = np.argsort(np.hypot(x, y), kind="stable")
    radii = np.hypot(problem.x, problem.y)[problem.rings]
    return dataclasses.replace(
        problem,
        x=x[order],
        y=y[order],
        data=data[order],
        weight=np.sqrt(weight[order]),
        rings=np.unique(np.searchsorted(np.hypot(x, y)[order], radii)),
    )


def _grow(problem, components, sign, rng):
    """The best of several ways to add one Gaussian."""
    k = len(components.signs)
    signs = np.append(components.signs, sign)
    cov = covariance_of(components.theta, problem.floor)
    size = np.sqrt(np.sqrt(cov[:, 0] * cov[:, 1] - cov[:, 2] ** 2))
    ends = {int(np.argmin(size)), int(np.argmax(size)), int(rng.integers(k))}
    starts = [components.theta[i] * np.r_[1, 1, f] for i in ends for f in _STRETCHES]
    starts.append(_at_residual(problem, components, sign, np.median(size)))
    candidates = [
        solve(problem, np.concatenate([components.theta, start[None]]), signs, max_iter=_SHORT)
        for start in starts
    ]
    best = min(candidates, key=lambda c: c.cost)
    return solve(problem, best.theta, best.signs, max_iter=_LONG)


def _exchanged(problem, components, rng):
    """The components after attempts to replace each of some of them by a better one."""
    for i in rng.permutation(len(components.signs))[:_EXCHANGES]:
        if not 1 < len(components.signs) > i:
            continue
        others, signs = np.delete(components.theta, i, axis=0), np.delete(components.signs, i)
        rest = solve(problem, others, signs, max_iter=_SHORT)
        trial = _without_idle(_grow(problem, rest, components.signs[i], rng))
        components = min(components, trial, key=lambda c: c.cost)
    return components


def _without_idle(components):
    """The components that have an amplitude."""
    used = components.amplitudes != 0
    return dataclasses.replace(
        components,
        theta=components.theta[used],
        signs=components.signs[used],
        amplitudes=components.amplitudes[used],
    )


def _at_residual(problem, components, sign, size):
    """A round Gaussian at the pixel with the largest residual of the sign."""
    cov = covariance_of(components.theta, problem.floor) + np.array([problem.response, problem.response, 0.0])
    density = gaussians(problem.x, problem.y, components.theta[:, :2], cov)[0]
    residual = problem.data - components.amplitudes @ density - components.background
    worst = np.argmax(sign * residual)
    spread = np.sqrt(max(0.25 * size**2, 0.5 * problem.floor))
    x, y = (0.0, 0.0) if problem.fixed_centre else (problem.x[worst], problem.y[worst])
    return np.array([x, y, spread, 0.0, spread])
