"""Check of all inputs of a run, which reports every problem before it starts."""

import os
import zlib
from dataclasses import dataclass, field

import numpy as np
from astropy.table import Table

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import PriorSettings, Settings
from fphojax.app.settings.ties import tie_problems
from fphojax.errors import InputError, at_most_ten
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.bounds import Bounds, check_pa_prior, default_bounds
from fphojax.inputs.composites import (
    components_inside,
    profile_name,
    refuse_composites,
    split_composites,
    with_profile,
)
from fphojax.inputs.exposures import Exposure, collect
from fphojax.inputs.fits_frames import ReadingOptions, bands_named
from fphojax.inputs.profiles import start_violations
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.recipe import noise_of
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import StoredExposure, open_stores
from fphojax.inputs.stores.verification import store_problem
from fphojax.mixtures.psf_image import effective_psf
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.results.psf_words import psf_words
from fphojax.results.table_text import formatted
from fphojax.system.progress import Progress
from fphojax.system.wording import counted, grouped

from .psf_fits import existing_psf, jobs_of, offset_shown
from .reach import beyond_patches
from .store_build import refuse_other_stores

__all__ = ["CheckReport", "check_inputs"]

LEAST_MASS = 1e-3  # of a prior within the bounds
# Offsets of a PSF image's core from its centre that are smaller [pixels] are not reported.
_CENTRED = 0.02


@dataclass
class CheckReport:
    """Inputs that `check_inputs` read, and its findings.

    Attributes
    ----------
    settings : Settings
    exposures : list of Exposure or StoredExposure
        Those of the bands that are fitted.
    left_out : list of Exposure or StoredExposure
        Those of other bands.
    catalog, big_catalog : SourceCatalog or None
        Sources, and those that are only subtracted; None if not given or not readable.
    bounds : Bounds or None
        Bounds of the parameters of `catalog`.
    psfs : PSFStore or None
        The PSF store of the settings; None if the PSF images of the exposures are to be used.
    mixtures : dict of (band, exposure) to PSFMixture
        Those of the store, at the middle of each exposure, or those that were fitted to the PSF images before.
    problems : list of str
        One line each; a run can start if there is none.
    notes : list of str
        One line each: what to know, though nothing is wrong with it. How each catalogue was read, and what of it the
        files of a run cannot hold; exposures that no source reaches.
    """

    settings: Settings
    exposures: list[Exposure | StoredExposure] = field(default_factory=list)
    left_out: list[Exposure | StoredExposure] = field(default_factory=list)
    catalog: SourceCatalog | None = None
    big_catalog: SourceCatalog | None = None
    bounds: Bounds | None = None
    psfs: PSFStore | None = None
    mixtures: dict[tuple[str, str], PSFMixture] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def exposure_table(self) -> Table:
        """Tabulate exposures: band, size (columns x rows), pixel scale, masked fraction, PSF, how they were read."""
        rows = [
            {
                "exposure": exposure.name,
                "band": exposure.band,
                "size": f"{exposure.shape[1]} x {exposure.shape[0]}",
                "scale": exposure.pixel_scale,
                "masked": 100 * exposure.masked_fraction,
                "PSF": "not fitted"
                if exposure in self.left_out
                else _psf_source(exposure, self.psfs, self.settings) + self._flux_error(exposure),
                "read as": exposure.read_as,
            }
            for exposure in (*self.exposures, *self.left_out)
        ]
        return formatted(Table(rows), {"size": ">", "scale": '{:.4f}"', "masked": "{:.1f} %"})

    def _flux_error(self, exposure) -> str:
        mixture = self.mixtures.get((exposure.band, exposure.name))
        if mixture is None or not np.isfinite(mixture.point_flux_error):
            return ""
        return f", point flux {100 * mixture.point_flux_error:+.2g} %"

    def psf_meaning(self) -> str:
        """Describe the effect of the PSF mixtures on the fluxes of bright point sources."""
        words = psf_words(
            {f"{name}, {band}": mixture.point_flux_error for (band, name), mixture in self.mixtures.items()}
        )
        n_waiting = len(self.exposures) - len(self.mixtures)
        if n_waiting:
            images = f"{counted(n_waiting, 'PSF image')} {'is' if n_waiting == 1 else 'are'} not fitted yet"
            words += f" {images}: the stage psf will report the flux error of bright point sources."
        return words.strip()

    def catalog_table(self) -> Table:
        """Tabulate smallest, median and largest value of each parameter of the catalogue, beside its bounds."""
        assert self.catalog is not None  # a table is asked for where there is one
        rows = [
            (name, values.min(), np.median(values), values.max(), *limits)
            for name, values, limits in _catalog_columns(self.catalog, self.bounds)
        ]
        names = ("parameter", "smallest", "median", "largest", "lower bound", "upper bound")
        return formatted(Table(rows=rows, names=names), {}, rest=".7g")


