"""Tables for the terminal, which print text verbatim: names of files and exposures may hold brackets."""

from collections.abc import Collection

from astropy.table import Table
from rich.table import Table as RichTable
from rich.text import Text

from fphojax.results.table_text import shown_columns

__all__ = ["table_shown"]


def table_shown(
    title: str,
    table: Table,
    *,
    frame: bool = False,
    spacing: int = 2,
    no_wrap: Collection[str] = (),
    fold: bool = False,
    groups: str | None = None,
) -> RichTable:
    """Convert a table for the terminal, with units in the headings and the formats of its columns.

    Parameters
    ----------
    title : str
    table : Table
        See `fphojax.results.table_text.formatted`. Numbers that are NaN are left blank.
    frame : bool
        Whether it has lines around and between its parts.
    spacing : int
        Blanks between columns without a frame.
    no_wrap : collection of str
        Columns whose text stays in one line.
    fold : bool
        Whether words that are longer than a line are continued in the next one, else cut off.
    groups : str, optional
        A column that becomes headings: a line before the rows of each of its values.
    """
    shown = RichTable(title=Text(title), title_justify="left")
    if not frame:
        shown.box, shown.padding, shown.pad_edge = None, (0, spacing, 0, 0), False
    columns = [column for column in shown_columns(table, ".4g") if column.name != groups]
    for name, _, right in columns:
        unit = f" [{table[name].unit}]" if getattr(table[name], "unit", None) else ""
        shown.add_column(
            Text(name + unit),
            justify="right" if right else "left",
            no_wrap=name in no_wrap,
            overflow="fold" if fold else "ellipsis",
        )
    previous = None
    for number in range(len(table)):
        if groups is not None and table[groups][number] != previous:
            previous = table[groups][number]
            shown.add_row()
            shown.add_row(Text(f"{groups} {previous}", style="bold"))
        cells = (column.cells[number] for column in columns)
        shown.add_row(*(Text("" if cell == "nan" else cell) for cell in cells))
    return shown
