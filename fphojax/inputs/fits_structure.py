"""Check of a file's FITS structure by a few cards, before a library trusts what they say.

Headers that declare 10^8 axes or petabytes, compressed files that unpack without end, and files that go on for
gigabytes after their last extension would keep the reader busy for ever.
"""

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fphojax.errors import InputError

__all__ = ["require_structure", "unpacked"]

_BLOCK, _CARD = 2880, 80
MOST_BLOCKS = 5000  # of a header: 180,000 cards
MOST_BYTES = 64e9  # that the data of an extension may take
MOST_UNPACKED = 8e9  # bytes of a compressed file, unpacked
MOST_BEHIND = 1_000_000  # bytes behind the last extension
_PIECE = 1 << 20
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
_BITPIX = {8, 16, 32, 64, -32, -64}


def require_structure(path: str | Path) -> None:
    """Refuse a file whose headers cannot be those of FITS, or that is too large when it is unpacked.

    Data that end early are left to the reader: it says what is missing.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        Without the name of the file.
    """
    try:
        with unpacked(path) as (stream, packed):
            _look_through(stream, packed)
    except (OSError, EOFError, zipfile.BadZipFile, lzma.LZMAError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot be read as FITS ({reason}), expected a whole FITS file") from error


@contextmanager
def unpacked(path: str | Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Yield a stream of the bytes that astropy would see, and whether the file is compressed."""
    with Path(path).open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise InputError(f"holds {len(names)} files in a zip archive, expected one FITS file")
            with archive.open(names[0]) as stream:
                yield stream, True
        return
    opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
    with (opener or open)(path, "rb") as stream:
        yield stream, opener is not None


def _look_through(stream, packed):
    total, number = 0, 0
    while True:
        block = stream.read(_BLOCK)
        if not block.startswith(b"XTENSION" if number else b"SIMPLE  ="):
            if number == 0:
                raise InputError(
                    "cannot be read as FITS (it does not begin with SIMPLE), expected a FITS file"
                )
            rest = block + stream.read(MOST_BEHIND)
            if len(rest) > MOST_BEHIND or rest.strip(b"\0 "):
                raise InputError(
                    f"goes on behind extension {number - 1} with something that is none (it does not begin with "
                    "XTENSION), expected the end of the file, or another extension"
                )
            return
        cards, n_block = _cards(stream, block, number)
        size = _size(cards, number)
        total += n_block * _BLOCK + size
        if packed and total > MOST_UNPACKED:
            raise InputError(
                f"unpacks to more than {MOST_UNPACKED / 1e9:.0f} GB, expected less, or a file that is not compressed"
            )
        _skip(stream, -(-size // _BLOCK) * _BLOCK, packed)
        number += 1


def _cards(stream, block, number):
    """Return the cards that tell how much data follow a header, and the number of its blocks."""
    cards = {}
    for n_block in range(1, MOST_BLOCKS + 1):
        for at in range(0, len(block), _CARD):
            card = block[at : at + _CARD]
            key = card[:8].rstrip()
            if key == b"END":  # as astropy has it, whatever follows
                return cards, n_block
            if card[8:10] == b"= ":
                cards.setdefault(key.decode("latin-1"), card[10:].split(b"/")[0].strip())
        block = stream.read(_BLOCK)
        if not block:
            raise InputError(
                f"cannot be read as FITS (extension {number} has no END), expected a whole FITS file"
            )
    raise InputError(f"extension {number} has no END in {MOST_BLOCKS} blocks, expected a FITS header")


def _size(cards, number):
    """Compute the size of an extension's data in bytes."""

    def integer(key, default=None):
        text = cards.get(key)
        try:
            return default if text is None and default is not None else int(text)
        except (TypeError, ValueError):
            problem = "is missing" if text is None else f"is {text.decode('latin-1')!r}"
            raise InputError(f"extension {number}: {key} {problem}, expected an integer") from None

    bits, n_axis = integer("BITPIX"), integer("NAXIS")
    if bits not in _BITPIX or not 0 <= n_axis <= 999:
        raise InputError(
            f"extension {number}: BITPIX is {bits} and NAXIS is {n_axis}, expected 8, 16, 32, 64, -32 or -64, and at "
            "most 999"
        )
    size = 1 if n_axis else 0
    for axis in range(1, n_axis + 1):
        length = integer(f"NAXIS{axis}")
        if length < 0:
            raise InputError(f"extension {number}: NAXIS{axis} is {length}, expected 0 or more")
        size *= length
    n_group, n_parameter = integer("GCOUNT", 1), integer("PCOUNT", 0)
    if min(n_group, n_parameter) < 0:
        raise InputError(
            f"extension {number}: GCOUNT is {n_group} and PCOUNT is {n_parameter}, expected 0 or more"
        )
    size = abs(bits) // 8 * n_group * (n_parameter + size)
    if size > MOST_BYTES:
        raise InputError(
            f"extension {number} declares {size / 1e9:.3g} GB, expected at most {MOST_BYTES / 1e9:.0f}"
        )
    return size


def _skip(stream, size, packed):
    if not packed:
        stream.seek(size, 1)
        return
    while size > 0:
        piece = stream.read(min(size, _PIECE))
        if not piece:
            return
        size -= len(piece)
