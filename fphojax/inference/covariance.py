"""Covariance of the parameters at an optimum, and the optimum in the form of chains."""

from collections.abc import Mapping

import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from numpyro.distributions import Uniform

from fphojax.core.model import SceneModel
from fphojax.core.padding import raveled, split_like

from .chains import Chains
from .coordinates import plain_prior
from .optimum import BestFit

__all__ = [
    "best_fit_as_chains",
    "inverse",
    "parameter_covariance",
    "places",
    "prior_precisions",
    "source_covariances",
    "widths_by_data",
]

BOX_PRECISION = 3 / np.pi**2  # of an unconstrained value whose prior is a box
BOX_SHARE = 0.1  # of the pixels' own precision: the most that the box of a flux adds to it
UNSEEN = 1e-6  # of the precision of its box, below which the pixels' precision of a flux counts as none


def parameter_covariance(model: SceneModel, optimum: BestFit, noise: np.ndarray | None = None) -> np.ndarray:
    """Return the parameter covariance: inverse of the pixels' Fisher matrix plus the precision of the priors.

    Where in its box a parameter ended does not matter: one at an edge has the error that the pixels give, and adds
    to those of the others what it would add anywhere else. So the flux of a source whose shape ended at an edge
    (a star at the least half-light radius, a round galaxy) has the error with that shape free, which is never below
    that with the shape held. What the pixels leave open has the variance of its prior, width^2 / 12 for a box; but
    the box of a flux, which comes from a guess, adds no more than a tenth of the pixels' own precision of the flux at
    known shapes, unless that is negligible.

    A held parameter has no variance. A tied one has the covariances of the parameter that it follows.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit
    noise : array (N, N), optional
        Covariance J of the gradient of the log likelihood under the noise as it was measured
        (`fphojax.inference.noise_matrix`): the covariance is then V (J + P) V, with P the precision of the priors and
        V the inverse of the Fisher matrix plus P. By default J is the Fisher matrix, and the covariance is V.

    Returns
    -------
    ndarray (N, N)
        In the order of `ravel_pytree`.
    """
    free = np.concatenate([model.is_free(name).ravel() for name in sorted(optimum.values)])
    rows = np.flatnonzero(free)
    prior = np.diag(prior_precisions(model, optimum))
    block = np.ix_(rows, rows)
    covariance = np.zeros(optimum.fisher.shape)
    covariance[block] = inverse((optimum.fisher + prior)[block])
    if noise is not None:
        covariance[block] = covariance[block] @ (noise + prior)[block] @ covariance[block]
    followed = places(optimum.values)
    followed |= {name: followed[name][np.asarray(source)] for name, source in model.tied.items()}
    index = np.concatenate([followed[name].ravel() for name in sorted(followed)])
    return covariance[np.ix_(index, index)]


def best_fit_as_chains(
    model: SceneModel, optimum: BestFit, *, seed: int = 0, wall_time: float = 0.0, method: str = "optimum"
) -> Chains:
    """Wrap an optimum as chains with a single draw, the form in which results are stored.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit
    seed : int
        Of its start.
    wall_time : float
        Seconds.
    method : {"optimum", "forced"}

    Returns
    -------
    Chains
        Its `covariance` is that of the unconstrained parameters, as for a mass matrix.
    """
    return Chains(
        model=model,
        values={name: np.asarray(value)[None, None] for name, value in optimum.values.items()},
        statistics={"diverging": np.zeros((1, 1), dtype=bool)},
        optimum=optimum,
        covariance=_unconstrained_covariance(model, optimum),
        n_warmup=0,
        n_calls=optimum.n_step,
        wall_time=wall_time,
        seed=seed,
        max_treedepth=0,
        method=method,
    )


def places(values: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return the positions of the elements of each parameter in the vector of `ravel_pytree`."""
    positions, at = {}, 0
    for name in sorted(values):
        size = np.size(values[name])
        positions[name] = at + np.arange(size).reshape(np.shape(values[name]))
        at += size
    return positions


def source_covariances(covariance: ArrayLike, values: Mapping[str, ArrayLike]) -> np.ndarray:
    """Extract the covariance block of each source.

    Parameters
    ----------
    covariance : array (N, N)
        Of all parameters, in the order of `ravel_pytree`.
    values : dict of array
        The parameters.

    Returns
    -------
    ndarray (n_source, n_band + 6, n_band + 6)
        In the order fluxes, x, y, q, pa, sersic, rhalf.
    """
    covariance, place = np.asarray(covariance), places(values)
    rows = np.column_stack([place[name] for name in ("flux", "x", "y", "q", "pa", "sersic", "rhalf")])
    return covariance[rows[:, :, None], rows[:, None, :]]


def widths_by_data(model: SceneModel, optimum: BestFit) -> dict[str, np.ndarray]:
    """Return each parameter's standard deviation from the data, the others marginalised under their priors.

    From the Fisher matrix, to which every prior is added as a normal of its width; the prior of the parameter itself
    is then subtracted again.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit

    Returns
    -------
    dict of ndarray
        Infinite where the data do not constrain the parameter.
    """
    widths = model.prior_widths()
    flat = raveled({name: widths[name] for name in optimum.values})
    by_prior = np.nan_to_num(flat, nan=np.inf) ** -2.0
    by_data = 1 / np.diag(inverse(optimum.fisher + np.diag(by_prior))) - by_prior
    width = np.full(by_data.shape, np.inf)
    width[by_data > 0] = by_data[by_data > 0] ** -0.5
    return split_like(width, optimum.values)


def inverse(precision: np.ndarray) -> np.ndarray:
    """Invert a positive matrix, scaled by its diagonal; directions without information stay finite."""
    scale = 1 / np.sqrt(np.maximum(np.diag(precision), 1e-12))
    eigenvalues, vectors = np.linalg.eigh(precision * np.outer(scale, scale))
    root = scale[:, None] * vectors / np.sqrt(np.maximum(eigenvalues, 1e-10))
    return root @ root.T


def prior_precisions(model: SceneModel, optimum: BestFit) -> np.ndarray:
    """Return the prior precisions (N,), 1 / variance; those of flux boxes are limited by the pixels'."""
    widths = model.prior_widths()
    precision = {name: np.nan_to_num(np.asarray(widths[name]), nan=np.inf) ** -2.0 for name in optimum.values}
    if isinstance(plain_prior(model.priors["flux"]), Uniform):
        by_pixels = np.diag(optimum.fisher)[places(optimum.values)["flux"]]
        box = precision["flux"]
        precision["flux"] = np.where(by_pixels > UNSEEN * box, np.minimum(box, BOX_SHARE * by_pixels), box)
    return np.concatenate([precision[name].ravel() for name in sorted(precision)])


def _unconstrained_covariance(model, optimum):
    """Invert the Gauss-Newton matrix plus the prior precisions; held and tied parameters have no variance.

    What the data leave open in a box has the variance of the prior, that of the logistic distribution.
    """
    free = {name: model.is_free(name) for name in optimum.values}
    boxed = {name: np.full(free[name].shape, isinstance(model.priors[name], Uniform)) for name in free}
    boxed, free = (np.asarray(ravel_pytree(flags)[0]) for flags in (boxed, free))
    matrix = optimum.hessian + np.diag(BOX_PRECISION * boxed)
    scale = free / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix * scale[:, None] * scale
    return np.linalg.pinv(scaled, rcond=1e-12, hermitian=True) * np.outer(scale, scale)
