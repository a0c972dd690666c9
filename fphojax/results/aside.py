"""Earlier results, kept in ``previous_N`` until those that replace them are complete.

While they are being moved, the folder is named ``.previous_N``; if the process dies meanwhile, they are moved back.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from fphojax.errors import InputError
from fphojax.system.json_files import read_json, write_json
from fphojax.system.portable import absolute, map_paths, relative, resolved

__all__ = ["WRITTEN_IN", "drop_previous", "move_aside", "move_back", "previous_folders", "put_back"]

WRITTEN_IN = "written_in"  # key of ``config.json``: where its folder was when it was written
_NAME = re.compile(r"\.?previous_(\d+)")
_REPLACED = ".replaced"  # what is being deleted


def previous_folders(folder: Path) -> list[Path]:
    """List folders of earlier results that have not been replaced, the oldest first."""
    by_number = {
        int(name[1]): path for path in folder.glob("previous_*") if (name := _NAME.fullmatch(path.name))
    }
    return [by_number[number] for number in sorted(by_number)]


def move_aside(folder: Path, paths: Iterable[Path], copies: Iterable[Path] = ()) -> Path | None:
    """Move files or folders into a new ``previous_N``.

    Parameters
    ----------
    folder : Path
    paths : iterable of Path
        Below the folder; missing ones are skipped. ``config.json`` is moved last: without it there is no run.
    copies : iterable of Path
        Files of the folder that belong to these; they are copied, and stay until they are overwritten.

    Returns
    -------
    Path or None
        ``previous_N``, in which everything keeps its relative path; None if there was nothing to move.
    """
    folder = absolute(folder)
    names = [absolute(path).relative_to(folder) for path in paths]
    present = {name for name in names if (folder / name).exists()}
    names = sorted(present, key=lambda name: (name.name == "config.json", name))
    if not names:
        return None
    numbers = [int(path.name.rpartition("_")[2]) for path in previous_folders(folder)]
    unfinished = folder / f".previous_{max(numbers, default=0) + 1}"
    for name in names:
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(unfinished / name)
    aside = unfinished.with_name(unfinished.name[1:])
    for path in copies:
        if path.is_file() and not (unfinished / path.name).exists():
            shutil.copy2(path, unfinished / path.name)
    _readdress(unfinished, folder, aside)
    unfinished.rename(aside)
    return aside


def put_back(folder: Path) -> None:
    """Undo a move that was not finished."""
    for path in folder.glob(".previous_*"):
        if path.is_dir() and _NAME.fullmatch(path.name):
            _merge(path, folder)


def move_back(folder: Path, aside: Path) -> None:
    """Undo what `move_aside` did.

    Parameters
    ----------
    folder : Path
    aside : Path
        What it returned; this folder is removed.
    """
    unfinished = aside.with_name(f".{aside.name}")
    aside.rename(unfinished)
    _readdress(unfinished, aside, folder)
    put_back(folder)


def drop_previous(folder: Path, paths: Iterable[Path]) -> None:
    """Delete earlier results, now that those that replace them are complete.

    Parameters
    ----------
    folder : Path
    paths : iterable of Path
        Some of `previous_folders`.
    """
    trash = folder / _REPLACED
    for path in paths:
        trash.mkdir(exist_ok=True)
        path.rename(trash / path.name)
    if trash.is_dir():
        shutil.rmtree(trash)


def _merge(source, target):
    """Move the contents of one folder into another, and remove the first."""
    for path in sorted(source.iterdir()):
        if path.is_dir() and (target / path.name).is_dir():
            _merge(path, target / path.name)
        else:
            path.replace(target / path.name)
    source.rmdir()


def _readdress(moved, before, now):
    """Update paths in moved settings so that they lead to the same files, those moved with them included."""
    for config in (moved / "config.json", *moved.glob("*/config.json")):
        try:
            settings = read_json(config, "the settings of a run")
        except InputError:
            continue  # there are none, or they were damaged before
        written_in, time = settings.pop(WRITTEN_IN, None), config.stat().st_mtime_ns
        inside = config.parent.relative_to(moved)

        def changed(path, inside=inside, written_in=written_in):
            path = resolved(path, before / inside, written_in)
            if os.path.commonpath([path, before]) == str(before):
                name = os.path.relpath(path, before)
                if (moved / name).exists():
                    path = os.path.normpath(now / name)
            return relative(path, now / inside)

        write_json(config, map_paths(settings, changed) | {WRITTEN_IN: str(now / inside)})
        os.utime(config, ns=(time, time))  # the time tells which fit is the latest
