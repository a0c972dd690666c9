"""HDF5 files of the program's own: written with a seal, and read with one look at all of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import h5py

from .file_checks import blame, decoding, require_regular
from .files import replacing, replacing_hdf5
from .seals import append_seal, changed, is_sealed

__all__ = ["SEALED", "new_hdf5", "open_hdf5", "read_hdf5"]

SEALED = "sealed"  # attribute of the file: there is a seal behind its end


def open_hdf5(path, expected: str) -> h5py.File:
    """A file of the program's own, open for reading.

    Parameters
    ----------
    path : path-like
    expected : str
        What the file should be, for messages.

    Raises
    ------
    InputError
        No such file, none of HDF5, or one that was changed since it was written.
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
def read_hdf5(path, expected: str) -> Iterator[h5py.File]:
    """The same for as long as the body runs, whose every error is one of the file (see `decoding`)."""
    with open_hdf5(path, expected) as file, decoding(path, expected):
        yield file


@contextmanager
def new_hdf5(path, **options) -> Iterator[h5py.File]:
    """A new file, which is sealed and takes its place when the body ends.

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
