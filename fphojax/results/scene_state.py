"""The state of a superscene on disk, written so that a kill at any moment loses no patch that was checked in.

Besides ``scene.fits`` (forcepho's layout, with the state of each source) there are

=====================  =============================================================================
``scene.bounds.h5``    initial positions of the sources, and their bounds; written once
``scene.covs.h5``      a covariance matrix per source, and the exact parameters of all sources
``scene_log.json``     settings, and one entry per check-in
``scene.journal``      changes since the others were written (see `fphojax.results.patch_journal`)
=====================  =============================================================================

Every file but the journal is replaced as a whole. Replaying the journal over newer files changes nothing.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fphojax.errors import InputError
from fphojax.inputs.bounds import PARAMETERS, Bounds
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.files import remove_abandoned, replacing
from fphojax.system.hdf5_files import new_hdf5, read_hdf5
from fphojax.system.json_files import read_json, write_json
from fphojax.system.seals import seal_fits

from .patch_journal import Journal

__all__ = ["StateFiles"]

_BOUNDS, _COVARIANCES, _LOG = "bounds of sources (HDF5)", "covariances of sources (HDF5)", "the log of a run"
_KEYS = {"taskID", "n_iter", "sources"}  # of an entry of the log


class StateFiles:
    """Names of the files of a superscene, and reading and writing of those beside the catalogue.

    Parameters
    ----------
    statefile : path-like
        ``<scene>.fits``.

    Raises
    ------
    InputError
        If the name has another suffix, or its folder does not exist.
    """

    def __init__(self, statefile: str | Path):
        self.catalog = Path(statefile)
        if self.catalog.suffix != ".fits":
            raise InputError(f"{statefile}: suffix {self.catalog.suffix!r} of a state file, expected .fits")
        if not self.catalog.parent.is_dir():
            raise InputError(f"{self.catalog.parent}: no such folder, expected one to write the state to")
        self.bounds = self.catalog.with_suffix(".bounds.h5")
        self.covariances = self.catalog.with_suffix(".covs.h5")
        self.log = self.catalog.with_name(f"{self.catalog.stem}_log.json")
        self.journal = Journal(self.catalog.with_suffix(".journal"))

    @property
    def all(self) -> tuple[Path, ...]:
        """All files, the catalogue first: without it there is no state."""
        return (self.catalog, self.journal.path, self.log, self.covariances, self.bounds)

    def remove(self) -> None:
        """Remove the files."""
        for path in self.all:
            path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove temporary folders of a process that was killed while it wrote."""
        remove_abandoned((self.catalog, self.bounds, self.covariances, self.log, self.journal.path))

    def write_catalog(self, catalog: SourceCatalog) -> None:
        """Write the catalogue with the state of each source."""
        with replacing(self.catalog) as temporary:
            catalog.write_forcepho(temporary)
            seal_fits(temporary)

    def write_bounds(
        self, ra: np.ndarray, dec: np.ndarray, rhalf: np.ndarray, limits: tuple[dict, dict]
    ) -> None:
        """Write bounds, and positions (degrees) and half-light radii (arcsec) by which sources are grouped.

        Bounds are those of `Bounds.of_model`.
        """
        with new_hdf5(self.bounds) as file:
            file["ra"], file["dec"], file["rhalf"] = ra, dec, rhalf
            for side, values in zip(("lower", "upper"), limits, strict=True):
                for name in PARAMETERS:
                    file[f"{side}/{name}"] = values[name]

    def read_bounds(
        self, bands: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, tuple[dict, dict]]:
        """Read what `write_bounds` wrote; radii are None in files of earlier versions."""
        with read_hdf5(self.bounds, _BOUNDS) as file:
            rhalf = file["rhalf"][:] if "rhalf" in file else None
            lower, upper = (
                {name: file[f"{side}/{name}"][:] for name in PARAMETERS} for side in ("lower", "upper")
            )
            checked = Bounds(lower, upper, tuple(bands))  # their shapes and order; pa is in radians
            return file["ra"][:], file["dec"][:], rhalf, (checked.lower, checked.upper)

    def write_covariances(
        self, order: Sequence[str], rows: np.ndarray, triangles: np.ndarray, values: np.ndarray
    ) -> None:
        """Write covariance matrices, and exact parameters: the catalogue has them in forcepho's conventions.

        Parameters
        ----------
        order : sequence of str
            Names of the parameters.
        rows : ndarray of int, shape (n,)
            Which sources.
        triangles : ndarray, shape (n, k)
            Upper triangles, row after row.
        values : ndarray, shape (N, m)
            Parameters of all sources.
        """
        with new_hdf5(self.covariances) as file:
            file["source_index"], file["upper_triangle"], file["values"] = rows, triangles, values
            file.attrs["parameters"] = list(order)
            file.attrs["n_sources"] = len(values)

    def read_covariances(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Read the rows, triangles and values that `write_covariances` wrote; old files have no values."""
        with read_hdf5(self.covariances, _COVARIANCES) as file:
            values = file["values"][:] if "values" in file else None
            return file["source_index"][:], file["upper_triangle"][:], values

    def write_log(self, options: dict, entries: Sequence[str]) -> None:
        """Write settings, and the entries of check-ins, each as JSON text."""
        text = ",".join(f"\n{entry}" for entry in entries)
        write_json(self.log, f'{{"options": {json.dumps(options)},\n"patchlog": [{text}]}}\n')

    def read_log(self) -> tuple[dict, list[str]]:
        """Read the settings and entries that `write_log` wrote."""
        log = read_json(self.log, _LOG, {"options": dict, "patchlog": list})
        entries = log["patchlog"]
        for number, entry in enumerate(entries):
            if not (isinstance(entry, dict) and entry.keys() >= _KEYS and _rows_of(entry)):
                raise InputError(
                    f"{self.log}: patchlog: entry {number}: found {entry!r:.100}, expected {_LOG}"
                )
        return log["options"], [json.dumps(entry) for entry in entries]


def _rows_of(entry):
    """Return whether the sources of an entry can be rows."""
    sources = entry["sources"]
    return isinstance(sources, list) and sources and all(type(row) is int and row >= 0 for row in sources)
