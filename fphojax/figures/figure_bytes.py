"""Figures and tables for web pages: bytes of a PNG, rows of HTML."""

import html
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["html_table", "png"]

_DPI = 90


def png(figure: "Figure") -> bytes:
    """Render a figure as the bytes of a PNG file."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()


def html_table(table: Table, formats: Mapping[str, str] | None = None) -> str:
    """Format the rows of a table as HTML, numbers aligned to the right; text is escaped."""
    formats = formats or {}
    sides = {
        name: "right" if np.issubdtype(table[name].dtype, np.number) else "left" for name in table.colnames
    }
    head = "".join(
        f"<th style='text-align:{side};padding:2px 8px'>{html.escape(name)}</th>"
        for name, side in sides.items()
    )
    rows = []
    for row in table:
        cells = []
        for name, side in sides.items():
            text = str(row[name]) if side == "left" else format(row[name], formats.get(name, ".5g"))
            cells.append(f"<td style='text-align:{side};padding:1px 8px'>{html.escape(text)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
