"""Units of inputs: their names in catalogues and images, and conversion to the units of the code.

Internally everything is plain numbers: degrees on the sky and for ``pa``, arcsec for radii and offsets, nJy
for fluxes. What comes with a unit (an astropy Quantity, Angle or Column) is converted; plain numbers are taken to
be in these units already; what cannot be converted is refused.
"""

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.utils.masked import Masked
from numpy.typing import ArrayLike

from fphojax.errors import InputError

__all__ = ["conversion", "convert_fields", "has_unit", "in_degrees", "parse_unit", "to_number", "to_unit"]

_MAGGY = 3631 * u.Jy  # AB, to 0.02 %
_NANOMAGGY = u.def_unit("nanomaggy", 3631 * u.nJy)
# What astropy's parser does not know, or does not know as a flux density; in lower case, as capitals do not matter.
# "mjy" is not among them: it is milli or mega, and neither is a guess to make.
_ALIASES = {
    u.nJy: "njy nanojy nanojansky nanojanskys",
    u.uJy: "ujy microjy microjansky microjanskys",
    u.mJy: "millijy millijansky millijanskys",
    u.Jy: "jy jansky janskys",
    _NANOMAGGY: "nanomaggy nanomaggies nanomaggie nmgy nmaggy nmaggies",
    u.def_unit("maggy", _MAGGY): "maggy maggies maggie mgy",
    u.deg: "deg degs degree degrees",
    u.arcmin: "arcmin arcmins arcminute arcminutes amin",
    u.arcsec: "arcsec arcsecs arcsecond arcseconds asec",
    u.mas: "mas masec milliarcsec milliarcsecond milliarcseconds",
    u.rad: "rad rads radian radians",
}
_UNIT_OF = {name: unit for unit, names in _ALIASES.items() for name in names.split()}


def parse_unit(text: str | u.UnitBase) -> u.UnitBase:
    """Return the unit that a name stands for, by astropy's rules or those of `_ALIASES`.

    Parameters
    ----------
    text : str or Unit
        A Unit is returned as it is, one that astropy could not make sense of (`UnrecognizedUnit`) by its name.

    Raises
    ------
    InputError
        An unknown name.
    """
    if isinstance(text, u.UnitBase | u.FunctionUnitBase) and not isinstance(text, u.UnrecognizedUnit):
        name = text.to_string() if isinstance(text, u.NamedUnit) else ""
        return _UNIT_OF.get(name.lower(), text)  # astropy's own maggy is no flux density
    name = str(text).strip()
    if name.lower() in _UNIT_OF:
        return _UNIT_OF[name.lower()]
    try:
        return u.Unit(name)
    except ValueError as error:
        raise InputError(f"unknown unit {name!r}") from error


def conversion(from_unit: str | u.UnitBase, unit: u.UnitBase) -> float:
    """Return the factor that converts one unit to another.

    Parameters
    ----------
    from_unit : str or Unit
        As `parse_unit` takes it.
    unit : Unit
        The expected one.

    Raises
    ------
    InputError
        An unknown unit, or one of another dimension: found, expected.
    """
    expected = f"expected {_words(unit)}"
    if _is_magnitude(from_unit):
        raise InputError(
            f"unit {from_unit} is a magnitude, {expected}: 10 ** (-0.4 (m - 31.4)) is nJy for AB"
        )
    try:
        parsed = parse_unit(from_unit)
    except InputError as error:
        raise InputError(f"{error}, {expected}") from error.__cause__
    try:
        return float(parsed.to(unit))
    except u.UnitsError as error:
        if (parsed * u.sr).is_equivalent(unit):
            raise InputError(
                f"unit {from_unit} is a surface brightness, {expected}: times the area of a pixel, it is a flux"
            ) from error
        raise InputError(f"unit {str(from_unit) or 'of a pure number'}, {expected}") from error


def has_unit(value: Any) -> bool:
    """Return whether a value has a unit: a Quantity, an Angle, a Column with a unit, or a list of them."""
    if isinstance(value, list | tuple):
        return any(map(has_unit, value))
    return getattr(value, "unit", None) is not None


