"""The detection stage: sources that the catalogue lacks, from the residuals of a fit or from the images alone."""

import time
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.table import QTable
from tqdm.auto import tqdm

from fphojax.field.columns import STATE
from fphojax.field.detect import detect as detect_in_residuals
from fphojax.field.detect import detect_on_images, with_detected
from fphojax.field.matched_filter import ResidualImage
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.errors import InputError
from fphojax.inputs.psf import PSFStore
from fphojax.outputs.plot_detections import plot_detections
from fphojax.outputs.plots import save_figure
from fphojax.outputs.region_files import write_regions
from fphojax.outputs.residuals import RunResiduals
from fphojax.outputs.wording import counted

from ..check import check_inputs
from ..config import Settings
from ..psf_fits import fitted_psfs
from ..workers import prepared
from .folders import alone_in_outbase, latest_fit, next_path, run_at
from .report import StageReport

__all__ = ["detect"]

_STAMP = 4.0  # half-size of a PSF image, in standard deviations of its widest Gaussian


@alone_in_outbase
def detect(
    settings: Settings,
    *,
    run: Path | None = None,
    images: bool = False,
    threshold: float = 5.0,
    background_box: int | None = None,
    progress: bool = False,
) -> StageReport:
    """Find sources, and write a catalogue that has them.

    Parameters
    ----------
    settings : Settings
        Without ``raw_catalog`` and without a fit, or with an empty catalogue, the images themselves are searched.
    run : Path, optional
        Folder of the fit in whose residuals to search; the latest one by default.
    images : bool
        Search the images themselves, whatever catalogues and fits there are; the new catalogue starts empty.
    threshold : float
        Least significance, in standard deviations.
    background_box : int, optional
        Side of the boxes [pixel] in which a sky level is taken from the images themselves.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``sources``: those found. Files, in a new folder ``detect_N`` of ``outbase``: ``catalog`` (in
        forcepho's columns, and ``origin``, ``significance`` and ``found_in``), ``regions`` (for DS9), ``figure``.

    Raises
    ------
    InputError
        One line for each problem with the inputs; a catalogue that was never fitted.
    """
    start = time.perf_counter()
    checked = check_inputs(settings, needs_catalog=False, progress=progress)
    if checked.problems:
        raise InputError("\n".join(checked.problems))
    fit = None
    if not images and (run is not None or latest_fit(settings) is not None or checked.catalog is not None):
        fit = run_at(run, settings)
    searched = list(_residual_images(settings, checked, fit, progress))
    if fit is None:
        catalog = None
        found = detect_on_images(searched, background_box=background_box, threshold=threshold)
        joined = found.catalog.select_bands(settings.bandlist)
    else:
        catalog = _fitted(fit.read_scene().select_bands(settings.bandlist))
        found = detect_in_residuals(searched, threshold=threshold)
        joined = with_detected(catalog, found.catalog)
    joined = _inside_bounds(joined, settings)
    folder = next_path(settings.outbase, "detect")
    folder.mkdir(parents=True)
    files = {
        "catalog": folder / "sources.fits",
        "regions": folder / "sources.reg",
        "figure": folder / "significance.png",
    }
    joined.write_forcepho(files["catalog"])
    write_regions(files["regions"], joined)
    new = joined[len(joined) - len(found.catalog) :]
    save_figure(plot_detections(found, catalog, new.id), files["figure"])
    seconds = time.perf_counter() - start
    return StageReport("detect", _verdict(found, catalog), {"sources": _table(new)}, files, seconds)


def _residual_images(settings, checked, fit, progress):
    """What is left of each exposure; the image where no patch of the fit is."""
    residuals, sky = (None, {}) if fit is None else (RunResiduals(fit), fit.read_sky())
    psfs = _psfs(settings, checked, fit, progress)
    for exposure in tqdm(checked.exposures, desc="detect", unit="image", disable=not progress):
        ny, nx = exposure.shape
        data, ierr = prepared(exposure, settings).window(0, nx, 0, ny)
        left, model = np.where(ierr > 0, data, np.nan).astype(np.float64), None
        if residuals is not None and (pixels := residuals.read(exposure.band, exposure.name)) is not None:
            model = np.zeros((ny, nx))
            model[pixels.y, pixels.x] = pixels.data - pixels.residual
            # less the sky as it is now, as all other pixels are
            tweak = sky.get(exposure.band, 0.0) - settings.sky.get(exposure.band, 0.0)
            left[pixels.y, pixels.x] = pixels.residual + tweak
        psf = _psf_image(
            psfs.lookup(exposure.band, exposure=exposure.name, location=((nx - 1) / 2, (ny - 1) / 2))
        )
        yield ResidualImage(left, ierr, model, exposure.wcs, exposure.band, exposure.name, psf)


def _psfs(settings, checked, fit, progress):
    """The mixtures of the fit, those of the settings, or new ones."""
    if fit is not None and (fit.path / "psfs.h5").is_file():
        return PSFStore.open(fit.path / "psfs.h5")
    return checked.psfs or fitted_psfs(checked.exposures, settings, progress=progress)[0]


def _psf_image(mixture):
    """Effective PSF at the pixels of an exposure, odd, its sum 1."""
    half = int(np.ceil(_STAMP * np.sqrt(mixture.covariances[:, :2].max() + 1 / 12)))
    image = mixture.render((2 * half + 1, 2 * half + 1), (half, half))
    return image / image.sum()


def _inside_bounds(catalog, settings):
    """A catalogue whose shapes are within the bounds that a fit would have."""
    if not len(catalog):
        return catalog
    bounds = default_bounds(catalog, **settings.bounds_kwargs.model_dump(exclude_none=True))
    names = ("q", "sersic", "rhalf")
    inside = {name: np.clip(getattr(catalog, name), bounds.lower[name], bounds.upper[name]) for name in names}
    return catalog.replace(**inside)


def _fitted(catalog):
    """The sources of a fit, those that it did not find itself marked as such."""
    extra = catalog.extra.copy()
    extra.remove_columns([name for name in extra.colnames if name in STATE])
    for name, value in (("origin", "catalog"), ("significance", np.nan), ("found_in", "")):
        if name not in extra.colnames:
            extra[name] = np.full(len(catalog), value, dtype="U8" if isinstance(value, str) else float)
    return catalog.replace(flux_err=None, extra=extra)


def _table(catalog):
    """Found sources as a person wants to see them."""
    columns = {"id": catalog.id, "ra": catalog.ra * u.deg, "dec": catalog.dec * u.deg}
    columns |= {name: np.asarray(catalog.extra[name]) for name in ("significance", "found_in")}
    columns |= {"rhalf": catalog.rhalf * u.arcsec}
    table = QTable(
        columns | {band: flux * u.nJy for band, flux in zip(catalog.bands, catalog.flux.T, strict=True)}
    )
    for name in table.colnames:
        table[name].info.format = {"ra": ".6f", "dec": ".6f", "significance": ".1f", "rhalf": ".3f"}.get(
            name, ".4g" if name in catalog.bands else None
        )
    return table


def _verdict(found, catalog):
    """What was found, at which threshold, and how many of it may be noise."""
    where = (
        "the images" if catalog is None else f"the residuals of a fit of {counted(len(catalog), 'source')}"
    )
    return (
        f"{counted(len(found.catalog), 'source')} found in {where}, above {found.threshold:g} standard deviations; "
        f"noise alone makes at most {found.n_false:.2g} there."
    )
