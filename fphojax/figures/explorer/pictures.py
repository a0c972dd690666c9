"""A figure in a page, sharp on screens of any resolution."""

from typing import TYPE_CHECKING

import ipywidgets as widgets

from fphojax.figures.figure_bytes import CSS_DPI, png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Picture"]


class Picture(widgets.Image):
    """An image that shows matplotlib's figures: twice as many pixels as the page has, never wider than the page."""

    def __init__(self) -> None:
        super().__init__(format="png", layout={"max_width": "100%", "object_fit": "contain"})

    def show(self, figure: "Figure") -> None:
        """Show a figure."""
        self.layout.width = f"{figure.get_size_inches()[0] * CSS_DPI:.0f}px"
        self.value = png(figure)

    def clear(self) -> None:
        """Show nothing."""
        self.value = b""
