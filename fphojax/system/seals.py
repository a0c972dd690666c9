"""Seals: checksums of whole files, kept in the files themselves, that reveal later changes.

A seal is the text ``fphojax-crc32:`` and eight hexadecimal digits: the CRC-32 of all bytes of the file, with these
digits taken as zeros. It is stored where the format has room for it: in the card ``SEAL`` of the first header of a
FITS file, under the key ``seal`` of JSON, after the end of HDF5 (netCDF). Only state files of the program have a
seal; files written by others or by older versions are read without one.
"""

import re
import zlib
from pathlib import Path

from astropy.io import fits

from fphojax.errors import InputError

__all__ = ["SEAL_CARD", "UNSEALED", "append_seal", "changed", "is_sealed", "seal", "seal_fits"]

SEAL_CARD = "SEAL"
_MARK = b"fphojax-crc32:"
_SEAL = re.compile(re.escape(_MARK) + rb"([0-9a-f]{8})")
UNSEALED = _MARK.decode() + 8 * "0"  # what stands in a file until it is sealed


def seal(path: str | Path) -> None:
    """Put the checksum into a file that has `UNSEALED` in it.

    Parameters
    ----------
    path : path-like
    """
    content = Path(path).read_bytes()
    start = content.index(UNSEALED.encode()) + len(_MARK)
    with Path(path).open("r+b") as file:
        file.seek(start)
        file.write(_digits(content))


def append_seal(path: str | Path) -> None:
    """Seal a file of a format that allows bytes after its end, such as HDF5.

    Parameters
    ----------
    path : path-like
    """
    with Path(path).open("ab") as file:
        file.write(UNSEALED.encode())
    content = Path(path).read_bytes()
    with Path(path).open("r+b") as file:
        file.seek(len(content) - 8)
        file.write(_digits(content))


def seal_fits(path: str | Path) -> None:
    """Seal a FITS file, in its first header.

    Parameters
    ----------
    path : path-like
    """
    fits.setval(path, SEAL_CARD, value=UNSEALED, comment="of this file, as it was written")
    seal(path)


def is_sealed(path: str | Path) -> bool:
    """Return whether a file has a seal; refuse one that was changed since it was sealed.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        The file was changed.
    """
    content = Path(path).read_bytes()
    for match in _SEAL.finditer(content):
        start = match.start(1)
        if _digits(content[:start] + 8 * b"0" + content[start + 8 :]) == match[1]:
            return True
    if _MARK in content:
        raise changed()
    return False


def changed() -> InputError:
    """Make the error on a file that lacks the seal it declares, or does not agree with its seal."""
    return InputError(
        "does not agree with its own checksum, expected the file as it was written: it was changed or damaged since"
    )


def _digits(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)
