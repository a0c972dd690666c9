"""Figures of a whole run, made from its folder, for the notebooks of the stages."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from fphojax.results.fitted_patch import fitted_patch
from fphojax.results.residuals import RunResiduals
from fphojax.results.run_directory import RunDirectory
from fphojax.system.figure_style import COLOURS, styled

from .fit_plots import plot_residuals
from .sky_marks import pixel_labels, shortened

if TYPE_CHECKING:
    from IPython.display import Image
    from matplotlib.figure import Figure

__all__ = ["plot_convergence", "plot_levels", "plot_residual_frames", "show_patch"]

_PANEL = 3.2  # inches
_CHI_RANGE = 5.0
_RHAT = 1.05


@styled
def plot_residual_frames(folder: str | Path) -> "Figure":
    """Plot residuals of the first exposure of every band, over all patches of a run.

    Parameters
    ----------
    folder : path-like
        Of a run that has residual files.

    Returns
    -------
    matplotlib.figure.Figure
        In units of the noise, with the mean of their squares; grey outside patches.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    residuals = RunResiduals(RunDirectory(folder))
    first = list({band: (band, name) for band, name in reversed(residuals.exposures)}.values())[::-1]
    figure = Figure(figsize=(_PANEL * len(first), _PANEL + 0.3), layout="constrained")
    axes = figure.subplots(1, len(first), squeeze=False)[0]
    colours = colormaps["RdBu_r"].with_extremes(bad="0.75")
    for axis, (band, name) in zip(axes, first, strict=True):
        pixels = residuals.read(band, name)
        assert pixels is not None  # it is listed
        x0, y0 = int(pixels.x.min()), int(pixels.y.min())
        chi = np.full((int(pixels.y.max()) - y0 + 1, int(pixels.x.max()) - x0 + 1), np.nan)
        values = pixels.residual * pixels.ierr
        chi[pixels.y - y0, pixels.x - x0] = values
        extent = (x0 - 0.5, x0 + chi.shape[1] - 0.5, y0 - 0.5, y0 + chi.shape[0] - 0.5)
        mappable = axis.imshow(
            chi,
            origin="lower",
            extent=extent,
            cmap=colours,
            vmin=-_CHI_RANGE,
            vmax=_CHI_RANGE,
            interpolation="nearest",
        )
        title = name if band in name else f"{band} {name}"
        axis.set_title(
            f"{shortened(title)}\nmean of (residual / $\\sigma$)² = {np.mean(values**2):.2f}",
            fontsize="small",
        )
        pixel_labels(axis, y=axis is axes[0])
    figure.colorbar(mappable, ax=axes, label=r"residual / $\sigma$", shrink=0.8)
    return figure


@styled
def plot_levels(levels: Table) -> "Figure":
    """Plot the residual sky level of every exposure over its error.

    Parameters
    ----------
    levels : Table
        Of `fphojax.detection.sky_levels.residual_levels`.
    """
    from matplotlib.figure import Figure

    ratio = np.asarray(levels["level"]) / np.asarray(levels["error"])
    bands = list(dict.fromkeys(levels["band"]))
    figure = Figure(figsize=(7, 0.22 * len(levels) + 1), layout="constrained")
    axis = figure.add_subplot()
    axis.set_title("residual sky level of every exposure; shaded: three errors")
    axis.axvspan(-3, 3, color="0.5", alpha=0.2)
    axis.axvline(0, color="0.5", lw=1)
    for row, (band, value) in enumerate(zip(levels["band"], ratio, strict=True)):
        axis.plot(value, row, "o", color=COLOURS[bands.index(band) % len(COLOURS)])
    names = [f"{band} {name}" for band, name in zip(levels["band"], levels["exposure"], strict=True)]
    axis.margins(y=0.5 / max(len(levels), 1))
    axis.set_yticks(range(len(levels)), names, fontsize="x-small")
    axis.invert_yaxis()
    axis.set_xlabel("residual level / its error")
    return figure


@styled
def plot_convergence(path: str | Path) -> "Figure":
    """Plot the convergence of every source, and the signal-to-noise ratio of its flux.

    Parameters
    ----------
    path : path-like
        The final catalogue.
    """
    from matplotlib.figure import Figure

    table = Table.read(path)
    band = str(table.meta["FILTERS"]).split(",")[0]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(table["ess_min"], table["rhat_max"], "o", ms=4)
    left.axhline(_RHAT, color="0.5", ls="--", lw=1)
    left.set(xlim=(0, None), xlabel="smallest effective sample size", ylabel=r"largest $\hat R$")
    left.set_title("convergence of every source")
    right.set_title("signal-to-noise ratio of the fluxes")
    right.set(xscale="log", yscale="log", xlabel=f"flux {band} [nJy]", ylabel="flux / error")
    if f"{band}_err" in table.colnames:
        flux, error = np.asarray(table[band]), np.asarray(table[f"{band}_err"])
        right.plot(flux, flux / error, "o", ms=4)
    else:
        right.set_title("single draws have no errors")
    return figure


def show_patch(run: RunDirectory, patch: int) -> "Image | Figure":
    """Return the figure of a patch's residuals at the optimum for a notebook; those of a sampled run's first exist.

    Parameters
    ----------
    run : RunDirectory
    patch : int
    """
    from IPython.display import Image

    path = Path(run.figure_path(f"patch{patch}_residuals"))
    if path.is_file():
        return Image(path, width=900)
    fitted = fitted_patch(run, patch)
    return plot_residuals(fitted.scene, fitted.optimum())
