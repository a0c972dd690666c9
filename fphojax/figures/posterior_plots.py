"""Figures of a posterior: marginals, traces, ranks, corners (drawn by ArviZ where possible)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from fphojax.errors import InputError
from fphojax.inputs.astrometry import ARCSEC
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.patch_result import POSTERIOR_UNITS, PatchResult
from fphojax.results.summary import true_values
from fphojax.system.figure_style import COLOURS, styled
from fphojax.system.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "mas_per_degree",
    "parameter_draws",
    "parameter_label",
    "plot_corner",
    "plot_posterior",
    "plot_ranks",
    "plot_traces",
]

_LEVELS = (0.39, 0.86)  # of the draws: one and two standard deviations of a Gaussian in two dimensions
_WIDTH = 10.0  # inches
_TRUTH = {"lw": 1, "ls": "--"}


def parameter_draws(
    result: PatchResult,
    sources: Sequence | None = None,
    parameters: Sequence[str] | None = None,
    truth: SourceCatalog | None = None,
) -> xr.Dataset:
    """Return draws as one scalar variable per parameter, named as on the axes of figures.

    Parameters
    ----------
    result : PatchResult
    sources : sequence, optional
        Ids; by default all active sources.
    parameters : sequence of str, optional
        Bands, for fluxes in them, "flux" for all of them, or other parameters; by default all.
    truth : SourceCatalog, optional
        True parameters of sources with the same ``id``.

    Returns
    -------
    xarray.Dataset
        Dimensions chain and draw. Positions are in milliarcseconds from the median of the draws. The attributes
        of a variable are ``lower`` and ``upper``, the box of the bounds, ``parameter``, and ``truth`` if given.

    Raises
    ------
    InputError
        An unknown source or parameter.
    """
    ids = result.active.id.tolist()
    sources = ids if sources is None else list(sources)
    if missing := [str(source) for source in sources if source not in ids]:
        raise InputError(f"found no source {', '.join(missing)}, expected some of {', '.join(map(str, ids))}")
    true = None if truth is None else true_values(result, truth)
    draws, variables = result.centred_draws, {}
    for source in sources:
        row = ids.index(source)
        for name, band in _cells(result, parameters):
            place = {"source": row} if band is None else {"source": row, "band": result.bands.index(band)}
            sample, at = draws[name].isel(place, drop=True).transpose("chain", "draw"), tuple(place.values())
            limits = [float(side[at]) for side in _box(result, name)]
            limits += [] if true is None else [float(true[name][at])]
            if name in ("ra", "dec"):
                centre = float(sample.median())
                scale = mas_per_degree(result, name)
                sample, limits = (sample - centre) * scale, [(v - centre) * scale for v in limits]
            label = (
                parameter_label(name, band)
                if len(sources) == 1
                else f"{source}: {parameter_label(name, band)}"
            )
            attributes = dict(zip(("lower", "upper", "truth"), limits, strict=False))
            variables[label] = sample.assign_attrs(attributes, parameter=name)
    return xr.Dataset(variables)


@styled
def plot_posterior(
    result: PatchResult, truth: SourceCatalog | None = None, *, sources: Sequence | None = None
) -> "Figure":
    """Plot the marginal posterior of every parameter of active sources.

    Parameters
    ----------
    result : PatchResult
    truth : SourceCatalog, optional
        True parameters of sources with the same ``id``.
    sources : sequence, optional
        Ids; by default all active sources.

    Returns
    -------
    matplotlib.figure.Figure
        One row per source. Median as a line, central 68 % shaded, truth dashed. Positions are relative to the
        median.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    sources = result.active.id.tolist() if sources is None else list(sources)
    cells = _cells(result, None)
    figure = Figure(figsize=(1.75 * len(cells), 1.6 * len(sources) + 0.8))
    width, height = figure.get_size_inches()  # a computed layout would take longer than the drawing
    figure.subplots_adjust(
        left=0.35 / width,
        right=1 - 0.15 / width,
        bottom=0.3 / height,
        top=1 - 0.65 / height,
        wspace=0.12,
        hspace=0.3,
    )
    known = ", truth (dashed)" if truth is not None else ""
    figure.suptitle(f"marginal posteriors: median (line), central 68 % (shaded){known}", fontsize="medium")
    axes = figure.subplots(len(sources), len(cells), squeeze=False)
    for i, (row, source) in enumerate(zip(axes, sources, strict=True)):
        draws = parameter_draws(result, [source], truth=truth)
        for axis, (label, sample) in zip(row, draws.items(), strict=True):
            _marginal(axis, sample.to_numpy().ravel(), sample.attrs.get("truth"))
            axis.xaxis.set_major_locator(MaxNLocator(3))
            if i == 0:
                axis.set_title(label, fontsize="medium")
        row[0].set_ylabel(f"source {source}")
    return figure


