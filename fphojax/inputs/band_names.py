"""The band of an image, from the keywords of its headers or from the name of its file."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from astropy.io import fits

from fphojax.errors import InputError

from .fits_images import keyword

__all__ = ["band_of"]

_JWST_FILTER = re.compile(r"F\d{3,4}[WMN]2?")
_NO_FILTER = re.compile(r"CLEAR.*|OPEN|NONE|N/?A|EMPTY|BLANK|AIR", re.IGNORECASE)
_WHEELS = ("FILTER1", "FILTER2")


def band_of(
    headers: Sequence[fits.Header],
    path: Path,
    *,
    key: str | None = None,
    patterns: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Determine the band of an image, and what it was read from.

    Parameters
    ----------
    headers : sequence of fits.Header
        That of the image, then that of the file; a keyword is taken from the first that has it.
    path : Path
    key : str, optional
        The keyword; by default ``FILTER``, or ``PUPIL`` where JWST's filter is there (F162M, or behind CLEAR); else
        the one of ``FILTER1`` and ``FILTER2`` (HST's ACS) that is not clear.
    patterns : mapping of str to str, optional
        Bands by patterns of file names, such as ``*_g_*.fits``; where none matches, the keywords decide.

    Returns
    -------
    band, how : str

    Raises
    ------
    InputError
        No keyword, two filters, several patterns that fit, or an image dispersed by a grism.
    """
    fitting = {band: pattern for pattern, band in (patterns or {}).items() if path.match(pattern)}
    if len(fitting) > 1:
        listed = ", ".join(f"{pattern}: {band}" for band, pattern in fitting.items())
        raise InputError(f"the name fits several entries of band_patterns ({listed}), expected one")
    for band, pattern in fitting.items():
        return band, f"file name {pattern}"
    if key is not None:
        band = keyword(key, *headers)
        if band is None:
            raise InputError(f"no keyword {key}, expected the band (setting band_keyword)")
        return band, key
    band, pupil = keyword("FILTER", *headers), keyword("PUPIL", *headers)
    for value in (band, pupil):
        if value is not None and re.fullmatch(r"GR(ISM)?(150)?[RC]", value):
            raise InputError(f"an image dispersed by the grism {value}, expected a direct image")
    if pupil is not None and _JWST_FILTER.fullmatch(pupil):
        return pupil, "PUPIL"
    return (band, "FILTER") if band is not None else _of_two_wheels(headers)


def _of_two_wheels(headers):
    values = {key: keyword(key, *headers) for key in _WHEELS}
    filters = {key: v for key, v in values.items() if v is not None and not _NO_FILTER.fullmatch(v)}
    if len(filters) == 1:
        ((key, band),) = filters.items()
        return band, key
    if any(values.values()):
        listed = ", ".join(f"{key} = {value}" for key, value in values.items() if value is not None)
        raise InputError(
            f"found {listed}, expected one filter; the settings band_keyword and band_patterns say which band it is"
        )
    raise InputError(
        "no keyword FILTER (or FILTER1, FILTER2) in the header of the image or of the file, expected the band; "
        "the settings band_keyword and band_patterns name another place"
    )
