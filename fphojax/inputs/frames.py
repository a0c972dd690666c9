"""Frames: science, error, mask and background images as pipelines write them, made into exposures in nJy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from .calibration import Calibration, calibration
from .errors import InputError
from .exposures import Exposure
from .fits_images import (
    asdf_bytes,
    blame,
    gwcs_of,
    image,
    image_hdu,
    keyword,
    lookup_tables,
    opened,
    pixel_response,
    present,
    read_wcs,
)
from .store_layout import ALL_BITS

__all__ = ["Frame", "FrameRecipe", "is_mosaic", "read_frame"]

# JWST's data quality: do-not-use and non-science. The other bits say what happened to a pixel, not that it is bad.
JWST_BITS = 1 | 512


@dataclass(frozen=True)
class FrameRecipe:
    """What is made of a frame's images.

    Attributes
    ----------
    sci, err, mask, psf, background : str or None
        Extensions. By default the mask is ``MASK``, else ``DQ``, else zeros of ``WHT``; the PSF is ``PSF``.
    error_kind : {"sigma", "variance", "inverse_variance"}
        What the error image holds.
    bitmask : int, optional
        Bits of the mask that spoil a pixel; by default all, for JWST's ``DQ`` those of `JWST_BITS`.
    calibration : str
        See `fphojax.inputs.calibration.calibration`.
    split_by : {None, "DETECTOR", "MODULE"}
        Keyword whose value is added to the band.
    wcs : {"header", "gwcs"}
        FITS header, or the extension ASDF.
    """

    sci: str = "SCI"
    err: str = "ERR"
    mask: str | None = None
    psf: str | None = None
    background: str | None = None
    error_kind: Literal["sigma", "variance", "inverse_variance"] = "sigma"
    bitmask: int | None = None
    calibration: str = "none"
    split_by: str | None = None
    wcs: Literal["header", "gwcs"] = "header"


@dataclass(frozen=True, eq=False)
class Frame:
    """An exposure in nJy, and how it came to be.

    Attributes
    ----------
    exposure : Exposure
    calibration : Calibration
    bitmask : int
        Bits that were taken as bad; 0 if any bit was.
    is_mosaic : bool
        Whether the image was resampled.
    extras : dict of str to bytes
        What a store keeps beside the pixels: ``wcs_tables``, ``gwcs``.
    """

    exposure: Exposure
    calibration: Calibration
    bitmask: int
    is_mosaic: bool
    extras: dict[str, bytes] = field(repr=False)


def read_frame(path, recipe: FrameRecipe, *, files: Mapping[str, Path] | None = None) -> Frame:
    """Read a frame and calibrate it.

    Parameters
    ----------
    path : path-like
        File of the science image.
    recipe : FrameRecipe
    files : mapping, optional
        Files of the images "err", "mask", "background", where they are not extensions of the science file. Each is
        the first image of its file.

    Returns
    -------
    Frame

    Raises
    ------
    InputError
        With the file, the extension or key, what was found and what was expected.
    """
    path, files = Path(path), files or {}
    with blame(str(path)), opened(path) as hdus:
        sci = _science(hdus, recipe.sci, alone="err" in files)
        header, primary = image_hdu(hdus, sci).header, hdus[0].header
        data = image(hdus, sci)
        err = _err(hdus, recipe, files)
        bad, bitmask = _bad_pixels(hdus, recipe, files, (header, primary))
        background = _background(hdus, recipe, files)
        factor = calibration(recipe.calibration, header, primary)
        data, err = _calibrated(hdus, data, err, background, factor, recipe)
        psf = present(hdus, "PSF") if recipe.psf is None else recipe.psf
        wcs, extras = _wcs(hdus, header, sci, recipe)
        exposure = {
            "band": _band(header, primary, recipe.split_by),
            "name": keyword("EXPID", header, primary) or path.name.split(".fits")[0],
            "psf_image": None if psf is None else image(hdus, psf),
            "psf_includes_pixel": psf is None
            or pixel_response(image_hdu(hdus, psf), None if recipe.wcs == "gwcs" else wcs),
            "header": header.copy(),
        }
        resampled = _resampled(hdus)
    exposure = Exposure.from_arrays(data, err, wcs, mask=bad, path=path, **exposure)
    return Frame(exposure, factor, bitmask, resampled, extras)


def is_mosaic(path) -> bool:
    """Whether a file holds a resampled image: JWST's S_RESAMP, or weights (WHT) without data quality (DQ)."""
    with blame(str(path)), opened(Path(path)) as hdus:
        return _resampled(hdus)


