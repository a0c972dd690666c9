"""The program's own HDF5 files: written with a seal (a checksum), which is verified on reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from .file_checks import blame, decoding, require_regular
from .files import replacing, replacing_hdf5
from .seals import append_seal, changed, is_sealed

__all__ = ["SEALED", "new_hdf5", "open_hdf5", "read_hdf5"]

SEALED = "sealed"  # attribute of the file: there is a seal after its end


def open_hdf5(path: str | Path, expected: str) -> h5py.File:
    """Open one of the program's own files for reading.

    Parameters
    ----------
    path : path-like
    expected : str
        What the file should be, for messages.

    Raises
    ------
    InputError
        No such file, not HDF5, or changed since it was written.
    """
    require_regular(path, expected)
    with blame(path):
        sealed = is_sealed(path)  # before the library takes a damaged file apart
    with decoding(path, expected):
        file = h5py.File(path, "r")
    with blame(path):
        if SEALED in file.attrs and not sealed:
            file.close()
            raise changed()
    return file


@contextmanager
def read_hdf5(path: str | Path, expected: str) -> Iterator[h5py.File]:
    """Yield the open file of `open_hdf5`; blame every error of the body on the file (see `decoding`)."""
    with open_hdf5(path, expected) as file, decoding(path, expected):
        yield file


@contextmanager
def new_hdf5(path: str | Path, **options: Any) -> Iterator[h5py.File]:
    """Yield a new file, which is sealed and moved into place when the body ends.

    Parameters
    ----------
    path : path-like
    **options
        Of `h5py.File`.
    """
    with replacing(path) as temporary:
        with replacing_hdf5(temporary, **options) as file:
            file.attrs[SEALED] = 1
            yield file
        append_seal(temporary)
