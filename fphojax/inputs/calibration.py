"""Conversion from the units of an image to nJy per pixel."""

from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.io import fits

from fphojax.errors import InputError

from .image_units import flux_density, root_unit, same_unit, surface_brightness

__all__ = ["Calibration", "calibration", "error_calibration"]

ZERO_POINT = 31.4  # AB magnitude of 1 nJy
LIGHT = 2.99792458e18  # speed of light, Angstrom / s
NJY_PER_CGS = 1e32  # 1 erg / s / cm^2 / Hz = 1e23 Jy
_RATES = {"ELECTRONS/S", "ELECTRONS/SEC", "ELECTRON/S", "E-/S", "COUNTS/S", "CPS", "DN/S", "ADU/S"}
_TOTALS = {"ELECTRONS", "ELECTRON", "E-", "COUNTS", "COUNT", "DN", "ADU"}


@dataclass(frozen=True)
class Calibration:
    """Conversion of image values to nJy per pixel.

    Attributes
    ----------
    factor : float
        nJy per unit of the image.
    units : str
        Always "nJy"; what forcepho calls ``flux_units``.
    how : str
        Where the factor comes from, in words.
    per_area : bool
        Whether the image is a surface brightness; the factor then includes the nominal area of a pixel.
    """

    factor: float
    how: str
    units: str = "nJy"
    per_area: bool = False

    def __str__(self) -> str:
        return f"1 image unit = {self.factor:.6g} nJy ({self.how})"


def calibration(method: str, *headers: fits.Header) -> Calibration:
    """Determine the calibration of an image from the keywords of its headers.

    ``none``: ``BUNIT`` alone decides: nJy, uJy and the like per pixel (see `fphojax.inputs.image_units`); none
    means nJy; or a surface brightness, with the pixel area as for ``PHOTMJSR``.
    ``BUNIT``: the same, but it must be a flux density per pixel.
    ``PHOTMJSR``: surface brightness, such as MJy/sr, or DN/s with the keyword ``PHOTMJSR`` (MJy/sr per DN/s), times
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
    return _RULES[method](lookup) if method in _RULES else _zero_point(lookup, method)


class _Keywords:
    def __init__(self, headers) -> None:
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


def error_calibration(
    method: str, science: Calibration, unit: str, *headers: fits.Header, power: int = 1
) -> Calibration:
    """Determine the calibration of the error image, whose ``BUNIT`` may differ from the science image's.

    Parameters
    ----------
    method : str
        As in `calibration`.
    science : Calibration
        That of the science image.
    unit : str
        ``BUNIT`` of the error image; "" if there is none.
    *headers : fits.Header
        Those of the science image.
    power : {1, 2, -2}
        The power of the standard deviation that the error image holds. For 2 and -2, a unit that is no power of a
        flux or a surface brightness is ignored: weights come in all kinds of units.

    Returns
    -------
    Calibration
        Of the standard deviation.

    Raises
    ------
    InputError
        A unit that the method cannot convert, or that goes with no unit of the science image.
    """
    bunit = _Keywords(headers).bunit
    if power != 1:
        root = root_unit(unit, power)
        fluxes = root is not None and (flux_density(root), surface_brightness(root)) != (None, None)
        unit = root if fluxes else ""
    if not unit or same_unit(unit, bunit):
        return science
    if method in _RULES and bunit:
        return _RULES[method](_Keywords((fits.Header({"BUNIT": unit}), *headers)))
    if not bunit and flux_density(unit) == science.factor:
        return science
    raise InputError(f"BUNIT = {unit!r}, expected {bunit or 'no BUNIT'} as in the science image")


def _none(lookup):
    if not lookup.bunit:
        return Calibration(1.0, "no BUNIT, taken as nJy")
    factor = flux_density(lookup.bunit)
    if factor is not None:
        return Calibration(factor, f"BUNIT = {lookup.bunit}")
    if surface_brightness(lookup.bunit) is None:
        raise InputError(
            f"BUNIT = {lookup.bunit!r}, expected nJy, uJy, mJy, Jy or nanomaggy per pixel, or none for nJy; "
            "`fphojax preprocess` converts other units by the setting preprocess.calibration: PHOTFLAM, PHOTMJSR or "
            "the keyword of the zero point"
        )
    if not (lookup.has("PIXAR_SR") or lookup.has("PIXAR_A2")):
        raise InputError(
            f"BUNIT = {lookup.bunit!r}, expected nJy per pixel, or the area of a pixel in PIXAR_SR or PIXAR_A2; "
            "`fphojax preprocess` converts other units by the setting preprocess.calibration: PHOTMJSR with these "
            "keywords, or the keyword of a zero point"
        )
    return _surface_brightness(lookup)


def _unit(lookup):
    if not lookup.bunit:
        raise InputError("no keyword BUNIT, expected it for the flux calibration")
    factor = flux_density(lookup.bunit)
    if factor is None:
        raise InputError(f"BUNIT = {lookup.bunit!r}, expected a flux density per pixel, such as nJy or uJy")
    return Calibration(factor, f"BUNIT = {lookup.bunit}")


def _surface_brightness(lookup):
    if lookup.has("PIXAR_SR"):
        area, how = lookup.number("PIXAR_SR"), "PIXAR_SR"
    else:
        area, how = lookup.number("PIXAR_A2") * u.arcsec.to(u.rad) ** 2, "PIXAR_A2"
    per_sr, unit = surface_brightness(lookup.bunit), lookup.bunit
    if per_sr is None:
        if unit.replace(" ", "").upper() != "DN/S":
            raise InputError(f"BUNIT = {unit!r}, expected MJy/sr or DN/s for the calibration PHOTMJSR")
        per_sr, unit = 1e15 * lookup.number("PHOTMJSR"), "DN/s x PHOTMJSR"
    return Calibration(area * per_sr, f"{unit} x {how}", per_area=True)


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
    if flux_density(lookup.bunit) is not None or surface_brightness(lookup.bunit) is not None:
        raise InputError(
            f"BUNIT = {lookup.bunit!r} is a flux already, expected counts for the calibration {key}"
        )
    value = lookup.number(key, positive=False)
    if not -100 < value < 100:  # as for a keyword that means something else
        raise InputError(f"{key} = {value:g}, expected an AB magnitude")
    return Calibration(10 ** (0.4 * (ZERO_POINT - value)), f"{key} = {value:g}")


_RULES = {"none": _none, "BUNIT": _unit, "PHOTMJSR": _surface_brightness, "PHOTFLAM": _photflam}
