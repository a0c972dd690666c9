"""The most probable parameters of a scene."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from fphojax.core.model import SceneModel, support_edges
from fphojax.core.padding import padded_model, padded_values, real_values
from fphojax.system.notebook_html import Shown

from .interruptible import interruptible
from .lockstep import in_step
from .search import search

__all__ = ["BestFit", "at_bound", "lean_model", "optimize", "optimize_many"]

AT_BOUND = 1e-3  # of the width of the support


@dataclass(frozen=True, eq=False, repr=False)
class BestFit(Shown):
    """The maximum of the posterior density of a scene.

    Attributes
    ----------
    values : dict of ndarray
        The parameters, in the names and shapes of the model.
    unconstrained : dict of ndarray
        The same point in unconstrained space.
    chi2 : ndarray (E,)
        Chi-squared of every exposure there.
    fisher : ndarray (N, N)
        J^T W J of the pixels, by the parameters themselves, in the order of `ravel_pytree`.
    hessian : ndarray (N, N)
        Gauss-Newton matrix of minus the log posterior in unconstrained space, priors included.
    n_step : int
        Passes over the pixels, each for likelihood, gradient and Fisher matrix.
    converged : bool
        Whether the predicted gain is below the tolerance, or too small to tell from rounding.
    at_bound : dict of ndarray of bool
        Which parameters ended at an edge of their prior.
    """

    values: dict[str, np.ndarray]
    unconstrained: dict[str, np.ndarray]
    chi2: np.ndarray
    fisher: np.ndarray
    hessian: np.ndarray
    n_step: int
    converged: bool
    at_bound: dict[str, np.ndarray]

    def _facts(self):
        return {
            "chi2": f"{np.sum(self.chi2):.1f} in {len(self.chi2)} exposures",
            "steps": self.n_step,
            "": "converged" if self.converged else "not converged",
        }


def optimize(
    model: SceneModel,
    start: Mapping[str, ArrayLike],
    *,
    density: str = "values",
    max_steps: int = 300,
    tolerance: float = 1e-4,
) -> BestFit:
    """Find the maximum of the posterior density.

    Parameters
    ----------
    model : SceneModel
    start : dict of array
        Parameters to start from, inside the supports of the priors.
    density : {"values", "unconstrained"}
        Maximise the density of the parameters themselves, or that of the unconstrained values, in which samplers
        move; the latter never lies at a bound.
    max_steps : int
        Largest number of passes over the pixels; blends of many sources in many bands take more than a hundred.
    tolerance : float
        The search ends where the predicted gain in log density is below this.

    Returns
    -------
    BestFit
    """
    return optimize_many([model], [start], density=density, max_steps=max_steps, tolerance=tolerance)[0]


def optimize_many(
    models: Sequence[SceneModel],
    starts: Sequence[Mapping[str, ArrayLike]],
    *,
    density: str = "values",
    max_steps: int = 300,
    tolerance: float = 1e-4,
) -> list[BestFit]:
    """Find the maxima of the posterior densities of many scenes, batching scenes of equal size.

    They are sought `in_step`: one program runs each batch, and ends when the last search does.

    Parameters
    ----------
    models : sequence of SceneModel
    starts : sequence of dict of array
    density, max_steps, tolerance
        As for `optimize`.

    Returns
    -------
    list of BestFit

    Raises
    ------
    ValueError
        Another density.
    """
    if density not in ("values", "unconstrained"):
        raise ValueError(f"density: found {density!r}, expected 'values' or 'unconstrained'")
    prepared = [_prepared(*pair) for pair in zip(models, starts, strict=True)]
    how = density == "unconstrained", *map(jnp.asarray, (max_steps, tolerance))
    results = interruptible(in_step, [(search, (*scene, *how)) for scene in prepared])
    return [
        _optimum(*scene) for scene in zip(models, (initial for _, initial in prepared), results, strict=True)
    ]


def _prepared(model, start):
    """Return the padded model that is searched, and the starting point in unconstrained space."""
    lean = lean_model(model)
    return lean, padded_values(model.unconstrain(start), lean)


def _optimum(model, initial, result):
    """Build the optimum from the result of a search, without the padding."""
    flat, unravel = ravel_pytree(initial)
    places = real_values(unravel(jnp.arange(flat.size * 1.0)), model.optics.n_source)
    index = np.asarray(ravel_pytree(places)[0]).astype(int)
    point = real_values(unravel(jnp.asarray(result.point)), model.optics.n_source)
    values = model.constrain(point)
    return BestFit(
        values=jax.tree.map(np.asarray, model.effective(values)),
        unconstrained=jax.tree.map(np.asarray, point),
        chi2=np.asarray(result.system.chi2),
        fisher=np.asarray(result.system.fisher)[np.ix_(index, index)],
        hessian=np.asarray(result.system.hessian)[np.ix_(index, index)],
        n_step=int(result.n_step),
        converged=bool(result.converged),
        at_bound=at_bound(model, values),
    )


def lean_model(model: SceneModel) -> SceneModel:
    """Strip a model of what a search does not use, and pad it, so that few programs are compiled."""
    response = model.response if np.asarray(model.optics.pixel_free).any() else "variance"
    unused: dict[str, Any] = {"merged_optics": None, "pairs": None, "tolerance": 0.0}
    return padded_model(dataclasses.replace(model, response=response, **unused))


def at_bound(model: SceneModel, values: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return which parameters are at an edge of their prior's support (within a thousandth of its width).

    Parameters
    ----------
    model : SceneModel
    values : dict of array (..., S) or (..., S, B)

    Returns
    -------
    dict of ndarray of bool
        Always False where the support has no edge.
    """
    flags = {}
    for name, value in values.items():
        low, high = support_edges(model.priors[name])
        distance = np.minimum(np.asarray(value) - low, high - np.asarray(value))
        with np.errstate(invalid="ignore"):
            width = np.where(np.isfinite(high - low), high - low, 0.0)
        free = np.isnan(np.asarray(model.held.get(name, np.nan)))
        flags[name] = (distance < AT_BOUND * width) & free
    return flags
