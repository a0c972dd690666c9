"""Wording of tables, verdicts and reports."""

from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["counted", "grouped"]


def counted(number: int, noun: str) -> str:
    """Format a number with its noun, like "1 source", "2 sources", "2 patches", "2 fluxes"."""
    plural = noun + ("es" if noun.endswith(("ch", "x")) else "s")
    return f"{number} {noun if number == 1 else plural}"


def grouped(notes: Iterable[tuple[Path, str]], show: Callable[[Path], str] = str) -> list[str]:
    """Format pairs of (file, note), each note once: with its first file, and the number of others."""
    files: dict[str, dict] = {}
    for file, note in notes:
        files.setdefault(note, {})[file] = None
    lines = []
    for note, paths in files.items():
        first, *remaining = paths
        lines.append(f"{show(first)}{f' and {len(remaining)} more' if remaining else ''}: {note}")
    return lines