def check_inputs(
    settings: Settings, *, progress: bool = False, verify: bool = False, needs_catalog: bool = True
) -> CheckReport:
    """Read exposures, catalogues and PSFs, and collect every problem with them; nothing is written.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show a progress bar.
    verify : bool
        Look at every pixel of a store (counts, finite values, checksums).
    needs_catalog : bool
        Whether it is a problem if there are no sources to start from.

    Returns
    -------
    CheckReport
    """
    report = CheckReport(settings)
    _read_exposures(report, progress, verify)
    _read_catalogs(report, needs_catalog)
    _check_psfs(report)
    _check_noise(report)
    _check_positions(report)
    _check_start(report)
    _check_model(report)
    return report


def _read_exposures(report: CheckReport, progress: bool, verify: bool) -> None:
    settings = report.settings
    if settings.pixelstorefile is None and not settings.fitsfiles:
        return  # those that the file of settings names were refused
    if settings.pixelstorefile is None:
        exposures, problems = collect(settings.fitsfiles, progress=progress, **settings.reading)
        report.problems += at_most_ten(problems, "exposures")
    else:
        assert settings.metastorefile is not None  # with pixelstorefile
        try:
            exposures = open_stores(settings.pixelstorefile, settings.metastorefile)
        except InputError as error:
            report.problems.append(str(error))
            return
        report.problems += _store_problems(exposures, progress, verify)
        if verify:
            try:
                refuse_other_stores(settings)
            except InputError as error:  # no problem: whoever made them may have had a reason
                report.notes += str(error).splitlines()
    for exposure in exposures:
        (report.exposures if exposure.band in settings.bandlist else report.left_out).append(exposure)
    report.exposures.sort(key=lambda exposure: settings.bandlist.index(exposure.band))
    report.notes += grouped(
        (exposure.path, note) for exposure in exposures if exposure.path for note in exposure.notes
    )
    if verify and settings.pixelstorefile is None:
        report.notes += _twins([exposure for exposure in report.exposures if isinstance(exposure, Exposure)])
    _check_bands(report, refused=set(settings.fitsfiles) - {exposure.path for exposure in exposures})


def _twins(exposures: list[Exposure]) -> list[str]:
    """Find copies of an image under other names, which would count twice and make uncertainties too small."""
    lines = []
    by_pixels: dict[tuple, Exposure] = {}
    for exposure in exposures:
        pixels = exposure.band, exposure.shape, zlib.crc32(np.ascontiguousarray(exposure.data))
        first = by_pixels.setdefault(pixels, exposure)
        if first is not exposure and np.array_equal(first.data, exposure.data):
            lines.append(
                f"{exposure.path}: exposure {exposure.name} of band {exposure.band} has the same pixels as "
                f"{first.name} ({first.path}): they count twice"
            )
    return lines


