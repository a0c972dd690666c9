"""The journal of a store being built: a file of JSON lines, each synced to disk before it counts."""

import json
import os
import zlib
from pathlib import Path

from fphojax.errors import InputError
from fphojax.system.file_checks import require_regular

__all__ = ["append_line", "read_lines", "to_disk", "write_lines"]

_EXPECTED = "the journal of a store in the making"


def read_lines(path: Path) -> list[dict]:
    """Read the entries of a journal, none if there is no file; a truncated last line does not count.

    Raises
    ------
    InputError
        A line before the last one is not as it was written.
    """
    if not path.exists():
        return []
    require_regular(path, _EXPECTED)
    entries = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines):
        entry = _entry(line)
        if entry is None:
            if any(_entry(later) is not None for later in lines[number + 1 :]):
                raise InputError(
                    f"{path}: line {number + 1} is damaged, expected {_EXPECTED} (`fphojax preprocess --overwrite` "
                    "begins anew)"
                )
            break
        entries.append(entry)
    return entries


def write_lines(path: Path, lines: list[dict]) -> None:
    """Replace a journal."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text("".join(map(_line, lines)), encoding="utf-8")
    temporary.replace(path)


def append_line(path: Path, line: dict) -> None:
    """Add an entry to a journal."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(line))
        file.flush()
        os.fsync(file.fileno())


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _line(entry):
    """Format an entry with the checksum of its text."""
    text = json.dumps(entry)
    return f'{{"crc32": {zlib.crc32(text.encode())}, "entry": {text}}}\n'


def _entry(line):
    """Parse a line of `_line`, verifying its checksum; None if the line is damaged."""
    try:
        content = json.loads(line)
        entry, checksum = content["entry"], content["crc32"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    same = isinstance(entry, dict) and zlib.crc32(json.dumps(entry).encode()) == checksum
    return entry if same else None
