"""The optimisation stage: finds the most probable parameters of every source of a field."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import first_read_after
from fphojax.errors import InputError
from fphojax.inference.methods import Optimum
from fphojax.system.locks import folder_lock
from fphojax.system.wording import counted

from .chi2 import chi2_table
from .fields import fit_sources
from .folders import last_path, next_path
from .reach import beyond_patches, light_ends, wider
from .stage_report import StageReport

__all__ = ["optimize"]

_BEYOND = "beyond its patch"  # where no patch holds the light of a source
# how a fit can end; see `fphojax.inference.flags` and `fphojax.results.misfit`
_KINDS = (
    "good",
    "at a bound",
    "not converged",
    "few pixels",
    "no data",
    "degenerate",
    "model limited",
    "masked",
    _BEYOND,
    "failed",
)
_POOR = 2.0  # chi2/dof of an exposure, above which its residuals should be looked at
_BRIGHT = 20.0  # signal-to-noise ratio above which a shape, well constrained, should not end at a bound


def optimize(
    settings: Settings,
    *,
    out: Path | None = None,
    resume: bool = False,
    retry: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> StageReport:
    """Optimise all sources of a field, patch by patch.

    Where the light of a source, as it is fitted, ends beyond the pixels that it was fitted with, its radius of
    influence becomes larger, and it is fitted again. Radii never become smaller.

    Parameters
    ----------
    settings : Settings
    out : Path, optional
        Folder of the run; ``optimize_N`` in ``outbase`` by default, N one more than the last.
    resume : bool
        Go on with the last ``optimize_N`` (or with `out`), if there is one.
    retry : bool
        When resuming, retry sources that were given up.
    workers, scheduler
        See `fphojax.field.cluster.cluster_client`; without either, patches are fitted in this process.
    progress : bool
        Show progress bars.

    Returns
    -------
    StageReport
        Tables: ``sources`` (how many ended how, some in several ways), ``flagged`` (those that need a look, why, and
        their signal-to-noise ratio over all bands) and ``exposures`` (chi-squared, see `chi2_table`; with
        ``write_residuals`` alone). Files: ``run`` and ``catalog``.

    Raises
    ------
    InputError
        One line for every problem with the inputs, or another process works in the folder; nothing is written then.
        Or the fits of all sources failed.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says how to go on.
    """
    start = time.perf_counter()
    larger: list[int] = []  # how many radii of influence, after each fit
    beyond: dict[str, str] = {}  # sources too large for any patch
    with folder_lock(settings.outbase if out is None else out):  # before the number is chosen
        folder = Path(out) if out else (last_path if resume else next_path)(settings.outbase, "optimize")
        with folder_lock(folder):
            run, scene = _fitted(
                settings, folder, resume, retry, larger, beyond, workers, scheduler, progress
            )
    tables = _tables(scene, beyond)
    flagged = tables["flagged"]
    if len(flagged) == len(scene) and all(flagged["ended"] == "failed"):
        raise InputError(
            f"the fits of all {len(scene)} sources failed, expected some to end: {flagged['why'][0]}"
        )
    if settings.write_residuals and run.patches():
        tables["exposures"] = chi2_table(run)
    files = {"run": run.path, "catalog": run.scene_path}
    text, level = _verdict(tables)
    if any(larger):
        text += (
            f" The light of {counted(max(larger), 'source')} extended beyond the pixels of the first fit: fitted "
            "again with larger radii of influence."
        )
    return StageReport("optimize", text, tables, files, time.perf_counter() - start, level)


def _fitted(settings, folder, resume, retry, larger, beyond, workers, scheduler, progress):
    """Fit the field; return the folder of the fit and its scene.

    `larger` gains the number of sources to fit again with more pixels, `beyond` those that need a larger patch.
    """

    def widened(catalog, exposures):
        ends = light_ends(catalog, exposures)
        roi = wider(catalog, ends, settings)
        beyond.clear()
        beyond.update(beyond_patches(catalog, ends, settings))
        larger.append(int(np.count_nonzero(roi > catalog.roi)))
        return roi

    method = Optimum(
        tolerance=settings.gtol,
        forced=settings.forced_photometry,
        # the two densities differ by minus the log of the distance to the bounds
        barriers=settings.add_barriers,
        from_prior=settings.optimize_start == "prior",
    )
    result = fit_sources(
        settings,
        folder,
        method,
        target_niter=settings.optimize_passes,
        resume=resume and (folder / "config.json").is_file(),
        retry=retry,
        unread=first_read_after("optimize"),
        largest_first=True,
        widened=None if settings.forced_photometry else widened,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )
    return result.directory, result.scene


def _tables(scene, beyond) -> dict[str, Table]:
    """Tabulate how the last fit of each source ended."""
    endings = dict(_endings(map(json.loads, scene.patchlog), scene))
    for row, (ended, why) in endings.items():
        if (reason := beyond.get(str(scene.catalog.id[row]))) and ended != "failed":
            endings[row] = (
                (_BEYOND, reason) if ended == "good" else (f"{ended}, {_BEYOND}", f"{why}; {reason}")
            )
    flagged, snr = [row for row in sorted(endings) if endings[row][0] != "good"], _signal_to_noise(scene)
    lines = [(str(scene.catalog.id[row]), *endings[row], snr[row]) for row in flagged]
    counts = [sum(kind in ending.split(", ") for ending, _ in endings.values()) for kind in _KINDS]
    tables = {
        "sources": Table({"ended": _KINDS, "sources": counts}),
        "flagged": Table(
            rows=lines or None, names=("id", "ended", "why", "snr"), dtype=(str, str, str, float)
        ),
    }
    tables["flagged"]["snr"].info.format = ".1f"
    return tables


def _signal_to_noise(scene):
    """Compute each source's signal-to-noise ratio over all bands; 0 where its errors are not known."""
    flux = scene.catalog.flux
    _, covariances = scene.bounds_and_covs(np.arange(len(flux)))
    variance = np.diagonal(covariances, axis1=1, axis2=2)[:, : flux.shape[1]]
    positive = variance > 0  # False for NaN
    return np.sqrt(np.sum(np.where(positive, flux**2 / np.where(positive, variance, 1), 0), axis=1))


