"""Figures that compare the same parameters from several fits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import POSTERIOR_UNITS, PatchResult
from fphojax.results.summary import true_values
from fphojax.system.figure_style import COLOURS, styled

from .posterior_plots import mas_per_degree, parameter_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_intervals", "plot_joint"]

_QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)


@styled
def plot_intervals(
    results: Mapping[str, PatchResult],
    truth: SourceCatalog | None = None,
    *,
    parameters: Sequence[str] = tuple(POSTERIOR_UNITS),
) -> "Figure":
    """Plot median, 68 % and 95 % interval of every parameter of every source, from several fits.

    Parameters
    ----------
    results : mapping of str to PatchResult
        By the label that each has in the figure.
    truth : SourceCatalog, optional
    parameters : sequence of str
        Some of flux, ra, dec, q, pa, sersic, rhalf.

    Returns
    -------
    matplotlib.figure.Figure
        One row per source, one panel per parameter (and band). Thick bars are 68 %, thin ones 95 %, the dashed line
        is the truth. Positions are offsets in milliarcsec from the truth, else from the first result's median.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    first = next(iter(results.values()))
    bands = list(dict.fromkeys(band for result in results.values() for band in result.bands))
    cells = [(name, band) for name in parameters for band in (bands if name == "flux" else [None])]
    rows = len(first.active)
    figure = Figure(
        figsize=(1.9 * len(cells) + 1.2, (0.3 * len(results) + 0.9) * rows + 0.3), layout="constrained"
    )
    known = ", truth (dashed)" if truth is not None else ""
    figure.suptitle(f"median, 68 % (thick) and 95 % (thin) intervals{known}", fontsize="medium")
    axes = figure.subplots(rows, len(cells), squeeze=False, sharey=True)
    for s, identifier in enumerate(first.active.id):
        for axis, (name, band) in zip(axes[s], cells, strict=True):
            origin = None
            for y, result in enumerate(results.values()):
                if band is not None and band not in result.bands:
                    continue
                draws, true = _samples(result, truth, s, name, band)
                if name in ("ra", "dec"):
                    origin = true if true is not None else np.median(draws) if origin is None else origin
                    scale = mas_per_degree(result, name)
                    draws, true = (draws - origin) * scale, None if true is None else 0.0
                low2, low, middle, high, high2 = np.quantile(draws, _QUANTILES)
                axis.plot([low2, high2], [y, y], color=COLOURS[y % len(COLOURS)], lw=1)
                axis.plot([low, high], [y, y], color=COLOURS[y % len(COLOURS)], lw=4, solid_capstyle="butt")
                axis.plot(
                    middle, y, "o", color=rcParams["axes.facecolor"], mec=COLOURS[y % len(COLOURS)], ms=4
                )
                if true is not None:
                    axis.axvline(true, color=rcParams["text.color"], lw=1, ls="--", zorder=0)
            axis.xaxis.set_major_locator(MaxNLocator(3))
            axis.tick_params(labelsize="x-small")
            if s == 0:
                axis.set_title(_title(name, band), fontsize="small")
        axes[s, 0].set_yticks(range(len(results)), list(results))
        axes[s, 0].set_ylim(len(results) - 0.5, -0.5)
        axes[s, 0].set_ylabel(f"source {identifier}", fontsize="small")
    return figure


@styled
def plot_joint(
    results: Mapping[str, PatchResult],
    pairs: Sequence[tuple[tuple, tuple]],
    truth: SourceCatalog | None = None,
) -> "Figure":
    """Plot draws of two parameters against each other.

    Parameters
    ----------
    results : mapping of str to PatchResult
        By the label that each has in the legend.
    pairs : sequence of ((source, parameter, band), (source, parameter, band))
        What to draw along x and along y; sources by their id, the band only of fluxes.
    truth : SourceCatalog, optional

    Returns
    -------
    matplotlib.figure.Figure
        One panel per pair, with the correlation coefficient of each result; the cross is the truth.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.3 * len(pairs), 3.3), layout="constrained")
    for axis, pair in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        correlations = []
        for number, (label, result) in enumerate(results.items()):
            row = {identifier: s for s, identifier in enumerate(result.active.id.tolist())}
            (x, true_x), (y, true_y) = (
                _samples(result, truth, row[source], name, *band) for source, name, *band in pair
            )
            axis.plot(x, y, ".", color=COLOURS[number % len(COLOURS)], ms=2, alpha=0.5, label=label)
            correlations.append(f"{np.corrcoef(x, y)[0, 1]:+.2f}")
            if true_x is not None:
                axis.plot(true_x, true_y, "+", color=rcParams["text.color"], ms=12, mew=1.5)
        axis.set_title("draws, correlation " + ", ".join(correlations), fontsize="small")
        for set_label, (source, name, *band) in zip((axis.set_xlabel, axis.set_ylabel), pair, strict=True):
            set_label(f"source {source}: {_title(name, *band)}", fontsize="small")
        axis.tick_params(labelsize="x-small")
        axis.locator_params(nbins=5)
    if len(results) > 1:
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, markerscale=5)
    return figure


def _title(name, band=None):
    return f"{'flux ' if band else ''}{parameter_label(name, band)}"


def _samples(result, truth, source, name, band=None):
    """Return all draws of a parameter, and its true value."""
    at = {"source": source} if band is None else {"source": source, "band": result.bands.index(band)}
    draws = result.centred_draws[name].isel(at).to_numpy().ravel()
    true = None if truth is None else float(true_values(result, truth)[name][tuple(at.values())])
    return draws, true
