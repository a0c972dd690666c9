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

Its metadata hold ``FPHOJAX`` (version of the layout) and ``FILTERS`` (bands, separated by commas). Other units of
these dimensions are converted. forcepho's table is FITS with ``FILTERS``, its own columns or types, and no
units: ``q`` is sqrt(b/a), ``pa`` is in radians from +RA towards +Dec, and flux uncertainties are in columns of the
bands' names in a second table, ``FLUX_ERR``. All other columns are kept, and written back where the format can hold
them. `fphojax.inputs.catalog_files` has the rules.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from astropy.table import Table
from astropy.utils.masked import Masked
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .angles import from_forcepho, looks_like_radians, to_forcepho
from .catalog_files import (
    FLUX_UNIT,
    FORCEPHO_STATE,
    ROI_PER_RHALF,
    SHAPES,
    UNITS,
    CatalogReading,
    checked_ids,
    native_table,
    read_columns,
    require,
    write_forcepho,
    write_native,
)
from .fits_tables import fits_problems
from .units import has_unit, in_degrees, to_unit

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["ROI_PER_RHALF", "SourceCatalog", "from_forcepho", "to_forcepho"]

_LINES = 30  # of a table in a notebook
_UNITS = UNITS | {"flux": FLUX_UNIT, "flux_err": FLUX_UNIT}


