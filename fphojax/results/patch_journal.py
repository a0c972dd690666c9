"""Journal of the patches of a superscene: an append-only file of records.

A record is its length and CRC-32 (two little-endian uint32), and that many bytes: a line of JSON and arrays. It is

=========  ====================================================================================================
check-in   the state of the sources after it, so that replaying it twice, or over newer files, changes nothing
check-out  of a numbered patch: its sources; and which seeds had to wait, and for which patch
kept       results of patches whose turn to be checked in has not come
release    of a patch that is back as if it had never been checked out
=========  ====================================================================================================
"""

import contextlib
import io
import json
import os
import re
import struct
import weakref
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fphojax.errors import InputError, StorageError
from fphojax.system.files import replacing, storage_fault

__all__ = ["CheckIn", "CheckOut", "Journal", "Kept", "KeptOutcome", "Release"]

_FRAME, _HEAD = struct.Struct("<II"), re.compile(rb'\{"(number|out|kept|released)": ')
_INTEGERS, _FLOATS = np.dtype("<i4"), np.dtype("<f8")


@dataclass(frozen=True, eq=False)
class CheckIn:
    """Sources that were checked in.

    Attributes
    ----------
    number : int
        Number of entries of the log before it.
    entry : str
        Its entry in the log, JSON text in one line.
    counts : ndarray of int, shape (n, k)
    values : ndarray, shape (n, m)
    covariances : ndarray, shape (n, p), or None
    waits : list of (int, int)
        Seeds that had to wait since the last record, each with a source that is active in the patch it waits for.
    """

    number: int
    entry: str
    counts: np.ndarray
    values: np.ndarray
    covariances: np.ndarray | None = None
    waits: Sequence = ()

    def _parts(self):
        floats = [self.values] if self.covariances is None else [self.values, self.covariances]
        widths = [self.counts.shape[1], *(part.shape[1] for part in floats)]
        waits = f', "waits": {json.dumps(self.waits)}' if self.waits else ""
        head = (
            f'{{"number": {self.number}, "entry": {self.entry}, "rows": {len(self.counts)}, '
            f'"widths": {widths}{waits}}}'
        )
        return head, [np.asarray(self.counts, dtype=_INTEGERS), *floats]

    @classmethod
    def _read(cls, head, content) -> "CheckIn":
        dtypes = (_INTEGERS, _FLOATS, _FLOATS)[: len(head["widths"])]
        arrays, _ = _arrays(content, 0, head["rows"], head["widths"], dtypes)
        waits = head.get("waits", [])
        covariances = arrays[2] if len(arrays) > 2 else None
        return cls(head["number"], json.dumps(head["entry"]), arrays[0], arrays[1], covariances, waits)


@dataclass(frozen=True, eq=False)
class CheckOut:
    """A patch that was checked out.

    Attributes
    ----------
    patch : int
        Its number.
    batch : int
        Number of the first patch of those that are fitted together with it.
    active, fixed : list of int
        Rows of its sources.
    waits : list of (int, int)
        As in `CheckIn`.
    closed : bool
        Whether no further patches will be fitted together with it.
    """

    patch: int
    batch: int
    active: list[int]
    fixed: list[int]
    waits: Sequence = ()
    closed: bool = False

    def _parts(self):
        return json.dumps({"out": vars(self)}), []

    @classmethod
    def _read(cls, head, _) -> "CheckOut":
        return cls(**head["out"])


@dataclass(frozen=True, eq=False)
class KeptOutcome:
    """Result of the fit of a patch.

    Attributes
    ----------
    patch : int
    n_iter : int
    flag : str or None
        Why it failed.
    summary : dict
    values, covariances : ndarray or None
        As in `CheckIn`.
    """

    patch: int
    n_iter: int = 0
    flag: str | None = None
    summary: dict | None = None
    values: np.ndarray | None = None
    covariances: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Kept:
    """Results of patches that are fitted together: of all of them or of none.

    Attributes
    ----------
    outcomes : list of KeptOutcome
    """

    outcomes: list[KeptOutcome]

    def _parts(self):
        heads, arrays = [], []
        for outcome in self.outcomes:
            head = {name: getattr(outcome, name) for name in ("patch", "n_iter", "flag", "summary")}
            own = [part for part in (outcome.values, outcome.covariances) if part is not None]
            arrays += own
            heads.append(
                head | {"rows": len(own[0]) if own else 0, "widths": [part.shape[1] for part in own]}
            )
        return json.dumps({"kept": heads}), arrays

    @classmethod
    def _read(cls, head, content) -> "Kept":
        outcomes, start = [], 0
        for one in head["kept"]:
            rows, widths = one.pop("rows"), one.pop("widths")
            arrays, start = _arrays(content, start, rows, widths, [_FLOATS] * len(widths))
            outcomes.append(KeptOutcome(**one, **dict(zip(("values", "covariances"), arrays, strict=False))))
        return cls(outcomes)


