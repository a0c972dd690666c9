"""The PSF stage: mixtures of Gaussians for all exposures, and how good they are."""

from typing import TYPE_CHECKING

from astropy import units as u
from astropy.table import QTable

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.mixtures.psf_fit import plot_psf_fit
from fphojax.results.psf_words import psf_words
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .input_checks import CheckReport, check_inputs
from .psf_fits import FittedPSF, fit_into, fitted_psfs, jobs_of, offset_shown
from .stage_report import Level, StageReport, timed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_worst_psf", "psf"]


@timed
def psf(settings: Settings, *, progress: bool = False) -> StageReport:
    """Fit the PSF images of the exposures, unless the settings name a store of mixtures.

    Each mixture is in the store as soon as it is fitted; what an earlier call fitted of the same images with the same
    options is kept.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``psfs``: one row per exposure; ``point flux error`` is the largest error that the mixture makes of a
        bright point source's flux. Files: ``psfs``, the store, if it was made (``psfs.h5`` of ``outbase``).

    Raises
    ------
    InputError
        One line for each problem with the inputs.
    """
    inputs = check_inputs(settings, progress=progress, needs_catalog=False)
    if inputs.problems:
        raise InputError("\n".join(inputs.problems))
    if inputs.psfs is not None:
        assert settings.psfstorefile is not None  # which they are of
        table = _of_store(inputs)
        text = f"Mixtures of {settings.psfstorefile.name}, for {len(inputs.exposures)} exposures. "
        text += inputs.psf_meaning()
        return StageReport("psf", text, {"psfs": table}, {})
    path = settings.fitted_psfs
    path.parent.mkdir(parents=True, exist_ok=True)
    _, fitted = fitted_psfs(inputs.exposures, settings, path, replace=True, progress=progress)
    rows = [_row(psf) for psf in fitted]
    table = formatted(QTable(rows), {}, rest=".2f")
    poor = [f"{row['exposure']} ({row['band']})" for row in rows if row["complaints"]]
    worst = max(rows, key=lambda row: row["L2 residual"])
    text = (
        f"{counted(len(rows), 'PSF image')} fitted with {_range(table['Gaussians'])} Gaussians; the largest residual "
        f"is {worst['L2 residual']:.2f} (relative L2), of {worst['exposure']} ({worst['band']}). "
    )
    text += psf_words(
        {f"{row['exposure']}, {row['band']}": row["point flux error"].to_value(u.one) for row in rows}
    )
    text += f" Poor: {', '.join(poor)}." if poor else ""
    level: Level = "look at this" if poor else "pass"
    return StageReport("psf", text, {"psfs": table}, {"psfs": path}, level=level)


def plot_worst_psf(settings: Settings, report: StageReport) -> "Figure | None":
    """Plot image, mixture, residual and encircled energy of the PSF that its mixture fits worst.

    Returns
    -------
    matplotlib.figure.Figure or None
        None where the mixtures come from a store.
    """
    table = report.tables["psfs"]
    if "psfs" not in report.files:
        return None
    row = table[int(table["L2 residual"].argmax())]
    exposures = check_inputs(settings, needs_catalog=False).exposures
    (exposure,) = (e for e in exposures if (e.name, e.band) == (row["exposure"], row["band"]))
    (fitted,) = fit_into(report.files["psfs"], jobs_of([exposure], settings))
    assert exposure.psf_image is not None  # it was fitted
    return plot_psf_fit(fitted.fit, exposure.psf_image)


def _row(fitted: FittedPSF):
    job, fit, _ = fitted
    return {
        "exposure": job.exposure,
        "band": job.band,
        "Gaussians": len(fit.amplitudes),
        "includes pixel": fit.includes_pixel,
        "core off centre": offset_shown(fit),
        "L2 residual": 100 * fit.verdict.relative_l2 * u.percent,
        "encircled energy error": 100 * fit.verdict.ee_error * u.percent,
        "point flux error": 100 * fit.verdict.point_flux_error * u.percent,
        "complaints": "; ".join(fit.verdict.complaints),
    }


def _range(numbers):
    """Format one number, or the smallest and the largest."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _of_store(report: CheckReport) -> QTable:
    """Tabulate where each exposure's mixture at the middle of its image comes from; unknown errors are NaN."""
    assert report.psfs is not None
    rows = []
    for exposure in report.exposures:
        mixture = report.mixtures[exposure.band, exposure.name]
        of_exposure = exposure.name in report.psfs.exposures(exposure.band)
        rows.append(
            {
                "exposure": exposure.name,
                "band": exposure.band,
                "Gaussians": len(mixture.amplitudes),
                "includes pixel": mixture.includes_pixel,
                "of": "exposure" if of_exposure else "band",
                "L2 residual": 100 * mixture.relative_l2 * u.percent,
                "point flux error": 100 * mixture.point_flux_error * u.percent,
            }
        )
    return formatted(QTable(rows), {}, rest=".2f")
