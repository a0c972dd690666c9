"""Fluxes at given shapes: their precision at an optimum, and forced photometry.

At fixed positions and shapes the model is linear in fluxes and sky, and one matrix holds all the information of the
pixels about them; its inverse is their covariance.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fphojax.core.model import PARAMETERS, SceneModel

from .covariance import places
from .optimum import BestFit, optimize

__all__ = ["flux_precision", "forced_fluxes", "held_shapes"]


def held_shapes(model: SceneModel, values: Mapping[str, ArrayLike]) -> SceneModel:
    """Return the model with positions and shapes held.

    Parameters
    ----------
    model : SceneModel
    values : dict of array
        Positions and shapes at which they are held.

    Returns
    -------
    SceneModel
    """
    effective = model.effective({name: jnp.asarray(value) for name, value in values.items()})
    fixed = {name: effective[name] for name in PARAMETERS if name != "flux"}
    return dataclasses.replace(model, held=fixed)


def forced_fluxes(model: SceneModel, values: Mapping[str, ArrayLike], **options: Any) -> BestFit:
    """Measure fluxes, sky and other nuisance parameters at given positions and shapes (forced photometry).

    Parameters
    ----------
    model : SceneModel
    values : dict of array
        Positions and shapes, and fluxes to start from.
    **options
        As for `optimize`.

    Returns
    -------
    BestFit
        Its Fisher matrix and its Hessian have no rows for positions and shapes. Fluxes lie inside the supports of
        their priors.
    """
    return optimize(held_shapes(model, values), values, **options)


def flux_precision(model: SceneModel, optimum: BestFit) -> np.ndarray:
    """Return the precision matrix of all fluxes of each band, given the shapes.

    With F = J^T W J by fluxes f and sky s, it is F_ff - F_fs (F_ss + P)^-1 F_sf, with P the precision of the sky's
    prior: the sky is solved for with the fluxes.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit

    Returns
    -------
    ndarray (B, S, S)
        Singular where two sources cannot be told apart, or one has no pixels in the band.
    """
    place = places(optimum.values)
    fisher = optimum.fisher
    flux = place["flux"]  # (S, B)
    rows = flux.ravel()
    matrix = fisher[np.ix_(rows, rows)]
    if "sky" in place:
        sky = place["sky"].ravel()
        prior = np.ravel(np.asarray(model.priors["sky"].scale)) ** -2.0
        cross = fisher[np.ix_(rows, sky)]
        matrix = matrix - cross @ np.linalg.solve(fisher[np.ix_(sky, sky)] + np.diag(prior), cross.T)
    n_source, n_band = flux.shape
    matrix = matrix.reshape(n_source, n_band, n_source, n_band)
    return np.stack([matrix[:, band, :, band] for band in range(n_band)])