def _check_bands(report: CheckReport, refused: set) -> None:
    """Check that bands have exposures, sky levels have bands, and none is missed by its capitals alone.

    A band of which a file was `refused` gets no line of its own: that of the file is enough.
    """
    settings = report.settings
    present = {exposure.band for exposure in (*report.exposures, *report.left_out)}
    absent = [band for band in settings.bandlist if band not in present]
    refused_bands = set()
    if absent and settings.pixelstorefile is None:
        recipe = ReadingOptions(**settings.reading)
        refused_bands = set().union(*(bands_named(path, recipe) for path in refused))
    for band in absent:
        if band not in refused_bands:
            listed = ", ".join(sorted(present)) or "none"
            report.problems.append(
                f"{settings.file}: bandlist: found no usable exposure in band {band}, expected one or more; "
                f"bands of exposures: {listed}{_twin(band, present, ' ({} differs only in its capitals)')}"
            )
    for band in sorted(present - set(settings.bandlist)):
        n_left_out = sum(exposure.band == band for exposure in report.left_out)
        twin = _twin(band, settings.bandlist, "; its name differs from that of {} only in its capitals")
        if twin:
            report.notes.append(
                f"{settings.file}: bandlist: exposures of band {band} ({n_left_out}) are left out{twin}"
            )
    for band in settings.tweakbg:
        line = f"{settings.file}: tweakbg.{band}: found a sky level of band {band}"
        if band not in present and band not in settings.bandlist:
            listed = ", ".join(sorted(present)) or "none"
            line += f", expected a band of the exposures: {listed}"
            (report.problems if settings.sky else report.notes).append(line)
        elif band not in settings.bandlist:
            report.notes.append(f"{line}, which is not in bandlist")
    if settings.tweakbg and not settings.sky:
        report.notes.append(
            f"{settings.file}: tweakbg: these sky levels are not subtracted unless tweak_background is tweakbg"
        )


def _twin(band, bands, text: str) -> str:
    """Format `text` about those of `bands` that differ from `band` only in their capitals; "" if none does."""
    twins = [other for other in bands if other != band and other.casefold() == band.casefold()]
    return text.format(", ".join(sorted(twins))) if twins else ""


def _store_problems(exposures: list[StoredExposure], progress: bool, verify: bool) -> list[str]:
    if not verify:
        return []
    read = Progress(exposures, text="exposures", units="images", shown=progress)
    return [problem for problem in map(store_problem, read) if problem is not None]


def _read_catalogs(report: CheckReport, needed: bool) -> None:
    settings = report.settings
    if needed and settings.raw_catalog is None:
        report.problems.append(
            f"{settings.file}: raw_catalog: found nothing, expected a catalogue of sources to start from: "
            "`fphojax detect` makes one from the images"
        )
    for key in ("raw_catalog", "big_catalog"):
        path = getattr(settings, key)
        if path is None:
            continue
        try:
            catalog, reading = SourceCatalog.read_as(path, bands=settings.bandlist)
        except InputError as error:
            report.problems.append(str(error))
            continue
        report.notes.append(f"{path}: {reading}")
        unheld = catalog.fits_problems()
        report.notes += [
            f"{path}: {name}: left out, as FITS files of a run cannot hold it: {reason}"
            for name, reason in unheld.items()
        ]
        catalog = catalog.without(unheld)
        try:
            if key == "raw_catalog":
                catalog = split_composites(with_profile(catalog, profile_name(settings.profile)))
            else:
                refuse_composites(catalog)
        except InputError as error:
            report.problems.append(f"{path}: {error}")
            continue
        if len(catalog) == 0:
            if key == "raw_catalog" and not needed:
                continue
            report.problems.append(f"{path}: found no source, expected at least one")
            continue
        setattr(report, "catalog" if key == "raw_catalog" else key, catalog)


def _check_psfs(report: CheckReport) -> None:
    """Check that every exposure has a PSF, in the store if there is one, else in its own file."""
    path = report.settings.psfstorefile
    if path is not None:
        try:
            report.psfs = PSFStore.open(path)
        except InputError as error:
            report.problems.append(str(error))
            return
    problems = []
    fitted = _fitted_before(report)
    for exposure in report.exposures:
        where = exposure.path if path is None else path
        try:
            mixture = _checked_psf(exposure, report.psfs, fitted, report.settings)
            if mixture is not None:
                report.mixtures[exposure.band, exposure.name] = mixture
        except InputError as error:
            message = str(error)
            problems.append(message if message.startswith(str(where)) else f"{where}: {message}")
    report.problems += at_most_ten(problems, "PSFs")


def _check_noise(report: CheckReport) -> None:
    """Check that the noise of the exposures can be read, and say which are not in its file."""
    try:
        noise = noise_of(report.settings.plain)
    except InputError as error:
        report.problems.append(str(error))
        return
    if noise is None or report.settings.noise_file is None:
        return
    lost = [e.name for e in report.exposures if (e.band, e.name) not in noise.exposures]
    if lost:
        report.notes.append(
            f"{report.settings.noise_file}: no noise of {counted(len(lost), 'exposure')}, such as {lost[0]}: the "
            "errors of their pixels are believed, and pixels taken for independent"
        )


