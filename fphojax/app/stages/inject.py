"""The stage that puts artificial sources into the images, and measures them, to test the errors."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.figures.fit_plots import save_figure
from fphojax.inputs.bounds import POINT
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.injection_study import InjectionStudy, injection_study
from fphojax.system.wording import counted

from .folders import alone_in_outbase, last_path, run_at
from .input_checks import check_inputs
from .stage_report import Level, StageReport, timed

__all__ = ["inject"]

FOLDER = "injections"  # of outbase
SHOWN = [
    "mode",
    "place",
    "band",
    "n",
    "mean",
    "sd",
    "sd_err",
    "sd_alone",
    "within_2",
    "beyond_3",
    "flux_bias",
]
WIDEST, LARGEST_SHIFT = 1.15, 3.0  # standard deviation of pulls; mean pull over its error, that pass


@alone_in_outbase
@timed
def inject(
    settings: Settings,
    *,
    run: Path | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = False,
) -> StageReport:
    """Put artificial sources into the images of a fit, one at a time, and fit or search them.

    Parameters
    ----------
    settings : Settings
        Block ``injections``.
    run : Path, optional
        Folder of the fit; the latest one by default. Its noise is that of its settings, or what the stage noise has
        measured since.
    overwrite : bool
        Whether a study with other options is replaced; the same one is completed.
    workers : int, optional
        Processes.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Tables ``pulls`` (`fphojax.simulate.injection_tables.pull_table`, the main columns) and, if asked for,
        ``completeness``. Files in the folder ``injections`` of ``outbase``: ``sources``, ``detections``,
        ``pulls_figure``, ``completeness_figure``.

    Raises
    ------
    InputError
        One line for each problem with the inputs; there is no fit; another study is there.
    """
    checked = check_inputs(settings, needs_catalog=False, progress=progress)
    if checked.problems:
        raise InputError("\n".join(checked.problems))
    options, limits = settings.injections, bounds_options(settings, checked.exposures)
    detection = settings.detection.model_dump()
    detection["rhalf_range"] = limits.get("rhalf_range", (POINT * limits["pixscale"], np.inf))
    sources = options.sources
    study = injection_study(
        run_at(run, settings),
        number=options.number,
        modes=options.modes,
        places=options.places,
        snr=options.snr,
        stars=options.stars,
        models=None if sources is None else SourceCatalog.read(sources, bands=settings.bandlist),
        gain=options.gain,
        noise_file=_noise_file(settings),
        bounds_kwargs=limits,
        buffer=settings.buffer,
        detection=detection,
        folder=settings.outbase / FOLDER,
        overwrite=overwrite,
        workers=workers or 1,
        seed=settings.seed,
        progress=progress,
    )
    return _report(study, settings.outbase / FOLDER)


def _noise_file(settings) -> Path | None:
    """Return what the stage noise measured last; None where errors are to be believed."""
    if settings.noise.scale == "none" and settings.noise.correlation == "none":
        return None
    if settings.noise_file is not None:
        return settings.noise_file
    path = last_path(settings.outbase, "noise").with_suffix(".json")
    return path if path.is_file() else None


def _report(study: InjectionStudy, folder: Path) -> StageReport:
    tables: dict[str, Table] = {}
    files: dict[str, Path] = {}
    lines, level = [], "pass"
    if len(study.sources):
        pulls = study.pulls()
        tables["pulls"] = pulls[SHOWN]
        files["sources"] = folder / "sources.ecsv"
        files["pulls_figure"] = folder / "pulls.png"
        save_figure(study.plot_pulls(), files["pulls_figure"])
        lines.append(_words(pulls, study.floor()))
        if _is_wide(pulls):
            level = "look at this"
    if len(study.detections):
        tables["completeness"] = study.completeness()
        files["detections"] = folder / "detections.ecsv"
        files["completeness_figure"] = folder / "completeness.png"
        save_figure(study.plot_completeness(), files["completeness_figure"])
        found = int(np.count_nonzero(study.detections["found"]))
        lines.append(f"{counted(len(study.detections), 'source')} searched for, {found} found.")
    final: Level = "look at this" if level == "look at this" else "pass"
    return StageReport("inject", " ".join(lines), tables, files, level=final)


def _words(pulls, floor):
    widest = pulls[int(np.argmax(pulls["sd"]))]
    where = ", ".join(str(widest[name]) for name in ("mode", "place", "band"))
    low, high = f"{np.min(pulls['sd']):.2f}", f"{np.max(pulls['sd']):.2f}"
    spread = high if low == high else f"{low} to {high}"
    text = (
        f"Fluxes scatter by {spread} of their errors (most: {where}; "
        f"{widest['sd_alone']:.2f} of the errors from the pixels' alone), means are off by up to "
        f"{np.max(np.abs(pulls['mean'])):.2f} errors."
    )
    if floor > 0:
        text += (
            f" An error of {100 * floor:.1f} % of the flux, added in quadrature, would make up for the rest."
        )
    return text


def _is_wide(pulls) -> bool:
    """Return whether some fluxes scatter, or are off, by more than their errors and chance allow."""
    wide = pulls["sd"] - 2 * pulls["sd_err"] > WIDEST
    off = np.abs(pulls["mean"]) > LARGEST_SHIFT * pulls["mean_err"]
    return bool(np.any(wide | off))
