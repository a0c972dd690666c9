"""Report of a run: one self-contained HTML page with tables and figures."""

import html
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from fphojax import __version__
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFStore
from fphojax.results.fitted_patch import fitted_patch, open_recipe
from fphojax.results.parameter_table import parameter_table
from fphojax.results.products.catalog_columns import FLAGS
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.psf_words import psf_words
from fphojax.results.run_directory import RunDirectory
from fphojax.results.summary import exposure_table
from fphojax.results.table_text import html_table
from fphojax.system.files import write_text
from fphojax.system.progress import Progress
from fphojax.system.wording import counted

from .fit_plots import plot_residuals
from .image_plots import plot_composites, plot_posterior_on_image
from .posterior_plots import plot_posterior, plot_traces
from .report_parts import STYLE, figure_element, settings_element
from .report_sources import misfit, sources_element

__all__ = ["write_report"]

_EXPOSURES = 8  # in the panels of a patch
_SOURCES = 8  # in the marginals of a patch


def write_report(
    run: RunDirectory | str | Path,
    path: str | Path | None = None,
    *,
    n_patch: int = 3,
    defaults: Mapping | None = None,
    progress: bool = False,
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    run : RunDirectory or path-like
    path : path-like, optional
        By default ``report.html`` in the run.
    n_patch : int
        Number of patches shown in detail, those of the sources of the worst residuals first.
    defaults : mapping, optional
        Defaults of the settings: only those of the run that differ are shown at once.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        The run has no result of a patch.
    """
    run = RunDirectory.of(run)
    draws, table = RunDraws(run), final_catalog(run, progress=progress)
    title = f"Results of {run.path.resolve()}"
    written = f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}, fphojax {__version__}"
    parts = [f"<h1>{html.escape(title)}</h1><p class='note'>{html.escape(written)}</p>"]
    parts += [_overview(run, draws, table), sources_element(run, draws, table)]
    worst = np.argsort(-np.nan_to_num(misfit(table), nan=-np.inf), kind="stable")
    numbers = list(dict.fromkeys(int(number) for number in table["patch_id"][worst]))[:n_patch]
    parts += _patches(run, numbers, progress)
    parts.append(f"<h2>Settings</h2>{settings_element(_stated(run.read_config()), defaults)}")
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
    path = Path(path or run.path / "report.html")
    body = "\n".join(parts)
    write_text(path, f"<!doctype html><html lang='en'><head>{head}</head><body>\n{body}\n</body></html>\n")
    return path


def _stated(config):
    """Return the settings without what the run itself adds to their file."""
    return {key: value for key, value in config.items() if key not in ("seal", "written_in")}


def _overview(run, draws, table):
    """Make the list of the run's main results and flags."""
    flags = np.asarray(table["flags"])
    rhat, ess = np.asarray(table["rhat_max"]), np.asarray(table["ess_min"])
    patches = counted(draws.n_patch, "patch")
    items = [
        f"{counted(len(table), 'source')} fitted in {patches}, bands {', '.join(draws.bands)}",
        f"{counted(len(draws.unfitted), 'source')} of the catalogue not fitted",
        f"largest R-hat {_largest(rhat)}, smallest effective sample size {_smallest(ess)}",
        f"{counted(int((flags == 0).sum()), 'source')} without a flag",
    ]
    items += [
        f"{n} with flag {bit}: {text}" for bit, text in FLAGS.items() if (n := int((flags & bit > 0).sum()))
    ]
    if meaning := _psf_meaning(run):
        items.append(meaning)
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    log = ", ".join(f"{key} {value}" for key, value in run.read_log().items() if np.isscalar(value))
    return f"<ul>{listed}</ul><p class='note'>{html.escape(log)}</p>"


def _psf_meaning(run):
    """Describe the effect of the run's PSF mixtures on the fluxes of bright point sources."""
    store, errors = PSFStore.open(run.path / "psfs.h5"), {}
    for band in store.bands:
        for exposure in (None, *store.exposures(band)):
            if (band, exposure) in store:
                for i, mixture in enumerate(store.mixtures(band, exposure)):
                    errors[f"{exposure or 'all exposures'}, {band}" + (f", {i}" if i else "")] = (
                        mixture.point_flux_error
                    )
    return psf_words(errors)


def _patches(run, numbers, progress):
    """Make the figures of some patches, with images if the exposures are still in place."""
    problem = None
    try:
        recipe = open_recipe(run)
    except InputError as error:
        problem = f"<p class='note'>No images: {html.escape(str(error))}</p>"
    for number in Progress(numbers, text="report", units="patches", shown=progress):
        result = run.read_patch(number)
        yield f"<h2>Patch {number}</h2>"
        if problem is None:
            yield from _images(fitted_patch(run, number, recipe))
        else:
            yield problem
        yield f"<div class='wide'>{html_table(exposure_table(result))}</div>"
        sources = result.active.id.tolist()[:_SOURCES]
        parameters = parameter_table(result)
        shown = parameters[np.isin(parameters["source"], sources)]
        yield f"<div class='wide'>{html_table(shown)}</div>"
        yield figure_element(
            plot_posterior(result, sources=sources),
            "Marginal posteriors: median as a line, central 68 % shaded; positions relative to the median.",
        )
        if result.draws.sizes["draw"] >= 4:
            yield figure_element(
                plot_traces(result, sources[:1]),
                f"Densities and traces of the chains of source {sources[0]}.",
            )


def _images(fitted):
    values, n_exposure = fitted.median(), len(fitted.scene.frame.exposures)
    indices = range(min(n_exposure, _EXPOSURES))
    more = f" The first {_EXPOSURES} of {n_exposure} exposures." if n_exposure > _EXPOSURES else ""
    figure = plot_residuals(fitted.scene, values, exposures=indices)
    yield figure_element(plot_composites(fitted, values), "Colour composites of data, model and residual.")
    yield figure_element(
        figure,
        f"Data, model at the medians of the draws, and residual over error, for every exposure.{more}",
    )
    yield figure_element(plot_posterior_on_image(fitted), "Half-light ellipses of 40 draws over the data.")


def _largest(values):
    return f"{np.nanmax(values):.3f}" if np.isfinite(values).any() else "not known"


def _smallest(values):
    return f"{np.nanmin(values):.0f}" if np.isfinite(values).any() else "not known"
