"""The background stage: the sky that is left in the residuals of a fit, for the next one to subtract."""

from pathlib import Path

import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.app.settings.settings_edit import write_sky
from fphojax.detection.sky_levels import ResidualPixels, residual_levels, tweaked_background
from fphojax.errors import InputError
from fphojax.results.residuals import RunResiduals
from fphojax.results.table_text import formatted
from fphojax.system.files import write_text
from fphojax.system.progress import Progress

from .folders import alone_in_outbase, next_path, run_at
from .stage_report import StageReport, timed

__all__ = ["background"]


@alone_in_outbase
@timed
def background(
    settings: Settings, *, run: Path | None = None, write: bool = False, progress: bool = False
) -> StageReport:
    """Measure the residual sky levels of a fit, and write the settings of the next one.

    Parameters
    ----------
    settings : Settings
    run : Path, optional
        Folder of the fit; the latest one by default.
    write : bool
        Put the levels into the file of the settings itself, the rest of which stays as it is, instead of into a
        new file ``background_N.yml`` in ``outbase``.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Tables: ``levels`` (see `residual_levels`) and ``tweakbg`` (by band: level that the fit had subtracted,
        and the one for the next fit). ``files["settings"]``: the file with the new levels.

    Raises
    ------
    InputError
        There is no fit, or it has no residual files; or `write`, and the settings are of no file.
    """
    if write and settings.source is None:
        raise InputError(
            "write: found settings that were not read from a file, expected a file to write the levels into "
            "(`Settings.from_yaml`)"
        )
    fit = run_at(run, settings)
    residuals = RunResiduals(fit)
    levels = residual_levels(_pixels(residuals, progress))
    present = fit.read_sky()
    sky = tweaked_background(levels, present)
    if settings.source is not None and write:
        path = settings.source
        write_sky(path, sky)
    else:
        path = next_path(settings.outbase, "background", ".yml")
        changed = settings.model_copy(update={"tweak_background": "tweakbg", "tweakbg": sky})
        write_text(path, changed.dump_yaml(path.parent))
    return StageReport(
        "background",
        _verdict(levels),
        {"levels": formatted(levels, {}, rest=".4g"), "tweakbg": _by_band(present, sky)},
        {"settings": path},
    )


def _pixels(residuals, progress):
    for band, name in Progress(residuals.exposures, text="background", units="images", shown=progress):
        pixels = residuals.read(band, name)
        yield ResidualPixels(name, band, pixels.x, pixels.y, pixels.residual, pixels.ierr)


def _by_band(present, sky):
    from astropy import units as u
    from astropy.table import QTable

    before = [present.get(band, 0.0) for band in sky]
    table = QTable({"band": list(sky), "before": before * u.nJy, "now": list(sky.values()) * u.nJy})
    return formatted(table, {}, rest=".4g")


def _verdict(levels):
    """Describe how many levels differ from zero, and the largest of them in units of its error."""
    ratio = np.abs(levels["level"].value) / levels["error"].value
    finite = np.isfinite(ratio)
    if not finite.any():
        return "No exposure has enough pixels to measure a level."
    worst = int(np.nanargmax(np.where(finite, ratio, -1)))
    return (
        f"In {np.count_nonzero(ratio[finite] > 3)} of {np.count_nonzero(finite)} exposures the residual level "
        f"exceeds 3 standard deviations; the largest, {ratio[worst]:.1f}, is in {levels['exposure'][worst]}, band "
        f"{levels['band'][worst]} ({levels['level'][worst].value:+.3g} nJy per pixel)."
    )
