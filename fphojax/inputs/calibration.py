"""From the units of an image to nJy per pixel."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u

from .errors import InputError

__all__ = ["Calibration", "calibration"]

ZERO_POINT = 31.4  # AB magnitude of 1 nJy
LIGHT = 2.99792458e18  # speed of light, Angstrom / s
NJY_PER_CGS = 1e32  # 1 erg / s / cm^2 / Hz = 1e23 Jy
_RATES = {"ELECTRONS/S", "ELECTRONS/SEC", "ELECTRON/S", "E-/S", "COUNTS/S", "CPS", "DN/S", "ADU/S"}
_TOTALS = {"ELECTRONS", "ELECTRON", "E-", "COUNTS", "COUNT", "DN", "ADU"}


@dataclass(frozen=True)
class Calibration:
    """How image values become nJy per pixel.

    Attributes
    ----------
    factor : float
        nJy per unit of the image.
    units : str
        Always "nJy"; what forcepho calls ``flux_units``.
    how : str
        Where the factor comes from, for people.
    """

    factor: float
    how: str
    units: str = "nJy"

    def __str__(self):
        return f"1 image unit = {self.factor:.6g} nJy ({self.how})"


def calibration(method: str, *headers) -> Calibration:
    """Calibration of an image by the keywords of its headers.

    ``none``: the image is in nJy per pixel; ``BUNIT`` must be absent or say so.
    ``BUNIT``: a flux density per pixel, such as uJy.
    ``PHOTMJSR``: surface brightness in MJy/sr, or DN/s with the keyword ``PHOTMJSR`` (MJy/sr per DN/s), times
    the pixel area, ``PIXAR_SR`` (sr) or ``PIXAR_A2`` (arcsec^2).
    ``PHOTFLAM``: f_nu = rate x ``PHOTFLAM`` x ``PHOTPLAM``^2 / c [erg/s/cm^2/Hz; Angstrom]; where ``BUNIT`` is not a
    rate, it is divided by ``EXPTIME`` (s).
    Any other name is a keyword with the AB zero point, ``ABMAG``, ``MAGZERO`` and the like:
    flux = value x 10^(0.4 (31.4 - zero point)).

    Parameters
    ----------
    method : str
    *headers : fits.Header
        Science header first; a keyword is taken from the first that has it.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        A keyword that is missing or not a positive number, units that are unknown or do not go with the method.
    """
    lookup = _Keywords(headers)
    rule = {"none": _none, "BUNIT": _unit, "PHOTMJSR": _surface_brightness, "PHOTFLAM": _photflam}.get(method)
    return rule(lookup) if rule is not None else _zero_point(lookup, method)


class _Keywords:
    def __init__(self, headers):
        self._headers = headers

    def number(self, key, *, positive=True):
        value = next((header[key] for header in self._headers if key in header), None)
        if value is None:
            raise InputError(f"no keyword {key}, expected it for the flux calibration")
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
        if not number or (positive and value <= 0):
            raise InputError(f"{key} = {value!r}, expected a {'positive ' if positive else ''}number")
        return float(value)

    def has(self, key):
        return any(key in header for header in self._headers)

    @property
    def bunit(self):
        """BUNIT as it stands, "" if there is none."""
        return str(next((header["BUNIT"] for header in self._headers if "BUNIT" in header), "")).strip()

    def unit(self):
        """BUNIT as an astropy unit."""
        try:
            return u.Unit(self.bunit)
        except ValueError as error:
            raise InputError(
                f"BUNIT = {self.bunit!r} is an unknown unit, expected one that astropy can read"
            ) from error


def _flux_density(lookup):
    """nJy per BUNIT; None if it is not a flux density."""
    try:
        unit = lookup.unit()
    except InputError:
        return None
    return unit.to(u.nJy) if unit.is_equivalent(u.nJy) else None


def _none(lookup):
    if lookup.bunit and _flux_density(lookup) != 1.0:
        raise InputError(
            f"BUNIT = {lookup.bunit!r}, expected nJy, or a flux calibration (setting preprocess.calibration)"
        )
    return Calibration(1.0, "BUNIT = nJy" if lookup.bunit else "no BUNIT, taken as nJy")


def _unit(lookup):
    if not lookup.bunit:
        raise InputError("no keyword BUNIT, expected it for the flux calibration")
    lookup.unit()
    factor = _flux_density(lookup)
    if factor is None:
        raise InputError(f"BUNIT = {lookup.bunit!r}, expected a flux density, such as nJy or uJy")
    return Calibration(float(factor), f"BUNIT = {lookup.bunit}")


def _surface_brightness(lookup):
    if lookup.has("PIXAR_SR"):
        area, how = lookup.number("PIXAR_SR"), "PIXAR_SR"
    else:
        area, how = lookup.number("PIXAR_A2") * u.arcsec.to(u.rad) ** 2, "PIXAR_A2"
    factor, unit = 1e15 * area, lookup.bunit.replace(" ", "")
    if unit == "MJy/sr":
        return Calibration(factor, f"MJy/sr x {how}")
    if unit.upper() == "DN/S":
        return Calibration(factor * lookup.number("PHOTMJSR"), f"DN/s x PHOTMJSR x {how}")
    raise InputError(f"BUNIT = {lookup.bunit!r}, expected MJy/sr or DN/s for the calibration PHOTMJSR")


def _photflam(lookup):
    factor = lookup.number("PHOTFLAM") * lookup.number("PHOTPLAM") ** 2 / LIGHT * NJY_PER_CGS
    unit = lookup.bunit.upper().replace(" ", "")
    if unit in _RATES:
        return Calibration(factor, f"{lookup.bunit} x PHOTFLAM x PHOTPLAM^2 / c")
    if unit in _TOTALS:
        factor /= lookup.number("EXPTIME")
        return Calibration(factor, f"{lookup.bunit} / EXPTIME x PHOTFLAM x PHOTPLAM^2 / c")
    raise InputError(
        f"BUNIT = {lookup.bunit!r}, expected electrons, counts or DN, per second or not, for the calibration PHOTFLAM"
    )


def _zero_point(lookup, key):
    if _flux_density(lookup) is not None:
        raise InputError(
            f"BUNIT = {lookup.bunit!r} is a flux already, expected counts for the calibration {key}"
        )
    value = lookup.number(key, positive=False)
    if not -100 < value < 100:  # as for a keyword that means something else
        raise InputError(f"{key} = {value:g}, expected an AB magnitude")
    return Calibration(10 ** (0.4 * (ZERO_POINT - value)), f"{key} = {value:g}")
