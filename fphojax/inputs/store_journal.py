"""The journal of a store in the making: a file of JSON lines, each on the disk before it counts."""

import json
import os
from pathlib import Path

__all__ = ["append_line", "read_lines", "to_disk", "write_lines"]


def read_lines(path: Path) -> list[dict]:
    """Entries of a journal, none if there is no file; a last line that was cut off does not count."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def write_lines(path: Path, lines: list[dict]) -> None:
    """Replace a journal."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    os.replace(temporary, path)


def append_line(path: Path, line: dict) -> None:
    """Add an entry to a journal."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
