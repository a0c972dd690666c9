"""Covariance of the parameters at an optimum, and the optimum in the form of chains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Uniform

from ..core.model import SceneModel
from .chains import Chains
from .interruptible import interruptible
from .optimize import Optimum

__all__ = [
    "inverse",
    "optimum_as_chains",
    "parameter_covariance",
    "places",
    "source_covariances",
    "widths_by_data",
]

BOX_PRECISION = 3 / np.pi**2  # of an unconstrained value whose prior is a box


def parameter_covariance(model: SceneModel, optimum: Optimum) -> np.ndarray:
    """Inverse of the Gauss-Newton matrix at the optimum, by the parameters themselves.

    It is inverted in unconstrained space, priors included, and brought back with the slopes of the transforms: a
    parameter at a bound has next to no variance, and adds none to the others. Neither has a held one. A tied one has
    the covariances of that which it follows.

    Parameters
    ----------
    model : SceneModel
    optimum : Optimum

    Returns
    -------
    ndarray (N, N)
        In the order of `ravel_pytree`.
    """
    slope = np.asarray(interruptible(_slopes, model, optimum.unconstrained))
    covariance = _unconstrained_covariance(model, optimum) * np.outer(slope, slope)
    followed = places(optimum.values)
    followed |= {name: followed[name][np.asarray(source)] for name, source in model.tied.items()}
    index = np.concatenate([followed[name].ravel() for name in sorted(followed)])
    return covariance[np.ix_(index, index)]


def optimum_as_chains(
    model: SceneModel, optimum: Optimum, *, seed: int = 0, wall_time: float = 0.0, method: str = "optimum"
) -> Chains:
    """An optimum as a single draw, in the form in which results are kept.

    Parameters
    ----------
    model : SceneModel
    optimum : Optimum
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


def places(values) -> dict[str, np.ndarray]:
    """Where the elements of each parameter stand in the vector of `ravel_pytree`."""
    found, at = {}, 0
    for name in sorted(values):
        size = np.size(values[name])
        found[name] = at + np.arange(size).reshape(np.shape(values[name]))
        at += size
    return found


def source_covariances(covariance, values) -> np.ndarray:
    """The blocks of single sources.

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


def widths_by_data(model: SceneModel, optimum: Optimum) -> dict[str, np.ndarray]:
    """Standard deviation of each parameter by the data alone, while priors hold all others.

    From the Fisher matrix, to which every prior adds as a normal of its width; that of the parameter itself is taken
    away again.

    Parameters
    ----------
    model : SceneModel
    optimum : Optimum

    Returns
    -------
    dict of ndarray
        Infinite where the data say nothing.
    """
    widths = model.prior_widths()
    flat, unravel = ravel_pytree({name: jnp.asarray(widths[name]) for name in optimum.values})
    by_prior = np.nan_to_num(np.asarray(flat), nan=np.inf) ** -2.0
    by_data = 1 / np.diag(inverse(optimum.fisher + np.diag(by_prior))) - by_prior
    found = np.full(by_data.shape, np.inf)
    found[by_data > 0] = by_data[by_data > 0] ** -0.5
    return jax.tree.map(np.asarray, unravel(jnp.asarray(found)))


def inverse(precision) -> np.ndarray:
    """Inverse of a positive matrix, in units of its diagonal; directions without information stay finite."""
    scale = 1 / np.sqrt(np.maximum(np.diag(precision), 1e-12))
    eigenvalues, vectors = np.linalg.eigh(precision * np.outer(scale, scale))
    root = scale[:, None] * vectors / np.sqrt(np.maximum(eigenvalues, 1e-10))
    return root @ root.T


def _unconstrained_covariance(model, optimum):
    """Inverse of the Gauss-Newton matrix and the priors' precision; held and tied parameters have no variance.

    What the data leave open in a box has the variance of the prior, that of the logistic distribution.
    """
    free = {name: model.is_free(name) for name in optimum.values}
    boxed = {name: np.full(free[name].shape, isinstance(model.priors[name], Uniform)) for name in free}
    boxed, free = (np.asarray(ravel_pytree(flags)[0]) for flags in (boxed, free))
    matrix = optimum.hessian + np.diag(BOX_PRECISION * boxed)
    scale = free / np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scaled = matrix * scale[:, None] * scale
    return np.linalg.pinv(scaled, rcond=1e-12, hermitian=True) * np.outer(scale, scale)


@eqx.filter_jit
def _slopes(model, unconstrained):
    flat, unravel = ravel_pytree(unconstrained)

    def values_of(u):
        return ravel_pytree(model.constrain(unravel(u)))[0]

    return jax.jvp(values_of, (flat,), (jnp.ones_like(flat),))[1]
