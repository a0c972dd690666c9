"""The sampling stage: the posterior of every source of a field."""

import json
import time

import numpy as np
from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.inference.laplace import TRUSTED
from fphojax.system.wording import counted

from .pipeline import run
from .stage_report import StageReport

__all__ = ["sample"]


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
    done = run(settings, workers=workers, resume=resume, retry=retry, overwrite=overwrite, progress=progress)
    if len(done.flagged) == len(done.scene):
        reason = next(iter(done.flagged.values()))
        raise InputError(f"all {len(done.scene)} sources were given up, expected draws of some: {reason}")
    entries = [json.loads(entry) for entry in done.scene.patchlog]
    rows = [
        {
            "patch": entry["taskID"],
            "sources": len(entry["sources"]),
            "draws": entry["n_iter"],
            "divergent": entry.get("summary", {}).get("n_divergent", 0),
            "seconds": entry.get("summary", {}).get("wall_time", np.nan),
            "failed": entry.get("flag", ""),
        }
        for entry in entries
    ]
    tables = {"patches": Table(rows)}
    divergent = sum(row["divergent"] for row in rows)
    text = f"{counted(len(done.scene), 'source')} sampled in {counted(len(rows), 'patch')}, "
    text += f"{counted(divergent, 'divergent transition')}."
    if done.flagged:
        tables["flagged"] = Table({"id": list(done.flagged), "reason": list(done.flagged.values())})
        text += f" {len(done.flagged)} sources were given up."
    files = {"sampled": done.directory.path, "scene": done.directory.scene_path}
    rough = sum(entry.get("summary", {}).get("pareto_k", 0.0) > TRUSTED for entry in entries)
    if rough:
        text += f" Not to be trusted (pareto_k above {TRUSTED}): {counted(rough, 'patch')}."
    level = "look at this" if done.flagged or divergent or rough else "pass"
    return StageReport("sample", text, tables, files, time.perf_counter() - start, level)
