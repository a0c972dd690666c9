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

import json
import os
import re
import shutil
import struct
import weakref
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..inputs.bounds import PARAMETERS, Bounds
from ..inputs.catalog import SourceCatalog
from ..inputs.errors import InputError
from ..inputs.files import replacing
from ..inputs.hdf5_files import new_hdf5, read_hdf5
from ..inputs.json_files import read_json, write_json
from ..inputs.seals import seal_fits

__all__ = ["Journal", "StateFiles"]

_BOUNDS, _COVARIANCES, _LOG = "bounds of sources (HDF5)", "covariances of sources (HDF5)", "the log of a run"
_KEYS = {"taskID", "n_iter", "sources"}  # of an entry of the log
_FRAME, _HEAD = struct.Struct("<II"), b'{"number": '
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
        """
        floats = [values] if covariances is None else [values, covariances]
        widths = [counts.shape[1], *(part.shape[1] for part in floats)]
        head = (
            f'{{"number": {number}, "entry": {entry}, "rows": {len(counts)}, "widths": {widths}}}\n'.encode()
        )
        arrays = [np.asarray(counts, dtype=_INTEGERS), *(np.asarray(part, dtype=_FLOATS) for part in floats)]
        body = b"".join([head, *(part.tobytes() for part in arrays)])
        record = memoryview(_FRAME.pack(len(body), zlib.crc32(body)) + body)
        if self._file is None:
            self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        end = self._file.tell()
        try:
            while record:
                record = record[self._file.write(record) :]
        except OSError:
            self._file.truncate(end)  # a half-written record in the middle would make the rest unreadable
            raise

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
                if _another(content, start):
                    raise InputError(
                        f"{self.path}: record at byte {start} is damaged (its CRC-32 is not that of its content), "
                        "expected records that are whole, but for the last one"
                    )
                break
            yield _decoded(body)
            start += _FRAME.size + len(body)
        if start < len(content):
            os.truncate(self.path, start)

    def clear(self) -> None:
        """Remove all records."""
        if self._file is not None:
            self._file.close()
            self._file = None
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

    def write_catalog(self, catalog: SourceCatalog) -> None:
        """Write the catalogue with the state of each source."""
        with replacing(self.catalog) as temporary:
            catalog.write_forcepho(temporary)
            seal_fits(temporary)

    def write_bounds(self, ra, dec, limits: tuple[dict, dict]) -> None:
        """Write positions (degrees) and bounds around them, as `Bounds.of_model` gives them."""
        with new_hdf5(self.bounds) as file:
            file["ra"], file["dec"] = ra, dec
            for side, values in zip(("lower", "upper"), limits, strict=True):
                for name in PARAMETERS:
                    file[f"{side}/{name}"] = values[name]

    def read_bounds(self, bands: Sequence[str]) -> tuple[np.ndarray, np.ndarray, tuple[dict, dict]]:
        """What `write_bounds` was given, in the bands of the catalogue."""
        with read_hdf5(self.bounds, _BOUNDS) as file:
            sides = [{name: file[f"{side}/{name}"][:] for name in PARAMETERS} for side in ("lower", "upper")]
            checked = Bounds(*sides, tuple(bands))  # their shapes and order; pa is in radians
            return file["ra"][:], file["dec"][:], (checked.lower, checked.upper)

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
        with new_hdf5(self.covariances) as file:
            file["source_index"], file["upper_triangle"] = rows, triangles
            file.attrs["parameters"] = list(order)
            file.attrs["n_sources"] = size

    def read_covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and triangles as `write_covariances` was given them."""
        with read_hdf5(self.covariances, _COVARIANCES) as file:
            return file["source_index"][:], file["upper_triangle"][:]

    def write_log(self, options: dict, entries: Sequence[str]) -> None:
        """Write settings, and the entries of check-ins, each JSON text already."""
        text = ",".join(f"\n{entry}" for entry in entries)
        write_json(self.log, f'{{"options": {json.dumps(options)},\n"patchlog": [{text}]}}\n')

    def read_log(self) -> tuple[dict, list[str]]:
        """What `write_log` was given."""
        log = read_json(self.log, _LOG, {"options": dict, "patchlog": list})
        entries = log["patchlog"]
        for number, entry in enumerate(entries):
            if not (isinstance(entry, dict) and entry.keys() >= _KEYS and _rows_of(entry)):
                raise InputError(
                    f"{self.log}: patchlog: entry {number}: found {entry!r:.100}, expected {_LOG}"
                )
        return log["options"], [json.dumps(entry) for entry in entries]


def _rows_of(entry):
    """Whether the sources of an entry can be rows."""
    sources = entry["sources"]
    return isinstance(sources, list) and sources and all(type(row) is int and row >= 0 for row in sources)


def _framed(content, start):
    """Bytes of the record at `start`; None if there is no whole one."""
    first = start + _FRAME.size
    if not 0 <= start <= len(content) - _FRAME.size:
        return None
    size, checksum = _FRAME.unpack_from(content, start)
    body = memoryview(content)[first : first + size]
    return body if len(body) == size > 0 and zlib.crc32(body) == checksum else None


def _another(content, start):
    """Whether there is a whole record behind the one at `start`, wherever that should have ended."""
    first = content.find(_HEAD, start + _FRAME.size + 1)
    while first != -1:
        if _framed(content, first - _FRAME.size) is not None:
            return True
        first = content.find(_HEAD, first + 1)
    return False


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
