"""The state of a superscene on disk, such that a kill at any moment loses no patch that was checked in.

Beside ``scene.fits`` (forcepho's layout, with the state of each source) there are

=====================  =============================================================================
``scene.bounds.h5``    where the sources were at first, and their bounds; written once
``scene.covs.h5``      a covariance matrix per source
``scene_log.json``     settings, and one entry per check-in
``scene.journal``      check-ins since the others were written
=====================  =============================================================================

Every file but the journal is replaced as a whole. The journal grows by one record per check-in: it holds the
state of the sources after it, so that to replay a record twice, or over a newer file, changes nothing.
A record is its length and CRC-32 (two little-endian uint32), and that many bytes: a line of JSON (the entry
of the log and its number, and how long a row of each array is) and the arrays.
"""

import contextlib
import json
import os
import re
import shutil
import struct
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from ..inputs.bounds import PARAMETERS, Bounds
from ..inputs.errors import InputError, StorageError
from ..inputs.files import replacing, replacing_hdf5, storage_fault

__all__ = ["Journal", "StateFiles"]

_FRAME = struct.Struct("<II")
_INTEGERS, _FLOATS = np.dtype("<i4"), np.dtype("<f8")


class Journal:
    """A file to which check-ins are appended.

    Parameters
    ----------
    path : path-like
        Made at the first `append`.
    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = None
        self._whole = None  # where whole records end, while there may be more

    def append(self, number: int, entry: str, counts, values, covariances=None) -> None:
        """Add a record; when this returns, the record survives the process.

        Parameters
        ----------
        number : int
            Entries of the log before it.
        entry : str
            What goes into the log, JSON text in one line.
        counts : ndarray of int, shape (n, k)
        values : ndarray, shape (n, m)
        covariances : ndarray, shape (n, p), optional

        Raises
        ------
        StorageError
            The disk is full or fails; the journal ends with the record before.
        """
        floats = [values] if covariances is None else [values, covariances]
        widths = [counts.shape[1], *(part.shape[1] for part in floats)]
        head = (
            f'{{"number": {number}, "entry": {entry}, "rows": {len(counts)}, "widths": {widths}}}\n'.encode()
        )
        arrays = [np.asarray(counts, dtype=_INTEGERS), *(np.asarray(part, dtype=_FLOATS) for part in floats)]
        body = b"".join([head, *(part.tobytes() for part in arrays)])
        record = memoryview(_FRAME.pack(len(body), zlib.crc32(body)) + body)
        try:
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            if self._whole is not None:
                self._file.truncate(self._whole)
            self._whole = os.fstat(self._file.fileno()).st_size
            while record:
                record = record[self._file.write(record) :]
            self._whole = None
        except OSError as error:
            # a half-written record in the middle would make the rest unreadable; if it cannot be cut off now, it is
            # before the next one, or when the journal is read
            with contextlib.suppress(OSError):
                if self._file is not None and self._whole is not None:
                    self._file.truncate(self._whole)
            fault = storage_fault(error, of_place=True)
            if fault is None:
                raise
            raise StorageError(f"{self.path}: cannot be written ({fault})") from error

    def records(self) -> Iterator[tuple[int, dict, np.ndarray, np.ndarray, np.ndarray | None]]:
        """What `append` was given, record by record, with the entry decoded.

        The file is cut off before a half-written last record.

        Raises
        ------
        InputError
            If a record that is not the last is damaged.
        """
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        start = 0
        while start < len(content):
            body = _framed(content, start)
            if body is None:
                break
            size, checksum = _FRAME.unpack_from(content, start)
            end = start + _FRAME.size + size
            if zlib.crc32(body) != checksum:
                if end < len(content):
                    raise InputError(
                        f"{self.path}: record at byte {start} has CRC-32 {zlib.crc32(body):08x}, "
                        f"expected {checksum:08x}"
                    )
                break
            yield _decoded(body)
            start = end
        if start < len(content):
            os.truncate(self.path, start)

    def clear(self) -> None:
        """Remove all records."""
        if self._file is not None:
            self._file.close()
            self._file = self._whole = None
        self.path.unlink(missing_ok=True)


class StateFiles:
    """Names of the files of a superscene, and how the ones beside the catalogue are written and read.

    Parameters
    ----------
    statefile : path-like
        ``<scene>.fits``.

    Raises
    ------
    InputError
        If the name does not end so, or its folder does not exist.
    """

    def __init__(self, statefile):
        self.catalog = Path(statefile)
        if self.catalog.suffix != ".fits":
            raise InputError(f"{statefile}: suffix {self.catalog.suffix!r} of a state file, expected .fits")
        if not self.catalog.parent.is_dir():
            raise InputError(f"{self.catalog.parent}: no such folder, expected one to write the state to")
        self.bounds = self.catalog.with_suffix(".bounds.h5")
        self.covariances = self.catalog.with_suffix(".covs.h5")
        self.log = self.catalog.with_name(f"{self.catalog.stem}_log.json")
        self.journal = Journal(self.catalog.with_suffix(".journal"))

    def remove(self) -> None:
        """Remove the files, the catalogue first: without it there is no state."""
        for path in (self.catalog, self.journal.path, self.log, self.covariances, self.bounds):
            path.unlink(missing_ok=True)

    def remove_leftovers(self) -> None:
        """Remove temporary folders of a process that was killed while it wrote."""
        written = (self.catalog, self.bounds, self.covariances, self.log)
        names = "|".join(re.escape(path.name) for path in written)
        for path in self.catalog.parent.glob(".*"):
            if path.is_dir() and re.fullmatch(rf"\.({names})\.[a-z0-9_]{{8}}", path.name):
                shutil.rmtree(path)

    def write_bounds(self, ra, dec, bounds: Bounds) -> None:
        """Write positions (degrees) and bounds around them."""
        with replacing_hdf5(self.bounds) as file:
            file["ra"], file["dec"] = ra, dec
            for side in ("lower", "upper"):
                for name in PARAMETERS:
                    file[f"{side}/{name}"] = getattr(bounds, side)[name]

    def read_bounds(self, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray, Bounds]:
        """What `write_bounds` was given, in the bands of the catalogue."""
        with _reading(self.bounds) as file:
            sides = [{name: file[f"{side}/{name}"][:] for name in PARAMETERS} for side in ("lower", "upper")]
            return file["ra"][:], file["dec"][:], Bounds(*sides, tuple(bands))

    def write_covariances(self, order: Sequence[str], rows, triangles, size: int) -> None:
        """Write covariance matrices.

        Parameters
        ----------
        order : sequence of str
            Names of the parameters.
        rows : ndarray of int, shape (n,)
            Which sources.
        triangles : ndarray, shape (n, k)
            Upper triangles, row after row.
        size : int
            Number of all sources.
        """
        with replacing_hdf5(self.covariances) as file:
            file["source_index"], file["upper_triangle"] = rows, triangles
            file.attrs["parameters"] = list(order)
            file.attrs["n_sources"] = size

    def read_covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and triangles as `write_covariances` was given them."""
        with _reading(self.covariances) as file:
            return file["source_index"][:], file["upper_triangle"][:]

    def write_log(self, options: dict, entries: Sequence[str]) -> None:
        """Write settings, and the entries of check-ins, each JSON text already."""
        with replacing(self.log) as temporary, open(temporary, "w") as file:
            file.write(f'{{"options": {json.dumps(options)},\n"patchlog": [')
            file.write(",".join(f"\n{entry}" for entry in entries))
            file.write("]}\n")

    def read_log(self) -> tuple[dict, list[str]]:
        """What `write_log` was given."""
        try:
            log = json.loads(self.log.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{self.log}: cannot be read ({error}), expected the log of a run") from error
        return log["options"], [json.dumps(entry) for entry in log["patchlog"]]


def _framed(content, start):
    """Bytes of the record at `start`; None if the file ends before the record does."""
    first = start + _FRAME.size
    if first > len(content):
        return None
    end = first + _FRAME.unpack_from(content, start)[0]
    return memoryview(content)[first:end] if end <= len(content) else None


def _decoded(body):
    """Entry and arrays of a record."""
    head, _, rest = bytes(body).partition(b"\n")
    head = json.loads(head)
    arrays, start = [], 0
    for dtype, width in zip((_INTEGERS, _FLOATS, _FLOATS), head["widths"], strict=False):
        part = np.frombuffer(rest, dtype=dtype, count=head["rows"] * width, offset=start)
        arrays.append(part.reshape(head["rows"], width))
        start += part.nbytes
    return head["number"], head["entry"], *arrays, *([None] * (3 - len(arrays)))


@contextlib.contextmanager
def _reading(path):
    """An HDF5 file of the state."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read ({reason}), expected a file of the state") from error
