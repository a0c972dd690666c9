"""Source catalogues: columns, units, our own tables and forcepho's.

Our own table (ECSV or FITS) has a unit with every column that needs one:

========================  ==========================================================================
``id``                    identifier of the source (row number if absent)
``ra``, ``dec``           deg, ICRS
``roi``                   radius of influence, arcsec (5 ``rhalf`` if absent)
``q``                     axis ratio b/a, in (0, 1]
``pa``                    position angle of the major axis, east of north, deg
``sersic``                Sersic index
``rhalf``                 circularised half-light radius, arcsec
band                      total flux, one column per band, nJy
band + ``_err``           standard deviation of the flux (all bands or none), nJy
========================  ==========================================================================

Its metadata hold ``FPHOJAX`` (version of the layout) and ``FILTERS`` (bands, separated by commas). A FITS
table without that mark and without a unit of ``pa`` is forcepho's: ``q`` is sqrt(b/a), ``pa`` is in radians
from +RA towards +Dec, and flux uncertainties are in columns of the bands' names in a second table,
``FLUX_ERR``. All other columns are kept, and written back.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, Table

from .errors import InputError
from .files import replacing
from .fits_structure import require_structure
from .seals import SEAL_CARD, changed, is_sealed

__all__ = ["ROI_PER_RHALF", "SourceCatalog", "from_forcepho", "to_forcepho"]

ROI_PER_RHALF = 5.0

_LAYOUT = 1
_SHAPES = ("ra", "dec", "q", "pa", "sersic", "rhalf")
_UNITS = {"ra": u.deg, "dec": u.deg, "pa": u.rad, "rhalf": u.arcsec, "roi": u.arcsec}
_OWN_UNITS = _UNITS | {"pa": u.deg}
_FLUX_UNIT = u.nJy
# What forcepho's layout has besides, in its order, and the values of a source never fitted.
_FORCEPHO_STATE = {"source_index": None, "is_active": 0, "is_valid": 1, "n_iter": 0, "n_patch": 0}


@dataclass(frozen=True, eq=False)
class SourceCatalog:
    """Parameters of N sources, in the conventions of the code.

    Attributes
    ----------
    id : ndarray, shape (N,)
        Integers or strings.
    ra, dec : ndarray, shape (N,)
        Degrees.
    flux : ndarray, shape (N, n_band)
        Total fluxes, nJy by convention.
    flux_err : ndarray, shape (N, n_band), or None
        Their standard deviations; NaN where one is not known.
    q : ndarray, shape (N,)
        Axis ratio b/a, in (0, 1].
    pa : ndarray, shape (N,)
        Position angle of the major axis, east of north, radians.
    sersic : ndarray, shape (N,)
    rhalf : ndarray, shape (N,)
        Circularised half-light radius, arcsec; zero for a point.
    roi : ndarray, shape (N,)
        Radius of influence, arcsec.
    bands : tuple of str
    meta : dict
        What the file's header says besides.
    extra : Table
        Columns without meaning here, N rows.

    Raises
    ------
    InputError
        Wrong shapes, values that are not finite or out of range: row, column, found, expected.
    """

    id: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    flux: np.ndarray
    flux_err: np.ndarray | None
    q: np.ndarray
    pa: np.ndarray
    sersic: np.ndarray
    rhalf: np.ndarray
    roi: np.ndarray
    bands: tuple[str, ...]
    meta: dict = field(default_factory=dict)
    extra: Table = field(default_factory=Table)

    def __post_init__(self):
        _check(self)

    def __len__(self) -> int:
        return len(self.ra)

    def __getitem__(self, rows) -> "SourceCatalog | np.ndarray":
        """Some of the sources (an index, indices, a slice or a mask), always a catalogue; or a column by name.

        Names are those of the attributes, of the bands (their fluxes) and of the columns in `extra`; values are
        in the conventions of the code.
        """
        if isinstance(rows, str):
            return self._column(rows)
        rows = np.atleast_1d(np.arange(len(self))[rows])
        changes = {name: getattr(self, name)[rows] for name in ("id", "flux", "roi", *_SHAPES)}
        if self.flux_err is not None:
            changes["flux_err"] = self.flux_err[rows]
        return self.replace(**changes, extra=self.extra[rows] if self.extra.colnames else Table())

    def _column(self, name: str) -> np.ndarray:
        if name in self.bands:
            return self.flux[:, self.bands.index(name)]
        if name in ("id", "roi", *_SHAPES):
            return getattr(self, name)
        if name in self.extra.colnames:
            return np.asarray(self.extra[name])
        known = ("id", "roi", *_SHAPES, *self.bands, *self.extra.colnames)
        raise KeyError(f"no column {name}, expected one of {', '.join(known)}")

    def replace(self, **changes) -> "SourceCatalog":
        """Copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def select_bands(self, bands: Sequence[str]) -> "SourceCatalog":
        """Catalogue of these bands, in this order.

        Raises
        ------
        InputError
            If one is missing.
        """
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise InputError(f"no fluxes in {', '.join(missing)}, found {', '.join(self.bands)}")
        columns = [self.bands.index(band) for band in bands]
        errors = None if self.flux_err is None else self.flux_err[:, columns]
        return self.replace(bands=tuple(bands), flux=self.flux[:, columns], flux_err=errors)

    @classmethod
    def from_columns(
        cls,
        *,
        ra,
        dec,
        flux,
        q,
        pa,
        sersic,
        rhalf,
        bands: Sequence[str],
        id=None,
        roi=None,
        flux_err=None,
        meta: dict | None = None,
        extra: Table | None = None,
    ) -> "SourceCatalog":
        """Catalogue from arrays, in the conventions of the class.

        Parameters
        ----------
        ra, dec : array_like, shape (N,)
            Degrees.
        flux, flux_err : array_like, shape (N, n_band), or (N,) for a single band
        q, pa, sersic, rhalf, roi : array_like, shape (N,), or a number for all sources
            ``roi`` is 5 ``rhalf`` by default.
        bands : sequence of str
        id : array_like, shape (N,), optional
            Row numbers by default.
        meta, extra : optional
        """
        ra = np.atleast_1d(np.asarray(ra, dtype=np.float64))
        size, bands = len(ra), tuple(bands)

        def column(values):
            return np.broadcast_to(np.asarray(values, dtype=np.float64), size).copy()

        def fluxes(values):
            values = np.asarray(values, dtype=np.float64)
            return (
                values.reshape(size, 1) if len(bands) == 1 and values.size == size else np.atleast_2d(values)
            )

        return cls(
            id=np.arange(size) if id is None else np.atleast_1d(id),
            ra=ra,
            dec=column(dec),
            flux=fluxes(flux),
            flux_err=None if flux_err is None else fluxes(flux_err),
            q=column(q),
            pa=column(pa),
            sersic=column(sersic),
            rhalf=column(rhalf),
            roi=column(np.multiply(ROI_PER_RHALF, rhalf) if roi is None else roi),
            bands=bands,
            meta={} if meta is None else meta,
            extra=Table() if extra is None else extra,
        )

    @classmethod
    def read(cls, path, bands: Sequence[str] | None = None) -> "SourceCatalog":
        """Read our own table or forcepho's.

        Parameters
        ----------
        path : path-like
            A FITS or ECSV file.
        bands : sequence of str, optional
            Default: those that ``FILTERS`` of the file names. Fluxes in other bands become extra columns.

        Raises
        ------
        InputError
            With the file, the column or row, what was found and what was expected.
        """
        path = Path(path)
        try:
            table, others = _read_tables(path)
            filters = str(table.meta.pop("FILTERS", "")).replace(",", " ").split()
            bands = tuple(filters if bands is None else bands)
            if not bands:
                raise InputError("no FILTERS in the header, expected the bands, separated by commas")
            own = _is_own(table)
            if not own and path.suffix == ".ecsv":
                raise InputError("column pa has no unit, expected deg")
            return _interpret(table, others, bands, own)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error.__cause__

    def write(self, path) -> None:
        """Write our own layout, as ECSV or FITS by the suffix of the name."""
        path = Path(path)
        kind = {".ecsv": "ascii.ecsv", ".fits": "fits"}.get(path.suffix)
        if kind is None:
            raise InputError(f"{path}: suffix {path.suffix!r} of a catalogue, expected .ecsv or .fits")
        table = Table(meta=self.meta | {"FPHOJAX": _LAYOUT, "FILTERS": ",".join(self.bands)})
        for name in ("id", "ra", "dec", "roi", "q", "pa", "sersic", "rhalf"):
            values = np.rad2deg(self.pa) if name == "pa" else getattr(self, name)
            table[name] = Column(values, unit=_OWN_UNITS.get(name))
        for suffix, values in (("", self.flux), ("_err", self.flux_err)):
            if values is not None:
                for band, column in zip(self.bands, values.T, strict=True):
                    table[band + suffix] = Column(column, unit=_FLUX_UNIT)
        for name in self.extra.colnames:
            table[name] = self.extra[name]
        with replacing(path) as temporary:
            table.write(temporary, format=kind, overwrite=True)

    def write_forcepho(self, path) -> None:
        """Write forcepho's FITS layout, with flux uncertainties, if any, in a second table ``FLUX_ERR``."""
        state = {name: self.extra[name] for name in _FORCEPHO_STATE if name in self.extra.colnames}
        for name, default in _FORCEPHO_STATE.items():
            fill = np.arange(len(self)) if default is None else np.full(len(self), default)
            state.setdefault(name, fill.astype(np.int32))
        columns = {"id": self.id, **{name: state[name] for name in _FORCEPHO_STATE}, "roi": self.roi}
        q, pa = to_forcepho(self.q, self.pa)
        columns |= {"ra": self.ra, "dec": self.dec, "q": q, "pa": pa}
        columns |= {"sersic": self.sersic, "rhalf": self.rhalf}
        columns |= dict(zip(self.bands, self.flux.T, strict=True))
        columns |= {name: self.extra[name] for name in self.extra.colnames if name not in columns}
        filters = ",".join(self.bands)
        hdus = [fits.PrimaryHDU(), fits.table_to_hdu(Table(columns, meta=self.meta | {"FILTERS": filters}))]
        hdus[0].header["FILTERS"] = filters
        if self.flux_err is not None:
            errors = Table({"id": self.id} | dict(zip(self.bands, self.flux_err.T, strict=True)))
            hdus.append(fits.table_to_hdu(errors))
            hdus[-1].name = "FLUX_ERR"
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary, overwrite=True)


