"""Append-only files of records: what was appended survives its process, and an incomplete last record is cut off.

A subclass states the form of a record: how it is encoded, and whether there is a whole one at a place of the file.
"""

import contextlib
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any

from fphojax.errors import InputError, StorageError

from .file_checks import require_regular
from .files import replacing, storage_fault

__all__ = ["RecordFile"]


class RecordFile(ABC):
    """A file to which records are appended.

    Parameters
    ----------
    path : path-like
        Created at the first `append`.

    Attributes
    ----------
    expected : str
        What the file should be, for messages.
    synced : bool
        Whether a record is on the disk when `append` returns, so that it survives the machine, too.
    """

    expected: str
    synced = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: FileIO | None = None
        self._end: int | None = None  # end of the complete records, while an incomplete one may follow

    @abstractmethod
    def _encoded(self, record) -> bytes:
        """Encode a record, with a checksum."""

    @abstractmethod
    def _decoded(self, content: bytes, start: int) -> tuple[Any, int] | None:
        """Return the record at `start`, and where it ends; None if there is no whole one."""

    @abstractmethod
    def _starts(self, content: bytes, start: int) -> Iterator[int]:
        """Yield the places after the damaged record at `start` where another one may begin."""

    @abstractmethod
    def _damage(self, content: bytes, start: int) -> str:
        """Describe the damaged record at `start`, and what was expected."""

    def append(self, record: Any) -> None:
        """Append a record; when this returns, the record survives the process.

        Raises
        ------
        StorageError
            The disk is full or fails; the file ends with the record before.
        """
        content = memoryview(self._encoded(record))
        try:
            if self._file is None:
                self._truncate_incomplete()
                self._file = self.path.open("ab", buffering=0)
                weakref.finalize(self, self._file.close)
            if self._end is not None:
                self._file.truncate(self._end)
            self._end = os.fstat(self._file.fileno()).st_size
            while content:
                content = content[self._file.write(content) :]
            if self.synced:
                os.fsync(self._file.fileno())
            self._end = None
        except OSError as error:
            # a half-written record in the middle would make the rest unreadable; if it cannot be cut off now, it is
            # cut off before the next one is written
            with contextlib.suppress(OSError):
                if self._file is not None and self._end is not None:
                    self._file.truncate(self._end)
            fault = storage_fault(error, of_place=True)
            if fault is None:
                raise
            raise StorageError(f"{self.path}: cannot be written ({fault})") from error

    def records(self) -> Iterator:
        """Yield the records that were appended, without an incomplete last one; none if there is no file.

        Raises
        ------
        InputError
            If a record that is not the last is damaged, or the path is no regular file.
        """
        for record, _ in self._read():
            yield record

    def rewrite(self, records: Iterable) -> None:
        """Replace all records by these; without any, remove the file."""
        content = b"".join(map(self._encoded, records))
        self._close()
        if not content:
            self.path.unlink(missing_ok=True)
            return
        with replacing(self.path) as temporary:
            temporary.write_bytes(content)

    def _close(self):
        if self._file is not None:
            self._file.close()
            self._file = self._end = None

    def _truncate_incomplete(self):
        """Truncate an incomplete last record, left when a process was killed while it wrote."""
        end = max((end for _, end in self._read()), default=0)
        if self.path.exists() and end < self.path.stat().st_size:
            os.truncate(self.path, end)

    def _read(self):
        """Yield each record, and where it ends."""
        if not self.path.exists():
            return
        require_regular(self.path, self.expected)
        content, start = self.path.read_bytes(), 0
        while (decoded := self._decoded(content, start)) is not None:
            yield decoded
            start = decoded[1]
        if any(self._decoded(content, later) is not None for later in self._starts(content, start)):
            raise InputError(f"{self.path}: {self._damage(content, start)}")
