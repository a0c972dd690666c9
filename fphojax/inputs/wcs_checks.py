"""Checks of a WCS before it is trusted: valid numbers, and a sky frame that is nearly ICRS."""

import re
from numbers import Real
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs.wcsapi import BaseLowLevelWCS

from fphojax.errors import InputError

__all__ = ["check_wcs_keywords", "distortion_note", "frame_name"]

_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)[12]_[12]|PV[12]_\d+|LONPOLE|LATPOLE|[AB]P?_(ORDER|\d+_\d+)"
)
_CELESTIAL = re.compile(r"(RA|DEC|.LON|.LAT)-")
_MOST_OF_TAN = 4  # number of the last PV of a projection; wcslib takes what has more for SCAMP's
_EQUINOX = 2000.0
_TOLERANCE = 1e-4  # years: precession then moves the sky by less than 0.005 arcsec


def check_wcs_keywords(header: fits.Header) -> None:
    """Refuse a celestial header whose position, scale, distortion or equinox would be guessed.

    Readers of FITS take 0 for a number that is missing or is a text, 1 degree for a pixel whose matrix is missing or
    zero, and ICRS for an equinox that is a text.

    Raises
    ------
    InputError
        The keyword, what was found and what was expected.
    """
    types = [str(header.get(f"CTYPE{axis}", "")) for axis in (1, 2)]
    if not all(_CELESTIAL.match(kind) for kind in types):
        return  # an error only where a celestial WCS is needed
    for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
        if key not in header:
            raise InputError(f"no keyword {key}, expected it for the WCS ({types[0]}, {types[1]})")
    for key in header:
        if _NUMBERS.fullmatch(key):
            _number(header, key)
    _check_projection(header, types)
    _check_matrix(header)
    for key in ("EQUINOX", "EPOCH"):
        value = header.get(key, _EQUINOX)
        if not re.fullmatch(r"\s*J?2000(\.0*)?\s*", str(value)):
            _number(header, key)
    for key in ("RADESYS", "RADECSYS"):
        if not isinstance(header.get(key, ""), str):
            raise InputError(f"{key} = {header[key]!r}, expected the name of a sky frame, such as ICRS")


def _number(header, key):
    value = header[key]
    if not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(value):
        raise InputError(f"{key} = {value!r}, expected a number")
    return float(value)


def _check_projection(header, types):
    """Refuse SCAMP's polynomial under the name TAN: few terms are mistaken for another reference point."""
    present = [key for key in header if re.fullmatch(r"PV[12]_\d+", key)]
    latitude = 1 if types[0].startswith("DEC-") else 2
    of_latitude = [key for key in present if key.startswith(f"PV{latitude}_")]
    if not types[latitude - 1].strip().endswith("-TAN") or not of_latitude:
        return
    if all(int(key.split("_")[1]) <= _MOST_OF_TAN for key in present):
        raise InputError(
            f"found {of_latitude[0]} with {types[latitude - 1].strip()}, which has no such parameter, expected TPV "
            "instead of TAN in CTYPE1 and CTYPE2 for the polynomial of SCAMP"
        )


def _check_matrix(header):
    """Refuse a singular WCS matrix, and pixels without a size."""
    pairs = [(i, j) for i in (1, 2) for j in (1, 2)]
    for name, matrix in (("CD", np.zeros((2, 2))), ("PC", np.eye(2))):  # what is not given has these values
        present = [(i, j) for i, j in pairs if f"{name}{i}_{j}" in header]
        if not present:
            continue
        for i, j in present:
            matrix[i - 1, j - 1] = _number(header, f"{name}{i}_{j}")
        if not abs(np.linalg.det(matrix)) > 1e-10 * np.abs(matrix).max() ** 2:
            values = ", ".join(f"{value:g}" for value in matrix.ravel())
            raise InputError(
                f"the WCS matrix {name}1_1, {name}1_2, {name}2_1, {name}2_2 is {values}, expected one that is not "
                "singular"
            )
        if name == "CD":
            _refuse_two_matrices(header, matrix)
            return
    for key in ("CDELT1", "CDELT2"):
        if key not in header:
            raise InputError(f"no keyword CD1_1 and no {key}, expected the scale of the WCS")
        if _number(header, key) == 0:
            raise InputError(f"{key} = 0, expected the size of a pixel for the WCS [deg]")


def _refuse_two_matrices(header, cd):
    """Refuse a CD and a PC matrix that differ: FITS forbids both, and readers differ in which they use."""
    if not any(f"PC{i}_{j}" in header for i in (1, 2) for j in (1, 2)):
        return
    pc = np.array(
        [
            [_number(header, f"PC{i}_{j}") if f"PC{i}_{j}" in header else float(i == j) for j in (1, 2)]
            for i in (1, 2)
        ]
    )
    sizes = [_number(header, key) if (key := f"CDELT{i}") in header else 1.0 for i in (1, 2)]
    if not np.allclose(np.array(sizes)[:, None] * pc, cd, rtol=1e-6, atol=1e-6 * np.abs(cd).max()):
        raise InputError(
            "found both CD1_1 and PC1_1 and others that differ, expected one of the two matrices of the WCS"
        )


def distortion_note(header: fits.Header) -> str:
    """Describe how a header contradicts itself about a SIP distortion; "" if it does not."""
    coefficients = "A_ORDER" in header or "B_ORDER" in header
    if coefficients == any(str(header.get(f"CTYPE{axis}", "")).strip().endswith("-SIP") for axis in (1, 2)):
        return ""
    if coefficients:
        return "the SIP distortion of its WCS is used, though CTYPE1 and CTYPE2 do not end in -SIP"
    return "its WCS has no distortion, though CTYPE1 and CTYPE2 end in -SIP: there are no coefficients"


def frame_name(wcs: BaseLowLevelWCS) -> str:
    """Return the sky frame of a WCS: ICRS, or FK5 of equinox 2000, which is the same within 0.03 arcsec.

    Parameters
    ----------
    wcs : APE-14 WCS

    Returns
    -------
    str
        "ICRS" or "FK5".

    Raises
    ------
    InputError
        For any other frame; positions would be wrong by arcminutes.
    """
    frames = [entry[2].get("frame") for entry in wcs.world_axis_object_classes.values() if len(entry) > 2]
    frame: Any = next((frame for frame in frames if frame is not None), None)
    name: Any = getattr(frame, "name", None)
    if name == "icrs" or (name == "fk5" and abs(frame.equinox.jyear - _EQUINOX) < _TOLERANCE):
        return name.upper()
    if frame is None:
        radesys = getattr(getattr(wcs, "wcs", None), "radesys", "") or "none"
        text = f"RADESYS = {radesys!r}"
    else:
        equinox = getattr(frame, "equinox", None)
        text = name.upper() if equinox is None else f"{name.upper()} of equinox {equinox.value}"
    raise InputError(
        f"WCS has the sky frame {text}, expected ICRS, or FK5 of equinox 2000 (RADESYS, EQUINOX): bring the header "
        "to one of them"
    )
