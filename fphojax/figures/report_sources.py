"""The sources in a report: over the image of the field, and in tables, those of the worst residuals first."""

import html

import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.run_directory import RunDirectory
from fphojax.results.table_text import formatted, html_table

from .field_image import field_image
from .field_map import field_extent, plot_field
from .field_plots import plot_sky
from .report_parts import figure_element

__all__ = ["misfit", "sources_element"]

_ROWS = 60  # sources in the tables
_BANDS = 6  # in one table


def misfit(table: Table) -> np.ndarray:
    """Return chi-squared per pixel of the pixels that each source dominates; NaN for a source without any."""
    pixels = np.asarray(table["n_pixel"], dtype=float)
    return np.asarray(table["chi2"], dtype=float) / np.where(pixels > 0, pixels, np.nan)


def sources_element(run: RunDirectory, draws: RunDraws, table: Table) -> str:
    """Make the maps and the tables of the sources.

    Parameters
    ----------
    run : RunDirectory
    draws : RunDraws
    table : Table
        The final catalogue.
    """
    row = {name: i for i, name in enumerate(draws.scene.id.tolist())}
    catalog = draws.scene[[row[name] for name in draws.ids.tolist()]]
    maps = "".join(_maps(run, draws, catalog, table))
    order = np.argsort(-np.nan_to_num(misfit(table), nan=-np.inf), kind="stable")[:_ROWS]
    note = (
        f"The {len(order)} sources of the worst residuals, of {len(table)}: by chi2 / pixel at the optimum, in the "
        "pixels that the source dominates. Medians of the draws with standard deviations from noise, and, in "
        "brackets, including the misfit; fluxes in nJy, positions and angles in degrees, half-light radii in "
        "arcsec. Flags are explained above."
    )
    tables = "".join(f"<div class='wide'>{html_table(part)}</div>" for part in _tables(draws, table, order))
    return f"<h2>Sources</h2><div class='row'>{maps}</div><p class='note'>{html.escape(note)}</p>{tables}"


def _maps(run, draws, catalog, table):
    """Yield the sources over the image of the field, by misfit and convergence; without images, as points."""
    values = {"chi2 / pixel": misfit(table), "largest R-hat": np.asarray(table["rhat_max"], dtype=float)}
    captions = {
        "chi2 / pixel": "Half-light ellipses, by the misfit of each source: noise alone gives 1.",
        "largest R-hat": "Convergence: the largest R-hat of the parameters of each source.",
    }
    try:
        image = field_image(open_recipe(run).exposures, draws.bands, *field_extent(catalog))
    except InputError:  # said where the images of patches would be
        image = None
    for label, value in values.items():
        if image is None:
            yield figure_element(plot_sky(catalog, value, label=label), captions[label])
        else:
            yield figure_element(plot_field(image, catalog, value, label=label), captions[label])


def _tables(draws, table, order):
    """Yield the table of shapes and quality, then those of the fluxes, few bands in each."""
    picked = table[order]
    names = [
        "id",
        "ra",
        "dec",
        "rhalf",
        "q",
        "pa",
        "sersic",
        "rhat_max",
        "ess_min",
        "n_pixel",
        "flags",
        "patch_id",
    ]
    shapes = Table({name: picked[name] for name in names})
    shapes.add_column(misfit(picked), name="chi2 / pixel", index=1)
    formats = {
        "ra": ".6f",
        "dec": ".6f",
        "rhat_max": ".3f",
        "ess_min": ".0f",
        "pa": ".1f",
        "chi2 / pixel": ".2f",
    }
    yield formatted(shapes, formats | dict.fromkeys(("rhalf", "q", "sersic"), ".3g"))
    for first in range(0, len(draws.bands), _BANDS):
        bands = draws.bands[first : first + _BANDS]
        fluxes = Table({"id": picked["id"]} | {band: [_flux(row, band) for row in picked] for band in bands})
        yield formatted(fluxes, dict.fromkeys(bands, ">"))


def _flux(row: Table.Row, band: str) -> str:
    """Format a flux with its errors."""
    parts = [f"{row[band]:.4g}"]
    if f"{band}_err" in row.colnames:
        parts.append(f"± {row[f'{band}_err']:.2g}")
    if f"{band}_err_scaled" in row.colnames:
        parts.append(f"({row[f'{band}_err_scaled']:.2g})")
    return " ".join(parts)
