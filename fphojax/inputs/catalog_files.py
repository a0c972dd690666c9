"""Catalogue files, our own tables and forcepho's: telling them apart, reading and writing them.

A file is read as ours if it has our mark ``FPHOJAX``, if its ``pa`` has a unit, or if it is a FITS table without
the keyword ``FILTERS``; without a unit ``pa`` is in degrees. It is read as forcepho's if it is a FITS table with
``FILTERS``, without any unit, and either with forcepho's columns of state (``source_index``, ``n_iter``, ...) or with
one of its types, int32 of ``id`` or float32 of ``roi``, which no table made by hand has. What is neither is refused.
"""

import contextlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.io.ascii.ecsv import InvalidEcsvDatatypeWarning
from astropy.table import Column, Table
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.system.file_checks import irregularity
from fphojax.system.files import replacing
from fphojax.system.seals import SEAL_CARD, changed, is_sealed

from .angles import from_forcepho, looks_like_radians, to_forcepho
from .fits_structure import require_structure
from .fits_tables import writable_by_fits
from .other_programs import has_sextractor_columns, program_of_text
from .units import conversion, to_unit

__all__ = [
    "FLUX_UNIT",
    "FORCEPHO_STATE",
    "ROI_PER_RHALF",
    "SHAPES",
    "UNITS",
    "CatalogReading",
    "checked_ids",
    "read_columns",
    "require",
    "write_forcepho",
    "write_native",
]

ROI_PER_RHALF = 5.0
SHAPES = ("ra", "dec", "q", "pa", "sersic", "rhalf")
UNITS = {
    "ra": u.deg,
    "dec": u.deg,
    "pa": u.deg,
    "rhalf": u.arcsec,
    "roi": u.arcsec,
    "q": u.one,
    "sersic": u.one,
}
FLUX_UNIT = u.nJy
# Further columns of forcepho's layout, in its order, and their values for a source that was never fitted.
FORCEPHO_STATE = {"source_index": None, "is_active": 0, "is_valid": 1, "n_iter": 0, "n_patch": 0}

_LAYOUT = 1
_FORCEPHO_TYPES = {"id": np.int32, "roi": np.float32}


@dataclass(frozen=True)
class CatalogReading:
    """How a file was read.

    Attributes
    ----------
    layout : {"fphojax", "forcepho"}
        Whose conventions.
    reason : str
        How they were recognised.
    converted : tuple of str
        Conversions of units, column by column.
    """

    layout: str
    reason: str
    converted: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"read as {self.layout}'s layout ({self.reason})"
        return "; ".join([text, *self.converted])


def read_columns(path: Path, bands: Sequence[str] | None) -> tuple[dict, CatalogReading]:
    """Read the arguments of a `SourceCatalog`, and how they were read; errors do not name the file."""
    table, others = _read_tables(path)
    if has_sextractor_columns(table.colnames):
        raise _of_other_program("SExtractor")
    _require_icrs(table.meta)
    filters = _filters(table)
    bands = tuple(filters if bands is None else bands)
    if not bands:
        raise InputError("no FILTERS in the header, expected the bands, separated by commas")
    missing = [name for name in (*SHAPES, *bands) if name not in table.colnames]
    if missing:
        raise InputError(f"no column {', '.join(missing)}, found {', '.join(table.colnames)}")
    native, reason = _convention(table, filters, path.suffix == ".ecsv")
    return _interpret(table, others, bands, native, reason)


def native_table(catalog: Any) -> Table:
    """Return a catalogue as a table in our own layout."""
    table = _own_columns(catalog)
    for name in catalog.extra.colnames:
        table[name] = catalog.extra[name]
    table.meta = {**catalog.meta, **table.meta}
    return table


def _own_columns(catalog):
    """Return the columns that have a meaning in our own layout."""
    columns = {}
    for name in ("id", "ra", "dec", "roi", "q", "pa", "sersic", "rhalf"):
        unit = UNITS.get(name)
        columns[name] = Column(getattr(catalog, name), unit=None if unit is u.one else unit)
    for suffix, values in (("", catalog.flux), ("_err", catalog.flux_err)):
        if values is not None:
            for band, column in zip(catalog.bands, values.T, strict=True):
                columns[band + suffix] = Column(column, unit=FLUX_UNIT)
    return Table(columns, meta={"FPHOJAX": _LAYOUT, "FILTERS": ",".join(catalog.bands)})


def write_native(path: str | Path, catalog: Any) -> None:
    """Write a catalogue in our own layout, as ECSV or FITS by the suffix of the name."""
    path = Path(path)
    kind = {".ecsv": "ascii.ecsv", ".fits": "fits"}.get(path.suffix)
    if kind is None:
        raise InputError(f"{path}: suffix {path.suffix!r} of a catalogue, expected .ecsv or .fits")
    if kind == "fits":
        names = _own_columns(catalog).colnames
        extra, meta = writable_by_fits(path, names, catalog.extra, catalog.meta)
        catalog = catalog.replace(extra=extra, meta=meta)
    table = native_table(catalog)
    with replacing(path) as temporary, _any_unit():
        table.write(temporary, format=kind, overwrite=True)


