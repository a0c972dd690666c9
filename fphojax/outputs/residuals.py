"""Residuals of a patch, pixel by pixel."""

import equinox as eqx
import h5py
import numpy as np

from ..core.model import SceneModel
from ..inputs.errors import InputError
from ..inputs.files import replacing
from ..inputs.patcher import PatchFrame

__all__ = ["residual_tiles", "write_residuals"]


def residual_tiles(model: SceneModel, values) -> np.ndarray:
    """Data minus fixed minus active sources, array (T, TILE * TILE), at given parameters of the model."""
    return np.asarray(model.patch.data) - np.asarray(_images(model, values))


def write_residuals(path, frame: PatchFrame, model: SceneModel, values) -> None:
    """Write the residuals of a patch as HDF5, at once or not at all.

    The datasets ``BAND/EXPOSURE/{xpix, ypix, data, ierr, residual}`` hold one value per used pixel: column and row
    (zero-indexed), the image as observed, its inverse standard deviation, and data minus model.

    Parameters
    ----------
    path : path-like
    frame : PatchFrame
    model : SceneModel
    values : dict of array
        Parameters of the model.

    Raises
    ------
    InputError
        If the name of a band or exposure cannot be that of a group.
    """
    residual = residual_tiles(model, values).ravel()
    data, ierr = (np.asarray(tiles).ravel() for tiles in (frame.patch.data, frame.patch.ierr))
    for name in {name for exposure in frame.exposures for name in (exposure.band, exposure.name)}:
        if "/" in name or name in ("", "."):
            raise InputError(f"{path}: {name!r} cannot name a group, expected a name without '/'")
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for e, exposure in enumerate(frame.exposures):
            x, y, flat = frame.pixels(e)
            group = file.require_group(exposure.band).create_group(exposure.name)
            columns = {"xpix": x, "ypix": y, "data": data[flat], "ierr": ierr[flat]}
            for name, column in (columns | {"residual": residual[flat]}).items():
                group[name] = column


_images = eqx.filter_jit(SceneModel.images)
