"""Detection of sources that a catalogue lacks, in the residuals of a run; or without one, in the images.

From the maps N, W, M of `fphojax.detection.matched_filter`, statistics are formed for a spectrum t (flat, or given)
over all bands, and for each band alone,

    S = sum_b t_b N_b / sqrt(sum_b t_b^2 W_b + (f sum_b t_b M_b)^2),

of which the largest is taken at each position. Without a model they have unit variance. With one, its light within
the PSF is assumed to be wrong by the fraction f, equally in all exposures: rings and dipoles that an imperfect model
leaves of a bright source count as sources only if they exceed f times the threshold times its light there.

Peaks of S above the threshold u are candidates if they rise by 3 above the saddle to a higher peak: in
asinh(f S) / f, where 1 is the noise of faint sources and a fraction f of bright ones. The light around each (B, from
`detection.surroundings`: a bright galaxy's halo, or an arm's surroundings), where it exceeds twice its error, is then
treated like M: the candidate is a detection if S of N - B, with M + B, and with the error of B as part of the noise,
exceeds the threshold, and that is its significance. If N - B is less than half of M + B, the peak is not a neighbour
of the galaxy but part of its structure: a ring, an arm or a clump.

The number of false detections by noise is at most the sum over the statistics of the number of maxima of a Gaussian
field above u (Adler & Taylor, Random Fields and Geometry, 2007, theorem 11.7.2),

    n = A (2 pi)^(-3/2) sqrt(det L) u exp(-u^2 / 2),

A the area and L the covariance of the gradient, measured from the map: the mean squared difference of neighbours is
2 (1 - exp(-L / 2)) of the variance, which is that of the map, or 1 where the light of sources makes it larger.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.stats import SigmaClip
from astropy.table import Column, MaskedColumn, Table
from astropy.wcs import WCS
from photutils.background import Background2D, SExtractorBackground
from scipy.ndimage import binary_erosion

from fphojax.errors import InputError
from fphojax.inputs.astrometry import pixel_scale
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .image_noise import SOURCE_FREE, ImageNoise
from .matched_filter import ResidualImage, band_maps, common_grid
from .peaks import prominent_peaks
from .significance import Statistic, expected_maxima
from .source_guesses import guess_sources
from .surroundings import nearest_higher, select_separated

__all__ = ["Detections", "append_detections", "detect", "detect_on_images", "noise_of"]

_PROMINENCE = 3.0  # least rise of a candidate above its saddle, standard deviations


@dataclass(frozen=True, eq=False, repr=False)
class Detections(Shown):
    """Result of a detection.

    Attributes
    ----------
    catalog : SourceCatalog
        First guesses, the most significant source first. In ``extra``: ``origin`` ("detected"), ``significance``,
        and ``found_in`` (the band, or "all" for the sum over bands).
    structure : SourceCatalog
        Likewise, structure of brighter galaxies; ``origin`` is "structure".
    significance : ndarray, shape (ny, nx)
        The largest of the statistics; 0 where there are no data.
    wcs : WCS
        Of this map.
    threshold : float
    n_false : float
        Upper limit of the expected number of false detections.
    noise : dict of str to dict of str to ImageNoise
        By band and exposure.
    """

    catalog: SourceCatalog
    structure: SourceCatalog
    significance: np.ndarray
    wcs: WCS
    threshold: float
    n_false: float
    noise: dict[str, dict[str, ImageNoise]]

    def _facts(self):
        return {
            "": f"{counted(len(self.catalog), 'source')} above {self.threshold:g} standard deviations",
            "false": f"<= {self.n_false:.2g}",
            "structure": counted(len(self.structure), "peak"),
        }

    def _below(self):
        return self.catalog._below()


def detect(
    images: Sequence[ResidualImage],
    *,
    threshold: float = 5.0,
    sed: Mapping[str, float] | None = None,
    model_error: float = 0.05,
    structure: float = 0.5,
    minimum_separation: float = 0.0,
    known: SourceCatalog | None = None,
    rhalf_range: tuple[float, float] = (0.03, np.inf),
) -> Detections:
    """Find sources in residual images.

    Parameters
    ----------
    images : sequence of ResidualImage
        Of all bands; their pixel grids may differ.
    threshold : float
        Minimum significance, in standard deviations.
    sed : mapping of str to float, optional
        Relative fluxes in the bands, for the statistic that combines them; equal ones by default.
    model_error : float
        Fraction f by which models of bright sources may be wrong.
    structure : float
        A peak that exceeds the light of brighter sources at its position by less than this fraction of that light
        counts as their structure.
    minimum_separation : float
        Of two peaks closer together than this, the less significant one is dropped, arcsec.
    known : SourceCatalog, optional
        Sources in the model: peaks closer to them than `minimum_separation` are dropped.
    rhalf_range : tuple of float
        Guesses of half-light radii are clipped to this range, arcsec.

    Returns
    -------
    Detections

    Raises
    ------
    InputError
        No images, options out of range, or an SED without one of the bands.
    """
    for name, value in (("threshold", threshold), ("model_error", model_error)):
        if not value > 0:
            raise InputError(f"{name} is {value}, expected a positive number")
    grid, shape = _common_grid(images)
    bands = dict.fromkeys(image.band for image in images)
    spectrum = dict.fromkeys(bands, 1.0) if sed is None else dict(sed)
    if missing := [band for band in bands if band not in spectrum]:
        raise InputError(f"no flux in {', '.join(missing)} in the SED, found {', '.join(spectrum)}")
    scale = pixel_scale(grid, shape)
    maps, statistics = _statistics(images, grid, shape, spectrum, model_error)
    stack = np.stack([statistic.values for statistic in statistics.values()])
    largest = stack.max(axis=0)

    contrast = np.arcsinh(model_error * largest) / model_error
    least = float(np.arcsinh(model_error * threshold) / model_error)
    x, y = prominent_peaks(contrast, least, _PROMINENCE)
    inside = binary_erosion(np.any([part.weight > 0 for part in maps.values()], axis=0), np.ones((3, 3)))
    x, y = x[inside[y, x]], y[inside[y, x]]
    higher = nearest_higher(x, y)
    rises, contrasts = np.stack([statistic.rise(x, y, higher) for statistic in statistics.values()], axis=1)
    best = rises.argmax(axis=0), np.arange(len(x))
    extra = Table(
        {
            "origin": np.where(contrasts[best] < structure, "structure", "detected"),
            "significance": rises[best],
            "found_in": np.array(list(statistics))[best[0]],
        }
    )
    selected = np.flatnonzero(rises[best] > threshold)
    selected = selected[np.argsort(-rises[best][selected], kind="stable")]
    known_x, known_y = ([], []) if known is None else grid.world_to_pixel_values(known.ra, known.dec)
    places = np.concatenate([known_x, x[selected]]), np.concatenate([known_y, y[selected]])
    selected = selected[select_separated(*places, minimum_separation / scale, len(known_x))[len(known_x) :]]
    x, y = _refine_peaks(largest, x[selected], y[selected])
    detections = guess_sources(maps, x, y, grid, spectrum, rhalf_range, extra[selected])
    is_structure = detections["origin"] == "structure"
    return Detections(
        catalog=detections[~is_structure],
        structure=detections[is_structure],
        significance=largest,
        wcs=grid,
        threshold=threshold,
        n_false=sum(expected_maxima(values, threshold) for values in stack),
        noise={band: part.noise for band, part in maps.items()},
    )


def detect_on_images(
    images: Sequence[ResidualImage], *, background_box: int | None = None, **options: Any
) -> Detections:
    """Find sources without a catalogue, in the images themselves.

    Parameters
    ----------
    images : sequence of ResidualImage
        The images as ``residual``.
    background_box : int, optional
        Side, in pixels, of the boxes in which a sky level is estimated (sigma-clipped mode), interpolated between
        them and subtracted; far larger than sources. By default the sky is assumed to be subtracted.
    **options
        As for `detect`.
    """
    if background_box is not None:
        images = [_subtract_sky(image, background_box) for image in images]
    return detect(images, **options)


def noise_of(
    images: Sequence[ResidualImage], *, model_error: float = 0.05
) -> dict[str, dict[str, ImageNoise]]:
    """Measure the noise of images, in pixels that all of them together show to be without sources.

    Parameters
    ----------
    images : sequence of ResidualImage
        Of all bands.
    model_error : float
        As for `detect`, which measures the same.

    Returns
    -------
    dict of str to dict of str to ImageNoise
        By band and exposure.
    """
    grid, shape = _common_grid(images)
    spectrum = dict.fromkeys((image.band for image in images), 1.0)
    maps, _ = _statistics(images, grid, shape, spectrum, model_error)
    return {band: part.noise for band, part in maps.items()}


def _common_grid(images):
    if not images:
        raise InputError("no residual images, expected at least one")
    return common_grid(images)


def _statistics(images, grid, shape, spectrum, model_error):
    """Make the maps of all bands, and from them the statistic of each and, of several, that of their sum."""
    bands, scale, sources = dict.fromkeys(image.band for image in images), pixel_scale(grid, shape), None
    for _ in range(2):  # all exposures together show where each of them is sky
        maps = {
            band: band_maps(
                [image for image in images if image.band == band],
                grid,
                shape,
                model_error=model_error,
                sources=sources,
            )
            for band in bands
        }
        statistics = {band: Statistic.of([part], [1.0], model_error, scale) for band, part in maps.items()}
        if len(bands) > 1:
            weights = [spectrum[band] for band in bands]
            statistics["all"] = Statistic.of(list(maps.values()), weights, model_error, scale)
        values = np.stack([statistic.values for statistic in statistics.values()])
        sources = np.abs(values).max(axis=0) > SOURCE_FREE
    return maps, statistics


def append_detections(catalog: SourceCatalog, detections: SourceCatalog) -> SourceCatalog:
    """Append detected sources to a catalogue.

    Parameters
    ----------
    catalog : SourceCatalog
        A column ``origin`` with the value "catalog" is added if there is none. If it has flux uncertainties, those of
        new sources, whose fluxes are guesses, are NaN.
    detections : SourceCatalog
        From `Detections`.

    Returns
    -------
    SourceCatalog
        In the bands of `catalog`. New identifiers continue from the largest one; if identifiers are text, they are
        "new" and a number. All further columns of `catalog` are kept; where `detections` lacks one, new sources have
        NaN, an empty text or a masked number there, and the profile "sersic".
    """
    detections = detections.select_bands(catalog.bands)
    size, new = len(catalog), len(detections)
    if catalog.id.dtype.kind in "iu":
        ids = np.arange(new) + (catalog.id.max(initial=-1) + 1)
    else:
        used_ids = set(catalog.id.tolist())
        free = (name for k in range(size + new) if (name := f"new{k}") not in used_ids)
        ids = np.array([next(free) for _ in range(new)], dtype=str)
    extra = catalog.extra.copy()
    if "origin" not in extra.colnames:
        extra["origin"] = np.full(size, "catalog")
    names = ("ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi")
    return SourceCatalog(
        id=np.concatenate([catalog.id, ids]),
        bands=catalog.bands,
        flux_err=None
        if catalog.flux_err is None
        else np.concatenate([catalog.flux_err, np.full_like(detections.flux, np.nan)]),
        meta=catalog.meta,
        extra=Table(
            [_extend(extra[name], detections.extra.columns.get(name), new) for name in extra.colnames]
        ),
        **{name: np.concatenate([getattr(catalog, name), getattr(detections, name)]) for name in names},
    )


def _extend(column: Column, new: np.ndarray | None, size: int) -> Column:
    """Extend a column of a catalogue by the values of `size` new sources, or by defaults."""
    shape = (size, *column.shape[1:])
    if new is not None:
        values = new
    elif column.name == "profile":
        values = np.full(shape, "sersic")
    elif column.dtype.kind in "fU":
        values = np.full(shape, np.nan if column.dtype.kind == "f" else "")
    else:
        values = np.ma.masked_all(shape, column.dtype)
    joined = np.ma.concatenate([column, values])
    kind, joined = (MaskedColumn, joined) if joined.mask.any() else (Column, joined.data)
    return kind(joined, name=column.name, unit=column.unit, description=column.description)


def _refine_peaks(values, x, y):
    """Return the maxima of quadratics through 3 x 3 pixels around peaks, at most half a pixel away."""
    step = np.arange(-1, 2)
    cube = values[y[:, None, None] + step[:, None], x[:, None, None] + step]
    slope_x, slope_y = (cube[:, :, 2] - cube[:, :, 0]).mean(1) / 2, (cube[:, 2] - cube[:, 0]).mean(1) / 2
    bend_x = (cube[:, :, 2] - 2 * cube[:, :, 1] + cube[:, :, 0]).mean(1)
    bend_y = (cube[:, 2] - 2 * cube[:, 1] + cube[:, 0]).mean(1)
    twist = (cube[:, 2, 2] - cube[:, 2, 0] - cube[:, 0, 2] + cube[:, 0, 0]) / 4
    determinant = bend_x * bend_y - twist**2
    peaked = (determinant > 0) & (bend_x < 0)
    scale = np.where(peaked, determinant, np.inf)
    shift_x = (twist * slope_y - bend_y * slope_x) / scale
    shift_y = (twist * slope_x - bend_x * slope_y) / scale
    return x + np.clip(shift_x, -0.5, 0.5), y + np.clip(shift_y, -0.5, 0.5)


def _subtract_sky(image, box):
    """Subtract the sky from an image."""
    bad = ~((image.ierr > 0) & np.isfinite(image.residual))
    sides = tuple(min(box, side) for side in image.residual.shape)
    sky = Background2D(
        np.where(bad, 0, image.residual),
        sides,
        mask=bad,
        sigma_clip=SigmaClip(3.0),
        bkg_estimator=SExtractorBackground(),
        exclude_percentile=50.0,
    )
    return dataclasses.replace(image, residual=image.residual - sky.background)