def _resampled(hdus):
    return keyword("S_RESAMP", hdus[0].header) == "COMPLETE" or ("WHT" in hdus and "DQ" not in hdus)


def _science(hdus, sci, alone):
    """The science extension; the first image, where each kind of image has its own file."""
    return sci if sci in hdus or not alone else _first_image(hdus)


def _first_image(hdus):
    found = [i for i, hdu in enumerate(hdus) if hdu.is_image and hdu.data is not None]
    if not found:
        raise InputError("no image in the file, expected one")
    return found[0]


def _companion(path):
    """The first image of a file of its own."""
    with blame(str(path)), opened(Path(path)) as hdus:
        return image(hdus, _first_image(hdus))


def _err(hdus, recipe, files):
    err = np.asarray(_companion(files["err"]) if "err" in files else image(hdus, recipe.err))
    if recipe.error_kind == "sigma":
        return err
    with np.errstate(all="ignore"):
        root = np.sqrt(err.astype(np.float64))
        return root if recipe.error_kind == "variance" else 1 / root


def _bad_pixels(hdus, recipe, files, headers):
    """Pixels without weight (None: none), and the bits by which they were chosen."""
    if "mask" in files:
        values, what = _companion(files["mask"]), f"mask {files['mask']}"
    else:
        what = recipe.mask or present(hdus, "MASK") or present(hdus, "DQ")
        if what is None:
            weights = present(hdus, "WHT") if recipe.err != "WHT" else None
            return (None if weights is None else ~(image(hdus, weights) > 0)), ALL_BITS
        values = image(hdus, what)
    bits = recipe.bitmask
    if bits is None and what == "DQ" and keyword("TELESCOP", *headers) == "JWST":
        bits = JWST_BITS
    if not bits:
        return values != 0, ALL_BITS
    if values.dtype.kind not in "iu":
        raise InputError(
            f"{what if 'mask' in files else f'extension {what}'} has dtype {values.dtype}, expected integers for "
            f"bitmask {bits}"
        )
    return (values.astype(np.int64) & bits) != 0, bits


def _background(hdus, recipe, files):
    if "background" in files:
        return _companion(files["background"])
    return None if recipe.background is None else image(hdus, recipe.background)


def _calibrated(hdus, data, err, background, factor, recipe):
    """Image less background and error, nJy per pixel; untouched where there is nothing to do."""
    if background is not None and background.shape != data.shape:
        raise InputError(
            f"background image has shape {background.shape}, expected {data.shape} as the science image"
        )
    scale = factor.factor
    if recipe.calibration == "PHOTMJSR" and "AREA" in hdus:  # pixel areas in units of the nominal one
        scale = scale * image(hdus, "AREA").astype(np.float64)
    if background is not None:
        data = data.astype(np.float64) - background
    if np.any(scale != 1):
        data, err = data.astype(np.float64) * scale, err.astype(np.float64) * scale
    return data, err


def _band(header, primary, split_by):
    """FILTER, or PUPIL where JWST's filter is there (F162M, or behind CLEAR); with the detector or module."""
    band = keyword("FILTER", header, primary)
    if band is None:
        raise InputError("no keyword FILTER in the science or primary header, expected the band")
    pupil = keyword("PUPIL", header, primary)
    if pupil is not None and re.fullmatch(r"F\d{3}[WMN]2?", pupil):
        band = pupil
    if split_by is None:
        return band
    part = keyword(split_by, header, primary)
    if part is None:
        raise InputError(f"no keyword {split_by}, expected it to split the band {band} (setting split_by)")
    return f"{band}_{part}"


def _wcs(hdus, header, sci, recipe):
    """The WCS, and what a store must keep of it beside the header."""
    if recipe.wcs == "gwcs":
        content = asdf_bytes(hdus)
        return gwcs_of(content), {"gwcs": content}
    wcs = read_wcs(header, hdus, sci)
    tables = lookup_tables(hdus, wcs)
    return wcs, {} if tables is None else {"wcs_tables": tables}