def to_forcepho(q, pa):
    """Axis ratio b/a and position angle east of north as forcepho has them: sqrt(b/a), from +RA towards +Dec.

    Parameters
    ----------
    q, pa : array
        Angles in radians, here and there.
    """
    return np.sqrt(q), np.pi / 2 - pa


def from_forcepho(q, pa):
    """Inverse of `to_forcepho`."""
    return q**2, np.pi / 2 - pa


def _read_tables(path: Path) -> tuple[Table, list[Table]]:
    """The catalogue's table, and the other tables of a FITS file."""
    if not path.is_file():
        raise InputError("no such file, expected a catalogue (FITS or ECSV)")
    sealed = is_sealed(path)
    try:
        if path.suffix == ".ecsv":
            return Table.read(path, format="ascii.ecsv"), []
        require_structure(path)
        with fits.open(path, memmap=False) as hdus:
            tables = [
                Table.read(
                    hdu,
                    format="fits",
                    mask_invalid=False,
                    character_as_bytes=False,
                    unit_parse_strict="silent",
                )
                for hdu in hdus
                if not hdu.is_image
            ]
            primary = hdus[0].header.get("FILTERS")
            promised = SEAL_CARD in hdus[0].header
    except InputError:
        raise
    except Exception as error:  # astropy has no class of its own for what it finds
        reason = " ".join(str(error).split())
        raise InputError(f"cannot be read ({reason}), expected a catalogue (FITS or ECSV)") from error
    if promised and not sealed:
        raise changed()
    if not tables:
        raise InputError("no table among its extensions, expected a catalogue")
    if primary is not None:
        tables[0].meta.setdefault("FILTERS", primary)
    return tables[0], tables[1:]


