"""What images, keywords and WCS a FITS file holds, and one line on whatever is wrong with it."""

import re
import warnings
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from .errors import InputError
from .file_checks import blame
from .fits_structure import require_structure

__all__ = [
    "asdf_bytes",
    "blame",
    "gwcs_of",
    "image",
    "image_hdu",
    "keyword",
    "lookup_tables",
    "opened",
    "pixel_response",
    "present",
    "read_wcs",
]


@contextmanager
def opened(path: Path):
    """The HDUs of a file; whatever astropy says about a broken one becomes an InputError."""
    if not path.is_file():
        raise InputError("no such file, expected a FITS image")
    require_structure(path)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*may have been truncated")
        try:
            with fits.open(path, memmap=False) as hdus:
                yield hdus
        except InputError:
            raise
        except Exception as error:  # astropy has no class of its own for what it finds
            reason = " ".join(str(error).split())
            raise InputError(f"cannot be read as FITS ({reason}), expected a whole FITS file") from error


def present(hdus, name):
    """`name` if there is an extension of that name, else None."""
    return name if name in hdus else None


def image_hdu(hdus, key):
    """The HDU of an image extension."""
    names = [hdu.name or str(i) for i, hdu in enumerate(hdus)]
    if (key not in hdus) if isinstance(key, str) else not 0 <= key < len(hdus):
        raise InputError(f"no extension {key}, found {', '.join(names)}")
    hdu = hdus[key]
    if not hdu.is_image:
        raise InputError(f"extension {key} is a table, expected an image")
    return hdu


def image(hdus, key):
    """Pixels of an image extension, shape (ny, nx)."""
    data = image_hdu(hdus, key).data
    if data is None or data.ndim != 2:
        raise InputError(
            f"extension {key} has shape {() if data is None else data.shape}, expected a 2-D image"
        )
    return data


def keyword(key: str, *headers):
    """Value of a keyword as a string, from the first header that has it; None if none does or it is blank."""
    values = (str(header[key]).strip() for header in headers if key in header)
    return next((value for value in values if value), None)


def pixel_response(hdu) -> bool:
    """Whether a PSF image includes the pixel response; refuses one on another pixel grid."""
    oversampling = hdu.header.get("OVERSAMP", 1)
    if oversampling != 1:
        raise InputError(
            f"extension {hdu.name} has OVERSAMP = {oversampling}, expected 1: the image's pixel scale"
        )
    value = hdu.header.get("PIXRESP", True)
    if not isinstance(value, bool):
        raise InputError(f"extension {hdu.name} has PIXRESP = {value!r}, expected T or F")
    return value


def read_wcs(header, hdus, key) -> WCS:
    """The celestial WCS of a header."""
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


def gwcs_of(content: bytes):
    """The WCS (``meta.wcs``) of an ASDF file, as JWST's products carry it in their extension ASDF.

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


def asdf_bytes(hdus) -> bytes:
    """Content of the extension ASDF of a JWST product."""
    if "ASDF" not in hdus:
        raise InputError("no extension ASDF, expected one with a gwcs (or use wcs: header)")
    return hdus["ASDF"].data.tobytes()


def lookup_tables(hdus, wcs) -> bytes | None:
    """The extensions with the look-up tables of a FITS WCS's distortion, as a FITS file; None if it has none."""
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    if all(getattr(wcs, name, None) is None for name in tables):
        return None
    kept = [hdu.copy() for hdu in hdus if hdu.name in ("WCSDVARR", "D2IMARR")]
    content = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *kept]).writeto(content)
    return content.getvalue()