def to_unit(value: ArrayLike, unit: u.UnitBase, name: str) -> np.ndarray:
    """Convert a value to numbers in a unit of the code.

    Parameters
    ----------
    value : array_like, Quantity, Angle, Column or MaskedColumn
        Plain numbers are in `unit`.
    unit : Unit
        ``u.one`` for pure numbers.
    name : str
        Of the argument, for messages.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    InputError
        A unit of another dimension, masked values, no numbers: argument, found, expected.
    """
    if type(value) in (float, np.float64) or (type(value) is np.ndarray and value.dtype == np.float64):
        return np.asarray(value)
    if isinstance(value, SkyCoord):
        raise InputError(
            f"{name}: found a SkyCoord, expected {_words(unit)} (a SkyCoord goes in the place of ra)"
        )
    if isinstance(value, list | tuple) and has_unit(value):
        return np.stack([to_unit(part, unit, name) for part in value])
    stated = getattr(value, "unit", None)
    try:
        factor = 1.0 if stated is None else conversion(stated, unit)
    except InputError as error:
        raise InputError(f"{name}: found {error}") from error.__cause__
    numbers = _unmasked(value, name)
    if numbers.dtype.kind not in "iuf":
        raise InputError(f"{name}: found {_shown(value)}, expected numbers ({_words(unit)})")
    return numbers.astype(np.float64) * factor if factor != 1.0 else numbers.astype(np.float64)


def to_number(value: ArrayLike, unit: u.UnitBase, name: str) -> float:
    """Convert a value to a single number in a unit of the code, as `to_unit` does."""
    number = to_unit(value, unit, name)
    if number.size != 1:
        raise InputError(f"{name}: found {number.size} numbers, expected one ({_words(unit)})")
    return float(number.reshape(()))


def convert_fields(instance: Any, **units: u.UnitBase) -> None:
    """Convert fields of a frozen dataclass to plain numbers in given units, in its ``__post_init__``."""
    for name, unit in units.items():
        object.__setattr__(instance, name, to_number(getattr(instance, name), unit, name))


def in_degrees(ra: ArrayLike | SkyCoord, dec: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Convert right ascension and declination to ICRS, degrees.

    Parameters
    ----------
    ra, dec : array_like, Quantity or Angle
        Plain numbers are degrees. Instead of both a SkyCoord as `ra`, in any frame that leads to ICRS.

    Raises
    ------
    InputError
        As `to_unit`; a SkyCoord together with `dec`, or `ra` alone.
    """
    if not isinstance(ra, SkyCoord):
        if dec is None:
            raise InputError("dec: found nothing, expected a declination, or a SkyCoord in the place of ra")
        return to_unit(ra, u.deg, "ra"), to_unit(dec, u.deg, "dec")
    if dec is not None:
        raise InputError("dec: found a value beside a SkyCoord in the place of ra, expected none")
    try:
        position = ra.icrs
    except (
        AttributeError,
        TypeError,
        ValueError,
    ) as error:  # astropy raises one of these if the frame does not lead to ICRS
        reason = " ".join(str(error).split())
        raise InputError(
            f"ra: found a SkyCoord of frame {ra.frame.name} ({reason}), expected one that leads to ICRS"
        ) from error
    return to_unit(position.ra, u.deg, "ra"), to_unit(position.dec, u.deg, "dec")


def _unmasked(value, name):
    """Return the plain array of a value, whatever its unit; refuse masked entries."""
    mask = (
        np.asarray(getattr(value, "mask", False)) if isinstance(value, Masked | np.ma.MaskedArray) else False
    )
    if np.any(mask):
        row, number = np.argwhere(np.atleast_1d(mask))[0][0], np.count_nonzero(mask)
        raise InputError(f"{name}: found {number} masked, the first in row {row}, expected none")
    value = value.unmasked if isinstance(value, Masked) else value
    try:
        return np.asarray(value.value if isinstance(value, u.Quantity) else value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: found {_shown(value)}, expected numbers") from error


def _is_magnitude(unit):
    if isinstance(unit, u.FunctionUnitBase):
        return True
    return str(unit).strip().lower() in ("mag", "abmag", "stmag", "mag(ab)", "mag(st)")


def _words(unit):
    return {u.one: "a pure number"}.get(unit, f"{unit} or what converts to it")


def _shown(value):
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."