def _fitted_before(report: CheckReport) -> PSFStore:
    """Return the store that the stage psf has left; an empty one where the settings name a store."""
    path = report.settings.fitted_psfs
    if report.settings.psfstorefile is None and path.is_file():
        try:
            return PSFStore.open(path)
        except InputError as error:
            report.problems.append(str(error))
    return PSFStore()


def _checked_psf(
    exposure: Exposure | StoredExposure, psfs: PSFStore | None, fitted: PSFStore, settings: Settings
) -> PSFMixture | None:
    """Return the mixture of an exposure; None if its PSF image is good and not fitted yet."""
    if psfs is not None:
        return psfs.in_exposure(exposure)
    if exposure.psf_image is None:
        raise InputError(
            f"found no PSF for band {exposure.band}, expected an extension PSF or the setting psfstorefile"
        )
    effective_psf(exposure.psf_image, includes_pixel=exposure.psf_includes_pixel)
    return existing_psf(fitted, *jobs_of([exposure], settings))


def _check_positions(report: CheckReport) -> None:
    """Check that every source reaches at least one exposure; a fit may have moved its centre off an image.

    An exposure that no source reaches is no error, but is noted: it may be one of another field.
    """
    if report.catalog is None or not report.exposures:
        return
    catalog = report.catalog
    covered, unreached = np.zeros(len(catalog), dtype=bool), []
    for exposure in report.exposures:
        pixel = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=float(np.median(catalog.dec))).pixel
        reach = (catalog.roi / exposure.pixel_scale)[:, None]
        edge = np.array(exposure.shape[::-1]) - 0.5  # the centre of the first pixel is at 0
        reached = ((pixel >= -0.5 - reach) & (pixel <= edge + reach)).all(axis=-1)
        if not reached.any():
            unreached.append(exposure)
        covered |= reached
    path = report.settings.raw_catalog
    large = beyond_patches(catalog, catalog.roi, report.settings)
    report.notes += at_most_ten(
        [f"{path}: id {name}: {message}" for name, message in large.items()], "large sources"
    )
    if covered.any():  # else the sources are at fault, not the images
        report.notes += [
            f"{exposure.path}: exposure {exposure.name} of band {exposure.band}: no source of {path} reaches it"
            for exposure in unreached
        ]
    problems = [
        f"{path}: row {row} (id {catalog.id[row]}): found ra={catalog.ra[row]:.6f} "
        f"dec={catalog.dec[row]:.6f} outside all exposures, expected it within its roi of at least one"
        for row in np.flatnonzero(~covered)
    ]
    report.problems += at_most_ten(problems, f"{path}: sources outside all exposures")


def _check_start(report: CheckReport) -> None:
    """Check that start values lie within the bounds; position angles count modulo 180 degrees."""
    if report.catalog is None:
        return
    settings, catalog = report.settings, report.catalog
    try:
        report.bounds = default_bounds(catalog, **bounds_options(settings, report.exposures))
    except InputError as error:
        report.problems.append(f"{settings.file}: bounds_kwargs: {error}")
        return
    report.catalog = catalog = components_inside(catalog, report.bounds)
    try:
        lines = start_violations(catalog, report.bounds)
    except InputError as error:
        lines = [str(error)]
    problems = [f"{settings.raw_catalog}: {line}" for line in lines]
    report.problems += at_most_ten(problems, f"{settings.raw_catalog}: values outside the bounds")


def _check_model(report: CheckReport) -> None:
    """Check the Sersic table, the priors, the ties and the output folder that the settings name."""
    settings = report.settings
    if settings.splinedatafile is not None:
        try:
            load_sersic_table(settings.splinedatafile)
        except InputError as error:
            report.problems.append(str(error))
    for name, prior in settings.priors.items():
        try:
            built = prior.build()
            if name == "pa":
                check_pa_prior(built)
            if report.bounds is not None:
                assert report.catalog is not None  # whose bounds they are
                lower, upper = report.bounds.of_model()
                _check_prior(prior, lower[name], upper[name], report.catalog.id)
        except InputError as error:
            report.problems.append(f"{settings.file}: priors.{name}: {error}")
    if report.catalog is not None:
        report.problems += at_most_ten(tie_problems(report.catalog, settings), f"{settings.file}: ties")
    _check_outbase(report)