@dataclass(frozen=True, eq=False)
class Release:
    """A patch that was released unchanged.

    Attributes
    ----------
    patch : int
        Its number.
    """

    patch: int

    def _parts(self):
        return json.dumps({"released": self.patch}), []

    @classmethod
    def _read(cls, head, _) -> "Release":
        return cls(head["released"])


Record = CheckIn | CheckOut | Kept | Release
_KINDS = {"out": CheckOut, "kept": Kept, "released": Release}


class Journal:
    """A file to which records are appended.

    Parameters
    ----------
    path : path-like
        Created at the first `append`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: io.FileIO | None = None
        self._whole: int | None = None  # end of the complete records, while an incomplete one may follow

    def append(self, record: Record) -> None:
        """Append a record; when this returns, the record survives the process.

        Raises
        ------
        StorageError
            The disk is full or fails; the journal ends with the record before.
        """
        content = memoryview(_framed(record))
        try:
            if self._file is None:
                self._cut_off_half_record()
                self._file = self.path.open("ab", buffering=0)
                weakref.finalize(self, self._file.close)
            if self._whole is not None:
                self._file.truncate(self._whole)
            self._whole = os.fstat(self._file.fileno()).st_size
            while content:
                content = content[self._file.write(content) :]
            self._whole = None
        except OSError as error:
            # a half-written record in the middle would make the rest unreadable; if it cannot be cut off now, it is
            # cut off before the next one is written
            with contextlib.suppress(OSError):
                if self._file is not None and self._whole is not None:
                    self._file.truncate(self._whole)
            fault = storage_fault(error, of_place=True)
            if fault is None:
                raise
            raise StorageError(f"{self.path}: cannot be written ({fault})") from error

    def records(self) -> Iterator[Record]:
        """Yield the records that were appended, without an incomplete last one.

        Raises
        ------
        InputError
            If a record that is not the last is damaged.
        """
        for record, _ in self._read():
            yield record

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all records by these; without any, remove the file."""
        content = b"".join(map(_framed, records))
        if self._file is not None:
            self._file.close()
            self._file = self._whole = None
        if not content:
            self.path.unlink(missing_ok=True)
            return
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)

    def _cut_off_half_record(self):
        """Truncate an incomplete last record, left when a process was killed while it wrote."""
        end = max((end for _, end in self._read()), default=0)
        if self.path.exists() and end < self.path.stat().st_size:
            os.truncate(self.path, end)

    def _read(self):
        """Yield each record, and where it ends."""
        content = self.path.read_bytes() if self.path.exists() else b""
        start = 0
        while (body := _body(content, start)) is not None:
            start += _FRAME.size + len(body)
            yield _decoded(body), start
        if _another(content, start):
            raise InputError(
                f"{self.path}: record at byte {start} is damaged (its CRC-32 is not that of its content), expected "
                "records that are whole, but for the last one"
            )


def _body(content, start):
    """Return the bytes of the record at `start`; None if there is no complete one."""
    first = start + _FRAME.size
    if not 0 <= start <= len(content) - _FRAME.size:
        return None
    size, checksum = _FRAME.unpack_from(content, start)
    body = memoryview(content)[first : first + size]
    return body if len(body) == size > 0 and zlib.crc32(body) == checksum else None


def _another(content, start):
    """Return whether a complete record follows the damaged one at `start`, wherever that was to end."""
    found = _HEAD.finditer(content, start + _FRAME.size + 1)
    return any(_body(content, head.start() - _FRAME.size) is not None for head in found)


def _framed(record):
    """Encode a record as bytes."""
    head, arrays = record._parts()
    arrays = [part if part.dtype == _INTEGERS else np.asarray(part, dtype=_FLOATS) for part in arrays]
    body = b"".join([head.encode(), b"\n", *(part.tobytes() for part in arrays)])
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _decoded(body):
    """Decode a record from bytes."""
    head, _, rest = bytes(body).partition(b"\n")
    head = json.loads(head)
    kind = next((kind for name, kind in _KINDS.items() if name in head), CheckIn)
    return kind._read(head, rest)


def _arrays(content, start, rows, widths, dtypes):
    """Read consecutive arrays; also return where they end."""
    arrays = []
    for dtype, width in zip(dtypes, widths, strict=True):
        part = np.frombuffer(content, dtype=dtype, count=rows * width, offset=start)
        arrays.append(part.reshape(rows, width))
        start += part.nbytes
    return arrays, start
