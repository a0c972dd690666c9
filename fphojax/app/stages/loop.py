"""The loop before sampling: optimise, subtract residual sky, measure noise, add missing sources, optimise again."""

import logging
from pathlib import Path

import numpy as np
from astropy.table import QTable

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import next_settings
from fphojax.errors import InputError
from fphojax.results.run_directory import RunDirectory
from fphojax.system.wording import counted

from .background import background
from .chi2 import chi2_table
from .detect import detect
from .folders import alone_in_outbase
from .noise import noise
from .optimize import optimize
from .postop import postop
from .stage_report import StageReport, timed

__all__ = ["loop"]

logger = logging.getLogger(__name__)

_FULL = 3.0  # residual levels beyond this many standard errors lead to another round


@alone_in_outbase
@timed
def loop(
    settings: Settings,
    *,
    rounds: int = 1,
    threshold: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> StageReport:
    """Optimise; in each round run background, noise, detect and optimise; in the end run `postop`.

    It ends early after an optimisation in whose residuals nothing is found and no sky is left. Without a catalogue,
    detection on the images gives the first one.

    Parameters
    ----------
    settings : Settings
    rounds : int
    threshold : float, optional
        Of detection, standard deviations; by default that of the settings.
    workers, scheduler
        See `optimize`.
    progress : bool
        Show progress bars.

    Returns
    -------
    StageReport
        Tables: ``exposures`` (chi2/dof after the last optimisation, and of the first one on the same pixels),
        ``stages`` (sources and wall time of each). Files: those of `postop`, and ``run``, the last optimisation.
    """
    if not settings.write_residuals:
        raise InputError(
            f"{settings.file}: write_residuals is false, expected true: the stages need the residuals"
        )
    reports = []

    def reported(report):
        reports.append(report)
        return report

    if settings.raw_catalog is None:
        detected = reported(detect(settings, images=True, threshold=threshold, progress=progress))
        settings = next_settings(settings, detected)
    first = last = reported(optimize(settings, workers=workers, scheduler=scheduler, progress=progress))
    settings = next_settings(settings, first)
    n_added = 0
    for number in range(1, rounds + 1):
        logger.info("round %d of at most %d: background, noise, detect, optimize", number, rounds)
        run = last.files["run"]
        sky = reported(background(settings, run=run, progress=progress))
        measured = reported(noise(settings, run=run, progress=progress))
        detected = reported(detect(settings, run=run, threshold=threshold, progress=progress))
        n_detected = len(detected.tables["sources"])
        settings = next_settings(settings, measured)
        if not n_detected and not _has_sky(sky):
            logger.info("nothing was found and no sky is left: no further optimisation")
            break
        n_added += n_detected
        settings = next_settings(settings, sky, detected)
        last = reported(optimize(settings, workers=workers, scheduler=scheduler, progress=progress))
    handed = reported(postop(settings, run=last.files["run"]))
    exposures = chi2_table(*(_run(report, settings) for report in (last, first)))
    files = handed.files | {"run": last.files["run"]}
    verdict = _verdict(exposures, n_added, last)
    tables = {"exposures": exposures, "stages": _stages(reports)}
    return StageReport("loop", verdict, tables, files)


def _run(report, settings) -> RunDirectory:
    return RunDirectory(Path(report.files["run"]), scene_catalog=settings.scene_catalog)


def _has_sky(report):
    levels = report.tables["levels"]
    return bool((np.abs(levels["level"]) > _FULL * levels["error"]).any())


def _stages(reports):
    names = [report.stage for report in reports]
    return QTable(
        {
            "stage": names,
            "seconds": [report.seconds for report in reports],
            "result": [report.verdict for report in reports],
        }
    )


def _verdict(exposures, n_added, last):
    worse = np.count_nonzero(exposures["chi2_dof"] > exposures["before"])
    return (
        f"{counted(n_added, 'source')} added; chi2/dof from {exposures['before'].min():.2f} to "
        f"{exposures['before'].max():.2f} before, "
        f"from {exposures['chi2_dof'].min():.2f} to {exposures['chi2_dof'].max():.2f} now (larger than "
        f"before in {worse} of {len(exposures)} exposures). {last.verdict}"
    )
