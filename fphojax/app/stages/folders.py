"""Folders in which the stages of a field keep their results, below ``outbase``."""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import folder_lock, refuse_used_folder

__all__ = ["alone_in_outbase", "last_path", "latest_fit", "next_path", "run_at"]


def alone_in_outbase(stage: Callable) -> Callable:
    """Let a stage, a function of settings, run only while no other process works in ``outbase``."""

    @wraps(stage)
    def alone(settings: Settings, *args, **kwargs):
        with folder_lock(settings.outbase):
            return stage(settings, *args, **kwargs)

    return alone


def next_path(outbase: Path, stage: str, suffix: str = "") -> Path:
    """Return ``STAGE_N`` below a folder, N one larger than the largest there is."""
    return outbase / f"{stage}_{max(_numbers(outbase, stage), default=0) + 1}{suffix}"


def last_path(outbase: Path, stage: str) -> Path:
    """Return ``STAGE_N`` below a folder, N the largest there is, or 1."""
    return outbase / f"{stage}_{max(_numbers(outbase, stage), default=1)}"


def latest_fit(settings: Settings) -> RunDirectory | None:
    """Return the fit of the field that was started last, optimisation or sampling; None if there is none."""
    outbase = settings.outbase
    folders = [outbase, *(outbase / f"optimize_{number}" for number in _numbers(outbase, "optimize"))]
    fits = [
        RunDirectory(folder, scene_catalog=settings.scene_catalog)
        for folder in folders
        if (folder / "config.json").is_file()
    ]
    fits = [run for run in fits if run.patches()]
    return max(fits, key=lambda run: run.config_path.stat().st_mtime_ns, default=None)


def run_at(folder: Path | None, settings: Settings) -> RunDirectory:
    """Open the fit in a folder; by default the latest one.

    Raises
    ------
    InputError
        There is none, or another process works on it.
    """
    run = (
        latest_fit(settings) if folder is None else RunDirectory(folder, scene_catalog=settings.scene_catalog)
    )
    if run is None:
        raise InputError(f"{settings.outbase}: contains no fit, expected one from `fphojax optimize`")
    refuse_used_folder(run.path)
    return run


def _numbers(outbase, stage):
    names = (re.fullmatch(rf"{stage}_(\d+)(\..*)?", path.name) for path in outbase.glob(f"{stage}_*"))
    return sorted(int(name[1]) for name in names if name)
