"""Rows of composite sources in the final catalogue, made of those of their components."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
from astropy.table import Column, Table

from fphojax.inputs.composites import composite_name, galaxies_of
from fphojax.results.composite_table import share_and_error, total_and_error

from .catalog_columns import ColumnName
from .column_ucds import ucd_of
from .draw_columns import DrawColumns
from .multipatch import parameters_first
from .patch_draws import RunDraws, SourceDraws

__all__ = ["CompositeRows"]

SHAPES = ("q", "pa", "sersic", "rhalf")
_OF_LIGHT = ("r_kron", "r_iso_", "mu0_", "mue_")  # of the light of a single profile
_OVER_COMPONENTS: dict[str, Callable] = {
    "at_bound": np.max,
    "chi2": np.sum,
    "n_pixel": np.sum,
    "ess_min": np.min,
    "rhat_max": np.max,
    "flags": np.bitwise_or.reduce,
}


class CompositeRows:
    """Builder of the rows of composite sources, from batches of sources in any order.

    Parameters
    ----------
    draws : RunDraws
    of_draws : DrawColumns
    """

    def __init__(self, draws: RunDraws, of_draws: DrawColumns):
        self._ids, self._bands, self._of_draws = draws.ids, draws.bands, of_draws
        place = {name: i for i, name in enumerate(draws.scene.id.tolist())}
        self._fitted = draws.scene[[place[name] for name in draws.ids.tolist()]]
        self._rows = galaxies_of(self._fitted)
        self._of_row = {i: name for name, rows in self._rows.items() for i in rows}
        self._waiting: dict[str, dict[int, tuple]] = defaultdict(dict)
        self._found: dict[str, dict[str, float]] = {}

    def add(self, sources: SourceDraws) -> None:
        """Add sources; those that are no components are skipped."""
        for s, row in enumerate(sources.rows.tolist()):
            if row not in self._of_row:
                continue
            name = self._of_row[row]
            values = {key: array[s] for key, array in sources.values.items()}
            self._waiting[name][row] = values, sources.parts[s][-1]
            if len(self._waiting[name]) == len(self._rows[name]):
                self._found[name] = self._totals(self._waiting.pop(name), self._rows[name])

    def _totals(self, parts, rows):
        """Return the columns that follow from the fluxes of all components together."""
        flux = np.stack([parts[row][0]["flux"] for row in rows])  # (component, chain, draw, band)
        values, last = parts[rows[-1]]
        values = {key: array[None] for key, array in values.items()} | {"flux": flux.sum(axis=0)[None]}
        columns = {
            str(name): column[0]
            for name, column in self._of_draws(parameters_first(values)).items()
            if name.parts and name.parts[0] in self._bands and not name.pattern.startswith(_OF_LIGHT)
        }
        covariance = None
        if last.flux_covariance is not None:
            at = [last.ids.tolist().index(self._ids[row]) for row in rows]
            covariance = last.flux_covariance[:, at][:, :, at]
        flat = np.moveaxis(flux, -1, 1).reshape(len(rows), len(self._bands), -1)
        _, error = total_and_error(flat, covariance)
        share, share_error = share_and_error(flat, covariance)
        for b, band in enumerate(self._bands):
            columns |= {f"{band}_err": error[b], f"bt_{band}": share[b], f"bt_{band}_err": share_error[b]}
        return columns

    def joined(self, table: Table) -> Table:
        """Return the catalogue with one row for each composite source, in place of those of its components.

        Parameters
        ----------
        table : Table
            With a row for each component, see `CatalogBuilder.table`; it is returned as it is where there is none.
        """
        if not self._rows:
            return table
        last = {rows[-1]: name for name, rows in self._rows.items()}
        kept = np.array([i for i in range(len(table)) if i in last or i not in self._of_row])
        joined = table[kept]
        place = {int(row): i for i, row in enumerate(kept)}
        at = np.array([place[rows[-1]] for rows in self._rows.values()])
        members = list(self._rows.values())
        profiles = np.asarray(joined["profile"]).astype(object)
        components = np.asarray(self._fitted["component"]).astype(str)
        ids = np.asarray(joined["id"]).astype(object)
        for i, (name, rows) in zip(at, self._rows.items(), strict=True):
            ids[i] = name
            profiles[i] = composite_name(
                components[rows].tolist(), [str(table["profile"][row]) for row in rows]
            )
        _set(joined, "id", ids.astype(str))
        _set(joined, "profile", profiles.astype(str))
        for name, over in _OVER_COMPONENTS.items():
            joined[name][at] = [over(np.asarray(table[name])[rows]) for rows in members]
        for name in joined.colnames:
            if name.startswith(_OF_LIGHT):
                joined[name][at] = np.nan
        for band in self._bands if f"{self._bands[0]}_err_scaled" in joined.colnames else ():
            ratio = joined[f"{band}_err_scaled"][at] / joined[f"{band}_err"][at]
            joined[f"{band}_err_scaled"][at] = ratio * [
                self._found[name][f"{band}_err"] for name in self._rows
            ]
        for name in next(iter(self._found.values())):
            if name in joined.colnames:
                joined[name][at] = [self._found[galaxy][name] for galaxy in self._rows]
        self._add_shares(joined, at)
        self._add_components(joined, at, table, components)
        return joined

    def _add_shares(self, joined, at):
        for band in self._bands:
            for pattern in ("bt_BAND", "bt_BAND_err"):
                name = ColumnName(pattern, (band,))
                values = [self._found[galaxy][str(name)] for galaxy in self._rows]
                _add(joined, name, "", at, values)

    def _add_components(self, joined, at, table, components):
        for component in dict.fromkeys(components[components != ""].tolist()):
            with_it = [
                (i, row)
                for i, rows in zip(at, self._rows.values(), strict=True)
                for row in rows
                if components[row] == component
            ]
            places, rows = (np.array(numbers) for numbers in zip(*with_it, strict=True))
            for pattern, names, ending in (
                ("COMPONENT_BAND", self._bands, "err"),
                ("COMPONENT_PARAMETER", SHAPES, "std"),
            ):
                for name in names:
                    unit = table[name].unit
                    _add(joined, ColumnName(pattern, (name, component)), unit, places, table[name][rows])
                    if f"{name}_{ending}" in table.colnames:
                        spread = table[f"{name}_{ending}"][rows]
                        _add(
                            joined, ColumnName(f"{pattern}_{ending}", (name, component)), unit, places, spread
                        )


def _set(table, name, values):
    """Replace a column's values, perhaps by longer text."""
    column = table[name]
    table[name] = Column(values, description=column.description, meta=dict(column.meta))


def _add(table, name, unit, rows, values):
    """Add a column that is NaN but for some rows."""
    column = np.full(len(table), np.nan)
    column[rows] = values
    meta = {"ucd": ucd_of(name)}
    table[str(name)] = Column(column, unit=unit or None, description=name.text.text, meta=meta)
