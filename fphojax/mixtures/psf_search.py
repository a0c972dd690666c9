"""The way to a good minimum: mixtures grown one Gaussian at a time, from several starts."""

import dataclasses

import numpy as np

from .psf_solver import covariance_of, factor_of, gaussians, solve

__all__ = ["search"]

# Pixels used while growing; all pixels only polish the result.
_SEARCH_PIXELS = 12_000
# Steps while candidates compete, for the winner of a round, and for the last polish.
_SHORT, _LONG, _POLISH = 12, 40, 60
# Size of a new Gaussian relative to the existing one that it is put beside.
_STRETCHES = (0.5, 0.75, 1.5, 2.5)


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
    rough = _thinned(problem)
    rng = np.random.default_rng(seed)
    wanted = max_gauss if n_gauss is None else n_gauss
    aim = (
        0.0
        if n_gauss is not None
        else target_l2**2 * (rough.data * rough.weight) @ (rough.data * rough.weight)
    )
    theta = np.concatenate([np.zeros(2), factor_of(core[None], problem.floor)[0]])[None]
    grown = solve(rough, theta, np.ones(1), max_iter=_LONG)
    n_positive = wanted - n_negative
    while len(grown.signs) < wanted and grown.cost > aim:
        sign = 1.0 if len(grown.signs) < n_positive else -1.0
        grown = _grow(rough, grown, sign, rng)
    if n_gauss is not None and n_gauss > 1:
        regular = _regular_start(rough, core, n_positive, n_negative, rng)
        grown = min(grown, regular, key=lambda c: c.cost)
    return solve(problem, grown.theta, grown.signs, max_iter=_POLISH, rtol=1e-10)


def _thinned(problem):
    """The problem with all bright pixels and a regular part of the others, weighted for those left out."""
    excess = problem.x.size / _SEARCH_PIXELS
    if excess < 2:
        return problem
    stride = int(np.ceil(np.sqrt(excess)))
    columns = np.unique(problem.x, return_inverse=True)[1]
    rows = np.unique(problem.y, return_inverse=True)[1]
    bright = np.argsort(problem.data)[-_SEARCH_PIXELS // 2 :]
    kept = (columns % stride == 0) & (rows % stride == 0)
    weight = np.where(kept, stride * problem.weight, 0.0)
    weight[bright] = problem.weight[bright]
    kept[bright] = True
    return dataclasses.replace(
        problem, x=problem.x[kept], y=problem.y[kept], data=problem.data[kept], weight=weight[kept]
    )


def _grow(problem, components, sign, rng):
    """The best of several ways to add one Gaussian."""
    k = len(components.signs)
    signs = np.append(components.signs, sign)
    cov = covariance_of(components.theta, problem.floor)
    size = np.sqrt(np.sqrt(cov[:, 0] * cov[:, 1] - cov[:, 2] ** 2))
    candidates = []
    starts = [
        components.theta[i] * np.r_[1, 1, f, f, f]
        for i in {np.argmin(size), np.argmax(size)}
        for f in _STRETCHES
    ]
    starts.append(_at_residual(problem, components, sign, np.median(size)))
    i = rng.integers(k)
    starts.append(components.theta[i] * np.r_[1, 1, np.exp(rng.normal(0, 0.5, 3))])
    for start in starts:
        theta = np.concatenate([components.theta, start[None]])
        candidates.append(solve(problem, theta, signs, max_iter=_SHORT))
    best = min(candidates, key=lambda c: c.cost)
    return solve(problem, best.theta, best.signs, max_iter=_LONG)


def _at_residual(problem, components, sign, size):
    """A round Gaussian at the pixel with the largest residual of the sign."""
    cov = covariance_of(components.theta, problem.floor) + np.array([problem.response, problem.response, 0.0])
    density = gaussians(problem.x, problem.y, components.theta[:, :2], cov)[0]
    residual = problem.data - components.amplitudes @ density - components.background
    worst = np.argmax(sign * residual)
    spread = np.sqrt(max(0.25 * size**2, 0.5 * problem.floor))
    x, y = (0.0, 0.0) if problem.fixed_centre else (problem.x[worst], problem.y[worst])
    return np.array([x, y, spread, 0.0, spread])


def _regular_start(problem, core, n_positive, n_negative, rng):
    """The best of mixtures that start with sizes in geometric progression."""
    base = factor_of(core[None], problem.floor)[0]
    signs = np.concatenate([np.ones(n_positive), -np.ones(n_negative)])
    best = None
    for widest in (2.5, 5.0, 10.0):
        widths = 0.8 * np.geomspace(1, widest / 0.8, n_positive) if n_positive > 1 else np.ones(1)
        widths = np.concatenate([widths, np.geomspace(1.2, 2.5, n_negative)]) if n_negative else widths
        theta = np.zeros((len(signs), 5))
        theta[:, 2:] = widths[:, None] * base
        if not problem.fixed_centre:
            theta[:, :2] = 0.05 * widths[:, None] * base[0] * rng.standard_normal((len(signs), 2))
        trial = solve(problem, theta, signs, max_iter=_SHORT * 2)
        best = trial if best is None or trial.cost < best.cost else best
    return solve(problem, best.theta, best.signs, max_iter=_LONG)
