"""Figures of a whole run: map of its sources, and files of one page per source or patch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fphojax.errors import InputError
from fphojax.inputs.astrometry import CircularRegion, sky_offsets, sky_position
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.fitted_patch import fitted_patch, open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.system.figure_style import COLOURS, styled
from fphojax.system.files import replacing
from fphojax.system.progress import Progress
from fphojax.system.wording import counted

from .fit_plots import plot_residuals
from .posterior_plots import plot_ranks, plot_traces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["catalog_column", "chain_pdf", "plot_sky", "residual_pdf", "sky_columns"]

_SHAPES = ("rhalf", "q", "sersic", "pa", "roi")
_ROWS = 4  # exposures on a page


def sky_columns(catalog: SourceCatalog) -> list[str]:
    """List columns of a catalogue that a map can show: fluxes by band, shapes, other numeric columns."""
    extra = [name for name in catalog.extra.colnames if np.issubdtype(catalog.extra[name].dtype, np.number)]
    return [*catalog.bands, *_SHAPES, *extra]


def catalog_column(catalog: SourceCatalog, name: str) -> np.ndarray:
    """Return the values of a column of `sky_columns`, array (N,); angles in degrees."""
    if name not in (columns := sky_columns(catalog)):
        raise InputError(f"found no column of numbers {name!r}, expected one of {', '.join(columns)}")
    if name in catalog.bands:
        return catalog.flux[:, catalog.bands.index(name)]
    values = getattr(catalog, name) if name in _SHAPES else catalog.extra[name]
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


@styled
def plot_sky(
    catalog: SourceCatalog,
    colour: str | np.ndarray = "rhalf",
    *,
    label: str | None = None,
    regions: Sequence[CircularRegion] = (),
    selected: Sequence[int] = (),
    log: bool | None = None,
) -> "Figure":
    """Plot a map of the sources.

    Parameters
    ----------
    catalog : SourceCatalog
    colour : str or array (N,)
        A column of the catalogue (see `sky_columns`), or values of any kind.
    label : str, optional
        What the values are.
    regions : sequence of CircularRegion
        Patches to outline.
    selected : sequence of int
        Rows to be circled and named.
    log : bool, optional
        Whether the scale of colours is logarithmic; by default if all values are positive and span more than
        a factor of 30.

    Returns
    -------
    matplotlib.figure.Figure
        North up, east to the left, offsets in arcsec from the middle of the field; one unit has the same length on
        both axes. Colours span 98 % of the values; sources without a value are open circles.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    if isinstance(colour, str):
        values, label = catalog_column(catalog, colour), label or _column_label(catalog, colour)
    else:
        values = np.asarray(colour, dtype=float)
    ra0, dec0 = _middle(catalog)
    x, y = sky_offsets(catalog.ra, catalog.dec, ra0, dec0).T
    good = np.isfinite(values)
    low, high = np.percentile(values[good], (1, 99)) if good.any() else (0.0, 1.0)
    log = bool(low > 0 and high > 30 * low and (values[good] > 0).all()) if log is None else log
    norm = (LogNorm if log else Normalize)(low, high if high > low else low + 1.0)
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axis = figure.add_subplot()
    size = float(np.clip(4e3 / max(len(catalog), 1), 3, 45))
    for region in regions:
        east, north = sky_offsets(region.ra, region.dec, ra0, dec0)
        axis.add_patch(Circle((east, north), region.radius, fill=False, color="0.6", lw=0.6))
    axis.scatter(x[~good], y[~good], size, facecolor="none", edgecolor="0.4", linewidth=0.6)
    points = axis.scatter(x[good], y[good], size, values[good], norm=norm, cmap="viridis", linewidth=0)
    for row in selected:
        axis.plot(x[row], y[row], "o", ms=np.sqrt(size) + 7, mfc="none", mec=COLOURS[1], mew=1.6)
        axis.annotate(
            str(catalog.id[row]),
            (x[row], y[row]),
            xytext=(8, 8),
            textcoords="offset points",
            color=COLOURS[1],
            weight="bold",
        )
    figure.colorbar(points, label=label)
    half = 1.12 * max(float(np.abs(x).max()), float(np.abs(y).max()), 0.5)
    axis.set(xlim=(half, -half), ylim=(-half, half), aspect="equal")
    axis.set(xlabel="east [arcsec]", ylabel="north [arcsec]")
    axis.set_title(f"{counted(len(catalog), 'source')} about ra {ra0:.5f}°, dec {dec0:+.5f}°")
    return figure


def chain_pdf(run: RunDirectory, path: str | Path | None = None, *, progress: bool = True) -> Path:
    """Write a PDF of traces and ranks of every source of a run, a pair of pages per source and patch.

    Parameters
    ----------
    run : RunDirectory
    path : path-like, optional
        By default ``figures/chains.pdf`` in the run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
    """

    def pages():
        for number in Progress(run.patches(), text="chains", units="patches", shown=progress):
            result = run.read_patch(number)
            for source in result.active.id.tolist():
                yield f"patch {number}, source {source}: traces", plot_traces(result, [source])
                yield f"patch {number}, source {source}: ranks", plot_ranks(result, [source])

    return _write_pdf(path or run.path / "figures" / "chains.pdf", pages())


def residual_pdf(run: RunDirectory, path: str | Path | None = None, *, progress: bool = True) -> Path:
    """Write a PDF of data, model and residual of every patch at the medians, four exposures on a page.

    Parameters
    ----------
    run : RunDirectory
        Its exposures must be where they were.
    path : path-like, optional
        By default ``figures/residuals.pdf`` in the run.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
    """

    def pages():
        recipe = open_recipe(run)
        for number in Progress(run.patches(), text="residuals", units="patches", shown=progress):
            fitted = fitted_patch(run, number, recipe)
            n_exposure = len(fitted.scene.frame.exposures)
            for first in range(0, n_exposure, _ROWS):
                figure = plot_residuals(
                    fitted.scene,
                    fitted.median(),
                    exposures=range(first, min(first + _ROWS, n_exposure)),
                )
                yield f"patch {number}", figure

    return _write_pdf(path or run.path / "figures" / "residuals.pdf", pages())


def _write_pdf(path, pages) -> Path:
    """Write titled figures as the pages of a file, atomically."""
    from matplotlib.backends.backend_pdf import PdfPages

    with replacing(path) as temporary, PdfPages(temporary) as file:
        for title, figure in pages:
            figure.suptitle(title, fontsize="large")
            file.savefig(figure)
    return Path(path)


def _column_label(catalog, name):
    """Format a column with its unit."""
    unit = "nJy" if name in catalog.bands else {"rhalf": "arcsec", "roi": "arcsec", "pa": "deg"}.get(name)
    return f"{name} [{unit}]" if unit else name


def _middle(catalog):
    """Compute the position in the middle of the sources, which may lie across ra = 0."""
    first = catalog.ra[0], catalog.dec[0]
    offsets = sky_offsets(catalog.ra, catalog.dec, *first)
    return sky_position(*(offsets.min(axis=0) + offsets.max(axis=0)) / 2, *first)