def _endings(entries: Iterable[dict], scene):
    """Yield the row of each source, and how it ended; later entries replace earlier ones."""
    ids = scene.catalog.id
    for entry in entries:
        summary = entry.get("summary", {})
        for row in entry["sources"]:
            flags = summary.get("flags", {}).get(str(ids[row]))
            if "flag" in entry:
                yield row, ("failed", entry["flag"])
            elif flags:
                yield row, (", ".join(flags), "; ".join(flags.values()))
            else:
                yield row, ("good", "")


def _verdict(tables):
    counts = dict(zip(tables["sources"]["ended"], tables["sources"]["sources"], strict=True))
    total = int(counts["good"]) + len(tables["flagged"])
    text = f"{counted(total, 'source')} optimised: {counts.pop('good')} good"
    flagged = tables["flagged"]
    bright = sum("at a bound" in row["ended"] and row["snr"] > _BRIGHT for row in flagged)
    more = {"at a bound": f" ({bright} of them above a signal-to-noise ratio of {_BRIGHT:g})"}
    text += "".join(f", {count} {kind}{more.get(kind, '')}" for kind, count in counts.items() if count) + "."
    poor = len(tables["flagged"]) > 0
    if "exposures" in tables:
        worst = int(np.nanargmax(tables["exposures"]["chi2_dof"]))
        row = tables["exposures"][worst]
        text += f" The largest chi2/dof is {row['chi2_dof']:.2f}, in {row['exposure']} ({row['band']})."
        poor |= row["chi2_dof"] > _POOR
    return text, "look at this" if poor else "pass"
