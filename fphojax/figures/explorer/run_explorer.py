"""Explorer of a run: the image of its field, a table of its sources, and all about the one that is picked."""

import html
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.figures.field_image import field_image
from fphojax.figures.field_map import field_extent
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.products.frame_images import write_cutouts
from fphojax.results.products.patch_draws import RunDraws
from fphojax.results.run_directory import RunDirectory

from .compare_tab import CompareTab
from .sky_map import SkyMap
from .source_list import ALL, SourceList
from .source_table import SourceTable
from .tabs import ConvergenceTab, ImagesTab, PatchReader, PosteriorTab, SettingsTab

__all__ = ["RunExplorer"]

_QUALITY = ("rhat_max", "ess_min", "flags")
_OVERLAY = 40  # draws


class RunExplorer(widgets.VBox):
    """Browser of the sources and patches of a run, for JupyterLab, Notebook 7 and voila.

    At the start the names of the fitted sources are read, ``catalogs/final.fits`` if `fphojax postprocess` has
    written it, and as many exposures as cover the field; draws and pixels are read only for the patch on display, and
    figures are made only for the open tab.

    Parameters
    ----------
    run : RunDirectory or path-like
        The images must be where they were for the map's image and the tab that shows them.
    other : RunDirectory or path-like, optional
        A run of the same sources, to be compared with the first side by side.

    Attributes
    ----------
    picked : tuple
        Patch and id of the source that is shown.
    listed : list
        Ids of the sources that the table lists, in its order.
    map, table : anywidget.AnyWidget
        The image and the list.
    search, flag, patch, colour, overlay : ipywidgets.Widget
        Controls: part of an id, flag, and patch of the sources that are listed; the column that colours the map;
        whether half-light ellipses of draws are on it.
    tabs : ipywidgets.Tab
    posterior, images, convergence, compare, settings : ipywidgets.Widget
        The tabs' contents; `compare` is None without another run.
    """

    def __init__(self, run: RunDirectory | str | Path, other: RunDirectory | str | Path | None = None):
        self.run = RunDirectory.of(run)
        draws = RunDraws(self.run)
        self._patches_of, self._bands = draws.patches_of, draws.bands
        self.catalog = _catalog_with_quality(self.run, draws)
        self._sources = SourceList(self.catalog, self._patches_of)
        self._rows = self._sources.rows()
        self._reader = PatchReader(self.run)
        self._make_map()
        self.table = SourceTable(self._sources)
        self._make_controls()
        self._make_tabs(other)
        self._title, self._said = widgets.HTML(), widgets.HTML()
        left = widgets.VBox([widgets.HBox([self.colour, self.overlay]), self.map])
        buttons = widgets.HBox([self.save_selection, self.save_cutout])
        right = widgets.VBox(
            [
                widgets.HBox([self.search, self.patch]),
                widgets.HBox([self.flag, self.assess]),
                self.table,
                buttons,
                self._said,
            ]
        )
        super().__init__([widgets.HBox([left, right]), self._title, self.tabs])
        self._observe()
        self._list()
        self._recolour()
        self._show()

    @property
    def picked(self) -> tuple:
        """Patch and id of the source that is shown."""
        source = self._sources.ids[self.map.selected]
        patches = self._patches_of[source]
        return (self.patch.value if self.patch.value in patches else patches[-1]), source

    @property
    def listed(self) -> list:
        """Ids of the sources that the table lists, in its order."""
        return [self._sources.ids[row] for row in self._rows]

    def pick(self, source: int | str) -> None:
        """Show a source.

        Parameters
        ----------
        source : int or str
            Its id.
        """
        if source not in self._sources.ids:
            raise InputError(f"found no fitted source {source}, expected one of {len(self._sources.ids)} ids")
        self.map.selected = self._sources.ids.index(source)

    def export_selection(self, path: str | Path = "selection.ecsv") -> Path:
        """Write the table of the listed sources, in its order, in the format of the file's suffix.

        Parameters
        ----------
        path : path-like
            A file that exists is replaced.
        """
        columns = {"id": np.array(self._sources.ids)} | self._sources.columns
        Table({name: values[self._rows] for name, values in columns.items()}).write(path, overwrite=True)
        return Path(path)

    def export_cutout(self, folder: str | Path | None = None) -> Path:
        """Write the cutouts of the picked source as FITS; see `fphojax images --cutout`.

        Parameters
        ----------
        folder : path-like, optional
            By default ``cutouts`` in the run.
        """
        return write_cutouts(self.run, [self.picked[1]], folder, recipe=self._reader.recipe)[0]

    def _make_map(self):
        ra, dec, half = field_extent(self.catalog)
        self.map = SkyMap(self.catalog, ra, dec, half)
        try:
            image = field_image(self._reader.recipe.exposures, self._bands, ra, dec, half)
        except (
            InputError
        ):  # the images may have been moved since the run, and the tab that shows them says so
            return
        if image is not None:
            self.map.show_image(image)

    def _make_controls(self):
        wide = {"width": "300px"}
        patches = sorted({number for numbers in self._patches_of.values() for number in numbers})
        self.search = widgets.Text(description="find id", continuous_update=True, layout=wide)
        self.patch = widgets.Dropdown(
            description="patch", options=[(ALL, ALL), *((str(n), n) for n in patches)], layout=wide
        )
        self.flag = widgets.Dropdown(description="flag", options=self._sources.flags, layout=wide)
        self.colour = widgets.Dropdown(
            description="colour", options=list(self._sources.columns), value=self._bands[0]
        )
        self.overlay = widgets.Checkbox(True, description="draws of the source", indent=False)
        self.assess = widgets.Button(description="convergence of all sources", icon="check", layout=wide)
        self.assess.layout.display = "none" if "rhat_max" in self.catalog.extra.colnames else ""
        self.save_selection = widgets.Button(description="save this list", icon="download")
        self.save_cutout = widgets.Button(description="save a cutout", icon="download")

    def _make_tabs(self, other):
        self.posterior, self.images = PosteriorTab(self._reader), ImagesTab(self._reader)
        self.convergence, self.settings = ConvergenceTab(self._reader), SettingsTab(self.run)
        self.compare = None if other is None else CompareTab(self._reader, RunDirectory.of(other))
        tabs = {"Posterior": self.posterior, "Images": self.images, "Convergence": self.convergence}
        tabs |= {} if self.compare is None else {"Two runs": self.compare}
        tabs["Settings"] = self.settings
        self.tabs = widgets.Tab(list(tabs.values()), titles=tuple(tabs), selected_index=0)

    def _observe(self):
        for control in (self.search, self.patch, self.flag):
            control.observe(self._list, "value")
        self.table.observe(self._list, ("sort", "descending"))
        self.patch.observe(self._show, "value")
        widgets.link((self.map, "selected"), (self.table, "selected"))
        self.map.observe(self._show, "selected")
        self.tabs.observe(self._show_tab, "selected_index")
        self.colour.observe(self._recolour, "value")
        self.overlay.observe(self._draw_overlay, "value")
        self.assess.on_click(self._assess)
        self.save_selection.on_click(lambda _: self._save(self.export_selection))
        self.save_cutout.on_click(lambda _: self._save(self.export_cutout))

    def _list(self, _=None):
        """List the sources that the controls ask for; show the first of them if the one on display is not one."""
        self._rows = self._sources.rows(
            sort=self.table.sort,
            descending=self.table.descending,
            search=self.search.value,
            flag=self.flag.value,
            patches=None if self.patch.value == ALL else [self.patch.value],
        )
        self.map.rows = self.table.rows = self._rows.astype("<i4").tobytes()
        if len(self._rows) and self.map.selected not in self._rows:
            self.map.selected = int(self._rows[0])

    def _recolour(self, _=None):
        with self.map.hold_sync():
            self.map.label = self.colour.value
            self.map.values = self._sources.columns[self.colour.value].astype("<f8").tobytes()

    def _show(self, _=None):
        patch, source = self.picked
        self._title.value = f"<h3>source {html.escape(str(source))}, patch {patch}</h3>"
        self._draw_overlay()
        self._show_tab()

    def _show_tab(self, _=None):
        self.tabs.children[self.tabs.selected_index or 0].show(*self.picked)

    def _draw_overlay(self, _=None):
        """Give the map half-light ellipses of draws of the picked source."""
        if not self.overlay.value:
            self.map.draws = b""
            return
        patch, source = self.picked
        result = self._reader.result(patch)
        of = result.draws.isel(source=result.active.id.tolist().index(source))
        shapes = [of[name].to_numpy().ravel() for name in ("ra", "dec", "q", "pa", "rhalf")]
        some = np.unique(np.linspace(0, len(shapes[0]) - 1, _OVERLAY).astype(int))
        self.map.draws = self.map.ellipses(*(values[some] for values in shapes))

    def _save(self, export):
        try:
            self._said.value = f"wrote {html.escape(str(export().resolve()))}"
        except (InputError, OSError) as error:
            self._said.value = html.escape(str(error))

    def _assess(self, _):
        """Compute the convergence of all sources from the draws of all patches."""
        self.assess.description, self.assess.disabled = "reading all patches ...", True
        self.catalog = _add_columns(self.catalog, final_catalog(self.run))
        self._sources = SourceList(self.catalog, self._patches_of)
        self.table.fill(self._sources)
        chosen = self.colour.value
        self.colour.options = list(self._sources.columns)
        self.colour.value = chosen
        self.flag.options = self._sources.flags
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
