"""Figures and tables for web pages: bytes of a PNG, rows of HTML."""

import html
from io import BytesIO
from typing import TYPE_CHECKING

from astropy.table import Table

from fphojax.results.table_text import shown_columns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["html_table", "png"]

_DPI = 90


def png(figure: "Figure") -> bytes:
    """Render a figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def html_table(table: Table) -> str:
    """Format the rows of a table as HTML, numbers aligned to the right; text is escaped."""
    columns = shown_columns(table, ".5g")
    sides = ["right" if column.right else "left" for column in columns]
    head = "".join(
        f"<th style='text-align:{side};padding:2px 8px'>{html.escape(column.name)}</th>"
        for column, side in zip(columns, sides, strict=True)
    )
    rows = []
    for cells in zip(*(column.cells for column in columns), strict=True):
        row = "".join(
            f"<td style='text-align:{side};padding:1px 8px'>{html.escape(cell)}</td>"
            for cell, side in zip(cells, sides, strict=True)
        )
        rows.append(f"<tr>{row}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
