"""Residuals of a patch on its tiles."""

import equinox as eqx
import numpy as np

from ..core.model import SceneModel

__all__ = ["residual_tiles"]


def residual_tiles(model: SceneModel, values) -> np.ndarray:
    """Data minus fixed minus active sources, array (T, TILE * TILE), at given parameters of the model."""
    return np.asarray(model.patch.data) - np.asarray(_images(model, values))


_images = eqx.filter_jit(SceneModel.images)
