"""Flux units of images, however they are spelled, in nJy."""

import re
import warnings

from astropy import units as u

__all__ = ["NANOMAGGY", "flux_density", "root_unit", "same_unit", "surface_brightness"]

NANOMAGGY = 3631.0  # nJy
_SPELLED = {
    "njy": 1.0,
    "nanojy": 1.0,
    "nanojansky": 1.0,
    "ujy": 1e3,
    "microjy": 1e3,
    "microjansky": 1e3,
    "millijy": 1e6,
    "millijansky": 1e6,
    "jy": 1e9,
    "jansky": 1e9,
    "nanomaggy": NANOMAGGY,
    "nanomaggie": NANOMAGGY,
    "nmgy": NANOMAGGY,
    "maggy": NANOMAGGY * 1e9,
    "maggie": NANOMAGGY * 1e9,
    "mgy": NANOMAGGY * 1e9,
}  # whatever their capitals; "mjy" is milli or mega by its first letter, and neither is a guess to make
_PER_PIXEL = re.compile(r"\s*(/|\bper\b|\*|\.)?\s*(pixels?|pix)(\s*(\^|\*\*)?\s*\(?-1\)?)?$", re.IGNORECASE)


def flux_density(unit: str) -> float | None:
    """What a flux density (per pixel) is in nJy.

    Parameters
    ----------
    unit : str
        As in ``BUNIT``: nJy, uJy, mJy, Jy, their names in full, nanomaggy (3631 nJy), or what astropy reads as such;
        with "/pix" or without.

    Returns
    -------
    float or None
        nJy per unit; None if it is not a flux density.
    """
    text = _PER_PIXEL.sub("", _ascii(unit))
    lower = text.lower()
    for name in (lower, lower.removesuffix("s")):
        if name in _SPELLED:
            return _SPELLED[name]
    parsed = _parsed(text)
    return float(parsed.to(u.nJy)) if parsed is not None and parsed.is_equivalent(u.nJy) else None


def surface_brightness(unit: str) -> float | None:
    """What a surface brightness is in nJy per steradian; None if the unit is not one."""
    text = _ascii(unit).replace(" ", "")
    parsed = _parsed("MJy/sr" if text == "MJY/SR" else text)
    per_sr = u.nJy / u.sr
    return float(parsed.to(per_sr)) if parsed is not None and parsed.is_equivalent(per_sr) else None


def same_unit(one: str, other: str) -> bool:
    """Whether two units are spelled alike, but for blanks and for capitals that mean nothing."""
    one, other = (_ascii(unit).replace(" ", "") for unit in (one, other))
    if one == other:
        return True
    same = flux_density(one) == flux_density(other) and surface_brightness(one) == surface_brightness(other)
    return same and one.lower() == other.lower()


def root_unit(unit: str, power: float) -> str | None:
    """The unit of which `unit` is a power, as a string; None if astropy cannot read it."""
    parsed = _parsed(_ascii(unit))
    return None if parsed is None else (parsed ** (1 / power)).to_string()


def _ascii(unit):
    """Without outer blanks and quotes; the micro sign and the Greek letter are "u"."""
    return unit.strip().strip("'\"").replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")


def _parsed(text):
    """As astropy reads it; None if it does not, or text is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            return u.Unit(text) if text else None
        except (ValueError, TypeError):
            return None