def _is_own(table: Table) -> bool:
    """Whether a table keeps our conventions: marked so, or with a unit of pa, which forcepho never writes."""
    version = table.meta.pop("FPHOJAX", None)
    if version not in (None, _LAYOUT):
        raise InputError(f"FPHOJAX = {version}, expected {_LAYOUT}: the layout is newer than this program")
    return version is not None or ("pa" in table.colnames and table["pa"].unit is not None)


def _interpret(table: Table, others: list[Table], bands: tuple[str, ...], own: bool) -> SourceCatalog:
    """Catalogue from the tables of a file."""
    missing = [name for name in (*_SHAPES, *bands) if name not in table.colnames]
    if missing:
        raise InputError(f"no column {', '.join(missing)}, found {', '.join(table.colnames)}")
    ids = np.asarray(table["id"]) if "id" in table.colnames else np.arange(len(table))
    ids = ids.astype(ids.dtype.newbyteorder("="))
    _require_different(ids)
    values = {name: _numbers(table[name], _UNITS.get(name)) for name in _SHAPES}
    if not own:
        _require(ids, "q", values["q"], (values["q"] > 0) & (values["q"] <= 1), "sqrt(b/a) in (0, 1]")
        values["q"], values["pa"] = from_forcepho(values["q"], values["pa"])
    has_roi = "roi" in table.colnames
    values["roi"] = _numbers(table["roi"], u.arcsec) if has_roi else ROI_PER_RHALF * values["rhalf"]

    errors = [band + "_err" for band in bands]
    if own:
        present = [name for name in errors if name in table.colnames]
        if present and len(present) < len(errors):
            raise InputError(f"flux uncertainties only in {', '.join(present)}, expected {', '.join(errors)}")
        flux_err = _fluxes(table, present) if present else None
    else:
        second = _error_table(others, bands, len(table))
        flux_err = None if second is None else _fluxes(second, bands)
    used = {"id", "roi", *_SHAPES, *bands, *(errors if own else ())}
    extra = Table({name: table[name] for name in table.colnames if name not in used})
    flux = _fluxes(table, bands)
    return SourceCatalog(
        id=ids, flux=flux, flux_err=flux_err, bands=bands, meta=dict(table.meta), extra=extra, **values
    )


