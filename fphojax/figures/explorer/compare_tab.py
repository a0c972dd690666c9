"""The tab that puts the same source of two runs side by side."""

import html
import os
from pathlib import Path

import ipywidgets as widgets
import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.figures.fit_plots import plot_residuals
from fphojax.results.run_directory import RunDirectory
from fphojax.results.summary import summary_table
from fphojax.results.table_text import formatted, html_table

from .patch_reader import PatchReader, exposure_choices
from .pictures import Picture

__all__ = ["CompareTab"]


class CompareTab(widgets.VBox):
    """Parameters of a source in two runs with their difference, and data, model and residual of both.

    Parameters
    ----------
    reader : PatchReader
        Of the run that is explored.
    other : RunDirectory
    """

    def __init__(self, reader: PatchReader, other: RunDirectory):
        self._readers = (reader, PatchReader(other))
        self._patches: tuple[int, ...] | None = None
        self._names = _names(reader.run, other)
        self.exposure = widgets.Dropdown(description="exposure")
        self.table, self.message = widgets.HTML(), widgets.HTML()
        self.pictures = (Picture(), Picture())
        columns = [
            widgets.VBox(
                [widgets.HTML(f"<b>{html.escape(name)}</b>"), picture],
                layout={"width": "50%", "overflow": "hidden"},
            )
            for name, picture in zip(self._names, self.pictures, strict=True)
        ]
        super().__init__([self.message, self.table, self.exposure, widgets.HBox(columns)])
        self.exposure.observe(self._draw, "value")

    def show(self, patch: int, source: int | str) -> None:
        """Show a source of a patch of the first run, and the source of the same id in the other."""
        there = self._readers[1].patches_of.get(source)
        self._patches = None
        if there is None:
            self.message.value = html.escape(f"{self._names[1]} has fitted no source {source}")
            self.table.value = ""
            for picture in self.pictures:
                picture.clear()
            return
        self.message.value = ""
        patches = (patch, there[-1])
        results = [reader.result(number) for reader, number in zip(self._readers, patches, strict=True)]
        self.table.value = html_table(_differences(results, source, self._names))
        try:
            fitted = self._readers[0].fitted(patch)
        except InputError as error:
            self.message.value = html.escape(str(error))
            return
        choices = exposure_choices(fitted.scene.frame.exposures)
        if self.exposure.options != tuple(choices):
            self.exposure.options = choices
            self.exposure.index = 0
        self._patches = patches
        self._draw()

    def _draw(self, _=None):
        if self._patches is None or self.exposure.value is None:
            return
        name = self.exposure.label
        for reader, number, picture in zip(self._readers, self._patches, self.pictures, strict=True):
            try:
                fitted = reader.fitted(number)
            except InputError as error:
                self.message.value = html.escape(str(error))
                continue
            rows = dict(exposure_choices(fitted.scene.frame.exposures))
            if name in rows:
                picture.show(plot_residuals(fitted.scene, fitted.median(), exposures=[rows[name]]))
            else:
                picture.clear()


def _differences(results, source, names):
    """Tabulate the parameters of a source in both runs, and their difference over the errors of both."""
    rows = []
    for result in results:
        table = Table(summary_table(result))
        table = table[np.array([value == source for value in table["id"]])]
        rows.append({(row["parameter"], row["band"]): row for row in table})
    columns: dict[str, list] = {"parameter": [], "unit": []}
    columns |= {name: [] for name in (*names, "difference / error")}
    for key, first in rows[0].items():
        if key not in rows[1]:
            continue
        second = rows[1][key]
        errors = [(row["upper"] - row["lower"]) / 2 for row in (first, second)]
        columns["parameter"].append(" ".join(part for part in map(str, key) if part))
        columns["unit"].append(str(first["unit"]))
        for name, row, error in zip(names, (first, second), errors, strict=True):
            digits = 1 - int(np.floor(np.log10(error))) if error > 0 else 4
            columns[name].append(f"{row['value']:.{max(digits, 0)}f} ± {error:.{max(digits, 0)}f}")
        total = float(np.hypot(*errors))
        columns["difference / error"].append((second["value"] - first["value"]) / total if total else np.nan)
    return formatted(Table(columns), {"difference / error": "+.2f"})


def _names(first, second):
    """Return what tells two folders apart: their paths below the folder that holds both."""
    paths = first.path.resolve(), second.path.resolve()
    if paths[0] == paths[1]:
        return paths[0].name, f"{paths[0].name} (again)"
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return tuple(str(path.relative_to(common)) for path in paths)