def write_forcepho(path: str | Path, catalog: Any) -> None:
    """Write a catalogue in forcepho's FITS layout; flux uncertainties are in a second table, ``FLUX_ERR``."""
    extra, size = catalog.extra, len(catalog)
    state = {name: extra[name] for name in FORCEPHO_STATE if name in extra.colnames}
    for name, default in FORCEPHO_STATE.items():
        fill = np.arange(size) if default is None else np.full(size, default)
        state.setdefault(name, fill.astype(np.int32))
    columns = {"id": catalog.id, **{name: state[name] for name in FORCEPHO_STATE}, "roi": catalog.roi}
    q, pa = to_forcepho(catalog.q, catalog.pa)
    columns |= {"ra": catalog.ra, "dec": catalog.dec, "q": q, "pa": pa}
    columns |= {"sersic": catalog.sersic, "rhalf": catalog.rhalf}
    columns |= dict(zip(catalog.bands, catalog.flux.T, strict=True))
    others = Table({name: extra[name] for name in extra.colnames if name not in columns})
    others, meta = writable_by_fits(path, columns, others, catalog.meta)
    columns |= {name: others[name] for name in others.colnames}
    filters = ",".join(catalog.bands)
    with _any_unit():
        hdus = [fits.PrimaryHDU(), fits.table_to_hdu(Table(columns, meta={**meta, "FILTERS": filters}))]
    hdus[0].header["FILTERS"] = filters
    if catalog.flux_err is not None:
        errors = Table({"id": catalog.id} | dict(zip(catalog.bands, catalog.flux_err.T, strict=True)))
        hdus.append(fits.table_to_hdu(errors))
        hdus[-1].name = "FLUX_ERR"
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary, overwrite=True)


def checked_ids(ids: ArrayLike) -> np.ndarray:
    """Check that identifiers are numbers or printable ASCII text, which every format of a run can hold.

    Parameters
    ----------
    ids : array_like, shape (N,)

    Raises
    ------
    InputError
        One that is masked, empty, not a number, beyond 64 bits, or not ASCII; anything but numbers and text.
    """
    if isinstance(ids, np.ma.MaskedArray) and (masked := np.flatnonzero(np.ma.getmaskarray(ids))).size:
        raise InputError(f"row {masked[0]}: id is masked, expected an identifier of each source")
    ids = np.atleast_1d(np.asarray(ids))
    if ids.ndim != 1:
        raise InputError(f"id has shape {ids.shape}, expected one for each source")
    if ids.dtype.kind == "O":  # text from pandas
        kinds = {type(value) for value in ids.tolist()}
        ids = np.array(ids.tolist()) if kinds <= {str} or kinds <= {int} else ids
    if ids.dtype.kind not in "iufSU":
        raise InputError(f"id holds {ids.dtype}, expected numbers or text")
    bad: list[int] | np.ndarray
    match ids.dtype.kind:
        case "f":
            bad = np.flatnonzero(~np.isfinite(ids))
        case "u":
            bad = np.flatnonzero(ids > np.iinfo(np.int64).max)
        case "S" | "U":
            names = [name.decode("latin-1") if isinstance(name, bytes) else name for name in ids.tolist()]
            bad = [i for i, name in enumerate(names) if not (name and name.isascii() and name.isprintable())]
        case _:
            bad = []
    if len(bad):
        first = str(ids[bad[0]])
        first = first if first and first.isprintable() else repr(first)
        raise InputError(
            f"row {bad[0]}: id is {first}, expected a number below 2^63 or printable ASCII text, which FITS can hold"
        )
    return ids


def require(ids: np.ndarray, column: str, values: np.ndarray, good: np.ndarray | bool, expected: str) -> None:
    """Refuse a column with unusable values, naming the first such row."""
    if np.all(good):
        return
    bad = np.flatnonzero(~np.broadcast_to(good, np.shape(values)))
    more = f" (and {bad.size - 1} rows more)" if bad.size > 1 else ""
    row = bad[0]
    raise InputError(f"row {row} (id {ids[row]}): {column} is {values[row]:g}, expected {expected}{more}")


# --------------------------------------------------------------------------------------------------------
# Reading


