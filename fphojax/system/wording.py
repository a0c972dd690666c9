"""Wording of tables, verdicts and reports."""

from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["counted", "duration", "grouped"]


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


def duration(seconds: float) -> str:
    """Format a time span in the unit in which people would say it, like "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
