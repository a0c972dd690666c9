"""The tabs of the explorer of a run: posterior, images, convergence, settings."""

import html
import json
from typing import get_args

import ipywidgets as widgets
import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.figures.fit_plots import LINEAR_NOISE, Stretch, plot_residuals
from fphojax.figures.image_plots import plot_composites, plot_posterior_on_image
from fphojax.figures.posterior_plots import plot_corner, plot_posterior, plot_ranks, plot_traces
from fphojax.figures.report_parts import settings_element
from fphojax.results.fitted_patch import FittedPatch
from fphojax.results.parameter_table import rounded
from fphojax.results.patch_result import POSTERIOR_UNITS, PatchResult
from fphojax.results.run_directory import RunDirectory
from fphojax.results.summary import summary_table
from fphojax.results.table_text import html_table

from .patch_reader import PatchReader, exposure_choices
from .pictures import Picture

__all__ = ["ConvergenceTab", "ImagesTab", "PosteriorTab", "SettingsTab"]

_ROWS = 100  # of a table on the page
_MEDIAN = 0  # first position of the slider of draws
_POSTERIOR_VIEWS = {
    "traces": plot_traces,
    "ranks": plot_ranks,
    "corner": plot_corner,
}


class PosteriorTab(widgets.VBox):
    """Figures of the draws of chosen sources and parameters."""

    def __init__(self, reader: PatchReader):
        self._reader = reader
        self._patch: int | None = None
        self.view = widgets.ToggleButtons(options=["marginals", *_POSTERIOR_VIEWS], description="")
        self.sources = widgets.SelectMultiple(description="sources", rows=5)
        self.parameters = widgets.SelectMultiple(description="parameters", rows=5)
        self.image, self.message = Picture(), widgets.HTML()
        super().__init__([self.view, widgets.HBox([self.sources, self.parameters]), self.message, self.image])
        for control in (self.view, self.sources, self.parameters):
            control.observe(self._draw, "value")

    def show(self, patch: int, source: int | str) -> None:
        """Show a source of a patch."""
        result = self._reader.result(patch)
        names = [*result.bands, *(name for name in POSTERIOR_UNITS if name != "flux")]
        selected = [name for name in self.parameters.value if name in names]
        self._patch = None  # one figure at the end, not one for each of the changes
        if tuple(self.parameters.options) != tuple(names):
            self.parameters.options, self.parameters.value = names, selected or names[: min(4, len(names))]
        self.sources.options = [(str(name), name) for name in result.active.id.tolist()]
        self.sources.value = [source]
        self._patch = patch
        self._draw()

    def _draw(self, _=None):
        if self._patch is None or not self.sources.value or not self.parameters.value:
            return
        result: PatchResult = self._reader.result(self._patch)
        n_draw = result.draws.sizes["draw"]
        if n_draw < 4:  # a point, of which ArviZ can draw nothing
            self.message.value = f"{n_draw} draws per chain ({result.method}): nothing to show"
            self.image.clear()
            return
        self.message.value = ""
        if self.view.value == "marginals":
            figure = plot_posterior(result, sources=self.sources.value)
        else:
            plot = _POSTERIOR_VIEWS[self.view.value]
            figure = plot(result, self.sources.value, self.parameters.value)
        self.image.show(figure)


