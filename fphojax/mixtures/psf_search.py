"""Search for a good minimum: mixtures grow where one more Gaussian lowers the residual most."""

import dataclasses

import numpy as np

from .psf_solver import Components, Problem, covariance_of, factor_of, gaussians, residual_and_basis, solve

__all__ = ["search"]

# Number of entries to which the wings are binned while Gaussians are added, and for the final polish.
_SEARCH_PIXELS, _POLISH_PIXELS = 2_500, 12_000
# Steps in the two heats of the candidates of a round, for its winner, and for the final polish.
_HEAT, _SHORT, _LONG, _POLISH = 4, 8, 40, 50
# Candidates of a round that are taken from the library, and those that reach the second heat.
_CANDIDATES, _FINALISTS = 8, 8
# Smallest relative gain that is worth a Gaussian.
_MIN_GAIN = 1e-6
# Relative residual below which the fit counts as exact.
_EXACT = 1e-7
# Where the target is missed, a free number of Gaussians is the smallest whose residual exceeds that of the largest
# number by less than this fraction: where only noise is left, more Gaussians only make fits slower.
_RESIDUAL_EXCESS = 0.05
# Initial sizes of new Gaussians, in units of the core's.
_SIZES = np.geomspace(0.3, 12, 10)
# Distances (in units of their sizes) and directions from the source where round ones also start: lumps and rings.
_DISTANCES, _N_DIRECTION = np.array([[1.0, 2.0, 3.0]]), 12
# Factors of the parameters of copies of the existing Gaussians.
_COPY_FACTORS = np.array(
    [
        [1, 1, 0.5, 0.5, 0.5],
        [1, 1, 1.5, 1.5, 1.5],
        [1, 1, 2.5, 2.5, 2.5],
        [1, 1, 2, 0, 0.7],
        [1, 1, 0.7, 0, 2],
    ]
)
# Number of Gaussians that are removed and added again elsewhere, one at a time, to leave local minima.
_EXCHANGES = 4


def search(
    problem: Problem,
    core: np.ndarray,
    *,
    n_gauss: int | None,
    n_negative: int,
    target_l2: float,
    max_gauss: int,
    seed: int,
) -> Components:
    """Find the mixture that minimises the squared residual.

    Parameters
    ----------
    problem : Problem
    core : ndarray (3,)
        Covariance xx, yy, xy of the core.
    n_gauss : int or None
        Number of Gaussians; None for the smallest that reaches ``target_l2``, or nearly the residual of
        ``max_gauss``.
    n_negative : int
        How many of them are negative.
    target_l2, max_gauss : float, int
        Target and limit if the number is free.
    seed : int
        Seed of the order in which Gaussians are exchanged.

    Returns
    -------
    Components
        Has fewer Gaussians than wanted if no further one lowers the residual.
    """
    rough = _bin(problem, _SEARCH_PIXELS)
    rng = np.random.default_rng(seed)
    n_component = max_gauss if n_gauss is None else n_gauss
    norm, binned_norm = (np.sum((p.weight * p.data) ** 2) for p in (problem, rough))
    averaged = norm - binned_norm  # lost by binning; counts as residual, too
    aim = _EXACT**2 * norm if n_gauss is not None else target_l2**2 * norm - averaged
    library = _library(problem, core)
    theta = np.concatenate([np.zeros(2), factor_of(core[None], problem.floor)[0]])[None]
    grown = solve(rough, theta, np.ones(1), max_iter=_LONG)
    budget = {1.0: n_component - n_negative, -1.0: n_negative}
    spare = {1.0: n_component - n_negative - 1, -1.0: n_negative}
    path = [grown]
    idle: set[float] = set()
    while grown.cost > aim and (open_ := [sign for sign in spare if spare[sign] > 0 and sign not in idle]):
        # positive ones first; where no further one helps, a negative one may make room for it
        more = _grow(rough, grown, open_[0], library, rng)
        if more.cost < (1 - _MIN_GAIN) * grown.cost:
            grown, idle = more, set()
            path.append(grown)
            spare = {sign: n - np.count_nonzero(grown.signs == sign) for sign, n in budget.items()}
        else:
            idle.add(open_[0])
    if grown.cost > aim:
        if n_gauss is None:
            enough = (1 + _RESIDUAL_EXCESS) ** 2 * (grown.cost + averaged)
            grown = next(earlier for earlier in path if earlier.cost + averaged <= enough)
        grown = _exchange(rough, grown, library, rng)
    fine = _bin(problem, _POLISH_PIXELS)
    return solve(fine, grown.theta, grown.signs, max_iter=_POLISH, rtol=1e-10)


