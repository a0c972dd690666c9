"""Parameters and state of all sources of a field, by row, so that a patch touches only its own rows."""

from functools import cached_property

import numpy as np
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.bounds import PARAMETERS, Bounds
from fphojax.inputs.source_catalog import SourceCatalog

__all__ = ["STATE", "SceneColumns"]

STATE = ("source_index", "is_active", "is_valid", "n_iter", "n_patch", "fit_flag")
_FLAG_LENGTH = 80
_SHAPES = ("q", "pa", "sersic", "rhalf")
_OF_FIT = ("profile", "galaxy", "component")  # columns that say what a source is fitted with


class SceneRows(SourceCatalog):
    """Some sources of a scene, whose table of other columns is made only when needed.

    Making a small astropy table takes as long as the rest of a check-out.
    """

    _columns: dict[str, np.ndarray]

    @cached_property
    def extra(self) -> Table:
        """Return a table of the columns ``source_index`` and, if the scene has them, those of `_OF_FIT`."""
        return Table(self._columns)

    def _column(self, name):
        columns = self.__dict__.get("_columns", {})
        return columns[name] if name in columns else super()._column(name)


class SceneColumns:
    """Parameters, bounds, covariances and counters of N sources.

    Parameters
    ----------
    catalog : SourceCatalog
        Present parameters.
    ra, dec : ndarray, shape (N,)
        Positions to which the bounds of x and y refer, degrees.
    limits : pair of dict of str to ndarray
        Lower and upper bounds as `Bounds.of_model` gives them.
    rhalf : ndarray, shape (N,), optional
        Initial half-light radii, arcsec; the catalogue's by default.

    Attributes
    ----------
    values : ndarray, shape (N, n_band + 6)
        Fluxes, ra, dec, q, pa, sersic, rhalf, in the units of `SourceCatalog`, but ``pa`` in radians, as in the
        files of the state.
    roi : ndarray, shape (N,)
        Radii of influence, arcsec.
    n_iter, n_patch : ndarray of int, shape (N,)
        Iterations, and patches, that each source has been active in.
    flags : dict of int to str
        Why sources were given up, by row.
    flagged : ndarray of bool, shape (N,)
        Whether they were.
    has_covariance : ndarray of bool, shape (N,)
    """

    def __init__(
        self,
        catalog: SourceCatalog,
        ra: np.ndarray,
        dec: np.ndarray,
        limits: tuple[dict, dict],
        rhalf: np.ndarray | None = None,
    ):
        size = len(catalog)
        self.id, self.bands, self.roi = catalog.id, catalog.bands, catalog.roi
        self.values = _values(catalog)
        self.start_ra, self.start_dec = ra, dec
        self.start_rhalf = catalog.rhalf.copy() if rhalf is None else rhalf
        self._lower, self._upper = (np.column_stack([side[name] for name in PARAMETERS]) for side in limits)
        self.n_iter, self.n_patch = np.zeros(size, dtype=np.int32), np.zeros(size, dtype=np.int32)
        self.flags: dict[int, str] = {}
        self.flagged = np.zeros(size, dtype=bool)
        self.has_covariance = np.zeros(size, dtype=bool)
        upper = np.triu_indices(self.n_parameter)
        self._triangle_of_matrix = np.ravel_multi_index(upper, 2 * (self.n_parameter,))
        self._matrix_of_triangle = np.empty(2 * (self.n_parameter,), dtype=np.intp)
        self._matrix_of_triangle[upper] = self._matrix_of_triangle.T[upper] = np.arange(len(upper[0]))
        # memory is allocated row by row, as covariances come in
        self._triangles = np.zeros((size, len(upper[0])))
        self._flux_err, self._meta = catalog.flux_err, catalog.meta
        names = [name for name in catalog.extra.colnames if name not in STATE]
        self._extra = catalog.extra[names] if names else Table()
        self._of_fit = {
            name: np.asarray(self._extra[name]) for name in _OF_FIT if name in self._extra.colnames
        }

    def __len__(self) -> int:
        return len(self.values)

    @property
    def n_parameter(self) -> int:
        """Number of parameters of a source: its fluxes and six more."""
        return self.values.shape[1]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of covariances."""
        return (*self.bands, *PARAMETERS[1:])

    def take(self, rows: np.ndarray, values: np.ndarray | None = None) -> SourceCatalog:
        """Return a catalogue of some sources, without uncertainties; ``source_index`` is the row here.

        Of the other columns it has only those that say what is fitted. Parameters are the present ones, or `values`
        if given.
        """
        catalog = object.__new__(SceneRows)
        columns = {"source_index": rows.copy()}
        columns |= {name: values[rows] for name, values in self._of_fit.items()}
        # all numbers were checked when they came in; checking them again would take longer than the rest
        catalog.__dict__.update(
            id=self.id[rows],
            flux_err=None,
            roi=self.roi[rows],
            bands=self.bands,
            meta={},
            _columns=columns,
            **self._attributes(self.values[rows] if values is None else values),
        )
        return catalog

    def values_of(self, catalog: SourceCatalog) -> np.ndarray:
        """Convert a catalogue to rows of `values`.

        Raises
        ------
        InputError
            Other bands, or a parameter that is not finite.
        """
        if catalog.bands != self.bands:
            raise InputError(f"catalogue in {', '.join(catalog.bands)}, expected {', '.join(self.bands)}")
        values = _values(catalog)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise InputError(
                f"row {row} (id {catalog.id[row]}): parameters {values[row].tolist()}, expected finite numbers"
            )
        return values

    def bounds(self, rows: np.ndarray) -> Bounds:
        """Return the bounds of some sources; those of x and y are offsets from the present positions.

        They always contain the present position.
        """
        lower, upper = self._lower[rows], self._upper[rows]
        position = slice(len(self.bands), len(self.bands) + 2)
        ra, dec = self.values[rows, position].T
        start_ra, start_dec = self.start_ra[rows], self.start_dec[rows]
        if (ra != start_ra).any() or (dec != start_dec).any():
            moved = sky_offsets(ra, dec, start_ra, start_dec)
            # a source on the edge of its box may be 1e-10 arcsec outside, by rounding
            lower[:, position] = np.minimum(lower[:, position] - moved, 0)
            upper[:, position] = np.maximum(upper[:, position] - moved, 0)
        return self._bounds(lower, upper)

    def all_limits(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return the `limits` of all sources; those of x and y are offsets from the initial positions."""
        return self._limits(self._lower), self._limits(self._upper)

    def covariances(self, rows: np.ndarray) -> np.ndarray:
        """Return the covariance matrices of some sources, shape (n, n_band + 6, n_band + 6).

        NaN for a source that never had one.
        """
        blocks = self.blocks_of(self._triangles[rows])
        blocks[~self.has_covariance[rows]] = np.nan
        return blocks

    def blocks_of(self, triangles: np.ndarray) -> np.ndarray:
        """Invert `triangles_of`."""
        return triangles[:, self._matrix_of_triangle]

    def triangles_of(self, blocks: np.ndarray, size: int) -> np.ndarray:
        """Return the upper triangles of the covariance matrices of `size` sources, shape (size, k).

        Raises
        ------
        InputError
            Wrong shape, or an upper triangle that is not finite or has a negative diagonal element (that of a held
            parameter is zero).
        """
        blocks = np.asarray(blocks, dtype=np.float64)
        shape = (size, self.n_parameter, self.n_parameter)
        if blocks.shape != shape:
            raise InputError(f"block_covs has shape {blocks.shape}, expected {shape}")
        triangles = blocks.reshape(size, -1)[:, self._triangle_of_matrix]
        diagonal = np.einsum("nii->ni", blocks)
        if not (np.isfinite(triangles).all() and (diagonal >= 0).all()):
            good = np.isfinite(triangles).all(axis=1) & (diagonal >= 0).all(axis=1)
            row = int(np.flatnonzero(~good)[0])
            raise InputError(
                f"block_covs of row {row}: expected finite numbers, on the diagonal none below zero"
            )
        return triangles

    def put(
        self, rows: np.ndarray, counts: np.ndarray, values: np.ndarray, triangles: np.ndarray | None = None
    ) -> None:
        """Set counters, parameters and covariances of some sources.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
        counts : ndarray, shape (n, 2)
            ``n_iter``, ``n_patch``.
        values : ndarray, shape (n, n_band + 6)
        triangles : ndarray, shape (n, k), optional
            Upper triangles of covariances; without them, the present ones are kept.
        """
        self.n_iter[rows], self.n_patch[rows] = counts.T
        self.values[rows] = values
        if triangles is not None:
            self._triangles[rows] = triangles
            self.has_covariance[rows] = True

    def set_flag(self, rows: np.ndarray, reason: str | None) -> None:
        """Flag sources with a reason, or remove their flags if it is None."""
        self.flagged[rows] = reason is not None
        if reason is not None:
            self.flags.update(dict.fromkeys(rows.tolist(), reason))
        elif self.flags:
            for row in rows.tolist():
                self.flags.pop(row, None)

    def stored_covariances(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows that have covariances, and their upper triangles."""
        rows = np.flatnonzero(self.has_covariance)
        return rows, self._triangles[rows]

    def put_covariances(self, rows: np.ndarray, triangles: np.ndarray) -> None:
        """Set covariances from rows and upper triangles, as `stored_covariances` returns them."""
        if triangles.shape[1] != self._triangles.shape[1]:
            raise InputError(
                f"covariances of {triangles.shape[1]} numbers each, expected {self._triangles.shape[1]}"
            )
        self._triangles[rows] = triangles
        self.has_covariance[rows] = True

    def catalog(self, is_active: np.ndarray, is_valid: np.ndarray) -> SourceCatalog:
        """Return a catalogue of all sources, with its original columns and the state of each source."""
        size = len(self)
        extra = Table({"source_index": np.arange(size, dtype=np.int32)})
        extra["is_active"], extra["is_valid"] = is_active.copy(), is_valid.copy()
        extra["n_iter"], extra["n_patch"] = self.n_iter.copy(), self.n_patch.copy()
        # FITS allows ASCII only
        flags = {row: reason.encode("ascii", "replace")[:_FLAG_LENGTH] for row, reason in self.flags.items()}
        width = max(map(len, flags.values()), default=1)
        column = np.zeros(size, dtype=f"S{width}")
        for row, reason in flags.items():
            column[row] = reason
        extra["fit_flag"] = column
        for name in self._extra.colnames:
            extra[name] = self._extra[name]
        return SourceCatalog(
            id=self.id,
            flux_err=self._flux_errors(),
            roi=self.roi,
            bands=self.bands,
            meta=self._meta,
            extra=extra,
            **self._attributes(self.values.copy()),
        )

    def restore(self, state: Table, values: np.ndarray | None = None) -> None:
        """Restore counters and flags from the columns that `catalog` adds, and parameters from `values`.

        Without `values`, q and pa that rounding in the file took just outside their bounds are clipped to them.
        """
        self.n_iter[:], self.n_patch[:] = state["n_iter"], state["n_patch"]
        reasons = np.asarray(state["fit_flag"]).astype(str)
        self.flagged = reasons != ""
        self.flags.update((row, str(reasons[row])) for row in np.flatnonzero(self.flagged).tolist())
        if values is not None:
            if values.shape != self.values.shape:
                raise InputError(f"parameters of shape {values.shape}, expected {self.values.shape}")
            self.values[:] = values
            return
        for name in ("q", "pa"):
            column = self.parameters.index(name)
            values = self.values[:, column]
            inside = np.clip(values, self._lower[:, column], self._upper[:, column])
            rounded = np.abs(inside - values) < 1e-12
            values[rounded] = inside[rounded]

    def _flux_errors(self):
        """Return flux errors from covariances or else the original catalogue; None if all are NaN."""
        errors = (
            np.full((len(self), len(self.bands)), np.nan) if self._flux_err is None else self._flux_err.copy()
        )
        rows = np.flatnonzero(self.has_covariance)
        diagonal = np.diag(self._matrix_of_triangle)[: len(self.bands)]
        fitted = np.sqrt(self._triangles[np.ix_(rows, diagonal)])
        errors[rows] = np.where(fitted > 0, fitted, errors[rows])  # a held flux has no error
        return errors if np.isfinite(errors).any() else None

    def _attributes(self, values):
        """Split `values` into columns with the names of the catalogue."""
        n_band = len(self.bands)
        names = ("ra", "dec", *_SHAPES)
        columns = {"flux": values[:, :n_band]} | dict(zip(names, values[:, n_band:].T, strict=True))
        return columns | {"pa": np.rad2deg(columns["pa"])}

    def _limits(self, side):
        n_band = len(self.bands)
        return {"flux": side[:, :n_band]} | dict(zip(PARAMETERS[1:], side[:, n_band:].T, strict=True))

    def _bounds(self, lower, upper):
        lower, upper = (
            limits | {"pa": np.rad2deg(limits["pa"])} for limits in map(self._limits, (lower, upper))
        )
        bounds = object.__new__(Bounds)  # checked when they came in
        bounds.__dict__.update(lower=lower, upper=upper, bands=self.bands)
        return bounds


def _values(catalog):
    """Return the parameters of a catalogue, one row per source; ``pa`` in radians."""
    shapes = (catalog.q, np.deg2rad(catalog.pa), catalog.sersic, catalog.rhalf)
    return np.column_stack([catalog.flux, catalog.ra, catalog.dec, *shapes])