class ImagesTab(widgets.VBox):
    """Data, model and residual at any draw; ellipses of draws; colour composites."""

    def __init__(self, reader: PatchReader):
        self._reader = reader
        self._fitted: FittedPatch | None = None
        self._number: int | None = None
        self.view = widgets.ToggleButtons(options=["residuals", "ellipses", "colours"], description="")
        self.exposure = widgets.Dropdown(description="exposure")
        self.stretch = widgets.Dropdown(description="stretch", options=get_args(Stretch))
        self.linear = widgets.FloatSlider(
            LINEAR_NOISE, min=0.5, max=20, step=0.5, description="sigma", continuous_update=False
        )
        self.draw = widgets.IntSlider(
            _MEDIAN, min=_MEDIAN, max=1, description="draw", continuous_update=False
        )
        self.label, self.image = widgets.HTML(), Picture()
        controls = [
            widgets.HBox([self.exposure, self.stretch, self.linear]),
            widgets.HBox([self.draw, self.label]),
        ]
        super().__init__([self.view, *controls, self.image])
        for control in (self.view, self.exposure, self.stretch, self.linear, self.draw):
            control.observe(self._draw, "value")

    def show(self, patch: int, source: int | str) -> None:
        """Show the images of a patch."""
        del source  # all sources of the patch are in them
        if self._number == patch:
            return
        self._fitted = self._number = None
        try:
            fitted = self._reader.fitted(patch)
        except InputError as error:  # the images may have been moved since the run
            self.label.value = html.escape(str(error))
            self.image.clear()
            return
        self.exposure.options = exposure_choices(fitted.scene.frame.exposures)
        self.exposure.value = 0
        sizes = fitted.result.draws.sizes
        self.draw.max = sizes["chain"] * sizes["draw"]
        self.draw.value = _MEDIAN
        self._fitted, self._number = fitted, patch
        self._draw()

    def _draw(self, _=None):
        fitted = self._fitted
        if fitted is None:
            return
        if self.draw.value == _MEDIAN:
            values, self.label.value = fitted.median(), "medians of the draws"
        else:
            chain, draw = divmod(self.draw.value - 1, fitted.result.draws.sizes["draw"])
            values, self.label.value = fitted.draw(chain, draw), f"chain {chain}, draw {draw}"
        if self.view.value == "ellipses":
            figure = plot_posterior_on_image(fitted)
        elif self.view.value == "colours":
            figure = plot_composites(fitted, values)
        else:
            figure = plot_residuals(
                fitted.scene,
                values,
                exposures=[self.exposure.value],
                stretch=self.stretch.value,
                linear_noise=self.linear.value,
            )
        self.image.show(figure)


class ConvergenceTab(widgets.VBox):
    """Table of the parameters of a patch with R-hat, effective sample size and flags, in any order."""

    def __init__(self, reader: PatchReader):
        self._reader, self._table = reader, None
        self.order = widgets.Dropdown(
            description="sort by", options=["r_hat", "ess_bulk", "at_bound", "id", "parameter"]
        )
        self.descending = widgets.Checkbox(True, description="largest first")
        self.text = widgets.HTML()
        super().__init__([widgets.HBox([self.order, self.descending]), self.text])
        for control in (self.order, self.descending):
            control.observe(self._draw, "value")

    def show(self, patch: int, source: int | str) -> None:
        """Show the parameters of all sources of a patch."""
        del source
        result = self._reader.result(patch)
        self._table = Table(summary_table(result))
        self._head = (
            f"patch {patch}: {result.draws.sizes['chain']} chains of {result.draws.sizes['draw']} draws "
            f"({html.escape(result.method)})"
        )
        self._draw()

    def _draw(self, _=None):
        if self._table is None:
            return
        order = np.argsort(self._table[self.order.value], kind="stable")
        table = self._table[order[::-1] if self.descending.value else order]
        more = f", the first {_ROWS} of {len(table)} parameters" if len(table) > _ROWS else ""
        self.text.value = f"<p>{self._head}{more}</p>{html_table(rounded(table[:_ROWS]))}"


class SettingsTab(widgets.VBox):
    """Settings of the run, and its log."""

    def __init__(self, run: RunDirectory):
        log = html.escape(json.dumps(run.read_log(), indent=2)[:20000])
        parts = (
            settings_element(run.read_config(), None),
            f"<b>log</b><pre style='line-height:1.3'>{log}</pre>",
        )
        super().__init__([widgets.HTML(part) for part in parts])

    def show(self, patch: int, source: int | str) -> None:
        """Do nothing: the settings are the same for all patches."""
