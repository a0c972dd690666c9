"""Journal of the patches of a superscene: an append-only file of records.

A record is its length and CRC-32 (two little-endian uint32), and that many bytes: a line of JSON and arrays. It is

=========  ====================================================================================================
check-in   the state of the sources after it, so that replaying it twice, or over newer files, changes nothing
check-out  of a numbered patch: its sources; and which seeds had to wait, and for which patch
kept       results of patches that are not to be checked in yet
release    of a patch that was returned as if it had never been checked out
=========  ====================================================================================================
"""

import json
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fphojax.system.record_files import RecordFile

__all__ = ["CheckIn", "CheckOut", "Journal", "PendingOutcome", "PendingOutcomes", "Release"]

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
class PendingOutcome:
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
class PendingOutcomes:
    """Results of patches that are fitted together: of all of them or of none.

    Attributes
    ----------
    outcomes : list of PendingOutcome
    """

    outcomes: list[PendingOutcome]

    def _parts(self):
        heads, arrays = [], []
        for outcome in self.outcomes:
            head = {name: getattr(outcome, name) for name in ("patch", "n_iter", "flag", "summary")}
            parts = [part for part in (outcome.values, outcome.covariances) if part is not None]
            arrays += parts
            heads.append(
                head | {"rows": len(parts[0]) if parts else 0, "widths": [part.shape[1] for part in parts]}
            )
        return json.dumps({"kept": heads}), arrays

    @classmethod
    def _read(cls, head, content) -> "PendingOutcomes":
        outcomes, start = [], 0
        for one in head["kept"]:
            rows, widths = one.pop("rows"), one.pop("widths")
            arrays, start = _arrays(content, start, rows, widths, [_FLOATS] * len(widths))
            outcomes.append(
                PendingOutcome(**one, **dict(zip(("values", "covariances"), arrays, strict=False)))
            )
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


Record = CheckIn | CheckOut | PendingOutcomes | Release
_KINDS = {"out": CheckOut, "kept": PendingOutcomes, "released": Release}


class Journal(RecordFile):
    """The file of records; each survives the process, and one that may follow tells a damaged one from the last."""

    expected = "the journal of a run"

    def _encoded(self, record: Record):
        head, arrays = record._parts()
        arrays = [part if part.dtype == _INTEGERS else np.asarray(part, dtype=_FLOATS) for part in arrays]
        body = b"".join([head.encode(), b"\n", *(part.tobytes() for part in arrays)])
        return _FRAME.pack(len(body), zlib.crc32(body)) + body

    def _decoded(self, content, start):
        first = start + _FRAME.size
        if not 0 <= start <= len(content) - _FRAME.size:
            return None
        size, checksum = _FRAME.unpack_from(content, start)
        body = memoryview(content)[first : first + size]
        if not (len(body) == size > 0 and zlib.crc32(body) == checksum):
            return None
        head, _, rest = bytes(body).partition(b"\n")
        head = json.loads(head)
        kind = next((kind for name, kind in _KINDS.items() if name in head), CheckIn)
        return kind._read(head, rest), first + size

    def _starts(self, content, start):
        """Look for the first words of records, wherever the damaged one was to end."""
        for head in _HEAD.finditer(content, start + _FRAME.size + 1):
            yield head.start() - _FRAME.size

    def _damage(self, content, start):
        return (
            f"record at byte {start} is damaged (its CRC-32 is not that of its content), expected records that are "
            "whole, but for the last one"
        )


def _arrays(content, start, rows, widths, dtypes):
    """Read consecutive arrays; also return where they end."""
    arrays = []
    for dtype, width in zip(dtypes, widths, strict=True):
        part = np.frombuffer(content, dtype=dtype, count=rows * width, offset=start)
        arrays.append(part.reshape(rows, width))
        start += part.nbytes
    return arrays, start
