"""Images, keywords and WCS of a FITS file, with one-line errors on whatever is wrong with it."""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_area
from astropy.wcs.wcsapi import BaseLowLevelWCS

from fphojax.errors import InputError
from fphojax.system.file_checks import blame, irregularity

from .fits_chips import HDU
from .fits_structure import require_structure, unpacked
from .wcs_checks import check_wcs_keywords

__all__ = [
    "asdf_bytes",
    "blame",
    "gwcs_of",
    "image_of",
    "keyword",
    "lookup_tables",
    "opened",
    "pixel_response",
    "positive",
    "read_wcs",
]

_SAME_SCALE = 0.02  # largest relative difference of pixel scales that are the same


@contextmanager
def opened(path: Path) -> Iterator[fits.HDUList]:
    """Yield the HDUs of a file; turn whatever astropy says about a broken one into an InputError."""
    if fault := irregularity(path):
        raise InputError(f"{fault}, expected a FITS image")
    require_structure(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*may have been truncated")
        warnings.filterwarnings("error", message="Error validating header")  # the rest would be left out
        warnings.filterwarnings("error", message="(Checksum|Datasum) verification failed")
        try:
            with unpacked(path) as (stream, packed):
                # decompressed here, as astropy reads what it can of a damaged file
                file = BytesIO(stream.read()) if packed else stream
                with fits.open(file, memmap=False, checksum=True) as hdus:
                    yield hdus
        except InputError:
            raise
        except Exception as error:  # astropy has no exception class of its own for these
            reason = " ".join(str(error).split())
            if "verification failed" in reason:
                raise InputError(
                    f"{reason.rstrip('.')}, expected a file that is as it was when its CHECKSUM and DATASUM were "
                    "written (astropy's `fitscheck --write` writes new ones)"
                ) from error
            raise InputError(f"cannot be read as FITS ({reason}), expected a whole FITS file") from error


def image_of(hdu: HDU, label: str) -> np.ndarray:
    """Return the pixels of an image extension, shape (ny, nx); `label` is its name in messages."""
    if not hdu.is_image:
        raise InputError(f"extension {label} is a table, expected an image")
    data = hdu.data
    if data is None or data.ndim != 2:
        raise InputError(
            f"extension {label} has shape {() if data is None else data.shape}, expected a 2-D image"
        )
    return data


def keyword(key: str, *headers: fits.Header) -> str | None:
    """Return a keyword as a string, from the first header where it is not blank; None if there is none."""
    values = (str(header[key]).strip() for header in headers if key in header)
    return next((value for value in values if value), None)


def positive(header: fits.Header, key: str, label: str) -> float | None:
    """Return the value of a keyword that must be a positive number; None if it is missing."""
    value = header.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InputError(f"extension {label} has {key} = {value!r}, expected a positive number")
    return value


def pixel_response(hdu: HDU, wcs: BaseLowLevelWCS | None = None) -> bool:
    """Return whether a PSF image includes the pixel response; refuse one on another pixel grid.

    Parameters
    ----------
    hdu : HDU
    wcs : WCS, optional
        Of the exposure, to compare pixel scales with.
    """
    oversampling = positive(hdu.header, "OVERSAMP", hdu.name)
    if oversampling not in (None, 1):
        raise InputError(
            f"extension {hdu.name} has OVERSAMP = {oversampling}, expected 1: the image's pixel scale "
            "(or psfstorefile, a store made by `fphojax psf`)"
        )
    scale = positive(hdu.header, "PIXELSCL", hdu.name)
    if scale is not None and wcs is not None:
        expected = 3600 * proj_plane_pixel_area(wcs) ** 0.5
        if expected > 0 and abs(scale / expected - 1) > _SAME_SCALE:
            raise InputError(
                f"extension {hdu.name} has PIXELSCL = {scale:g}, expected {expected:.4g}: the image's pixel scale"
            )
    value = hdu.header.get("PIXRESP", True)
    if not isinstance(value, bool):
        raise InputError(f"extension {hdu.name} has PIXRESP = {value!r}, expected T or F")
    return value


def read_wcs(header: fits.Header, hdus: fits.HDUList, key: str | None) -> WCS:
    """Read the celestial WCS of a header.

    Raises
    ------
    InputError
        Keywords that are missing or no numbers, a matrix that is singular, or whatever astropy cannot read.
    """
    with blame(f"extension {key}"):
        check_wcs_keywords(header)
    with warnings.catch_warnings():
        # These report repairs to dates and to spellings; the celestial axes are as meant.
        warnings.simplefilter("ignore", FITSFixedWarning)
        try:
            wcs = WCS(header, fobj=hdus)
            wcs = wcs if wcs.naxis == 2 else wcs.celestial
            wcs.wcs.set()
        except Exception as error:  # wcslib's errors and astropy's own share no base class
            reason = " ".join(re.sub(r"ERROR \d+ in [^:]*:", "", str(error)).split())
            raise InputError(
                f"extension {key} has an invalid WCS ({reason}), expected a celestial one"
            ) from error
    return wcs


def gwcs_of(content: bytes) -> BaseLowLevelWCS:
    """Read the WCS (``meta.wcs``) of an ASDF file, which JWST's products have in their extension ASDF.

    Raises
    ------
    InputError
        Without the packages asdf and gwcs, or for a file without a WCS.
    """
    try:
        import asdf
        import gwcs
    except ImportError as error:
        raise InputError(
            f"package {error.name} is not installed, expected it for a gwcs (or use wcs: header)"
        ) from error
    with asdf.open(BytesIO(content), lazy_load=False, memmap=False) as tree:
        wcs = tree.tree.get("meta", {}).get("wcs")
    if not isinstance(wcs, gwcs.WCS):
        raise InputError(f"ASDF holds {type(wcs).__name__} as meta.wcs, expected a gwcs")
    return wcs


def asdf_bytes(hdus: fits.HDUList) -> bytes:
    """Return the content of the extension ASDF of a JWST product."""
    if "ASDF" not in hdus:
        raise InputError("no extension ASDF, expected one with a gwcs (or use wcs: header)")
    return hdus["ASDF"].data.tobytes()


def lookup_tables(hdus: fits.HDUList, wcs: WCS) -> bytes | None:
    """Copy the look-up tables of a FITS WCS's distortion to the bytes of a FITS file; None if it has none."""
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    if all(getattr(wcs, name, None) is None for name in tables):
        return None
    copies = [hdu.copy() for hdu in hdus if hdu.name in ("WCSDVARR", "D2IMARR")]
    content = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *copies]).writeto(content)
    return content.getvalue()
