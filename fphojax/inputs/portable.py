"""Paths in the files of a run, written so that a run that was moved together with its inputs finds them."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

__all__ = ["PATHS", "map_paths", "relative", "resolved", "stamp", "stamp_seen_from"]

# Settings that are paths, or patterns of paths.
PATHS = {
    "raw_catalog",
    "big_catalog",
    "splinedatafile",
    "psfstorefile",
    "pixelstorefile",
    "metastorefile",
    "fitsfiles",
    "frame_search_pattern",
    "outbase",
    "error_pattern",
    "mask_pattern",
    "background_pattern",
}


def relative(path: str, folder: Path) -> str:
    """A path as seen from a folder; an absolute one where the two have no more than the root in common.

    Parameters
    ----------
    path : str
        Absolute, or relative to the folder already.
    folder : Path
    """
    if not os.path.isabs(path):
        return path
    folder = os.path.abspath(folder)
    return path if os.path.commonpath([path, folder]) == os.sep else os.path.relpath(path, folder)


def resolved(path: str, folder: Path, written_in: str | None = None) -> str:
    """Inverse of `relative`: an absolute path.

    Parameters
    ----------
    path : str
    folder : Path
        That the path is relative to.
    written_in : str, optional
        Where the folder was when the path was written: if there is no such file now, the one seen from there is
        meant, if there is that, as when the folder was moved and its inputs were not.
    """
    here = os.path.abspath(os.path.join(folder, path))
    if written_in is not None and not _exists(here):
        there = os.path.abspath(os.path.join(written_in, path))
        if _exists(there):
            return there
    return here


def map_paths(settings: Mapping, change: Callable[[str], str]) -> dict:
    """Settings, as plain Python values, with all paths changed."""

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
    """Text that tells files, as they are now, from others: paths as seen from a folder, sizes and times."""
    parts = []
    for file in files:
        status = file.stat() if file.exists() else None
        parts.append(f"{relative(str(file), folder)} {status and (status.st_size, status.st_mtime_ns)}")
    return "; ".join(parts)


def stamp_seen_from(text: str, folder: Path) -> str:
    """What `stamp` gives now for a text of an earlier version, which had absolute paths."""
    return re.sub(
        r"(?<![^ ])/[^;]*?(?= (?:\(\d+, \d+\)|None)(?:;|$))", lambda m: relative(m[0], folder), text
    )


def _exists(path):
    return bool(glob.glob(path)) if glob.has_magic(path) else os.path.exists(path)
