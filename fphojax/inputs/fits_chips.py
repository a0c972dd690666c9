"""Images of a FITS file that belong together: those of one chip have the same EXTVER."""

from dataclasses import dataclass, field
from typing import Any

from astropy.io import fits

from fphojax.errors import InputError

__all__ = ["HDU", "Chip", "Key", "beside", "chips", "extension_key", "label", "listing", "matching", "named"]

type HDU = fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU | fits.BinTableHDU
Key = str | int | tuple[str, int]  # an EXTNAME, the number of an HDU, or (EXTNAME, EXTVER)


@dataclass(frozen=True, eq=False)
class Chip:
    """A science image of a file.

    Attributes
    ----------
    hdu : astropy HDU
    version : int
        Its EXTVER.
    label : str
        Its EXTNAME, with the EXTVER where the file has several.
    several : bool
        Whether the file has several science images of that name.
    count : int
        How many of them are read.
    """

    hdu: HDU = field(repr=False)
    version: int
    label: str
    several: bool
    count: int

    @property
    def suffix(self) -> str:
        """Suffix that is added to the name of the exposure."""
        return f"_{self.version}" if self.several else ""


def extension_key(key: Any) -> Key:
    """Check an extension as given in settings, where a list counts as a tuple.

    Raises
    ------
    InputError
        For anything but a name, a number, or a name with its EXTVER.
    """
    key = tuple(key) if isinstance(key, list) else key
    pair = isinstance(key, tuple) and len(key) == 2 and isinstance(key[0], str) and type(key[1]) is int
    if pair or (isinstance(key, str) and key) or (type(key) is int and key >= 0):
        return key
    raise InputError(
        f"extension {key!r:.60}, expected a name, the number of an HDU, or a pair of name and EXTVER such as [SCI, 2]"
    )


def label(key: Key) -> str:
    """Format an extension: SCI, 1, or SCI,2."""
    return f"{key[0]},{key[1]}" if isinstance(key, tuple) else str(key)


def listing(hdus: fits.HDUList) -> str:
    """List the extensions of a file, with the EXTVER where several have the same name."""
    names = [hdu.name for hdu in hdus]
    return ", ".join(
        str(i) if not hdu.name else label((hdu.name, hdu.ver)) if names.count(hdu.name) > 1 else hdu.name
        for i, hdu in enumerate(hdus)
    )


def named(hdus: fits.HDUList, key: Key) -> list:
    """Return all HDUs that a key may mean, in the order of the file."""
    if isinstance(key, int):
        return list(hdus[key : key + 1])
    name, version = (key, None) if isinstance(key, str) else key
    name = name.strip().upper()
    return [
        hdu
        for i, hdu in enumerate(hdus)
        if (hdu.name == name or (i == 0 and name == "PRIMARY")) and version in (None, hdu.ver)
    ]


def matching(hdus: fits.HDUList, key: Key) -> list:
    """Return all HDUs that a key may mean, of which there must be at least one.

    Raises
    ------
    InputError
        There is none, or it is no key of an extension.
    """
    key = extension_key(key)
    matches = named(hdus, key)
    if not matches:
        raise InputError(f"no extension {label(key)}, found {listing(hdus)}")
    return matches


def chips(hdus: fits.HDUList, key: Key) -> list[Chip]:
    """Return the science images that a key means: all EXTVERs of a name, or one.

    Raises
    ------
    InputError
        There is none, or EXTVER does not tell them apart.
    """
    key, matches = extension_key(key), matching(hdus, key)
    if not isinstance(key, int):
        _refuse_twins(hdus, matches)
    result = []
    for hdu in matches:
        several = bool(hdu.name) and len(named(hdus, hdu.name)) > 1
        name = label((hdu.name, hdu.ver)) if several else hdu.name or label(key)
        result.append(Chip(hdu, hdu.ver, name, several, len(matches)))
    return result


def beside(hdus: fits.HDUList, key: Key, chip: Chip, *, shared: bool = False) -> HDU:
    """Return the HDU of another kind that belongs to a chip.

    Parameters
    ----------
    hdus : HDUList
    key : str, int or tuple
        A name: the HDU of that name with the chip's EXTVER, or the only one, where there is a single chip. A number
        or a pair: that HDU.
    chip : Chip
    shared : bool
        Whether chips may share the only HDU of that name.

    Raises
    ------
    InputError
        There is none, there are several, or chips would share one.
    """
    key, matches = extension_key(key), matching(hdus, key)
    if len(matches) == 1 and shared:
        return matches[0]
    if isinstance(key, str) and (chip.several or len(matches) > 1):
        twins = [hdu for hdu in matches if hdu.ver == chip.version]
        if not twins:
            raise InputError(
                f"no extension {label((key, chip.version))} for {chip.label}, found {listing(hdus)}; expected one "
                "for each chip, or the setting extensions to choose, as in sci: [SCI, 1]"
            )
        _refuse_twins(hdus, twins)
        return twins[0]
    if not isinstance(key, str) and chip.count > 1:
        raise InputError(
            f"extension {label(key)} is one image for {chip.count} chips, expected a name of which there is one for "
            f"each (or the setting extensions.sci to choose a chip)"
        )
    _refuse_twins(hdus, matches)
    return matches[0]


def _refuse_twins(hdus, candidates):
    """Refuse two HDUs of the same name and EXTVER."""
    for hdu in candidates:
        twins = [i for i, other in enumerate(hdus) if (other.name, other.ver) == (hdu.name, hdu.ver)]
        if hdu.name and len(twins) > 1:
            raise InputError(
                f"extension {label((hdu.name, hdu.ver))} is there {len(twins)} times (HDUs "
                f"{', '.join(map(str, twins))}), expected EXTVER to tell them apart, or a number in the setting "
                "extensions"
            )
