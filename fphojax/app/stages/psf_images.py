"""A PSF image in a FITS file, and what its header says of sampling and pixel response."""

import dataclasses
import math
import warnings
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from fphojax.errors import InputError
from fphojax.inputs.fits_chips import matching
from fphojax.inputs.fits_images import blame, keyword, opened, positive

__all__ = ["PSFImage", "read_psf_image"]

# Largest relative difference of two samplings that count as the same.
_SAME = 0.02


@dataclasses.dataclass(frozen=True)
class PSFImage:
    """An image of a PSF and how it is to be read.

    Attributes
    ----------
    path : Path
    name : str
        Exposure that it belongs to: EXPID of the header, else the name of the file.
    values : ndarray of float64, shape (ny, nx)
    extension : str
        Name of the extension, or its number.
    oversample : float
        Pixels of the image per pixel of the exposures and axis.
    sampling_by : str
        What says so: "given", "OVERSAMP", "PIXELSCL", "WCS" or "assumed".
    includes_pixel : bool
    pixel_by : str
        What says so: "given", "PIXRESP", "native scale" or "oversampled".
    notes : tuple of str
        One line each on whatever was assumed or contradicts the header.
    """

    path: Path
    name: str
    values: np.ndarray
    extension: str
    oversample: float
    sampling_by: str
    includes_pixel: bool
    pixel_by: str
    notes: tuple[str, ...]


def read_psf_image(
    path: str | Path,
    *,
    band: str,
    extension: str | int | None = None,
    oversample: float | None = None,
    pixel_scale: float | None = None,
    includes_pixel: bool | None = None,
) -> PSFImage:
    """Read a PSF image as WebbPSF (STPSF), a survey's pipeline or astropy writes it.

    The sampling is what is given, else the scale of the image (PIXELSCL in arcsec, or a WCS) against that of the
    exposures, else OVERSAMP of the header, else 1. An image includes the pixel response if that is given, or its
    header has PIXRESP = T, or, where that is missing, if it is at the scale of the exposures: WebbPSF's images at
    the detector's sampling are sums over pixels, its oversampled ones are not.

    Parameters
    ----------
    path : path-like
    band : str
        What the PSF is said to be of; another FILTER in the header is noted.
    extension : str or int, optional
        By default PSF, if present, else the first image of two dimensions.
    oversample : float, optional
    pixel_scale : float, optional
        Of the exposures [arcsec].
    includes_pixel : bool, optional

    Returns
    -------
    PSFImage

    Raises
    ------
    InputError
        With the file, the extension or key, what was found and what was expected.
    """
    path = Path(path)
    with blame(str(path)), opened(path) as hdus:
        hdu, label, others = _chosen(hdus, extension)
        headers = [hdu.header]
        if hdus[0].header.get("NAXIS", 0) == 0 and hdu is not hdus[0]:
            headers.append(hdus[0].header)  # a primary header without an image applies to the extensions
        name = keyword("EXPID", *headers, hdus[0].header) or path.name.split(".fits")[0]
        factor, by, notes = _sampling(headers, label, oversample, pixel_scale)
        if factor < 1:
            raise InputError(
                f"extension {label} has {factor:.4g} pixels per pixel of the exposures (by {by}), expected 1 or more"
            )
        pixel, pixel_by = _pixel(headers, label, factor, includes_pixel)
        values = np.asarray(hdu.data, dtype=np.float64)
        filter_name = keyword("FILTER", *headers, hdus[0].header)
    if filter_name is not None and filter_name != band:
        notes.append(f"FILTER is {filter_name}, taken as the PSF of band {band}")
    if extension is None and others:
        notes.append(f"extension {label} was taken; others: {', '.join(others)} (--extension)")
    return PSFImage(path, name, values, label, factor, by, pixel, pixel_by, tuple(notes))


def _chosen(hdus, extension):
    """Choose the HDU of the PSF; return it, its label, and those of the other images."""
    labels = [hdu.name or str(i) for i, hdu in enumerate(hdus)]
    flat = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.header.get("NAXIS") == 2]
    if extension is None and any(hdu.is_image and hdu.name == "PSF" for hdu in hdus):
        extension = "PSF"
    if extension is not None:
        hdu = matching(hdus, extension)[0]
        if not hdu.is_image:
            raise InputError(f"extension {extension} is a table, expected an image")
        if hdu.header.get("NAXIS") != 2:
            raise InputError(
                f"extension {extension} has {hdu.header.get('NAXIS')} axes, expected an image of two dimensions"
            )
        return hdu, str(extension), []
    if not flat:
        axes = [(labels[i], hdu.header["NAXIS"]) for i, hdu in enumerate(hdus) if hdu.is_image]
        listed = ", ".join(f"{label} of {n} axes" for label, n in axes if n) or "no image"
        raise InputError(f"{listed}, expected a PSF extension or an image of two dimensions")
    return hdus[flat[0]], labels[flat[0]], [labels[i] for i in flat[1:]]


def _sampling(headers, label, oversample, pixel_scale):
    """Return the pixels of the image per pixel of the exposures, what says so, and notes."""
    stated = _number_of(headers, "OVERSAMP", label)
    scale, scale_by = _scale(headers, label)
    if pixel_scale is not None:
        if scale is None:
            raise InputError(
                f"extension {label} has neither PIXELSCL nor a WCS, expected one to compare with --pixel-scale"
            )
        factor, by = pixel_scale / scale, scale_by
        factor = round(factor) if abs(factor / max(round(factor), 1) - 1) < _SAME else factor
    elif oversample is not None:
        factor, by = oversample, "given"
    elif stated is not None:
        return stated, "OVERSAMP", []
    else:
        of = f"only {scale_by} ({scale:.4g} arcsec)" if scale is not None else "nor a pixel scale"
        note = (
            f"no OVERSAMP in the header, {of}: taken at the pixel scale of the exposures "
            "(override with --oversample or --pixel-scale)"
        )
        return 1, "assumed", [note]
    if stated is not None and abs(stated / factor - 1) > _SAME:
        source = "--oversample" if by == "given" else f"--pixel-scale and {by}"
        return factor, by, [f"OVERSAMP is {stated:g} in the header, {factor:.4g} by {source} was taken"]
    return factor, by, []


def _scale(headers, label):
    """Return the pixel scale of the image [arcsec], and the keyword that gives it."""
    scale = _number_of(headers, "PIXELSCL", label)
    if scale is not None:
        return scale, "PIXELSCL"
    if not any(key in headers[0] for key in ("CD1_1", "CDELT1")):
        return None, ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # repairs to dates and spellings: only the scale matters
        try:
            wcs = WCS(headers[0])
            scale = float(np.mean(proj_plane_pixel_scales(wcs.celestial))) * 3600 if wcs.has_celestial else 0
        except Exception:  # the errors of wcslib and astropy share no base class; a stamp needs no WCS
            return None, ""
    return (scale, "WCS") if math.isfinite(scale) and scale > 0 else (None, "")


def _pixel(headers, label, factor, includes_pixel):
    """Return whether the image includes the pixel response, and what says so."""
    if includes_pixel is not None:
        return includes_pixel, "given"
    for header in headers:
        if "PIXRESP" in header:
            if not isinstance(header["PIXRESP"], bool):
                raise InputError(f"extension {label} has PIXRESP = {header['PIXRESP']!r}, expected T or F")
            return header["PIXRESP"], "PIXRESP"
    return (True, "native scale") if factor <= 1 else (False, "oversampled")


def _number_of(headers, key, label):
    values = (positive(header, key, label) for header in headers)
    return next((value for value in values if value is not None), None)