def _bin(problem, n_pixel):
    """Bin the problem: keep the pixels near the source, and average the others over square blocks."""
    excess = problem.x.size / n_pixel
    if excess < 1.5:
        return problem
    stride = int(np.ceil(np.sqrt(2 * excess)))
    columns, rows = (np.unique(np.round(c, 6), return_inverse=True)[1] for c in (problem.x, problem.y))
    block = (rows // stride) * problem.x.size + columns // stride
    core = np.arange(problem.x.size) < n_pixel // 2
    block[core] = -1 - np.arange(n_pixel // 2)
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


def _library(problem, core):
    """Return parameters (n, 5) of Gaussians of many sizes, shapes and positions."""
    size = np.sqrt(np.sqrt(core[0] * core[1] - core[2] ** 2)) * _SIZES
    size = size[size < problem.width_limit]
    # round, and with axis ratio 2 in four directions
    shapes = np.array([[1, 1, 0], [2, 0.5, 0], [0.5, 2, 0], [1.25, 1.25, 0.75], [1.25, 1.25, -0.75]])
    factors = factor_of(
        np.kron(size[:, None] ** 2, shapes) + problem.floor * np.array([1, 1, 0]), problem.floor
    )
    theta = np.concatenate([np.zeros((len(factors), 2)), factors], axis=1)
    if problem.fixed_centre:
        return theta
    angles = np.arange(_N_DIRECTION) * 2 * np.pi / _N_DIRECTION
    places = np.kron(_DISTANCES, np.stack([np.cos(angles), np.sin(angles)])).T
    means = np.kron(size[:, None], places)
    inside = np.hypot(*means.T) < problem.mean_limit
    factors = np.repeat(factors[:: len(shapes)], len(places), axis=0)
    return np.concatenate([theta, np.concatenate([means, factors], axis=1)[inside]])


def _grow(problem, components, sign, library, rng):
    """Add a Gaussian: beside an existing one, or where it correlates with the residual."""
    cov = covariance_of(components.theta, problem.floor)
    size = cov[:, 0] * cov[:, 1] - cov[:, 2] ** 2
    ends = {int(np.argmin(size)), int(np.argmax(size)), int(rng.integers(size.size))}
    copies = (components.theta[sorted(ends), None] * _COPY_FACTORS).reshape(-1, 5)
    gains = _gains(problem, library, sign, *residual_and_basis(problem, components))
    # the best of each size and shape, instead of the best and its neighbours
    order = np.argsort(-gains, kind="stable")
    _, first = np.unique(library[order, 2:].round(9), axis=0, return_index=True)
    candidates = library[order[np.sort(first)[:_CANDIDATES]]]
    signs = np.append(components.signs, sign)
    heat = [
        solve(problem, np.concatenate([components.theta, start[None]]), signs, max_iter=_HEAT)
        for start in np.concatenate([copies, candidates])
    ]
    finalists = sorted(heat, key=lambda c: c.cost)[:_FINALISTS]
    finalists = [solve(problem, c.theta, signs, max_iter=_SHORT) for c in finalists]
    best = min(finalists, key=lambda c: c.cost)
    return _drop_zero_amplitudes(solve(problem, best.theta, best.signs, max_iter=_LONG))


def _gains(problem, library, sign, residual, basis):
    """Compute how much each Gaussian of the library would lower the cost, all others fixed in shape."""
    cov = covariance_of(library, problem.floor) + problem.response * np.array([1, 1, 0])
    columns = problem.weighted(gaussians(problem.x, problem.y, library[:, :2], cov)[0])
    norm = np.sum(columns**2, axis=0)
    if problem.total is not None:  # what one more Gaussian holds, the others lose
        columns = np.concatenate([columns, np.full((1, len(library)), problem.sum_weight)])
    along = sign * (residual @ columns)
    unexplained_norm = np.sum(columns**2, axis=0) - np.sum((basis.T @ columns) ** 2, axis=0)
    return np.maximum(along, 0) ** 2 / np.maximum(unexplained_norm, 1e-5 * norm)


def _exchange(problem, components, library, rng):
    """Try to replace some of the components, one at a time, by better ones."""
    for i in rng.permutation(len(components.signs))[:_EXCHANGES]:
        if not 1 < len(components.signs) > i:
            continue
        theta, signs = np.delete(components.theta, i, axis=0), np.delete(components.signs, i)
        reduced = solve(problem, theta, signs, max_iter=_SHORT)
        trial = _grow(problem, reduced, components.signs[i], library, rng)
        components = min(components, trial, key=lambda c: c.cost)
    return components


def _drop_zero_amplitudes(components):
    """Drop components without amplitude."""
    used = components.amplitudes != 0
    return dataclasses.replace(
        components,
        theta=components.theta[used],
        signs=components.signs[used],
        amplitudes=components.amplitudes[used],
    )
