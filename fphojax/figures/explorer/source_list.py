"""Which sources of a run are listed, and in which order."""

from collections.abc import Mapping, Sequence

import numpy as np

from fphojax.figures.field_plots import catalog_column, sky_columns
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.products.catalog_columns import FLAGS

__all__ = ["ALL", "NO_FLAG", "SourceList"]

ALL = "all"
NO_FLAG = "without a flag"


class SourceList:
    """The columns of the fitted sources, and what selects and sorts their rows.

    Parameters
    ----------
    catalog : SourceCatalog
    patches_of : mapping of id to sequence of int

    Attributes
    ----------
    ids : list
    columns : dict of ndarray, shape (N,)
        All columns of numbers, by name: ra, dec, patch (the last that fitted the source), and those of a map.
    """

    def __init__(self, catalog: SourceCatalog, patches_of: Mapping):
        self.ids = catalog.id.tolist()
        self._words = [str(name) for name in self.ids]
        self._patches = [patches_of[name] for name in self.ids]
        last = np.array([patches[-1] for patches in self._patches])
        columns = {"ra": catalog.ra, "dec": catalog.dec, "patch": last}
        columns |= {name: catalog_column(catalog, name) for name in sky_columns(catalog)}
        self.columns: dict[str, np.ndarray] = {
            name: np.asarray(v, dtype=float) for name, v in columns.items()
        }

    @property
    def flags(self) -> list[tuple[str, str | int]]:
        """Choices of a filter by flag: what it says, and what `rows` takes."""
        if "flags" not in self.columns:
            return [(ALL, ALL)]
        held = np.bitwise_or.reduce(self.columns["flags"].astype(int)) if self.ids else 0
        return [(ALL, ALL), (NO_FLAG, NO_FLAG), *((f"{b}: {t}", b) for b, t in FLAGS.items() if held & b)]

    def rows(
        self,
        *,
        sort: str = "id",
        descending: bool = False,
        search: str = "",
        flag: str | int = ALL,
        patches: Sequence[int] | None = None,
    ) -> np.ndarray:
        """Return the rows that are listed, in their order.

        Parameters
        ----------
        sort : str
            "id" for the order of the catalogue, or a column.
        descending : bool
        search : str
            A part of the id; a source of exactly this id comes first.
        flag : str or int
            `ALL`, `NO_FLAG`, or the bit of a flag.
        patches : sequence of int, optional
            Only sources that one of them fitted.

        Returns
        -------
        ndarray of int
            Sources without a value in the column come last.
        """
        listed = np.ones(len(self.ids), dtype=bool)
        if flag != ALL:
            flags = self.columns["flags"].astype(int)
            listed &= (flags == 0) if flag == NO_FLAG else (flags & int(flag)) > 0
        if patches is not None:
            listed &= np.array([bool(set(of) & set(patches)) for of in self._patches], dtype=bool)
        if search := search.strip():
            listed &= np.array([search in word for word in self._words], dtype=bool)
        values = np.arange(len(self.ids), dtype=float) if sort == "id" else self.columns[sort]
        keys = np.where(np.isnan(values), np.inf, -values if descending else values)
        order = np.argsort(keys, kind="stable")
        order = order[listed[order]]
        if search:
            order = order[np.argsort([self._words[row] != search for row in order], kind="stable")]
        return order
