"""The chain catalogue of a run, forcepho's ``postsample``: one row per source, a column of draws per parameter.

FITS, in forcepho's conventions: ``q`` is sqrt(b/a), ``pa`` is in radians from +RA towards +Dec. Columns: id,
source_index (row of the source in the run's scene), patch_id (its last patch), the bands, ra, dec, q, pa,
sersic, rhalf.
Rows are written one at a time in place, so that a file may be far larger than memory.
"""

from pathlib import Path
from types import TracebackType

import numpy as np
from astropy.io import fits
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.inputs.source_catalog import from_forcepho, to_forcepho

from .multipatch import parameter_names
from .patch_draws import RunDraws, SourceDraws

__all__ = ["ChainCatalog", "read_chain_catalog"]

_BLOCK = 2880  # of FITS


class ChainCatalog:
    """Writer of a chain catalogue; sources may come in any order, but all of them must come.

    Parameters
    ----------
    path : path-like
        Written in place, not atomically; see `fphojax.system.files.replacing`.
    draws : RunDraws
        Its `n_draw` is the length of the columns. A source with more draws (in several patches) is thinned evenly,
        one with fewer is padded with NaN.
    """

    def __init__(self, path: str | Path, draws: RunDraws):
        self._names = tuple(parameter_names(draws.bands))
        self._n_draw = draws.n_draw
        ids = draws.ids
        self._row = np.dtype(
            [("id", _type_of(ids)), ("source_index", ">i4"), ("patch_id", ">i4")]
            + [(name, ">f8", (draws.n_draw,)) for name in self._names]
        )
        index = {name: i for i, name in enumerate(draws.scene.id.tolist())}
        self._ids, self._index = ids, [index[name] for name in ids.tolist()]
        primary, table = self._headers(draws)
        self._file = Path(path).open("wb")  # noqa: SIM115
        self._file.write(primary.tostring().encode() + table.tostring().encode())
        self._start = self._file.tell()
        size = self._row.itemsize * len(ids)
        self._file.truncate(self._start + -(-size // _BLOCK) * _BLOCK)

    def __enter__(self) -> "ChainCatalog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sources: SourceDraws) -> None:
        """Write the rows of a batch of sources."""
        values = dict(sources.values)
        values["ra"] = values["ra"] % 360
        values["q"], values["pa"] = to_forcepho(values["q"], values["pa"])
        for s, row in enumerate(sources.rows):
            out = np.zeros((), dtype=self._row)
            out["id"], out["source_index"] = self._ids[row], self._index[row]
            out["patch_id"] = sources.parts[s][-1].patch
            fluxes = np.moveaxis(values["flux"][s], -1, 0)
            for p, name in enumerate(self._names):
                column = fluxes[p] if p < len(fluxes) else values[name][s]
                out[name] = self._resize(column.ravel())
            self._file.seek(self._start + int(row) * self._row.itemsize)
            self._file.write(out.tobytes())

    def _resize(self, column):
        """Thin or pad a column of draws to the length of the file's columns."""
        if column.size > self._n_draw:
            return column[np.linspace(0, column.size - 1, self._n_draw).round().astype(int)]
        return np.pad(column, (0, self._n_draw - column.size), constant_values=np.nan)

    def _headers(self, draws):
        """Make the headers of the primary HDU and of the table."""
        units = {"ra": "deg", "dec": "deg", "pa": "rad", "rhalf": "arcsec"} | dict.fromkeys(
            draws.bands, "nJy"
        )
        columns = []
        for name in self._row.names:
            kind, shape = self._row[name].base, self._row[name].shape
            code = {"f": f"{shape[0] if shape else 1}D", "S": f"{kind.itemsize}A"}.get(kind.kind)
            code = code or {4: "J", 8: "K"}[kind.itemsize]
            columns.append(fits.Column(name=name, format=code, unit=units.get(name)))
        header = fits.BinTableHDU.from_columns(columns, nrows=0).header
        header["NAXIS2"] = len(draws.ids)
        primary = fits.PrimaryHDU().header
        primary["EXTEND"] = True
        for target in (primary, header):
            target["FILTERS"] = ",".join(draws.bands)
        primary["ROOT"] = str(draws.run.path.name)
        return primary, header


def _type_of(ids) -> str:
    """Choose the type of ids: 32-bit integers as in forcepho if all fit, else 64-bit ones; text for names."""
    if ids.dtype.kind not in "iu":
        return f"S{max(len(str(name).encode()) for name in ids)}"
    limits = np.iinfo(np.int32)
    return ">i4" if limits.min <= ids.min() and ids.max() <= limits.max else ">i8"


def read_chain_catalog(path: str | Path) -> Table:
    """Read a chain catalogue, fphojax's or forcepho's, and convert it to fphojax's conventions.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    Table
        The file's columns, but q is b/a and pa in degrees east of north; ``meta["FILTERS"]`` are the bands.

    Raises
    ------
    InputError
        The file is missing, or is not a chain catalogue.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file, expected a chain catalogue (FITS)")
    with fits.open(path, memmap=False) as hdus:
        filters = hdus[0].header.get("FILTERS")
        table = Table.read(hdus[1], character_as_bytes=False) if len(hdus) > 1 else Table()
    names = [name for name, column in table.columns.items() if column.ndim == 2]
    missing = [name for name in ("ra", "dec", "q", "pa", "sersic", "rhalf") if name not in names]
    if missing or not filters:
        what = f"draws of {', '.join(missing)}" if missing else "FILTERS in the header"
        raise InputError(f"{path}: found no {what}, expected a chain catalogue")
    table["q"], table["pa"] = from_forcepho(np.asarray(table["q"]), np.asarray(table["pa"]))
    table["pa"].unit = "deg"
    table.meta["FILTERS"] = filters
    return table