@styled
def plot_traces(
    result: PatchResult, sources: Sequence | None = None, parameters: Sequence[str] | None = None
) -> "Figure":
    """Plot densities and traces of the chains, each in its own colour.

    Parameters
    ----------
    result : PatchResult
    sources, parameters : sequence, optional
        As in `parameter_draws`.

    Returns
    -------
    matplotlib.figure.Figure
        One row per parameter that varies; divergences are marked below the traces.
    """
    from arviz_plots import plot_trace_dist

    draws = parameter_draws(result, sources, parameters)
    varying = [label for label, sample in draws.items() if float(sample.min()) < float(sample.max())]
    draws = draws[varying] if varying else draws  # what is held has no density
    with _unlimited_panels():
        collection = plot_trace_dist(
            _tree(draws, result),
            compact=False,
            kind="kde",
            visuals={"trace": {"width": 0.6, "alpha": 0.7}, "dist": {"width": 1.0}},
            **_size(1.0 * len(draws) + 0.9),
        )
    figure = _figure(collection)
    for axis in figure.axes[1::2]:  # the densities beside them carry the names
        axis.set_ylabel("")
        if axis is not figure.axes[-1]:
            axis.set(xlabel="", xticklabels=[])
    _entitle(figure, result, sources, "densities and traces of the chains")
    return figure


