"""Figures of a fit (matplotlib, without its global state)."""

import numpy as np

from ..core.model import SceneModel
from ..inputs.astrometry import local_affine, sky_position
from ..inputs.catalog import SourceCatalog
from ..inputs.files import replacing
from ..inputs.patcher import PatchFrame
from .residuals import residual_tiles
from .results import POSTERIOR_UNITS, PatchResult
from .summary import degrees_of_freedom, true_values

__all__ = ["plot_posterior", "plot_residuals", "plot_sersic_errors", "save_figure"]

_PANEL = 2.6  # inches
_CHI_RANGE = 5.0
_LINEAR_NOISE = 3.0  # the stretch is linear up to so many standard deviations of a pixel
_GREY = "0.75"
_MILLIARCSEC = 3.6e6  # per degree


def plot_residuals(frame: PatchFrame, model: SceneModel, values, *, ids=None):
    """Data, model and residual of every exposure of a patch.

    Parameters
    ----------
    frame : PatchFrame
    model : SceneModel
    values : dict of array
        Parameters of the model.
    ids : sequence, optional
        Names of the active sources; by default their row numbers.

    Returns
    -------
    matplotlib.figure.Figure
        One row per exposure: data and model (fixed sources included) in a common asinh stretch, and
        chi = residual / error with chi2/dof. Unused pixels are grey, active sources are marked; arrows show
        north and east, an eighth of the region's diameter long.
    """
    from matplotlib.figure import Figure

    residual = residual_tiles(model, values)
    tiles = {
        "data": np.asarray(frame.patch.data),
        "model": np.asarray(frame.patch.data) - residual,
        "chi": residual * np.asarray(frame.patch.ierr),
    }
    images = [{key: frame.image(e, t) for key, t in tiles.items()} for e in range(len(frame.exposures))]
    n_pixel = np.array([np.isfinite(image["chi"]).sum() for image in images])
    dof = degrees_of_freedom(n_pixel, sum(np.size(v) for v in values.values()))
    positions = sky_position(values["x"], values["y"], frame.region.ra, frame.region.dec)
    ids = range(len(positions[0])) if ids is None else ids

    rows = len(images)
    figure = Figure(figsize=(3 * _PANEL + 1.6, (_PANEL + 0.25) * rows), layout="compressed")
    axes = figure.subplots(rows, 3, squeeze=False)
    for e, exposure in enumerate(frame.exposures):
        _plot_exposure(figure, axes[e], exposure, images[e], frame.region)
        axes[e, 0].set_title(
            exposure.name if exposure.band in exposure.name else f"{exposure.band} {exposure.name}"
        )
        axes[e, 1].set_title("model")
        axes[e, 2].set_title(f"$\\chi^2$/dof = {np.nansum(images[e]['chi'] ** 2) / dof[e]:.3f}")
        pixel = local_affine(exposure.wcs, *positions, dec0=frame.region.dec).pixel
        _mark(axes[e], pixel, ids)
    return figure


def plot_posterior(result: PatchResult, truth: SourceCatalog | None = None):
    """Marginal posterior of every parameter of every active source.

    Parameters
    ----------
    result : PatchResult
    truth : SourceCatalog, optional
        True parameters of sources with the same ``id``.

    Returns
    -------
    matplotlib.figure.Figure
        One row per source. Median as a line, central 68 % shaded, truth dashed. Positions are relative to the
        median.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    draws = result.centred_draws
    true = None if truth is None else true_values(result, truth)
    cells = [("flux", band) for band in result.bands]
    cells += [(name, None) for name in POSTERIOR_UNITS if name != "flux"]
    rows = len(result.active)
    figure = Figure(figsize=(1.75 * len(cells), 1.6 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, len(cells), squeeze=False)
    for s, identifier in enumerate(result.active.id):
        for axis, (name, band) in zip(axes[s], cells, strict=True):
            at = {"source": s} if band is None else {"source": s, "band": result.bands.index(band)}
            sample = draws[name].isel(at).to_numpy().ravel()
            value = None if true is None else float(true[name][tuple(at.values())])
            if name in ("ra", "dec"):
                east = np.cos(np.deg2rad(result.region.dec)) if name == "ra" else 1.0
                centre = np.median(sample)
                sample = (sample - centre) * east * _MILLIARCSEC
                value = None if value is None else (value - centre) * east * _MILLIARCSEC
            _marginal(axis, sample, value)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            if s == 0:
                axis.set_title(_title(name, band), fontsize="medium")
        axes[s, 0].set_ylabel(f"source {identifier}")
    return figure


def plot_sersic_errors(table):
    """Errors of a profile table's images, over Sersic index and width of the PSF.

    Parameters
    ----------
    table : ScaleFreeSersic or FixedRadiiSersic

    Returns
    -------
    matplotlib.figure.Figure
        Relative L2 error of the image of a round galaxy.
    """
    from matplotlib.figure import Figure

    from ..mixtures.sersic_fit import sersic_error_map

    sersic = np.linspace(*table.sersic_range, 76)
    widths = np.geomspace(0.02, 4.0, 60)
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axis = figure.add_subplot()
    error = 100 * sersic_error_map(table, sersic, widths)
    image = axis.pcolormesh(1 / widths, sersic, error, cmap="viridis", shading="gouraud")
    axis.set(xscale="log", xlabel="half-light radius / PSF width (sigma)", ylabel="Sersic index")
    figure.colorbar(image, label="relative L2 error of the image [%]")
    return figure


def save_figure(figure, path, *, dpi: int = 150) -> None:
    """Write a figure, at once or not at all; its format is that of the suffix.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    path : path-like
    dpi : int
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


