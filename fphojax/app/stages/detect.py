"""The detection stage: sources that the catalogue lacks, from the residuals of a fit or from the images alone."""

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.detection.source_search import append_detections, detect_on_images
from fphojax.detection.source_search import detect as detect_in_residuals
from fphojax.errors import InputError
from fphojax.field.columns import STATE
from fphojax.figures.detection_plots import plot_detections
from fphojax.figures.fit_plots import save_figure
from fphojax.inputs.bounds import POINT, default_bounds
from fphojax.results.products.region_files import write_regions
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .folders import alone_in_outbase, latest_fit, next_path, run_at
from .input_checks import check_inputs
from .residual_images import residual_images
from .stage_report import StageReport, timed

__all__ = ["detect"]

_LEVEL, _SURE = 0.1, 5.0  # least reported levels: over a pixel's noise, and in standard deviations


@alone_in_outbase
@timed
def detect(
    settings: Settings,
    *,
    run: Path | None = None,
    images: bool = False,
    threshold: float | None = None,
    background_box: int | None = None,
    progress: bool = False,
) -> StageReport:
    """Find sources, and write a catalogue that includes them.

    Parameters
    ----------
    settings : Settings
        Without ``raw_catalog`` and without a fit, or with an empty catalogue, the images themselves are searched.
    run : Path, optional
        Folder of the fit in whose residuals to search; the latest one by default.
    images : bool
        Search the images themselves, whatever catalogues and fits there are; the new catalogue starts empty.
    threshold : float, optional
        Least significance, in standard deviations; by default that of the settings.
    background_box : int, optional
        Side of the boxes [pixel] in which a sky level is taken from the images themselves; by default that of the
        settings.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Tables: ``sources`` (those found), ``structure`` (peaks that are structure of brighter galaxies, if there are
        any) and ``noise`` (of each exposure, as its pixels show it). Files, in a new folder ``detect_N`` of
        ``outbase``: ``catalog`` (in forcepho's columns, and ``origin``, ``significance`` and ``found_in``),
        ``structure`` (likewise), ``regions`` (for DS9), ``figure``.

    Raises
    ------
    InputError
        One line for each problem with the inputs; a catalogue that was never fitted.
    """
    checked = check_inputs(settings, needs_catalog=False, progress=progress)
    if checked.problems:
        raise InputError("\n".join(checked.problems))
    fit = None
    if not images and (run is not None or latest_fit(settings) is not None or checked.catalog is not None):
        fit = run_at(run, settings)
    overrides = {"threshold": threshold, "background_box": background_box}
    options = settings.detection.model_dump() | {
        key: value for key, value in overrides.items() if value is not None
    }
    box = options.pop("background_box")
    limits = bounds_options(settings, checked.exposures)
    options["rhalf_range"] = limits.get("rhalf_range", (POINT * limits["pixscale"], np.inf))
    searched = list(residual_images(settings, checked, fit, progress))
    if fit is None:
        catalog = None
        detections = detect_on_images(searched, background_box=box, **options)
        joined = detections.catalog.select_bands(settings.bandlist)
    else:
        catalog = _fitted(fit.read_scene().select_bands(settings.bandlist))
        detections = detect_in_residuals(searched, known=catalog, **options)
        joined = append_detections(catalog, detections.catalog)
    if len(joined):
        joined = default_bounds(joined, **limits).clipped(joined)
    folder = next_path(settings.outbase, "detect")
    folder.mkdir(parents=True)
    files = {
        "catalog": folder / "sources.fits",
        "regions": folder / "sources.reg",
        "figure": folder / "significance.png",
    }
    joined.write_forcepho(files["catalog"])
    regions, tables = joined, {}
    if len(detections.structure):
        files["structure"] = folder / "structure.fits"
        structure = detections.structure.select_bands(settings.bandlist)
        structure.write_forcepho(files["structure"])
        regions = append_detections(regions, structure)
        tables["structure"] = _table(structure)
    write_regions(files["regions"], regions)
    new = joined[len(joined) - len(detections.catalog) :]
    save_figure(plot_detections(detections, catalog, new.id.tolist()), files["figure"])
    tables = {"sources": _table(new)} | tables | {"noise": _noise(detections, searched)}
    return StageReport("detect", _verdict(detections, catalog, tables["noise"]), tables, files)


def _fitted(catalog):
    """Return the sources of a fit, with the origin "catalog" for those that no detection has found."""
    extra = catalog.extra.copy()
    extra.remove_columns([name for name in extra.colnames if name in STATE])
    for name, value in (("origin", "catalog"), ("significance", np.nan), ("found_in", "")):
        if name not in extra.colnames:
            extra[name] = np.full(len(catalog), value, dtype="U8" if isinstance(value, str) else float)
    return catalog.replace(flux_err=None, extra=extra)


def _table(catalog):
    """Tabulate found sources for a reader."""
    columns = {"id": catalog.id, "ra": catalog.ra * u.deg, "dec": catalog.dec * u.deg}
    columns |= {name: np.asarray(catalog.extra[name]) for name in ("significance", "found_in")}
    columns |= {"rhalf": catalog.rhalf * u.arcsec}
    table = QTable(
        columns | {band: flux * u.nJy for band, flux in zip(catalog.bands, catalog.flux.T, strict=True)}
    )
    formats = {"ra": ".6f", "dec": ".6f", "significance": ".1f", "rhalf": ".3f"}
    return formatted(table, formats, rest=".4g")


def _noise(detections, searched):
    """Tabulate what the pixels of each exposure show of its noise, compared with its errors."""
    rows = []
    for image in searched:
        noise = detections.noise[image.band][image.name]
        pixel = 1 / np.median(image.ierr[image.ierr > 0]) if (image.ierr > 0).any() else np.nan
        measured = np.isfinite(noise.level_error)
        level = (noise.level, noise.level_error, noise.level / pixel) if measured else (np.nan,) * 3
        rows.append((image.name, image.band, *level, noise.scale, np.sqrt(noise.power)))
    names = ("exposure", "band", "level", "level_error", "level_over_noise", "pixel_scatter", "psf_scatter")
    table = QTable(rows=rows, names=names, units={"level": u.nJy, "level_error": u.nJy})
    return formatted(table, {}, rest=".3g")


def _verdict(detections, catalog, noise):
    """Describe what was found, at which threshold, how much of it may be noise, and residual levels."""
    where = (
        "the images" if catalog is None else f"the residuals of a fit of {counted(len(catalog), 'source')}"
    )
    text = (
        f"{counted(len(detections.catalog), 'source')} found in {where}, above "
        f"{detections.threshold:g} standard deviations; expected false detections <= {detections.n_false:.2g}."
    )
    if len(detections.structure):
        text += (
            f" Structure of brighter galaxies (structure.fits): {counted(len(detections.structure), 'peak')}."
        )
    ratio = np.abs(noise["level_over_noise"])
    sure = np.abs(noise["level"]) > _SURE * noise["level_error"]
    excess = np.where(sure & (ratio > _LEVEL), ratio, 0)
    if excess.any():
        worst = int(excess.argmax())
        text += (
            f" Residual level in {counted(np.count_nonzero(excess), 'exposure')}, up to "
            f"{noise['level_over_noise'][worst]:+.2g} of the pixel noise ({noise['exposure'][worst]}, band "
            f"{noise['band'][worst]}); it is subtracted for this search only."
        )
    return text
