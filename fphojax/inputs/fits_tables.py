"""Limits of FITS tables: no text beyond ASCII, no Python objects, no names that differ in case only."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from astropy.utils.exceptions import AstropyWarning

__all__ = ["fits_problems", "writable_by_fits"]

_LONGEST_NAME = 60  # of a column; a card has 80 characters


def fits_problems(columns: Iterable[str], extra: Table, meta: Mapping) -> dict[str, str]:
    """Find further columns and header entries that FITS cannot hold as they are.

    Parameters
    ----------
    columns : iterable of str
        Names of the other columns of the file.
    extra : Table
    meta : mapping

    Returns
    -------
    dict of str to str
        The reason, by the name of the column or entry.
    """
    names, problems = {name.lower(): name for name in columns}, {}
    for name in extra.colnames:
        other = names.setdefault(name.lower(), name)
        problem = f"its name differs from that of {other} in case only" if other != name else None
        if problem := problem or _name_problem(name) or _column_problem(extra[name]):
            problems[name] = problem
    return problems | {key: reason for key, value in meta.items() if (reason := _entry_problem(key, value))}


def writable_by_fits(
    path: str | Path, columns: Iterable[str], extra: Table, meta: Mapping
) -> tuple[Table, dict]:
    """Drop further columns and header entries that FITS cannot hold, naming them in a warning.

    Parameters
    ----------
    path : path-like
        Of the file to be written.
    columns, extra, meta
        As for `fits_problems`.
    """
    problems = fits_problems(columns, extra, meta)
    if problems:
        named = "; ".join(f"{name} ({reason})" for name, reason in problems.items())
        warnings.warn(f"{path}: left out, as FITS cannot hold it: {named}", AstropyWarning, stacklevel=4)
    # FITS has no signed bytes
    writable = {
        name: extra[name].astype(np.int16) if extra[name].dtype == np.int8 else extra[name]
        for name in extra.colnames
        if name not in problems
    }
    return Table(writable), {key: value for key, value in meta.items() if key not in problems}


def _name_problem(name):
    if not _plain(name):
        return "its name is not plain ASCII"
    if len(name) > _LONGEST_NAME:
        return f"its name is longer than {_LONGEST_NAME} characters"
    return None


def _column_problem(column):
    """Return why FITS cannot hold a column; None if it can."""
    if not isinstance(column, Column):
        return f"it holds {type(column).__name__}"
    kind = column.dtype.kind
    if kind not in "biufcSU" or column.dtype.type in (np.longdouble, np.clongdouble):
        return f"it holds {column.dtype}"
    if kind == "b" and np.any(getattr(column, "mask", False)):
        return "it holds masked booleans"
    if kind in "SU":
        values = np.ma.filled(np.ma.asarray(column), b"" if kind == "S" else "").ravel().tolist()
        row = next((row for row, value in enumerate(values) if not value.isascii()), None)
        if row is not None:
            return f"row {row}: {values[row]!r} is not ASCII"
    return None


def _entry_problem(key, value):
    """Return why FITS cannot hold a header entry; None if it can."""
    if not _plain(str(key)):
        return "its name is not plain ASCII"
    if isinstance(value, list | tuple):
        return next(filter(None, (_entry_problem(key, part) for part in value)), None)
    if isinstance(value, str):
        return None if value.isascii() else f"{value!r} is not ASCII"
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        return f"it is {value}"
    types = str | bool | int | float | complex | np.number | np.bool_ | None | fits.card.Undefined
    return None if isinstance(value, types) else f"it holds {type(value).__name__}"


def _plain(text):
    return text.isascii() and text.isprintable() and bool(text)