def _error_table(others: list[Table], bands, size: int) -> Table | None:
    """forcepho's flux uncertainties: the table FLUX_ERR, else one with all bands and as many rows."""
    for table in others:
        fits_in = set(bands) <= set(table.colnames) and len(table) == size
        if table.meta.get("EXTNAME") == "FLUX_ERR" and not fits_in:
            raise InputError(
                f"extension FLUX_ERR has {len(table)} rows and the columns {', '.join(table.colnames)}, "
                f"expected {size} rows and {', '.join(bands)}"
            )
    usable = [table for table in others if set(bands) <= set(table.colnames) and len(table) == size]
    return min(usable, key=lambda table: table.meta.get("EXTNAME") != "FLUX_ERR", default=None)


def _fluxes(table: Table, columns: Sequence[str]) -> np.ndarray:
    """Columns side by side, nJy."""
    return np.stack([_numbers(table[name], _FLUX_UNIT) for name in columns], axis=-1)


def _numbers(column: Column, unit: u.Unit | None) -> np.ndarray:
    """A column as native float64 in `unit` (which it is in if it has none); NaN where a value is missing."""
    if column.dtype.kind not in "iuf" or column.ndim != 1:
        raise InputError(
            f"column {column.name} holds {column.dtype}{column.shape[1:] or ''}, expected numbers"
        )
    values = np.asarray(np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan))
    if unit is None or column.unit is None:
        return values
    try:
        return column.unit.to(unit, values)
    except (u.UnitsError, TypeError, ValueError) as error:
        raise InputError(f"column {column.name} has the unit {column.unit}, expected {unit}") from error


def _check(cat: SourceCatalog) -> None:
    """Refuse wrong shapes and values that are not finite or out of range."""
    size, bands = len(cat.ra), cat.bands
    reserved = {"id", "roi", *_SHAPES, *_FORCEPHO_STATE} & set(bands)
    if reserved or len(set(bands)) < len(bands):
        raise InputError(f"bands {', '.join(bands)}, expected different ones, not named as other columns are")
    shapes = {"id": (size,), "roi": (size,), "flux": (size, len(bands))} | dict.fromkeys(_SHAPES, (size,))
    shapes |= {} if cat.flux_err is None else {"flux_err": (size, len(bands))}
    for name, shape in shapes.items():
        if np.shape(getattr(cat, name)) != shape:
            raise InputError(f"{name} has shape {np.shape(getattr(cat, name))}, expected {shape}")
    if cat.extra.colnames and len(cat.extra) != size:
        raise InputError(f"extra columns have {len(cat.extra)} rows, expected {size}")

    ranges = {"ra": (), "pa": (), "dec": (np.abs(cat.dec) <= 90, "a number in [-90, 90]")}
    ranges["q"] = ((cat.q > 0) & (cat.q <= 1), "b/a in (0, 1]")
    ranges |= {name: (getattr(cat, name) > 0, "a positive number") for name in ("sersic", "roi")}
    ranges["rhalf"] = (cat.rhalf >= 0, "a number not below zero")
    for name, (good, expected) in ((name, found or (True, "")) for name, found in ranges.items()):
        values = getattr(cat, name)
        _require(cat.id, name, values, np.isfinite(values), "a finite number")
        _require(cat.id, name, values, good, expected)
    for i, band in enumerate(bands):
        _require(cat.id, band, cat.flux[:, i], np.isfinite(cat.flux[:, i]), "a finite number")
        if cat.flux_err is not None:
            error = cat.flux_err[:, i]
            good = np.isnan(error) | (np.isfinite(error) & (error > 0))
            _require(cat.id, f"uncertainty of {band}", error, good, "a positive number, or nan if not known")


def _require_different(ids) -> None:
    """Refuse ids that name two sources: results are found by them."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[inverse] != np.arange(len(ids)))
    if again.size:
        row = again[0]
        raise InputError(
            f"row {row} (id {ids[row]}): row {first[inverse][row]} has this id, too, expected a different one for "
            "each source"
        )


def _require(ids, column: str, values, good, expected: str) -> None:
    """Name the first row of a column whose value will not do."""
    if np.all(good):
        return
    bad = np.flatnonzero(~np.broadcast_to(good, np.shape(values)))
    more = f" (and {bad.size - 1} rows more)" if bad.size > 1 else ""
    row = bad[0]
    raise InputError(f"row {row} (id {ids[row]}): {column} is {values[row]:g}, expected {expected}{more}")
