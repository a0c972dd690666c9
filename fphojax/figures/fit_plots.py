"""Figures of a fit (matplotlib, without its global state): data, model and residual; the profile table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fphojax.inputs.astrometry import local_affine, sky_position
from fphojax.inputs.composites import names_shown
from fphojax.inputs.scene import Scene
from fphojax.mixtures.sersic import FixedRadiiSersic, ScaleFreeSersic
from fphojax.results.summary import degrees_of_freedom
from fphojax.results.tiles import residual_tiles
from fphojax.system.figure_style import styled
from fphojax.system.files import replacing

from .sky_marks import compass, exposure_title, outline, pixel_labels, scale_bar, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "LINEAR_NOISE",
    "Stretch",
    "plot_residuals",
    "plot_sersic_errors",
    "save_figure",
]

_PANEL = 2.6  # inches
_CHI_RANGE = 5.0
LINEAR_NOISE = 3.0  # standard deviations of a pixel
Stretch = Literal["asinh", "log", "linear"]
_GREY = "0.75"


@styled
def plot_residuals(
    scene: Scene,
    values: Mapping,
    *,
    exposures: Sequence[int] | None = None,
    stretch: Stretch = "asinh",
    linear_noise: float = LINEAR_NOISE,
) -> "Figure":
    """Plot data, model and residual of exposures of a patch.

    Parameters
    ----------
    scene : Scene
    values : dict of array
        Parameters of its model.
    exposures : sequence of int, optional
        Which of the patch's exposures; by default all.
    stretch : {"asinh", "log", "linear"}
        Of the brightness, from a little below zero to the brightest pixel of data and model.
    linear_noise : float
        Standard deviations of a pixel up to which the asinh stretch is linear, and where the logarithmic one starts.

    Returns
    -------
    matplotlib.figure.Figure
        One row per exposure: data and model (fixed sources included) in a common stretch, and residual / sigma,
        where sigma is the error of a pixel, with chi2/dof. Unused pixels are grey, active sources are marked; arrows
        show north and east, a bar the scale.
    """
    from matplotlib.figure import Figure

    frame = scene.frame
    residual = residual_tiles(scene, values)
    tiles = {
        "data": np.asarray(frame.patch.data),
        "model": np.asarray(frame.patch.data) - residual,
        "chi": residual * np.asarray(frame.patch.ierr),
    }
    n_pixel = [len(frame.pixels(e)[2]) for e in range(len(frame.exposures))]
    dof = degrees_of_freedom(n_pixel, sum(np.size(v) for v in values.values()))
    positions = sky_position(values["x"], values["y"], frame.region.ra, frame.region.dec)
    exposures = range(len(frame.exposures)) if exposures is None else exposures

    figure = Figure(figsize=(3 * _PANEL + 1.6, (_PANEL + 0.25) * len(exposures)), layout="compressed")
    axes = figure.subplots(len(exposures), 3, squeeze=False)
    for row, e in zip(axes, exposures, strict=True):
        exposure = frame.exposures[e]
        images = {key: frame.image(e, t) for key, t in tiles.items()}
        _plot_exposure(figure, row, exposure, images, stretch, linear_noise)
        centre = local_affine(exposure.wcs, frame.region.ra, frame.region.dec, dec0=frame.region.dec)
        compass(row[0], centre.jacobian[0])
        scale_bar(row[0], exposure.pixel_scale)
        row[0].set_title(f"{shortened(exposure_title(exposure), 28)}: data", fontsize="small")
        row[1].set_title("model", fontsize="small")
        chi2 = np.nansum(images["chi"] ** 2) / dof[e]
        row[2].set_title(rf"residual / $\sigma$, with $\chi^2$/dof = {chi2:.3f}", fontsize="small")
        for column, axis in enumerate(row):
            pixel_labels(axis, x=e == exposures[-1], y=column == 0)
        pixel = local_affine(exposure.wcs, *positions, dec0=frame.region.dec).pixel
        _mark(row, pixel, names_shown(scene.active))
    return figure


@styled
def plot_sersic_errors(table: ScaleFreeSersic | FixedRadiiSersic) -> "Figure":
    """Plot the errors of a profile table's images against Sersic index and width of the PSF.

    Parameters
    ----------
    table : ScaleFreeSersic or FixedRadiiSersic

    Returns
    -------
    matplotlib.figure.Figure
        Relative L2 error of the image of a round galaxy.
    """
    from matplotlib.figure import Figure

    from fphojax.mixtures.sersic_fit import sersic_error_map

    sersic = np.linspace(*table.sersic_range, 76)
    widths = np.geomspace(0.02, 4.0, 60)
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.add_subplot()
    error = 100 * sersic_error_map(table, sersic, widths)
    image = axis.pcolormesh(1 / widths, sersic, error, cmap="viridis", shading="gouraud")
    axis.set_title("error of the images made from the profile table")
    axis.set(xscale="log", xlabel=r"half-light radius / PSF width ($\sigma$)", ylabel="Sersic index")
    figure.colorbar(image, label="relative L2 error of the image [%]")
    return figure


def save_figure(figure: "Figure", path: str | Path, *, dpi: int = 150) -> None:
    """Write a figure atomically, in the format of its suffix.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
    dpi : int
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def _plot_exposure(figure, axes, exposure, images, stretch, linear_noise):
    """Plot three panels of one exposure, cut to the pixels of the patch."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    used = np.isfinite(images["data"])
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    cut = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    extent = (columns[0] - 0.5, columns[-1] + 0.5, rows[0] - 0.5, rows[-1] + 0.5)
    _, ierr = exposure.window(columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
    linear = linear_noise * np.median(1 / ierr[used[cut]])
    top = max(np.nanmax(images["data"]), np.nanmax(images["model"]), 2 * linear)
    brightness, ticks = _brightness_norm(stretch, linear, top)
    chi = Normalize(-_CHI_RANGE, _CHI_RANGE)
    styles = {"data": ("viridis", brightness), "model": ("viridis", brightness), "chi": ("RdBu_r", chi)}
    mappables = {}
    for axis, (key, (colours, norm)) in zip(axes, styles.items(), strict=True):
        colours = colormaps[colours].with_extremes(bad=_GREY)
        mappables[key] = axis.imshow(
            images[key][cut], norm=norm, cmap=colours, extent=extent, origin="lower", interpolation="nearest"
        )
    bar = figure.colorbar(mappables["model"], ax=axes[:2], pad=0.01, ticks=ticks, format="%g")
    bar.minorticks_off()
    bar.set_label("brightness [nJy / pixel]", fontsize="small")
    residual = figure.colorbar(mappables["chi"], ax=axes[2], pad=0.02)
    residual.set_label(r"residual / $\sigma$", fontsize="small")
    for each in (bar, residual):
        each.ax.tick_params(labelsize="x-small")


def _brightness_norm(stretch, linear, top):
    """Return norm and ticks of the brightness."""
    from matplotlib.colors import AsinhNorm, LogNorm, Normalize

    match stretch:
        case "asinh":
            return AsinhNorm(linear_width=linear, vmin=-linear, vmax=top), _ticks(linear, top)
        case "log":
            return LogNorm(vmin=linear, vmax=top, clip=True), None
        case "linear":
            return Normalize(-linear, top), None
        case _:
            raise ValueError(f"stretch is {stretch!r}, expected 'asinh', 'log' or 'linear'")


def _ticks(linear, top):
    """Return ticks at zero and at a few round numbers of the curved part of the stretch."""
    decades = 10.0 ** np.arange(np.floor(np.log10(linear)), np.log10(top) + 1)
    steps = (1, 3) if len(decades) < 5 else (1,)
    ticks = np.sort(np.outer(steps, decades).ravel())
    return [0, *ticks[(ticks > linear) & (ticks <= top)]]


def _mark(axes, pixel, names):
    """Mark the sources with crosses and, in the first panel, names, readable on bright and on dark."""
    effects = outline()
    for axis, colour in zip(axes, ("white", "white", "black"), strict=True):
        limits = axis.get_xlim(), axis.get_ylim()
        axis.plot(
            *pixel.T, "+", color=colour, ms=6, mew=0.9, path_effects=effects if colour == "white" else []
        )
        axis.set(xlim=limits[0], ylim=limits[1])
    for place, name in zip(pixel, names, strict=True):
        axes[0].annotate(
            name,
            place,
            xytext=(4, 4),
            textcoords="offset points",
            color="white",
            fontsize="small",
            path_effects=effects,
            annotation_clip=True,
            clip_on=True,
        )
