"""Flux units of images, however they are spelled, in nJy."""

import re
import warnings

from astropy import units as u

from fphojax.errors import InputError

from .units import parse_unit

__all__ = ["flux_density", "root_unit", "same_unit", "surface_brightness"]

_PER_PIXEL = re.compile(r"\s*(/|\bper\b|\*|\.)?\s*(pixels?|pix)(\s*(\^|\*\*)?\s*\(?-1\)?)?$", re.IGNORECASE)


def flux_density(unit: str) -> float | None:
    """Convert a unit of flux density (per pixel) to nJy.

    Parameters
    ----------
    unit : str
        As in ``BUNIT``: nJy, uJy, mJy, Jy, nanomaggy or another of the names of `fphojax.inputs.units.parse_unit`;
        with "/pix" or without.

    Returns
    -------
    float or None
        nJy per unit; None if it is not a flux density.
    """
    return _in_units_of(u.nJy, _PER_PIXEL.sub("", _ascii(unit)))


def surface_brightness(unit: str) -> float | None:
    """Convert a unit of surface brightness to nJy per steradian; None if it is not one."""
    text = _ascii(unit).replace(" ", "")
    return _in_units_of(u.nJy / u.sr, "MJy/sr" if text == "MJY/SR" else text)


def same_unit(one: str, other: str) -> bool:
    """Return whether two units are spelled alike, except for blanks and capitals without meaning."""
    one, other = (_ascii(unit).replace(" ", "") for unit in (one, other))
    if one == other:
        return True
    same = flux_density(one) == flux_density(other) and surface_brightness(one) == surface_brightness(other)
    return same and one.lower() == other.lower()


def root_unit(unit: str, power: float) -> str | None:
    """Return the unit of which `unit` is a power, as a string; None if astropy cannot read it."""
    parsed = _parsed(_ascii(unit))
    return None if parsed is None else (parsed ** (1 / power)).to_string()


def _ascii(unit):
    """Strip outer blanks and quotes, and replace the micro sign and the Greek letter by "u"."""
    return unit.strip().strip("'\"").replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")


def _in_units_of(unit, text):
    """Convert the unit of that name to another; None if it cannot be converted."""
    parsed = _parsed(text)
    if parsed is None or not parsed.is_equivalent(unit):
        return None
    factor = float(parsed.to(unit))
    return factor if factor > 0 else None  # astropy reads "0 nJy"


def _parsed(text):
    """Parse the name of a unit; None if it is unknown, or if it is a magnitude, which is no factor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            unit = parse_unit(text) if text else None
        except (InputError, TypeError):
            return None
    return unit if isinstance(unit, u.UnitBase) else None