def _read_tables(path: Path) -> tuple[Table, list[Table]]:
    """Read the catalogue's table, and the other tables of a FITS file."""
    if fault := irregularity(path):
        raise InputError(f"{fault}, expected a catalogue (FITS or ECSV)")
    sealed = is_sealed(path)
    try:
        with _any_unit():  # they are checked later
            if path.suffix == ".ecsv":
                return Table.read(path, format="ascii.ecsv"), []
            if program := program_of_text(path):
                raise _of_other_program(program)
            require_structure(path)
            with fits.open(path, memmap=False) as hdus:
                tables = [_table_of(hdu) for hdu in hdus if not hdu.is_image]
                primary = hdus[0].header.get("FILTERS")
                promised = SEAL_CARD in hdus[0].header
    except InputError:
        raise
    except Exception as error:  # astropy has no exception class of its own for these
        reason = " ".join(str(error).split())
        raise InputError(f"cannot be read ({reason}), expected a catalogue (FITS or ECSV)") from error
    if promised and not sealed:
        raise changed()
    if not tables:
        raise InputError("no table among its extensions, expected a catalogue")
    if primary is not None:
        tables[0].meta.setdefault("FILTERS", primary)
    return tables[0], tables[1:]


def _of_other_program(program):
    """Make the error for a list of sources in the conventions of another program."""
    return InputError(
        f"found a file of {program}, expected a catalogue (FITS or ECSV), such as `fphojax convert` makes of it"
    )


def _require_icrs(meta):
    """Refuse positions in another frame than that of the images, if the table says so."""
    for key, value in meta.items():
        text = str(value).strip().upper()
        frame = key.upper() in ("RADESYS", "RADECSYS") and text not in ("ICRS", "FK5", "")
        if frame or (key.upper() == "EQUINOX" and not re.fullmatch(r"J?2000(\.0*)?|", text)):
            raise InputError(f"{key} = {value!r}, expected positions in ICRS, or FK5 of equinox 2000")


@contextlib.contextmanager
def _any_unit():
    """Suppress warnings about units and types that astropy does not know: they are kept as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        warnings.simplefilter("ignore", InvalidEcsvDatatypeWarning)
        yield


def _table_of(hdu):
    return Table.read(
        hdu, format="fits", mask_invalid=False, character_as_bytes=False, unit_parse_strict="silent"
    )


def _filters(table):
    """Return the bands in FILTERS, separated by commas (names may then contain blanks) or by blanks."""
    text = str(table.meta.pop("FILTERS", ""))
    names = [name.strip() for name in text.split(",") if name.strip()]
    return names if set(names) <= set(table.colnames) else text.replace(",", " ").split()


def _convention(table: Table, filters: Sequence[str], ecsv: bool) -> tuple[bool, str]:
    """Return whether a table follows our conventions rather than forcepho's, and how that is known."""
    version = table.meta.pop("FPHOJAX", None)
    if version not in (None, _LAYOUT):
        raise InputError(f"FPHOJAX = {version}, expected {_LAYOUT}: the layout is newer than this program")
    has_state = set(FORCEPHO_STATE) <= set(table.colnames)
    present = [name for name in ("roi", *SHAPES, *filters) if name in table.colnames]
    with_unit = [name for name in present if table[name].unit is not None]
    if version is not None:
        return True, "keyword FPHOJAX"
    if "pa" in with_unit:
        if has_state:
            raise InputError(
                "has forcepho's columns (source_index, n_iter, ...), but pa has a unit, expected no unit "
                "(forcepho's layout: q = sqrt(b/a)), or the keyword FPHOJAX = 1 (ours: q = b/a)"
            )
        return True, "unit of pa"
    if ecsv:
        raise InputError("column pa has no unit, expected deg")
    if not filters and not has_state:
        return True, "no keyword FILTERS"
    if filters and {"id", "roi"} <= set(table.colnames):
        _require_radians(table, table["id"], "forcepho's layout has them")
    if unlike := _unlike_forcepho(table, filters, with_unit, has_state):
        raise InputError(
            f"column pa has no unit, and the table is neither ours nor forcepho's ({', '.join(unlike)}), "
            "expected pa with the unit deg and q = b/a"
        )
    return False, "keyword FILTERS, no units"


def _unlike_forcepho(table, filters, with_unit, has_state):
    """List what a table lacks that forcepho's always have, and what it has that they never have."""
    differences = [f"no {name}" for name in ("id", "roi") if name not in table.colnames]
    differences += [] if filters else ["no FILTERS"]
    differences += [f"a unit of {name}" for name in with_unit]
    differences += [f"a column {band}_err" for band in filters if f"{band}_err" in table.colnames]
    if not differences and not has_state:
        types = {name: table[name].dtype.newbyteorder("=") for name in _FORCEPHO_TYPES}
        if not any(types[name] == kind for name, kind in _FORCEPHO_TYPES.items()):
            differences = [f"{name} of type {kind}" for name, kind in types.items()]
    return differences


