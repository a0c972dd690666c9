"""Explorer of a run: posterior, images and convergence of a chosen source (ipywidgets)."""

from pathlib import Path

import ipywidgets as widgets
import numpy as np
from astropy.table import Table

from fphojax.figures.field_plots import catalog_column, plot_sky, sky_columns
from fphojax.figures.figure_bytes import png
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.run_directory import RunDirectory

from .tabs import ConvergenceTab, ImagesTab, PatchReader, PosteriorTab, SettingsTab

__all__ = ["RunExplorer"]

_PAGE = 200  # sources in the list at a time
_QUALITY = ("rhat_max", "ess_min", "flags")
_ALL = "all"


class RunExplorer(widgets.VBox):
    """Browser of the sources and patches of a run, for JupyterLab, Notebook 7 and voila.

    At the start the names of the fitted sources are read, and ``catalogs/final.fits`` if `fphojax postprocess` has
    written it; draws and pixels are read only for the patch on display, and figures are made only for the open tab.

    Parameters
    ----------
    run : RunDirectory or path-like
        The images must be where they were for the tab that shows them.

    Attributes
    ----------
    picked : tuple
        Patch and id of the source that is shown.
    patch, order, page, sources, colour, tabs : ipywidgets.Widget
        Controls: which patch's sources are listed, in which order, which page of the list, the list, the column
        that colours the map, the tabs.
    posterior, images, convergence, settings : ipywidgets.Widget
        The tabs' contents.
    """

    def __init__(self, run: RunDirectory | str | Path):
        self.run = RunDirectory.of(run)
        draws = RunDraws(self.run)
        self._patches_of = draws.patches_of
        self.catalog = _catalog_with_quality(self.run, draws)
        reader = PatchReader(self.run)
        self.posterior, self.images = PosteriorTab(reader), ImagesTab(reader)
        self.convergence, self.settings = ConvergenceTab(reader), SettingsTab(self.run)
        self._make_controls(sorted({number for numbers in self._patches_of.values() for number in numbers}))
        self.tabs = widgets.Tab(
            [self.posterior, self.images, self.convergence, self.settings],
            titles=("Posterior", "Images", "Convergence", "Settings"),
        )
        self._map, self._title = widgets.Image(format="png", layout={"width": "460px"}), widgets.HTML()
        left = widgets.VBox([self.colour, self._map])
        right = widgets.VBox([self.patch, self.order, self.page, self.sources, self.assess])
        super().__init__([widgets.HBox([left, right]), self._title, self.tabs])
        for control in (self.patch, self.order, self.page):
            control.observe(self._list, "value")
        self.sources.observe(self._show, "value")
        self.tabs.observe(self._show_tab, "selected_index")
        self.colour.observe(self._draw_map, "value")
        self.assess.on_click(self._assess)
        self._list()

    @property
    def picked(self) -> tuple:
        """Patch and id of the source that is shown."""
        source = self.catalog.id[self.sources.value]
        patches = self._patches_of[source.item()]
        return (self.patch.value if self.patch.value in patches else patches[-1]), source.item()

    @property
    def map(self) -> bytes:
        """The map of the sources, PNG."""
        return bytes(self._map.value)

    def pick(self, source: int | str) -> None:
        """Show a source.

        Parameters
        ----------
        source : int or str
            Its id.
        """
        row = self.catalog.id.tolist().index(source)
        if row not in dict(self.sources.options).values():
            self.patch.value = self._patches_of[source][-1]
        self.sources.value = row

    def _make_controls(self, patches):
        wide = {"width": "330px"}
        self.patch = widgets.Dropdown(
            description="patch", options=[(_ALL, _ALL), *((str(n), n) for n in patches)], layout=wide
        )
        self.order = widgets.Dropdown(description="sort by", options=self._orders(), layout=wide)
        self.page = widgets.BoundedIntText(0, min=0, max=0, description="page", layout=wide)
        self.sources = widgets.Select(description="source", rows=14, layout=wide)
        self.colour = widgets.Dropdown(description="colour", options=sky_columns(self.catalog))
        self.assess = widgets.Button(description="convergence of all sources", icon="check", layout=wide)
        self.assess.layout.display = "none" if "rhat_max" in self.catalog.extra.colnames else ""

    def _orders(self):
        return ["id", *(name for name in reversed(sky_columns(self.catalog)))]

    def _list(self, _=None):
        """Fill the list of sources, and show the one that was shown if it is in the list, else the first."""
        ids = self.catalog.id.tolist()
        rows = [r for r, name in enumerate(ids) if self.patch.value in (_ALL, *self._patches_of[name])]
        if self.order.value != "id":
            values = catalog_column(self.catalog, self.order.value)[rows]
            # what is suspicious or bright first
            largest = self.order.value != "ess_min"
            rows = [rows[i] for i in np.argsort(-values if largest else values, kind="stable")]
        self.page.max = (len(rows) - 1) // _PAGE
        rows = rows[self.page.value * _PAGE : (self.page.value + 1) * _PAGE]
        selection = self.sources.value if self.sources.value in rows else rows[0]
        self.sources.unobserve(self._show, "value")  # setting options also sets a value
        self.sources.options = [(self._line(row), row) for row in rows]
        self.sources.value = selection
        self.sources.observe(self._show, "value")
        self._show()

    def _line(self, row):
        """Format a source for the list."""
        extra, parts = self.catalog.extra, [str(self.catalog.id[row])]
        parts.append(f"patch {','.join(map(str, self._patches_of[self.catalog.id[row].item()]))}")
        if "rhat_max" in extra.colnames:
            parts += [f"r_hat {extra['rhat_max'][row]:.3f}", f"ESS {extra['ess_min'][row]:.0f}"]
            parts += [f"flags {extra['flags'][row]}"] if extra["flags"][row] else []
        return "  ".join(parts)

    def _show(self, _=None):
        if self.sources.value is None:
            return
        patch, source = self.picked
        self._title.value = f"<h3>source {source}, patch {patch}</h3>"
        self._draw_map()
        self._show_tab()

    def _show_tab(self, _=None):
        self.tabs.children[self.tabs.selected_index or 0].show(*self.picked)

    def _draw_map(self, _=None):
        row = self.sources.value
        self._map.value = png(
            plot_sky(self.catalog, self.colour.value, selected=[] if row is None else [row])
        )

    def _assess(self, _):
        """Compute the convergence of all sources from the draws of all patches."""
        self.assess.description, self.assess.disabled = "reading all patches ...", True
        table = final_catalog(self.run)
        self.catalog = _add_columns(self.catalog, table)
        self.order.options, self.colour.options = self._orders(), sky_columns(self.catalog)
        self.assess.layout.display = "none"
        self._list()


def _catalog_with_quality(run: RunDirectory, draws: RunDraws) -> SourceCatalog:
    """Return the fitted sources of the scene, with convergence and flags of the final catalogue if current."""
    row = {name: i for i, name in enumerate(draws.scene.id.tolist())}
    catalog = draws.scene[[row[name] for name in draws.ids.tolist()]]
    final = run.path / "catalogs" / "final.fits"
    if not final.is_file() or final.stat().st_mtime < run.scene_path.stat().st_mtime:
        return catalog
    quality = SourceCatalog.read(final)
    if quality.id.tolist() != catalog.id.tolist():
        return catalog
    return _add_columns(catalog, Table({name: quality.extra[name] for name in _QUALITY}))


def _add_columns(catalog: SourceCatalog, table: Table) -> SourceCatalog:
    """Add a table's columns of convergence to a catalogue with the same rows."""
    extra = catalog.extra.copy()
    for name in _QUALITY:
        extra[name] = table[name]
    return catalog.replace(extra=extra)