@styled
def plot_ranks(
    result: PatchResult, sources: Sequence | None = None, parameters: Sequence[str] | None = None
) -> "Figure":
    """Plot ranks of each chain's draws among all draws, less the expectation for equal chains.

    Parameters
    ----------
    result : PatchResult
    sources, parameters : sequence, optional
        As in `parameter_draws`.

    Returns
    -------
    matplotlib.figure.Figure
        One line per chain; a line that leaves the grey band indicates chains that differ (Saeilynoja et al. 2022).
    """
    from arviz_plots import plot_rank

    draws = parameter_draws(result, sources, parameters)
    columns = min(len(draws), 4)
    with _unlimited_panels():
        collection = plot_rank(
            _tree(draws, result),
            method="envelope",
            col_wrap=columns,
            visuals={"ecdf_lines": {"width": 1.0}, "title": {"size": 10}},
            **_size(1.7 * -(-len(draws) // columns) + 0.6, width=2.5 * columns),
        )
    figure = _figure(collection)
    _entitle(figure, result, sources, "ranks of the chains, less what equal chains have")
    return figure


@styled
def plot_corner(
    result: PatchResult,
    sources: Sequence | None = None,
    parameters: Sequence[str] | None = None,
    *,
    truth: SourceCatalog | None = None,
    priors: Mapping | None = None,
) -> "Figure":
    """Plot draws of some parameters against each other, with truth and prior.

    Parameters
    ----------
    result : PatchResult
    sources, parameters : sequence, optional
        As in `parameter_draws`.
    truth : SourceCatalog, optional
        True parameters of sources with the same ``id``; shown dashed.
    priors : mapping of str to numpyro Distribution, optional
        Priors that replace the uniform one in the bounds, as in `Patcher.prepare_model`; not for positions.

    Returns
    -------
    matplotlib.figure.Figure
        Contours contain 39 % and 86 % of the draws, divergent ones are marked; densities of the priors are grey, and
        the region outside the bounds is hatched.
    """
    from arviz_plots import plot_pair
    from matplotlib import rcParams
    from matplotlib.ticker import MaxNLocator

    draws = parameter_draws(result, sources, parameters, truth)
    side = float(np.clip(1.7 * len(draws), 4.5, 18))
    with _unlimited_panels():
        matrix = plot_pair(
            _tree(draws, result),
            levels=list(_LEVELS),
            marginal_kind="kde",
            visuals={
                "scatter": {"size": 3, "alpha": 0.25},
                "contour": {"linewidths": 0.8, "color": rcParams["text.color"]},
                "divergence": {"color": COLOURS[1], "size": 12},
                "dist": {"color": COLOURS[0]},
            },
            **_size(side, width=side, layout=None),  # a layout would reserve room for labels in each panel
        )
    panels = matrix.viz["plot"].to_numpy()
    for column, (label, sample) in enumerate(draws.items()):
        low, high = _view(sample)
        for row in range(column, len(draws)):
            axis = panels[row, column]
            axis.set_xlim(low, high)
            if row > column:
                axis.set_ylim(*_view(list(draws.values())[row]))
            _limits(axis, sample, list(draws.values())[row] if row > column else None)
            axis.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
            axis.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
            axis.tick_params(labelsize="small", labelleft=column == 0, labelbottom=row == len(draws) - 1)
        diagonal = panels[column, column]
        _prior(diagonal, sample, priors or {})
        diagonal.set(yticks=[], ylabel="")
        diagonal.set_title(f"{label}\n{_median_label(sample.to_numpy())}", fontsize="small")
    figure = _figure(matrix)
    _entitle(figure, result, sources, "draws with 39 % and 86 % contours")
    edge = 0.75 / side
    figure.subplots_adjust(edge, edge, 1 - 0.1 / side, 1 - 0.85 / side, wspace=0.06, hspace=0.06)
    return figure


def _cells(result, parameters):
    """Return pairs of parameter and band; the band is None except for fluxes."""
    cells = [("flux", band) for band in result.bands]
    cells += [(name, None) for name in POSTERIOR_UNITS if name != "flux"]
    if parameters is None:
        return cells
    requested = set(parameters)
    names = {"flux", *(band or name for name, band in cells)}
    if requested - names:
        raise InputError(
            f"found no parameter {', '.join(sorted(requested - names))}, expected some of {', '.join(sorted(names))}"
        )
    return [(name, band) for name, band in cells if name in requested or band in requested]


def parameter_label(name: str, band: str | None = None) -> str:
    """Format a parameter, a flux by its band, with its unit."""
    if name in ("ra", "dec"):
        return rf"$\Delta$ {name} [mas]"
    unit = f" [{POSTERIOR_UNITS[name]}]" if POSTERIOR_UNITS[name] else ""
    return (band or name) + unit


def mas_per_degree(result: PatchResult, name: str) -> float:
    """Return the factor from degrees of ra or dec to milliarcseconds on the sky of a patch."""
    return 1e3 * ARCSEC * (np.cos(np.deg2rad(result.region.dec)) if name == "ra" else 1.0)


def _box(result, name):
    """Return lower and upper bounds of a parameter, in the units of the posterior."""
    lower, upper = result.bounds.lower, result.bounds.upper
    if name == "ra":
        step = ARCSEC * np.cos(np.deg2rad(result.region.dec))
        ra = result.active.ra - 360 * np.round((result.active.ra - result.region.ra) / 360)
        return [ra + side["x"] / step for side in (lower, upper)]
    if name == "dec":
        return [result.active.dec + side["y"] / ARCSEC for side in (lower, upper)]
    if name == "pa":  # the draws were moved by half turns; move the box with them
        turns = 180 * np.round(
            (result.centred_draws["pa"] - result.draws["pa"]).median(("chain", "draw")) / 180
        )
        return [side["pa"] + turns.to_numpy() for side in (lower, upper)]
    return [side[name] for side in (lower, upper)]


def _tree(draws, result):
    """Make the data tree that ArviZ takes."""
    statistics = result.posterior["sample_stats"].dataset
    return xr.DataTree.from_dict({"posterior": draws, "sample_stats": statistics})


def _size(height, *, width=_WIDTH, layout="constrained"):
    return {"figure_kwargs": {"figsize": (width, height), "figsize_units": "inches", "layout": layout}}


def _unlimited_panels():
    """Lift ArviZ's limit of 40 panels per figure, since the panels were asked for by name."""
    from arviz_base import rc_context

    return rc_context({"plot.max_subplots": None})


def _figure(collection):
    """Return the figure that ArviZ made, and remove it from pyplot, which would keep it."""
    from matplotlib import pyplot

    figure = collection.viz["figure"].item()
    pyplot.close(figure)
    return figure


def _marginal(axis, sample, truth):
    """Draw a histogram of draws with median, central 68 % and truth."""
    from matplotlib import rcParams

    low, median, high = np.quantile(sample, (0.16, 0.5, 0.84))
    axis.hist(sample, bins=30, histtype="stepfilled", color=COLOURS[0], alpha=0.35)
    axis.axvspan(low, high, color=COLOURS[0], alpha=0.15, lw=0)
    axis.axvline(median, color=COLOURS[0], lw=1)
    if truth is not None:
        axis.axvline(truth, color=rcParams["text.color"], **_TRUTH)
    axis.set_yticks([])
    axis.tick_params(labelsize="x-small")


def _view(sample):
    """Compute the range of an axis: all draws, and the truth if it is near."""
    values = sample.to_numpy().ravel()
    width = np.ptp(values) or 1.0
    truth = sample.attrs.get("truth", values[0])
    ends = [truth] if np.abs(truth - np.median(values)) < width else []
    return min(values.min(), *ends, np.inf) - 0.05 * width, max(values.max(), *ends, -np.inf) + 0.05 * width


def _entitle(figure, result, sources, text):
    """Say above the panels what they show, and of which sources."""
    ids = result.active.id.tolist() if sources is None else list(sources)
    whose = f"{'source' if len(ids) == 1 else 'sources'} {', '.join(map(str, ids))}"
    figure.suptitle(f"{whose if len(ids) <= 6 else counted(len(ids), 'source')}: {text}", fontsize="medium")


def _limits(axis, across, up):
    """Draw the truth, and hatch what the bounds exclude, on both axes (`up` is None on the diagonal)."""
    from matplotlib import rcParams

    for sample, line, span, view in (
        (across, axis.axvline, axis.axvspan, axis.get_xlim()),
        (up, axis.axhline, axis.axhspan, axis.get_ylim()),
    ):
        if sample is None:
            continue
        if "truth" in sample.attrs:
            line(sample.attrs["truth"], color=rcParams["text.color"], **_TRUTH)
        outside = ((view[0], sample.attrs["lower"]), (sample.attrs["upper"], view[1]))
        for low, high in outside:
            if low < high:
                span(low, high, facecolor="0.5", edgecolor="0.7", alpha=0.2, hatch="///", lw=0, zorder=0)


def _prior(axis, sample, priors):
    """Draw the density of the prior of a parameter."""
    name, low, high = (sample.attrs[key] for key in ("parameter", "lower", "upper"))
    grid = np.linspace(*axis.get_xlim(), 400)
    if name in priors and name not in ("ra", "dec"):
        inside = np.asarray(priors[name].support(grid))
        density = np.where(inside, np.exp(np.asarray(priors[name].log_prob(grid))), 0.0)
    else:
        density = np.where((grid >= low) & (grid <= high), 1 / (high - low), 0.0)
    axis.fill_between(grid, density, color="0.5", alpha=0.3, lw=0, zorder=0)
    axis.set_ylim(bottom=0)


def _median_label(values):
    """Format the median and the distances to the limits of the central 68 %."""
    low, median, high = np.quantile(values, (0.16, 0.5, 0.84))
    width = high - low
    digits = int(np.clip(1 - np.floor(np.log10(width)), 0, 9)) if width > 0 else 3
    return rf"${median:z.{digits}f}^{{+{high - median:.{digits}f}}}_{{-{median - low:.{digits}f}}}$"