@dataclass(frozen=True, eq=False, repr=False)
class SourceCatalog(Shown):
    """Parameters of N sources, in the conventions of our own tables.

    What comes with a unit (Quantity, Angle, Column) is converted.

    Attributes
    ----------
    id : ndarray, shape (N,)
        Numbers or ASCII text.
    ra, dec : ndarray, shape (N,)
        Degrees.
    flux : ndarray, shape (N, n_band)
        Total fluxes, nJy by convention.
    flux_err : ndarray, shape (N, n_band), or None
        Their standard deviations; NaN where one is not known.
    q : ndarray, shape (N,)
        Axis ratio b/a, in (0, 1].
    pa : ndarray, shape (N,)
        Position angle of the major axis, east of north, degrees.
    sersic : ndarray, shape (N,)
    rhalf : ndarray, shape (N,)
        Circularised half-light radius, arcsec; zero for a point.
    roi : ndarray, shape (N,)
        Radius of influence, arcsec.
    bands : tuple of str
    meta : dict
        Other entries of the file's header.
    extra : Table
        Columns that have no meaning here, N rows.

    Raises
    ------
    InputError
        Wrong shapes, values that are masked, not finite or out of range, units of another dimension: row, column,
        found, expected.
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

    def _facts(self):
        return {"": counted(len(self), "source"), "bands": ", ".join(self.bands)}

    def _below(self):
        lines = self.to_table().pformat(
            max_lines=_LINES,
            max_width=-1,
            html=True,
            show_unit=True,
            show_dtype=False,
            tableclass="dataframe",
        )
        return "".join(lines)

    def __post_init__(self) -> None:
        for name, unit in _UNITS.items():
            value = getattr(self, name)
            if has_unit(value) or isinstance(value, np.ma.MaskedArray | Masked):
                object.__setattr__(self, name, to_unit(value, unit, name))
        object.__setattr__(self, "id", checked_ids(self.id))
        _check(self)

    def __len__(self) -> int:
        return len(self.ra)

    @overload
    def __getitem__(self, rows: str) -> np.ndarray: ...

    @overload
    def __getitem__(self, rows: int | slice | np.ndarray | Sequence[int]) -> "SourceCatalog": ...

    def __getitem__(
        self, rows: int | slice | np.ndarray | Sequence[int] | str
    ) -> "SourceCatalog | np.ndarray":
        """Select sources (index, indices, slice or mask), always as a catalogue; or return a column by name.

        Names are those of the attributes, of the bands (their fluxes) and of the columns in `extra`; values are
        in the conventions of the code.
        """
        if isinstance(rows, str):
            return self._column(rows)
        rows = np.atleast_1d(np.arange(len(self))[rows])
        changes = {name: getattr(self, name)[rows] for name in ("id", "flux", "roi", *SHAPES)}
        if self.flux_err is not None:
            changes["flux_err"] = self.flux_err[rows]
        return self.replace(**changes, extra=self.extra[rows] if self.extra.colnames else Table())

    def _column(self, name: str) -> np.ndarray:
        if name in self.bands:
            return self.flux[:, self.bands.index(name)]
        if name in ("id", "roi", *SHAPES):
            return getattr(self, name)
        if name in self.extra.colnames:
            return np.asarray(self.extra[name])
        names = ("id", "roi", *SHAPES, *self.bands, *self.extra.colnames)
        raise KeyError(f"no column {name}, expected one of {', '.join(names)}")

    def replace(self, **changes: Any) -> "SourceCatalog":
        """Return a copy with some attributes changed."""
        return dataclasses.replace(self, **changes)

    def to_table(self) -> Table:
        """Return the catalogue as a table with units, in the columns of our own layout.

        Its metadata name the bands (``FILTERS``), so that a file of it is read by `read`.
        """
        table = native_table(self)
        formats = {"ra": ".7f", "dec": ".7f", "pa": ".1f"}
        for name in table.colnames:
            if table[name].dtype.kind == "f":
                table[name].info.format = formats.get(name, ".4g")
        return table

    def to_pandas(self) -> "DataFrame":
        """Return `to_table` as a pandas DataFrame."""
        return self.to_table().to_pandas()

    def select_bands(self, bands: Sequence[str]) -> "SourceCatalog":
        """Return the catalogue of these bands, in this order.

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
        ra: ArrayLike,
        dec: ArrayLike | None = None,
        flux: ArrayLike,
        q: ArrayLike,
        pa: ArrayLike,
        sersic: ArrayLike,
        rhalf: ArrayLike,
        bands: Sequence[str],
        id: ArrayLike | None = None,
        roi: ArrayLike | None = None,
        flux_err: ArrayLike | None = None,
        meta: dict | None = None,
        extra: Table | Mapping | None = None,
    ) -> "SourceCatalog":
        """Make a catalogue from arrays, in the conventions of the class.

        Parameters
        ----------
        ra, dec : array_like, Quantity or Angle, shape (N,)
            Plain numbers are degrees. Or a SkyCoord as `ra`, in any frame, without `dec`.
        flux, flux_err : array_like or Quantity, shape (N, n_band), or (N,) for a single band
            Plain numbers are nJy.
        q, pa, sersic, rhalf, roi : array_like or Quantity, shape (N,), or a number for all sources
            Plain numbers are degrees (``pa``) and arcsec (``rhalf``, ``roi``). ``roi`` is 5 ``rhalf`` by default.
        bands : sequence of str
        id : array_like, shape (N,), optional
            Row numbers by default.
        meta, extra : optional

        Raises
        ------
        InputError
            As the class; position angles without a unit that look like radians (see `looks_like_radians`).
        """
        if isinstance(bands, str):
            raise InputError(f"bands is {bands!r}, expected a sequence of names, such as [{bands!r}]")
        ra, dec = in_degrees(ra, dec)
        ra, bands = np.atleast_1d(ra).copy(), tuple(bands)
        size = len(ra)

        def column(name, values):
            values = to_unit(values, _UNITS[name], name)
            if values.ndim and values.shape not in ((size,), (1,)):
                raise InputError(
                    f"{name} has shape {values.shape}, expected ({size},) as ra, or a single number"
                )
            return np.broadcast_to(values, size).copy()

        def fluxes(name, values):
            values = to_unit(values, FLUX_UNIT, name)
            single = len(bands) == 1 and values.size == size
            return (values.reshape(size, 1) if single else np.atleast_2d(values)).copy()

        arguments = {"dec": dec, "q": q, "pa": pa, "sersic": sersic, "rhalf": rhalf}
        columns: dict[str, Any] = {name: column(name, values) for name, values in arguments.items()}
        if not has_unit(pa) and looks_like_radians(columns["pa"]):
            first = columns["pa"][np.argmax(columns["pa"] != 0)]
            raise InputError(
                f"pa: found plain numbers that look like radians, such as {first:g}, expected degrees: give "
                "pa * u.rad, or pa * u.deg if degrees are meant"
            )
        return cls(
            id=np.arange(size) if id is None else cast(np.ndarray, id),
            ra=ra,
            **columns,
            flux=fluxes("flux", flux),
            flux_err=None if flux_err is None else fluxes("flux_err", flux_err),
            roi=column("roi", ROI_PER_RHALF * columns["rhalf"] if roi is None else roi),
            bands=bands,
            meta={} if meta is None else meta,
            extra=Table() if extra is None else Table(extra),
        )

    @classmethod
    def read(cls, path: str | Path, bands: Sequence[str] | None = None) -> "SourceCatalog":
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
        return cls.read_as(path, bands)[0]

    @classmethod
    def read_as(
        cls, path: str | Path, bands: Sequence[str] | None = None
    ) -> tuple["SourceCatalog", CatalogReading]:
        """Read a table as `read` does; return also in which convention it was read."""
        path = Path(path)
        try:
            columns, reading = read_columns(path, bands)
            return cls(**columns), reading
        except InputError as error:
            raise InputError(f"{path}: {error}") from error.__cause__

    def fits_problems(self) -> dict[str, str]:
        """Return the names of further columns and entries of `meta` that FITS cannot hold, and why."""
        columns = {
            "id",
            "roi",
            *SHAPES,
            *FORCEPHO_STATE,
            *self.bands,
            *(f"{band}_err" for band in self.bands),
        }
        columns -= FORCEPHO_STATE.keys() & set(self.extra.colnames)
        return fits_problems(columns, self.extra, self.meta)

    def without(self, names: Collection[str]) -> "SourceCatalog":
        """Return a copy without some further columns and entries of `meta`."""
        remaining = [name for name in self.extra.colnames if name not in names]
        meta = {key: value for key, value in self.meta.items() if key not in names}
        return self.replace(extra=self.extra[remaining] if remaining else Table(), meta=meta)

    def write(self, path: str | Path) -> None:
        """Write our own layout, as ECSV or FITS by the suffix of the name.

        A warning names further columns that FITS cannot hold, such as text that is not ASCII; they are left out.
        """
        write_native(path, self)

    def write_forcepho(self, path: str | Path) -> None:
        """Write forcepho's FITS layout, with flux uncertainties, if any, in a second table ``FLUX_ERR``.

        Further columns as for `write`.
        """
        write_forcepho(path, self)