def _plot_exposure(figure, axes, exposure, images, region):
    """Three panels of one exposure, cut to the pixels of the patch."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm, Normalize

    used = np.isfinite(images["data"])
    rows, columns = np.flatnonzero(used.any(axis=1)), np.flatnonzero(used.any(axis=0))
    cut = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    extent = (columns[0] - 0.5, columns[-1] + 0.5, rows[0] - 0.5, rows[-1] + 0.5)
    _, ierr = exposure.window(columns[0], columns[-1] + 1, rows[0], rows[-1] + 1)
    noise = np.median(1 / ierr[used[cut]])
    linear = _LINEAR_NOISE * noise
    top = max(np.nanmax(images["data"]), np.nanmax(images["model"]), 2 * linear)
    stretch = AsinhNorm(linear_width=linear, vmin=-linear, vmax=top)
    chi = Normalize(-_CHI_RANGE, _CHI_RANGE)
    styles = {"data": ("viridis", stretch), "model": ("viridis", stretch), "chi": ("RdBu_r", chi)}
    drawn = {}
    for axis, (key, (colours, norm)) in zip(axes, styles.items(), strict=True):
        colours = colormaps[colours].with_extremes(bad=_GREY)
        drawn[key] = axis.imshow(
            images[key][cut], norm=norm, cmap=colours, extent=extent, origin="lower", interpolation="nearest"
        )
        axis.tick_params(labelsize="x-small")
    brightness = figure.colorbar(
        drawn["model"], ax=axes[:2], pad=0.01, ticks=_ticks(linear, top), format="%g"
    )
    brightness.minorticks_off()
    brightness.set_label("nJy / pixel", fontsize="small")
    residual = figure.colorbar(drawn["chi"], ax=axes[2], pad=0.02)
    residual.set_label(r"$\chi$", fontsize="small")
    for bar in (brightness, residual):
        bar.ax.tick_params(labelsize="x-small")
    _compass(axes[0], exposure, region)


def _ticks(linear, top):
    """Zero and a few round numbers of the curved part of the stretch."""
    decades = 10.0 ** np.arange(np.floor(np.log10(linear)), np.log10(top) + 1)
    steps = (1, 3) if len(decades) < 5 else (1,)
    ticks = np.sort(np.outer(steps, decades).ravel())
    return [0, *ticks[(ticks > linear) & (ticks <= top)]]


def _compass(axis, exposure, region):
    """Arrows to north and east in a corner of the panel."""
    jacobian = local_affine(exposure.wcs, region.ra, region.dec, dec0=region.dec).jacobian[0]
    left, right = axis.get_xlim()
    low, high = axis.get_ylim()
    length = 0.11 * min(right - left, high - low)
    origin = np.array([left + 0.2 * (right - left), low + 0.2 * (high - low)])
    for direction, label in zip(jacobian.T, ("E", "N"), strict=True):
        arrow = length * direction / np.linalg.norm(direction)
        axis.annotate("", origin + arrow, origin, arrowprops={"arrowstyle": "->", "color": "white", "lw": 1})
        axis.text(
            *(origin + 1.35 * arrow), label, color="white", fontsize="x-small", ha="center", va="center"
        )


def _mark(axes, pixel, ids):
    """Crosses at the sources, with their names in the first panel."""
    for axis, colour in zip(axes, ("red", "red", "black"), strict=True):
        limits = axis.get_xlim(), axis.get_ylim()
        axis.plot(*pixel.T, "+", color=colour, ms=6, mew=0.8)
        axis.set(xlim=limits[0], ylim=limits[1])
    for (x, y), name in zip(pixel, ids, strict=True):
        axes[0].annotate(
            str(name),
            (x, y),
            xytext=(4, 4),
            textcoords="offset points",
            color="red",
            fontsize="small",
            annotation_clip=True,
            clip_on=True,
        )


def _marginal(axis, sample, truth):
    """Histogram of draws with median, central 68 % and truth."""
    low, median, high = np.quantile(sample, (0.16, 0.5, 0.84))
    axis.hist(sample, bins=30, histtype="stepfilled", color="C0", alpha=0.35)
    axis.axvspan(low, high, color="C0", alpha=0.15, lw=0)
    axis.axvline(median, color="C0", lw=1)
    if truth is not None:
        axis.axvline(truth, color="black", lw=1, ls="--")
    axis.set_yticks([])
    axis.tick_params(labelsize="x-small")


def _title(name, band):
    if name in ("ra", "dec"):
        return rf"$\Delta$ {name} [mas]"
    unit = f" [{POSTERIOR_UNITS[name]}]" if POSTERIOR_UNITS[name] else ""
    return (band or name) + unit
