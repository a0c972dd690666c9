"""Residuals of a patch on its tiles."""

from collections.abc import Mapping

import equinox as eqx
import numpy as np

from fphojax.core.model import SceneModel
from fphojax.core.padding import padded_model, padded_values

__all__ = ["residual_tiles"]


def residual_tiles(model: SceneModel, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute data minus fixed and active sources, array (T, TILE * TILE), at given parameters of the model."""
    padded = model
    if model.pairs is None:
        padded = padded_model(model)
        values = padded_values(values, padded)
    return np.asarray(model.patch.data) - np.asarray(_images(padded, values))[: model.patch.n_tile]


_images = eqx.filter_jit(SceneModel.images)