def _check(cat: SourceCatalog) -> None:
    """Refuse wrong shapes and values that are not finite or out of range."""
    size, bands = len(cat.ra), cat.bands
    reserved = {"id", "roi", *SHAPES, *FORCEPHO_STATE} & set(bands)
    if reserved or len(set(bands)) < len(bands):
        raise InputError(f"bands {', '.join(bands)}, expected different ones, not named as other columns are")
    for band in bands:
        if not (
            isinstance(band, str)
            and band.isascii()
            and band.isprintable()
            and band.strip(" ")
            and "," not in band
        ):
            raise InputError(f"band {band!r}, expected ASCII text without commas, which files can hold")
    shapes = {"id": (size,), "roi": (size,), "flux": (size, len(bands))} | dict.fromkeys(SHAPES, (size,))
    shapes |= {} if cat.flux_err is None else {"flux_err": (size, len(bands))}
    for name, shape in shapes.items():
        if np.shape(getattr(cat, name)) != shape:
            raise InputError(f"{name} has shape {np.shape(getattr(cat, name))}, expected {shape}")
    if cat.extra.colnames and len(cat.extra) != size:
        raise InputError(f"extra columns have {len(cat.extra)} rows, expected {size}")

    ranges: dict[str, Any] = {"ra": (), "pa": (), "dec": (np.abs(cat.dec) <= 90, "a number in [-90, 90]")}
    ranges["q"] = ((cat.q > 0) & (cat.q <= 1), "b/a in (0, 1]")
    ranges |= {name: (getattr(cat, name) > 0, "a positive number") for name in ("sersic", "roi")}
    ranges["rhalf"] = (cat.rhalf >= 0, "a number not below zero")
    for name, (good, expected) in ((name, check or (True, "")) for name, check in ranges.items()):
        values = getattr(cat, name)
        require(cat.id, name, values, np.isfinite(values), "a finite number")
        require(cat.id, name, values, good, expected)
    for i, band in enumerate(bands):
        require(cat.id, band, cat.flux[:, i], np.isfinite(cat.flux[:, i]), "a finite number")
        if cat.flux_err is not None:
            error = cat.flux_err[:, i]
            good = np.isnan(error) | (np.isfinite(error) & (error > 0))
            require(cat.id, f"uncertainty of {band}", error, good, "a positive number, or nan if not known")
