"""Tables for the terminal that print text verbatim: names of files and exposures may hold brackets."""

from typing import Any

from rich.table import Table
from rich.text import Text

__all__ = ["PlainTable"]


class PlainTable(Table):
    """A rich table that does not interpret text as markup.

    Parameters
    ----------
    title : str
    frame : bool
        Whether it has lines around and between its parts.
    spacing : int
        Blanks between columns without a frame.
    """

    def __init__(self, title: str, *, frame: bool = False, spacing: int = 2):
        bare: dict[str, Any] = (
            {} if frame else {"box": None, "padding": (0, spacing, 0, 0), "pad_edge": False}
        )
        super().__init__(title=Text(title), title_justify="left", **bare)

    def add_column(self, header: str, **options: Any) -> None:  # type: ignore[override] # fewer on purpose
        """Add a column; options as those of rich."""
        super().add_column(Text(header), **options)

    def add_row(self, *cells: str, style: str = "") -> None:  # type: ignore[override] # fewer on purpose
        """Add a row.

        Parameters
        ----------
        *cells : str
        style : str
            One of rich, such as "bold".
        """
        super().add_row(*(Text(cell, style=style) for cell in cells))
