"""Residuals pixel by pixel: written by patch, read back by exposure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fphojax.errors import InputError
from fphojax.inputs.scene import Scene
from fphojax.system.hdf5_files import new_hdf5, read_hdf5

from .run_directory import RunDirectory
from .tiles import residual_tiles

__all__ = ["ExposureResiduals", "RunResiduals", "write_residuals"]

_EXPECTED = "residuals of a patch (HDF5)"
_COLUMNS = ("xpix", "ypix", "data", "ierr", "residual")


@dataclass(frozen=True, eq=False)
class ExposureResiduals:
    """Pixels of an exposure that the patches of a run used, each once.

    Attributes
    ----------
    band, name : str
    x, y : ndarray of int, shape (n,)
        Zero-indexed.
    data, ierr, residual : ndarray, shape (n,)
        The image that was fitted, its inverse standard deviation, and data minus model.
    """

    band: str
    name: str
    x: np.ndarray
    y: np.ndarray
    data: np.ndarray
    ierr: np.ndarray
    residual: np.ndarray


class RunResiduals:
    """The residual files of a run, exposure by exposure.

    Patches are numbered in the order in which they were fitted. Where they overlap, the pixels of the last one
    are used, whose model had the latest parameters of the sources of the others.

    Parameters
    ----------
    run : RunDirectory

    Attributes
    ----------
    exposures : list of tuple of str
        Band and name of each exposure that any patch used, bands in the order of the fit.

    Raises
    ------
    InputError
        There is no residual file.
    """

    def __init__(self, run: RunDirectory):
        self._files = defaultdict(list)
        for patch in run.patches():
            path = run.residuals_path(patch)
            if path.exists():
                with read_hdf5(path, _EXPECTED) as file:
                    for band, exposures in file.items():
                        for name in exposures:
                            self._files[band, name].append(path)
        if not self._files:
            raise InputError(
                f"{run.path}: no patch has residuals, expected a run with write_residuals: true in its settings"
            )
        self.exposures = list(self._files)

    def read(self, band: str, name: str) -> ExposureResiduals | None:
        """Read the pixels of one exposure; None if no patch has any."""
        if (band, name) not in self._files:
            return None
        parts = [_group(path, band, name) for path in self._files[band, name]]
        columns = {key: np.concatenate([part[key] for part in parts])[::-1] for key in _COLUMNS}
        places = columns["ypix"].astype(np.int64) * (int(columns["xpix"].max()) + 1) + columns["xpix"]
        _, last = np.unique(places, return_index=True)
        return ExposureResiduals(band, name, *(columns[key][last] for key in _COLUMNS))


def write_residuals(path: str | Path, scene: Scene, values: Mapping) -> None:
    """Write the residuals of a patch as HDF5, atomically.

    The datasets ``BAND/EXPOSURE/{xpix, ypix, data, ierr, residual}`` hold one value per used pixel: column and row
    (zero-indexed), the image as observed, its inverse standard deviation, and data minus model. Bands are in the
    order of the fit.

    Parameters
    ----------
    path : path-like
    scene : Scene
    values : dict of array
        Parameters of its model.

    Raises
    ------
    InputError
        If the name of a band or exposure cannot be used for a group.
    """
    frame = scene.frame
    residual = residual_tiles(scene, values).ravel()
    data, ierr = (np.asarray(tiles).ravel() for tiles in (frame.patch.data, frame.patch.ierr))
    for name in {name for exposure in frame.exposures for name in (exposure.band, exposure.name)}:
        if "/" in name or name in ("", "."):
            raise InputError(f"{path}: {name!r} cannot name a group, expected a name without '/'")
    with new_hdf5(path, track_order=True) as file:
        for e, exposure in enumerate(frame.exposures):
            x, y, flat = frame.pixels(e)
            group = file.require_group(exposure.band).create_group(exposure.name)
            columns = {"xpix": x, "ypix": y, "data": data[flat], "ierr": ierr[flat]}
            for name, column in (columns | {"residual": residual[flat]}).items():
                group[name] = column


def _group(path, band, name):
    """Read all columns of one exposure from one file."""
    with read_hdf5(path, _EXPECTED) as file:
        return {key: file[band][name][key][()] for key in _COLUMNS}
