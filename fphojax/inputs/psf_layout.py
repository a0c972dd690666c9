"""The HDF5 layout of PSF stores, ours and forcepho's, and their atomic replacement."""

import contextlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fphojax.errors import InputError
from fphojax.system import files

if TYPE_CHECKING:
    import h5py

    from .psf_mixture import PSFMixture

__all__ = ["DATASETS", "FIELDS", "collapsed", "repeated", "replacing", "residuals", "table"]

FIELDS = ("amp", "xcen", "ycen", "Cxx", "Cyy", "Cxy")
# What a group holds besides groups of exposures.
DATASETS = ("parameters", "detector_locations", "made_from", "fit_errors", "residual")
# Most radii of a Sersic table, beyond any that forcepho has.
_MOST_RADII = 1000


def table(mixtures: Sequence["PSFMixture"]) -> np.ndarray:
    """Convert mixtures to the structured array (n_location, n_gauss) of a file.

    Those with fewer Gaussians than the largest are padded with amplitude zero and unit covariance.
    """
    width = max(m.amplitudes.size for m in mixtures)
    rows = np.zeros((len(mixtures), width), dtype=[(name, "f8") for name in FIELDS])
    rows["Cxx"] = rows["Cyy"] = 1.0
    for row, m in zip(rows, mixtures, strict=True):
        k = m.amplitudes.size
        values = (m.amplitudes, *m.means.T, *m.covariances.T)
        for name, column in zip(FIELDS, values, strict=True):
            row[name][:k] = column
    return rows


def residuals(mixtures: Sequence["PSFMixture"]) -> np.ndarray | None:
    """Stack the residuals of mixtures, as `PSFStore` stores them, in single precision; None if none is known."""
    known = [m.residual for m in mixtures if m.residual is not None]
    if not known:
        return None
    sides = np.max([image.shape for image in known], axis=0)
    images = np.full((len(mixtures), *sides), np.nan, dtype=np.float32)
    for image, m in zip(images, mixtures, strict=True):
        if m.residual is not None:
            image[:] = np.pad(
                m.residual, [2 * ((a - b) // 2,) for a, b in zip(sides, m.residual.shape, strict=True)]
            )
    return images


def collapsed(rows: np.ndarray, where: str) -> np.ndarray:
    """Reduce the parameters to one mixture for all Sersic radii.

    Parameters
    ----------
    rows : structured ndarray (n_location, n_gauss) or (n_location, n_radii * n_gauss)
        The latter, with the field ``sersic_bin``, as forcepho has it.
    where : str
        What error messages call the group.

    Returns
    -------
    structured ndarray (n_location, n_gauss)

    Raises
    ------
    InputError
        For a field that is missing, or a mixture that differs between radii.
    """
    names = rows.dtype.names or ()
    absent = [name for name in FIELDS if name not in names]
    if absent:
        raise InputError(f"{where}/parameters: no field {absent[0]}, expected {', '.join(FIELDS)}")
    rows = np.atleast_2d(rows)
    if "sersic_bin" not in names:
        return rows
    bins = np.unique(rows["sersic_bin"])
    if bins.size > _MOST_RADII:
        raise InputError(
            f"{where}/parameters: {bins.size} values of sersic_bin, expected at most {_MOST_RADII} radii"
        )
    parts = []
    for row in rows:
        split = [np.stack([row[row["sersic_bin"] == b][name] for name in FIELDS]) for b in bins]
        if any(s.shape != split[0].shape or not np.array_equal(s, split[0]) for s in split):
            raise InputError(
                f"{where}/parameters: PSF differs between Sersic radii, expected the same mixture for all"
            )
        parts.append(row[row["sersic_bin"] == bins[0]])
    return np.stack(parts)


def repeated(rows: np.ndarray, n_radii: int) -> np.ndarray:
    """Repeat the mixture for each radius of the Sersic table, as forcepho stores it.

    Parameters
    ----------
    rows : structured ndarray (n_location, n_gauss)
    n_radii : int

    Returns
    -------
    structured ndarray (n_location, n_radii * n_gauss)
        In single precision, with the field ``sersic_bin``.
    """
    n_gauss = rows.shape[1]
    dtype = [(name, "f4") for name in FIELDS] + [("sersic_bin", "i4")]
    out = np.zeros((len(rows), n_radii * n_gauss), dtype=dtype)
    for name in FIELDS:
        out[name] = np.tile(rows[name], (1, n_radii))
    out["sersic_bin"] = np.repeat(np.arange(n_radii), n_gauss)
    return out


@contextlib.contextmanager
def replacing(path: str | pathlib.Path, overwrite: bool) -> Iterator["h5py.File"]:
    """Yield an HDF5 file under a temporary name, which replaces ``path`` when all has been written.

    Parameters
    ----------
    path : path-like
    overwrite : bool
        Whether ``path`` may exist.

    Yields
    ------
    h5py.File

    Raises
    ------
    InputError
        Where the file exists and may not be replaced, or its folder does not exist.
    """
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already, expected a new file (or overwrite=True)")
    with files.replacing_hdf5(path) as file:
        yield file
