"""Portable paths in the files of a run, which stay valid when it is moved together with its inputs."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["PATHS", "absolute", "map_paths", "matching", "relative", "relative_stamp", "resolved", "stamp"]

# Settings that are paths, or patterns of paths.
PATHS = {
    "raw_catalog",
    "big_catalog",
    "splinedatafile",
    "psfstorefile",
    "noise_file",
    "pixelstorefile",
    "metastorefile",
    "fitsfiles",
    "frame_search_pattern",
    "outbase",
    "error_pattern",
    "mask_pattern",
    "background_pattern",
}


def absolute(path: str | Path) -> Path:
    """Make a path absolute, without . and .., as it is spelled: links are not followed."""
    return Path(os.path.normpath(Path(path).absolute()))


def matching(pattern: str) -> list[str]:
    """List the paths that match a glob, sorted; hidden files only where the pattern names the dot."""
    return sorted(glob.glob(pattern))  # noqa: PTH207 - Path.glob takes no absolute pattern, and finds hidden files


def relative(path: str, folder: Path) -> str:
    """Make a path relative to a folder; leave it absolute where they have only the root in common.

    Parameters
    ----------
    path : str
        Absolute, or relative to the folder already.
    folder : Path
    """
    if not Path(path).is_absolute():
        return path
    start = absolute(folder)
    return path if os.path.commonpath([path, start]) == os.sep else os.path.relpath(path, start)


def resolved(path: str, folder: Path, written_in: str | None = None) -> str:
    """Make a path absolute; the inverse of `relative`.

    Parameters
    ----------
    path : str
    folder : Path
        That the path is relative to.
    written_in : str, optional
        The location of the folder when the path was written. If the file does not exist, the path is resolved from
        there, if that exists: the folder was moved and its inputs were not.
    """
    current = str(absolute(Path(folder, path)))
    if written_in is not None and not _exists(current):
        original = str(absolute(Path(written_in, path)))
        if _exists(original):
            return original
    return current


def map_paths(settings: Mapping, change: Callable[[str], str]) -> dict:
    """Change all paths in settings, which are plain Python values."""

    def changed(value):
        if isinstance(value, list):
            return [changed(one) for one in value]
        return change(value) if isinstance(value, str) else value

    return {
        name: changed(value)
        if name in PATHS
        else map_paths(value, change)
        if name == "preprocess" and isinstance(value, Mapping)
        else value
        for name, value in settings.items()
    }


def stamp(files: Iterable[Path], folder: Path) -> str:
    """Identify the present state of files in a text: paths relative to a folder, sizes and times."""
    parts = []
    for file in files:
        status = file.stat() if file.exists() else None
        parts.append(f"{relative(str(file), folder)} {status and (status.st_size, status.st_mtime_ns)}")
    return "; ".join(parts)


def relative_stamp(text: str, folder: Path) -> str:
    """Convert a stamp of an earlier version, with absolute paths, to what `stamp` now gives."""
    return re.sub(
        r"(?<![^ ])/[^;]*?(?= (?:\(\d+, \d+\)|None)(?:;|$))", lambda m: relative(m[0], folder), text
    )


def _exists(path):
    if glob.has_magic(path):
        return bool(matching(path))
    with suppress(OSError):  # as of a folder that may not be looked into
        return Path(path).exists()
    return False
