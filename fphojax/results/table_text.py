"""Tables as text: formats of columns, stated where a table is made, and the cells that a terminal and a page show."""

import html
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from astropy.table import Table

__all__ = ["ShownColumn", "formatted", "html_table", "shown_columns"]


class ShownColumn(NamedTuple):
    """A column as a person reads it."""

    name: str
    cells: list[str]
    right: bool  # whether it is aligned to the right


def formatted(table: Table, formats: Mapping[str, str], rest: str | None = None) -> Table:
    """State the formats of a table's columns.

    Parameters
    ----------
    table : Table
    formats : mapping of str to str
        By column, for those that the table has: as astropy takes them, such as ``.3f`` or ``{:.1f} %``; ``>`` aligns
        text to the right.
    rest : str, optional
        The format of all other columns of floating-point numbers.

    Returns
    -------
    Table
        The same.
    """
    for name in table.colnames:
        if name in formats or _kind(table[name]) == "f":
            table[name].info.format = formats.get(name, rest)
    return table


def shown_columns(table: Table, digits: str) -> list[ShownColumn]:
    """Format all cells of a table, floating-point numbers of columns without a format by `digits`."""
    return [_shown(name, table[name], digits) for name in table.colnames]


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


def _shown(name, column, digits):
    kind, stated = _kind(column), column.info.format
    if kind == "f" and not stated:
        cells = [format(value, digits) for value in np.asarray(column)]
    else:
        cells = list(column.info.iter_str_vals())
    return ShownColumn(name, cells, kind not in "USO" or str(stated).startswith(">"))


def _kind(column):
    return np.asarray(column).dtype.kind
