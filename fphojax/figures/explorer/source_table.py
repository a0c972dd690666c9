"""A table of many sources: only the rows in view are in the page; a click on a head asks for another order."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from .source_list import SourceList

__all__ = ["SourceTable"]


class SourceTable(anywidget.AnyWidget):
    """Table of sources.

    Parameters
    ----------
    sources : SourceList

    Attributes
    ----------
    selected : int
        Row that is marked.
    rows : bytes
        Rows that are listed (int32), in their order.
    sort : str
        Column whose head was clicked last.
    descending : bool
        The order.
    """

    _esm = Path(__file__).with_name("source_table.js")
    selected = traitlets.Int(0).tag(sync=True)
    rows = traitlets.Bytes(b"").tag(sync=True)
    ids: traitlets.List = traitlets.List().tag(sync=True)
    names: traitlets.List = traitlets.List().tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)
    sort = traitlets.Unicode("id").tag(sync=True)
    descending = traitlets.Bool(False).tag(sync=True)

    def __init__(self, sources: SourceList):
        super().__init__(ids=[str(name) for name in sources.ids])
        self.fill(sources)

    def fill(self, sources: SourceList) -> None:
        """Show the columns of other or further measurements of the same sources."""
        with self.hold_sync():
            self.values = np.stack(list(sources.columns.values())).astype("<f8").tobytes()
            self.names = list(sources.columns)
