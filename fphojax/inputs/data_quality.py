"""Bad pixels of an image: masks, data quality bits, and weights of zero."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from fphojax.errors import InputError
from fphojax.inputs.stores.pixel_layout import ALL_BITS

from .fits_chips import Chip, Key, beside, label, named
from .fits_images import image_of, keyword

__all__ = ["JWST_BITS", "BadPixels", "bad_pixels", "hint_at_errors", "kind_by_name", "quality_note"]

# JWST's data quality: do-not-use and non-science. The other bits say what happened to a pixel, not that it is bad.
JWST_BITS = 1 | 512
_QUALITY = re.compile(r"MASK|DQ|FLAGS?|BPM|WHT|WGT|WEIGHT|VAR(_.*|IANCE)?|I(N?V)?VAR")
_WEIGHTS = re.compile(r"WHT|WGT|WEIGHT|IN?VVAR|IVAR")


@dataclass(frozen=True, eq=False)
class BadPixels:
    """Pixels without weight.

    Attributes
    ----------
    where : ndarray of bool, shape (ny, nx), or None
        None if nothing says that a pixel is bad.
    bits : int
        Bits by which they were chosen; 0 if any bit was.
    rule : str
        The same in words: which values are bad.
    name : str
        The extension that was used; "" if there is none.
    """

    where: np.ndarray | None = field(repr=False)
    bits: int
    rule: str = ""
    name: str = ""

    @property
    def how(self) -> str:
        """Mask that was used, and its bits, in a few words."""
        if self.where is None:
            return "no mask"
        return (self.name or "mask file") + (f" {self.rule}" if self.bits else "")


def bad_pixels(
    hdus: fits.HDUList,
    chip: Chip,
    *,
    mask: Key | None,
    err: Key,
    bitmask: int | None,
    headers: Sequence[fits.Header],
    mask_file: tuple[Path, np.ndarray] | None = None,
) -> BadPixels:
    """Find the pixels of a chip that are bad.

    Parameters
    ----------
    hdus : HDUList
    chip : Chip
    mask : str, int, tuple or None
        Extension of the mask; by default ``MASK``, else ``DQ``, else zeros of ``WHT`` (unless it is the error image).
    err : str, int or tuple
        Extension of the error image.
    bitmask : int or None
        Bits that spoil a pixel; by default all, for ``DQ`` of JWST those of `JWST_BITS`. 0: all.
    headers : sequence of fits.Header
        Those of the chip and of the file.
    mask_file : tuple of path-like and ndarray, optional
        Path and values of a mask in a file of its own.

    Raises
    ------
    InputError
        A mask that is missing or belongs to another chip, or one without bits for a bitmask.
    """
    if mask_file is not None:
        what, values = mask_file
        shown, name = f"mask {what}", ""
    else:
        key = mask if mask is not None else next((key for key in ("MASK", "DQ") if named(hdus, key)), None)
        if key is None:
            return _by_weight(hdus, chip, err)
        hdu = beside(hdus, key, chip)
        name = hdu.name or label(key)
        values, shown = image_of(hdu, label(key)), f"extension {label(key)}"
    if bitmask is None and name == "DQ" and keyword("TELESCOP", *headers) == "JWST":
        bitmask = JWST_BITS
    if not bitmask:
        return BadPixels(values != 0, ALL_BITS, "not 0", name)
    if values.dtype.kind not in "iu":
        raise InputError(f"{shown} has dtype {values.dtype}, expected integers for bitmask {bitmask}")
    return BadPixels((values.astype(np.int64) & bitmask) != 0, bitmask, f"bits {_bits(bitmask)}", name)


def quality_note(hdus: fits.HDUList, uses: dict[str, str]) -> str:
    """Describe which extensions hold the quality of pixels, and what each is used as.

    Parameters
    ----------
    hdus : HDUList
    uses : dict of str to str
        What extensions are used as, by name.

    Returns
    -------
    str
        "" if there is none but a mask.
    """
    present = dict.fromkeys(hdu.name for hdu in hdus if _QUALITY.fullmatch(hdu.name))
    if not set(present) - {"MASK"}:
        return ""
    idle = [name for name in present if name not in uses]
    parts = [f"{name} is {uses[name]}" for name in present if name in uses]
    if idle:
        parts.append(f"{', '.join(idle)} {'is' if len(idle) == 1 else 'are'} not used")
    return "extension " + "; ".join(parts)


def hint_at_errors(hdus: fits.HDUList) -> str:
    """Suggest where the errors may be, if an error image is missing."""
    for hdu in hdus:
        if kind := kind_by_name(hdu.name):
            return (
                f"; if {hdu.name} holds the {kind.replace('_', ' ')}, `fphojax preprocess` reads it with "
                f"extensions.err: {hdu.name} and preprocess.error_kind: {kind}"
            )
    return ""


def kind_by_name(name: str) -> str:
    """Infer from an extension's name if it holds a "variance" or "inverse_variance"; "" if neither."""
    if _WEIGHTS.fullmatch(name):
        return "inverse_variance"
    return "variance" if _QUALITY.fullmatch(name) and name.startswith("VAR") else ""


def _by_weight(hdus, chip, err):
    if not named(hdus, "WHT") or (isinstance(err, str) and err.upper() == "WHT"):
        return BadPixels(None, ALL_BITS)
    return BadPixels(~(image_of(beside(hdus, "WHT", chip), "WHT") > 0), ALL_BITS, "not above 0", "WHT")


def _bits(bitmask):
    return "|".join(str(1 << i) for i in range(bitmask.bit_length()) if bitmask >> i & 1)
