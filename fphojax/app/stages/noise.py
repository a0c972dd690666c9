"""The noise stage: size and correlation of the noise of every exposure, which the errors of the next fits follow."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.detection.source_search import noise_of
from fphojax.errors import InputError
from fphojax.inputs.noise_model import ExposureNoise, NoiseModel
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .folders import alone_in_outbase, next_path, run_at
from .input_checks import check_inputs
from .residual_images import residual_images
from .stage_report import Level, StageReport, timed

__all__ = ["noise"]

_GALAXY = 3.0  # pixels: standard deviation of the galaxy whose error is shown as an example


@alone_in_outbase
@timed
def noise(settings: Settings, *, run: Path | None = None, progress: bool = False) -> StageReport:
    """Measure the noise of all exposures in the residuals of a fit.

    It is the measurement that detection makes (`fphojax.detection.image_noise`).

    Parameters
    ----------
    settings : Settings
    run : Path, optional
        Folder of the fit; the latest one by default.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``noise``: of each exposure the scale of its errors with its own error, the correlation of neighbours
        in a row and in a column, the standard deviation of what distant pixels share, by how much the error of the
        flux of a round galaxy of 3 pixels (sigma) exceeds that from the images' errors, and how many pixels were
        used; NaN where too few pixels are without sources. ``files["noise"]``: ``noise_N.json`` in ``outbase``.

    Raises
    ------
    InputError
        One line for each problem with the inputs; there is no fit.
    """
    checked = check_inputs(settings, needs_catalog=False, progress=progress)
    if checked.problems:
        raise InputError("\n".join(checked.problems))
    fit = run_at(run, settings)
    images = list(residual_images(settings, checked, fit, progress, "noise"))
    found = noise_of(images, model_error=settings.detection.model_error)
    exposures = {}
    for image in images:
        measured = found[image.band][image.name]
        if measured.correlation is not None:
            key = image.band, image.name
            exposures[key] = ExposureNoise.of(*key, measured.correlation, measured.n_pixel)
    model = NoiseModel(exposures, settings.noise.scale, settings.noise.correlation)
    path = next_path(settings.outbase, "noise", ".json")
    model.write(path)
    table = _table(images, model)
    unknown = int(np.count_nonzero(np.isnan(table["scale"])))
    level: Level = "look at this" if unknown else "pass"
    return StageReport(
        "noise", _verdict(table, model, unknown), {"noise": table}, {"noise": path}, level=level
    )


def _table(images, model):
    rows = []
    for image in images:
        measured = model.exposures.get((image.band, image.name))
        if measured is None:
            rows.append((image.name, image.band, *(np.nan,) * 6, 0))
            continue
        correlation, half = measured.correlation, len(measured.correlation) // 2
        beside = (correlation[half, half + 1], correlation[half + 1, half]) if half else (0.0, 0.0)
        factor = measured.error_factor(_GALAXY)
        low = np.sign(measured.sky) * np.sqrt(np.abs(measured.sky))
        values = measured.scale, measured.scale_error, *(np.array(beside) / measured.scale**2), low, factor
        rows.append((image.name, image.band, *values, measured.n_pixel))
    names = ("exposure", "band", "scale", "scale_error", "row", "column", "distant", "galaxy", "n_pixel")
    return formatted(Table(rows=rows, names=names), {}, rest=".3g")


def _verdict(table, model, unknown):
    known = np.isfinite(table["scale"])
    if not known.any():
        return "No exposure has enough pixels without sources to measure its noise: errors are believed."
    worst = int(np.nanargmax(np.where(known, table["galaxy"], -1)))
    row = table[worst]
    text = (
        f"Noise of {counted(np.count_nonzero(known), 'exposure')}: {np.nanmin(table['scale']):.2f} to "
        f"{np.nanmax(table['scale']):.2f} of the errors of the pixels, correlation of neighbours up to "
        f"{np.nanmax([table['row'], table['column']]):.2f}. Errors of the flux of a galaxy of {_GALAXY:g} pixels "
        f"(sigma) are up to {row['galaxy']:.2f} times those from the errors of the pixels ({row['exposure']}, band "
        f"{row['band']})."
    )
    if model.scale == model.correlation == "none":
        text += " The settings say that fits do not use it."
    if unknown:
        text += (
            f" {counted(unknown, 'exposure')} with too few pixels without sources: the errors of their pixels are "
            "believed."
        )
    return text
