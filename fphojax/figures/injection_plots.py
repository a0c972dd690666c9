"""Figures of artificial sources: pulls of their fluxes, and the fraction that is found."""

from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table
from scipy.stats import norm

from fphojax.system.figure_style import COLOURS, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_completeness", "plot_pulls"]

_LIMIT = 5.0  # pulls beyond are drawn at this edge
_BINS = 25
_WORDS = {"known": "known shape", "free": "free fit"}


@styled
def plot_pulls(sources: Table) -> "Figure":
    """Plot flux pulls of artificial sources, a row of panels for each mode.

    Parameters
    ----------
    sources : Table
        See `fphojax.simulate.injection_study.InjectionStudy`.

    Returns
    -------
    matplotlib.figure.Figure
        Left: histograms with the errors of the images alone and with the noise model, and what right errors give;
        right: pulls against the signal-to-noise ratio, by place.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    modes = list(dict.fromkeys(np.asarray(sources["mode"]).tolist()))
    places = list(dict.fromkeys(np.asarray(sources["place"]).tolist()))
    figure = Figure(figsize=(9, 3.1 * len(modes)), layout="constrained")
    for row, mode in zip(figure.subplots(len(modes), 2, squeeze=False), modes, strict=True):
        mine = sources[np.asarray(sources["mode"]) == mode]
        difference = np.asarray(mine["flux"]) - np.asarray(mine["truth"])
        bins = np.linspace(-_LIMIT, _LIMIT, _BINS + 1)
        for colour, (name, words) in zip(
            (COLOURS[1], COLOURS[0]),
            (("err_alone", "errors of the images"), ("err", "noise model")),
            strict=True,
        ):
            pull = np.clip(difference / np.asarray(mine[name]), -_LIMIT, _LIMIT)
            label = f"{words}: sd {np.std(difference / np.asarray(mine[name])):.2f}"
            row[0].hist(pull, bins=bins, histtype="step", lw=1.6, color=colour, label=label)
        grid = np.linspace(-_LIMIT, _LIMIT, 200)
        row[0].plot(
            grid, norm.pdf(grid) * len(mine) * (bins[1] - bins[0]), color="0.5", lw=1, label="right errors"
        )
        row[0].set(xlabel="(flux - truth) / error", ylabel="fluxes", title=_WORDS.get(mode, mode))
        row[0].set_ylim(0, 1.4 * row[0].get_ylim()[1])  # room for the legend
        row[0].legend(fontsize="x-small", loc="upper left")
        for number, place in enumerate(places):
            here = np.asarray(mine["place"]) == place
            pull = np.clip(difference[here] / np.asarray(mine["err"])[here], -_LIMIT, _LIMIT)
            snr = np.asarray(mine["snr"])[here]
            row[1].plot(snr, pull, "o", ms=3, alpha=0.7, color=COLOURS[number], label=f"{place} places")
        row[1].axhspan(-1, 1, color="0.5", alpha=0.2, lw=0)
        row[1].axhline(0, color="0.5", lw=0.8)
        if (np.asarray(mine["snr"]) > 0).all():
            row[1].set_xscale("log")
            row[1].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            row[1].xaxis.set_major_formatter("{x:g}")
            row[1].xaxis.set_minor_formatter(NullFormatter())
        row[1].set(xlabel="signal-to-noise ratio", ylabel="(flux - truth) / error", ylim=(-_LIMIT, _LIMIT))
        row[1].legend(fontsize="x-small", loc="upper left", ncols=len(places))
    return figure


@styled
def plot_completeness(completeness: Table) -> "Figure":
    """Plot the fraction of artificial sources that were found.

    Parameters
    ----------
    completeness : Table
        See `fphojax.simulate.injection_tables.completeness_table`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    places = np.asarray(completeness["place"]) if len(completeness) else np.zeros(0, str)
    for number, place in enumerate(dict.fromkeys(places.tolist())):
        mine = completeness[places == place]
        middle = np.sqrt(np.asarray(mine["snr_low"]) * np.asarray(mine["snr_high"]))
        axis.errorbar(
            middle,
            mine["found"],
            mine["found_err"],
            fmt="o-",
            ms=4,
            color=COLOURS[number],
            label=f"{place} places",
        )
    axis.set(xscale="log", xlabel="signal-to-noise ratio", ylabel="fraction found", ylim=(-0.05, 1.05))
    if len(places):
        axis.legend(fontsize="small")
    return figure