def _check_outbase(report: CheckReport) -> None:
    """Check that the folder of results can be written, and that no input would be overwritten there."""
    settings = report.settings
    label = f"{settings.file}: outbase: found {settings.outbase}"
    images = [path for path in settings.fitsfiles if path.parent == settings.outbase]
    if images:
        report.problems.append(
            f"{label}, which holds the image {images[0].name}, expected a folder of its own"
        )
    for key in ("raw_catalog", "big_catalog"):
        path = getattr(settings, key)
        if path == settings.outbase / settings.scene_catalog:
            report.problems.append(
                f"{settings.file}: {key}: found {path}, which a run with this outbase writes itself (scene_catalog), "
                "expected another file"
            )
    folder = settings.outbase
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        report.problems.append(f"{label}, expected a writable folder: {folder} is not writable")


def _check_prior(prior: PriorSettings, lower, upper, ids) -> None:
    """Check that a prior, which replaces the uniform one, has some of its mass within the bounds."""
    mass = prior.mass_within(lower, upper)
    at = np.unravel_index(np.argmin(mass), mass.shape)
    if mass[at] < LEAST_MASS:
        much = f"less than {100 * LEAST_MASS:g} %" if mass[at] > 0 else "nothing"
        raise InputError(
            f"found {prior}, of which {much} lies within the bounds [{lower[at]:.6g}, {upper[at]:.6g}] of row "
            f"{at[0]} (id {ids[at[0]]}), expected most of it"
        )


def _psf_source(exposure: Exposure | StoredExposure, psfs: PSFStore | None, settings: Settings) -> str:
    """Describe where an exposure's PSF comes from."""
    if psfs is not None:
        of_exposure = exposure.name in psfs.exposures(exposure.band)
        if not of_exposure and exposure.band not in psfs.bands:
            return "missing"
        mixtures = psfs.mixtures(exposure.band, exposure.name if of_exposure else None)
        places = f", {len(mixtures)} positions" if len(mixtures) > 1 else ""
        return f"store{', own' if of_exposure else ''}{places}, {_width(mixtures[0], exposure.pixel_scale)}"
    if exposure.psf_image is None:
        return "missing"
    ny, nx = exposure.psf_image.shape
    text = f"image {nx} x {ny}" + ("" if exposure.psf_includes_pixel else ", no pixel")
    try:
        recentre = settings.psf_centre == "recentre"
        image = effective_psf(
            exposure.psf_image, includes_pixel=exposure.psf_includes_pixel, recentre=recentre
        )
    except InputError:
        return text  # already among the problems
    if np.hypot(*image.offset) < _CENTRED:
        return text
    return f"{text}, core off centre: {offset_shown(image)}"


def _width(mixture, pixel_scale: float) -> str:
    """Format the FWHM, in arcsec, of the Gaussian with most flux, which reveals a store of other pixels."""
    covariance = mixture.covariances[mixture.amplitudes.argmax()]
    fwhm = np.sqrt(8 * np.log(2) * covariance[:2].mean()) * pixel_scale
    return f'core {fwhm:.2g}" wide' + ("" if mixture.includes_pixel else ", no pixel")


def _catalog_columns(catalog: SourceCatalog, bounds: Bounds | None):
    """Yield (name with unit, values, (lowest bound, highest bound)) of each parameter."""
    nan = (np.nan, np.nan)

    def limits(name, column=...):
        return (bounds.lower[name][column].min(), bounds.upper[name][column].max()) if bounds else nan

    yield "ra, deg", catalog.ra, nan
    yield "dec, deg", catalog.dec, nan
    yield "offset, arcsec", np.zeros(len(catalog)), limits("x")
    yield "q", catalog.q, limits("q")
    yield "pa, deg", catalog.pa, limits("pa")
    yield "sersic", catalog.sersic, limits("sersic")
    yield "rhalf, arcsec", catalog.rhalf, limits("rhalf")
    for i, band in enumerate(catalog.bands):
        yield f"flux {band}, nJy", catalog.flux[:, i], limits("flux", np.s_[:, i])