def _require_radians(table, ids, why: str):
    """Refuse radians that can only be degrees."""
    values = _numbers(table["pa"], u.rad, [])
    good = ~(np.abs(values) > 2 * np.pi * (1 + 1e-9))
    require(ids, "pa", values, good, f"radians within 2 pi, as {why}; degrees need the unit deg")


def _interpret(table: Table, others: list[Table], bands: tuple[str, ...], native: bool, reason: str):
    """Make the arguments of a catalogue from the tables of a file."""
    notes: list[str] = []
    ids = _ids(table, notes)
    values = {name: _numbers(table[name], UNITS[name], notes) for name in SHAPES if native or name != "pa"}
    if not native:
        values["pa"] = _numbers(table["pa"], u.rad, notes)
        require(ids, "q", values["q"], (values["q"] > 0) & (values["q"] <= 1), "sqrt(b/a) in (0, 1]")
        values["q"], values["pa"] = from_forcepho(values["q"], values["pa"])
        notes.append("pa from radians, q from sqrt(b/a)")
    elif table["pa"].unit is None:
        if looks_like_radians(values["pa"]):
            raise InputError(
                "column pa has no unit and looks like radians, expected it with its unit, deg or rad"
            )
        notes.append("pa has no unit: degrees")
    elif conversion(table["pa"].unit, u.rad) == 1:
        _require_radians(table, ids, "its unit says")
    has_roi = "roi" in table.colnames
    values["roi"] = _numbers(table["roi"], u.arcsec, notes) if has_roi else ROI_PER_RHALF * values["rhalf"]

    errors = [band + "_err" for band in bands]
    if native:
        present = [name for name in errors if name in table.colnames]
        if present and len(present) < len(errors):
            raise InputError(f"flux uncertainties only in {', '.join(present)}, expected {', '.join(errors)}")
        flux_err = _fluxes(table, present, notes) if present else None
    else:
        second = _error_table(others, bands, len(table))
        flux_err = None if second is None else _fluxes(second, bands, [])
    used = {"id", "roi", *SHAPES, *bands, *(errors if native else ())}
    columns = values | {"id": ids, "flux": _fluxes(table, bands, notes), "flux_err": flux_err, "bands": bands}
    columns["meta"] = dict(table.meta)
    columns["extra"] = Table({name: table[name] for name in table.colnames if name not in used})
    return columns, CatalogReading("fphojax" if native else "forcepho", reason, tuple(notes))


def _ids(table, notes: list[str]):
    """Return the identifiers, or row numbers if there are none; each must be unique."""
    if "id" not in table.colnames:
        alike = [name for name in table.colnames if name.lower() == "id"]
        if alike:
            raise InputError(f"no column id, found {alike[0]}, expected its name in small letters")
        notes.append("no column id: numbers of the rows, from 0")
        return np.arange(len(table))
    ids = checked_ids(table["id"])
    ids = ids.astype(ids.dtype.newbyteorder("="))
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(ids)))
    if again.size:
        row = again[0]
        raise InputError(
            f"row {row} (id {ids[row]}): row {first[inverse][row]} has this id, too, expected a different one for "
            "each source"
        )
    return ids


def _error_table(others: list[Table], bands, size: int) -> Table | None:
    """Find forcepho's flux uncertainties: the table FLUX_ERR, else one with all bands and as many rows."""
    for table in others:
        fits_in = set(bands) <= set(table.colnames) and len(table) == size
        if table.meta.get("EXTNAME") == "FLUX_ERR" and not fits_in:
            raise InputError(
                f"extension FLUX_ERR has {len(table)} rows and the columns {', '.join(table.colnames)}, "
                f"expected {size} rows and {', '.join(bands)}"
            )
    usable = [table for table in others if set(bands) <= set(table.colnames) and len(table) == size]
    return min(usable, key=lambda table: table.meta.get("EXTNAME") != "FLUX_ERR", default=None)


def _fluxes(table: Table, columns: Sequence[str], notes: list[str]) -> np.ndarray:
    """Stack columns side by side, in nJy."""
    return np.stack([_numbers(table[name], FLUX_UNIT, notes) for name in columns], axis=-1)


def _numbers(column, unit: u.Unit, notes: list[str]) -> np.ndarray:
    """Convert a column to native float64 in `unit` (assumed if it has none); NaN for missing values."""
    name = column.info.name
    if column.dtype.kind not in "iuf" or column.ndim != 1:
        raise InputError(f"column {name} holds {column.dtype}{column.shape[1:] or ''}, expected numbers")
    if isinstance(column, u.Quantity):  # such as Longitude
        return to_unit(column, unit, f"column {name}")
    values = np.asarray(np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan))
    if column.unit is None:
        return values
    try:
        factor = conversion(column.unit, unit)
    except InputError as error:
        raise InputError(f"column {name}: {error}") from error.__cause__
    if factor == 1:
        return values
    notes.append(f"{name} from {column.unit} to {unit or 'a pure number'}")
    return values * factor
