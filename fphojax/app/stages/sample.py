"""The sampling stage: the posterior of every source of a field."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.field.field_fit import FinishedField
from fphojax.inference.methods import NUTS, Auto, Importance, Laplace, Method
from fphojax.system.locks import folder_lock
from fphojax.system.wording import counted

from .fields import fit_sources
from .stage_report import Level, StageReport

__all__ = ["method_of", "sample", "sample_field"]


def sample(
    settings: Settings,
    *,
    workers: int | None = None,
    resume: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> StageReport:
    """Sample all sources of a field, patch by patch, into ``outbase``.

    Parameters
    ----------
    settings : Settings
    workers : int, optional
        Processes on this machine that fit patches side by side.
    resume : bool
        Resume the existing run.
    retry : bool
        When resuming, retry sources that were given up.
    overwrite : bool
        Replace an existing run.
    progress : bool
        Show progress bars.

    Returns
    -------
    StageReport
        Tables: ``patches`` and, if sources were given up, ``flagged``. Files: ``sampled``, the folder, and ``scene``,
        the catalogue of medians.

    Raises
    ------
    InputError
        One line for each problem with the inputs; or all sources were given up.
    """
    start = time.perf_counter()
    result = sample_field(
        settings, resume=resume, retry=retry, overwrite=overwrite, workers=workers, progress=progress
    )
    if len(result.flagged) == len(result.scene):
        reason = next(iter(result.flagged.values()))
        raise InputError(f"all {len(result.scene)} sources were given up, expected draws of some: {reason}")
    entries = [json.loads(entry) for entry in result.scene.patchlog]
    rows = [
        {
            "patch": entry["taskID"],
            "sources": len(entry["sources"]),
            "method": entry.get("summary", {}).get("method", ""),
            "draws": entry["n_iter"],
            "divergent": entry.get("summary", {}).get("n_divergent", 0),
            "seconds": entry.get("summary", {}).get("wall_time", np.nan),
            "failed": entry.get("flag", ""),
        }
        for entry in entries
    ]
    tables = {"patches": Table(rows)}
    divergent = sum(row["divergent"] for row in rows)
    text = f"{counted(len(result.scene), 'source')} sampled in {counted(len(rows), 'patch')}, "
    text += f"{counted(divergent, 'divergent transition')}."
    if result.flagged:
        tables["flagged"] = Table({"id": list(result.flagged), "reason": list(result.flagged.values())})
        text += f" {len(result.flagged)} sources were given up."
    files = {"sampled": result.directory.path, "scene": result.directory.scene_path}
    rough = sum(not entry.get("summary", {}).get("trusted", True) for entry in entries)
    if rough:
        text += f" Not to be trusted, by their own weights: {counted(rough, 'patch')}."
    level: Level = "look at this" if result.flagged or divergent or rough else "pass"
    return StageReport("sample", text, tables, files, time.perf_counter() - start, level)


def sample_field(
    settings: Settings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    retry: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> FinishedField:
    """Sample a field, and write the results to ``settings.outbase``.

    Parameters
    ----------
    settings : Settings
    overwrite : bool
        Whether an earlier run in the folder may be replaced; it is in ``previous_N`` until this one is complete.
    resume : bool
        Resume the run in the folder, if there is one.
    retry : bool
        When resuming, retry sources that were given up.
    workers, scheduler
        See `fphojax.field.cluster.cluster_client`; without either, patches are fitted in this process.
    progress : bool
        Show progress bars.

    Returns
    -------
    FinishedField

    Raises
    ------
    InputError
        One line for every problem with the inputs, or another process works in the folder; nothing is written then.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says how to go on.
    """
    with folder_lock(settings.outbase):
        resume = resume and (settings.outbase / "config.json").is_file()
        settings.refuse_forced_sampling()
        if not resume and not overwrite:
            _refuse_earlier_run(settings.outbase)
        return fit_sources(
            settings,
            settings.outbase,
            method_of(settings),
            target_niter=settings.target_niter or settings.sampling_draws,
            resume=resume,
            retry=retry,
            overwrite=overwrite,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )


def method_of(settings: Settings) -> Method:
    """Return the method that settings name, with their numbers of draws."""
    length: dict[str, Any] = {"draws": settings.sampling_draws, "chains": settings.chains}
    of_chains: dict[str, Any] = {
        name: getattr(settings, name) for name in ("warmup", "max_treedepth", "full_cov")
    }
    match settings.sampler:
        case "laplace":
            return Laplace(**length)
        case "importance":
            return Importance(**length)
        case "auto":
            return Auto(**length, **of_chains)
        case _:
            return NUTS(**length, **of_chains)


def _refuse_earlier_run(folder: Path) -> None:
    """Refuse to replace what is in the folder, before the work rather than after it."""
    if (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: holds a run, expected a new or empty folder (`fphojax sample` with "
            "--resume goes on with it, with --overwrite replaces it)"
        )
