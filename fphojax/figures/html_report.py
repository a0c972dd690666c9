"""Report of a run: one self-contained HTML page with tables and figures."""

import base64
import html
import json
from pathlib import Path

import numpy as np
from astropy.table import Table

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
from fphojax.results.table_text import formatted, html_table
from fphojax.system.files import write_text
from fphojax.system.progress import Progress
from fphojax.system.wording import counted

from .field_plots import plot_sky
from .figure_bytes import png
from .fit_plots import plot_residuals
from .image_plots import plot_composites, plot_posterior_on_image
from .posterior_plots import plot_posterior, plot_traces

__all__ = ["write_report"]

_ROWS = 60  # sources in the table
_EXPOSURES = 8  # in the panels of a patch
_SOURCES = 8  # in the marginals of a patch
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.7em } h2 { margin-top: 2em; border-bottom: 1px solid #ccc } figure { margin: 1em 0 }
figcaption, .note { color: #555; font-size: 0.93em } img { max-width: 100% }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9em }
th { border-bottom: 1px solid #888 } tbody tr:nth-child(even) { background: #f5f5f5 }
pre { background: #f5f5f5; padding: 1em; overflow-x: auto; font-size: 0.85em }
"""


def write_report(
    run: RunDirectory | str | Path,
    path: str | Path | None = None,
    *,
    n_patch: int = 3,
    progress: bool = False,
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    run : RunDirectory or path-like
    path : path-like, optional
        By default ``report.html`` in the run.
    n_patch : int
        Number of patches shown in detail, those of the worst R-hat first.
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
    parts = [f"<h1>{html.escape(title)}</h1>", _overview(run, draws, table), _sources(draws, table)]
    worst = np.argsort(-np.nan_to_num(table["rhat_max"]), kind="stable")
    numbers = list(dict.fromkeys(int(number) for number in table["patch_id"][worst]))[:n_patch]
    parts += _patches(run, numbers, progress)
    parts.append(f"<h2>Settings</h2><pre>{html.escape(json.dumps(run.read_config(), indent=2))}</pre>")
    head = f"<meta charset='utf-8'><title>{html.escape(title)}</title><style>{_STYLE}</style>"
    path = Path(path or run.path / "report.html")
    body = "\n".join(parts)
    write_text(path, f"<!doctype html><html lang='en'><head>{head}</head><body>\n{body}\n</body></html>\n")
    return path


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


def _sources(draws, table):
    """Make the maps and the table of the sources."""
    row = {name: i for i, name in enumerate(draws.scene.id.tolist())}
    catalog = draws.scene[[row[name] for name in draws.ids.tolist()]]
    flux = np.asarray(table[draws.bands[0]])
    maps = [
        _figure(plot_sky(catalog, flux, label=f"flux {draws.bands[0]} [nJy]"), "Fluxes of the sources."),
        _figure(
            plot_sky(catalog, np.asarray(table["rhat_max"]), label="largest R-hat"),
            "Convergence: the largest R-hat of the parameters of each source.",
        ),
    ]
    order = np.argsort(-flux, kind="stable")[:_ROWS]
    names = ["id", "ra", "dec"]
    for band in draws.bands:
        names += [name for name in _fluxes(band) if name in table.colnames]
    names += ["rhalf", "q", "pa", "sersic", "rhat_max", "ess_min", "chi2", "n_pixel", "flags", "patch_id"]
    formats = {"ra": ".6f", "dec": ".6f", "rhat_max": ".3f", "ess_min": ".0f", "pa": ".1f", "chi2": ".0f"}
    formats |= {name: ".4g" for band in draws.bands for name in _fluxes(band)}
    formats |= dict.fromkeys(("rhalf", "q", "sersic"), ".3g")
    note = (
        f"The {len(order)} brightest of {len(table)} sources in {draws.bands[0]}. Medians of the draws; fluxes in "
        "nJy, with standard deviations from noise (err) and including the misfit (err_scaled); positions and "
        "position angles in degrees; half-light radii in arcsec; chi2 at the optimum, of the n_pixel pixels "
        "dominated by the source."
    )
    listed = html_table(formatted(Table({name: table[name][order] for name in names}), formats))
    side_by_side = "".join(f"<div style='flex:1;min-width:420px'>{part}</div>" for part in maps)
    return (
        f"<h2>Sources</h2><div style='display:flex;flex-wrap:wrap'>{side_by_side}</div>"
        f"<p class='note'>{html.escape(note)}</p><div class='wide'>{listed}</div>"
    )


def _fluxes(band):
    """Return the columns of a band in the table of sources."""
    return band, f"{band}_err", f"{band}_err_scaled"


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
        yield _figure(
            plot_posterior(result, sources=sources),
            "Marginal posteriors: median as a line, central 68 % shaded; positions relative to the median.",
        )
        if result.draws.sizes["draw"] >= 4:
            yield _figure(
                plot_traces(result, sources[:1]),
                f"Densities and traces of the chains of source {sources[0]}.",
            )


def _images(fitted):
    values, n_exposure = fitted.median(), len(fitted.scene.frame.exposures)
    indices = range(min(n_exposure, _EXPOSURES))
    more = f" The first {_EXPOSURES} of {n_exposure} exposures." if n_exposure > _EXPOSURES else ""
    figure = plot_residuals(fitted.scene, values, exposures=indices)
    yield _figure(plot_composites(fitted, values), "Colour composites of data, model and residual.")
    yield _figure(
        figure,
        f"Data, model at the medians of the draws, and residual over error, for every exposure.{more}",
    )
    yield _figure(plot_posterior_on_image(fitted), "Half-light ellipses of 40 draws over the data.")


def _figure(figure, caption):
    """Make the element of a figure with its caption, the picture embedded."""
    data = base64.b64encode(png(figure)).decode()
    text = html.escape(caption)
    return f"<figure><img alt='{text}' src='data:image/png;base64,{data}'><figcaption>{text}</figcaption></figure>"


def _largest(values):
    return f"{np.nanmax(values):.3f}" if np.isfinite(values).any() else "not known"


def _smallest(values):
    return f"{np.nanmin(values):.0f}" if np.isfinite(values).any() else "not known"
