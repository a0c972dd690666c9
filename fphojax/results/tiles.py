"""Residuals of a patch on its tiles."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from fphojax.core.model import SceneModel
from fphojax.core.padding import padded_model, padded_values
from fphojax.core.programs import Program
from fphojax.inputs.scene import Scene

__all__ = ["residual_tiles"]


def residual_tiles(scene: Scene, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Compute data minus fixed and active sources at given parameters of the model.

    Returns
    -------
    ndarray (T, TILE * TILE)
        The tiles of the scene's frame; the model may have more, empty ones.
    """
    model = scene.model
    padded = padded_model(dataclasses.replace(model, pairs=None, merged_optics=model.optics))
    n_tile = scene.frame.patch.n_tile
    images = _images(padded, padded_values(values, padded))
    return np.asarray(model.patch.data)[:n_tile] - np.asarray(images)[:n_tile]


_images = Program(SceneModel.images)
