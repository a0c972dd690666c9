"""Frames: science, error, mask and background images as pipelines write them, converted to nJy."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits

from fphojax.errors import InputError

from .astrometry import check_celestial, pixel_scale
from .band_names import band_of
from .calibration import Calibration, calibration, error_calibration
from .data_quality import BadPixels, bad_pixels, hint_at_errors, kind_by_name, quality_note
from .fits_chips import Chip, Key, beside, chips, extension_key, label, named
from .fits_images import (
    asdf_bytes,
    blame,
    gwcs_of,
    image_of,
    keyword,
    lookup_tables,
    opened,
    pixel_response,
    read_wcs,
)
from .wcs_checks import distortion_note, frame_name

__all__ = [
    "FitsFrame",
    "ReadingOptions",
    "bands_named",
    "is_mosaic",
    "read_frame",
    "read_frames",
    "reading_options",
]

_POWERS = {"sigma": 1, "variance": 2, "inverse_variance": -2}
_ARCSEC = np.deg2rad(1 / 3600)
_AREA_TOLERANCE = 0.2  # distortion changes the area of a pixel by a few per cent, another pixel scale by more


@dataclass(frozen=True)
class ReadingOptions:
    """Choice and interpretation of the images of a frame.

    Attributes
    ----------
    sci, err, mask, psf, background : str, int, tuple or None
        Extensions: a name, the number of an HDU, or (name, EXTVER). By default the mask is ``MASK``, else ``DQ``,
        else zeros of ``WHT``; the PSF is ``PSF``. A name of `sci` means all its EXTVERs, one exposure each; the other
        images of each are those with its EXTVER.
    error_kind : {"sigma", "variance", "inverse_variance"}
        What the error image holds.
    bitmask : int, optional
        Bits of the mask that spoil a pixel; by default all, for JWST's ``DQ`` do-not-use and non-science.
    calibration : str
        See `fphojax.inputs.calibration.calibration`.
    split_by : {None, "DETECTOR", "MODULE"}
        Keyword whose value is added to the band.
    wcs : {"header", "gwcs"}
        FITS header, or the extension ASDF.
    band : str, optional
        The band, whatever the header says.
    band_keyword, band_patterns : str and mapping, optional
        See `fphojax.inputs.band_names.band_of`.
    """

    sci: Key = "SCI"
    err: Key = "ERR"
    mask: Key | None = None
    psf: Key | None = None
    background: Key | None = None
    error_kind: Literal["sigma", "variance", "inverse_variance"] = "sigma"
    bitmask: int | None = None
    calibration: str = "none"
    split_by: str | None = None
    wcs: Literal["header", "gwcs"] = "header"
    band: str | None = None
    band_keyword: str | None = None
    band_patterns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FitsFrame:
    """The images of one exposure in nJy, and how they were obtained.

    Attributes
    ----------
    path : Path
    name, band : str
    label : str
        The science extension; with its EXTVER where the file has several.
    several : bool
        Whether the file has several science images of that name.
    data, err : ndarray, shape (ny, nx)
        Image less its background, and standard deviation; nJy per pixel.
    wcs : APE-14 WCS
    psf_image : ndarray or None
    psf_includes_pixel : bool
    header : fits.Header
        Of the science extension, adapted to these pixels: ``BUNIT``, if there is one, is nJy.
    calibration : Calibration
    bad : BadPixels
    is_mosaic : bool
        Whether the image was resampled.
    extras : dict of str to bytes
        What a store keeps beside the pixels: ``wcs_tables``, ``gwcs``.
    read_as : str
        Chip, unit and its conversion, mask, band, sky frame: what was found and done, for a table.
    notes : tuple of str
        Further remarks on the file, for the user.
    """

    path: Path
    name: str
    band: str
    label: str
    several: bool
    data: np.ndarray = field(repr=False)
    err: np.ndarray = field(repr=False)
    wcs: object = field(repr=False)
    psf_image: np.ndarray | None = field(repr=False)
    psf_includes_pixel: bool
    header: fits.Header = field(repr=False)
    calibration: Calibration
    bad: BadPixels
    is_mosaic: bool
    extras: dict[str, bytes] = field(repr=False)
    read_as: str
    notes: tuple[str, ...]


def reading_options(config: Mapping) -> dict:
    """Derive keyword arguments of `ReadingOptions` (and `read_exposures`) from settings or a ``config.json``.

    Parameters
    ----------
    config : mapping
        With ``extensions``, a mapping; ``bitmask``; and, if they are given, ``band_keyword`` and ``band_patterns``.
    """
    others = ("bitmask", "band_keyword", "band_patterns")
    return dict(config["extensions"]) | {key: config[key] for key in others if config.get(key) is not None}


def read_frames(
    path: str | Path, reading: ReadingOptions, *, files: Mapping[str, Path] | None = None
) -> list[FitsFrame]:
    """Read the frames of a file, one for each chip, and calibrate them.

    Parameters
    ----------
    path : path-like
        File of the science image.
    reading : ReadingOptions
    files : mapping, optional
        Files of the images "err", "mask", "background", where they are not extensions of the science file. Each is
        the first image of its file, or the one with the chip's EXTVER.

    Returns
    -------
    list of FitsFrame
        Named after the keyword ``EXPID``, else the file; with the EXTVER behind it where the file has several.

    Raises
    ------
    InputError
        With the file, the extension or key, what was found and what was expected.
    """
    path, files = Path(path), files or {}
    with blame(str(path)), opened(path) as hdus:
        science = chips(hdus, _science(hdus, reading.sci, alone="err" in files))
        return [_frame(hdus, chip, path, reading, files) for chip in science]


def read_frame(
    path: str | Path, reading: ReadingOptions, *, files: Mapping[str, Path] | None = None
) -> FitsFrame:
    """Read the only frame of a file; arguments as in `read_frames`.

    Raises
    ------
    InputError
        As `read_frames`; or the file has several.
    """
    frames = read_frames(path, reading, files=files)
    if len(frames) > 1:
        labels = ", ".join(frame.label for frame in frames)
        raise InputError(
            f"{path}: found {len(frames)} images ({labels}), expected one: choose it with sci=({reading.sci!r}, "
            "EXTVER), or take all with read_exposures"
        )
    return frames[0]


def bands_named(path: str | Path, reading: ReadingOptions) -> set[str]:
    """Return the bands that a file's name or headers give, whatever else may be wrong with it."""
    path, bands = Path(path), set()
    with suppress(InputError):
        bands.add(_band((), path, reading)[0])
    with suppress(InputError), opened(path) as hdus:
        for hdu in hdus:
            with suppress(InputError):
                bands.add(_band((hdu.header, hdus[0].header), path, reading)[0])
    return bands


def is_mosaic(path: str | Path) -> bool:
    """Return whether a file holds a resampled image, by JWST's S_RESAMP or by weights (WHT) without DQ."""
    with blame(str(path)), opened(Path(path)) as hdus:
        return _resampled(hdus)


def _resampled(hdus):
    return keyword("S_RESAMP", hdus[0].header) == "COMPLETE" or ("WHT" in hdus and "DQ" not in hdus)


def _frame(hdus, chip: Chip, path, reading, files):
    headers = chip.hdu.header, hdus[0].header
    data = image_of(chip.hdu, chip.label)
    err_name, err, err_unit = _err(hdus, chip, reading, files)
    _same_shape("error", err, data)
    bad = bad_pixels(
        hdus,
        chip,
        mask=reading.mask,
        err=reading.err,
        bitmask=reading.bitmask,
        headers=headers,
        mask_file=(files["mask"], _companion(files["mask"], chip)[0]) if "mask" in files else None,
    )
    with blame(f"extension {chip.label}"):
        scale = calibration(reading.calibration, *headers)
        band, band_how = _band(headers, path, reading)
    power = _POWERS[reading.error_kind]
    with blame(str(files["err"]) if "err" in files else f"extension {err_name}"):
        err_scale = error_calibration(reading.calibration, scale, err_unit, *headers, power=power)
    background = _background(hdus, chip, reading, files)
    area = _area(hdus, chip, scale)
    for what, image in (("background", background), ("AREA", area)):
        if image is not None:
            _same_shape(what, image, data)
    wcs, extras = _wcs(hdus, chip, reading)
    with blame(f"extension {chip.label}"):
        check_celestial(wcs, data.shape)
        frame = frame_name(wcs)
    if scale.per_area:
        _check_area(scale, headers, wcs, data.shape)
    wcs_note = distortion_note(chip.hdu.header) if reading.wcs == "header" else ""
    psf, psf_notes = _psf(hdus, chip, reading)
    parts = [chip.label] if chip.several else []
    parts += [_unit(keyword("BUNIT", *headers), scale)]
    parts += [f"{err_name or 'error'} {_unit(err_unit, err_scale)}"] if err_scale != scale else []
    parts += [bad.how, band_how, frame]
    uses = {err_name: "the error image", bad.name: f"the mask (bad: {bad.rule})"}
    return FitsFrame(
        path=path,
        name=(keyword("EXPID", *headers) or path.name.split(".fits")[0]) + chip.suffix,
        band=band,
        label=chip.label,
        several=chip.several,
        data=_calibrated(data, scale.factor, area, background),
        err=_calibrated(_sigma(err, power), err_scale.factor, area),
        wcs=wcs,
        psf_image=None if psf is None else image_of(psf, psf.name),
        psf_includes_pixel=psf is None or pixel_response(psf, None if reading.wcs == "gwcs" else wcs),
        header=_header(chip.hdu.header),
        calibration=scale,
        bad=bad,
        is_mosaic=_resampled(hdus),
        extras=extras,
        read_as=", ".join(parts),
        notes=tuple(filter(None, (*psf_notes, quality_note(hdus, uses), wcs_note))),
    )


def _header(header):
    """Return the header of the calibrated image."""
    header = header.copy()
    if "BUNIT" in header:
        header["BUNIT"] = "nJy"
    for key in ("CHECKSUM", "DATASUM"):  # they were of other pixels
        header.remove(key, ignore_missing=True)
    return header


def _unit(unit, scale):
    """Describe the unit of an image and its conversion in a few words."""
    if unit is not None and scale.factor == 1:
        return unit
    return (
        "no BUNIT: nJy"
        if unit is None and scale.factor == 1
        else f"{unit or 'unit'} = {scale.factor:.6g} nJy"
    )


def _science(hdus, sci, alone):
    """Return the science extension, or the first image where each kind of image has its own file."""
    return sci if not alone or named(hdus, extension_key(sci)) else _images(hdus)[0][0]


def _images(hdus):
    """List (number, HDU) of all images of a file."""
    images = [(i, hdu) for i, hdu in enumerate(hdus) if hdu.is_image and hdu.data is not None]
    if not images:
        raise InputError("no image in the file, expected one")
    return images


def _companion(path, chip):
    """Read the image that belongs to a chip from a file of its own, and its BUNIT."""
    with blame(str(path)), opened(Path(path)) as hdus:
        number, hdu = _images(hdus)[0]
        if chip.several:
            hdu = beside(hdus, hdu.name or number, chip)
        return image_of(hdu, hdu.name or str(number)), keyword("BUNIT", hdu.header) or ""


def _err(hdus, chip, reading, files):
    """Return name, values and BUNIT of the error image."""
    if "err" in files:
        return "", *_companion(files["err"], chip)
    try:
        hdu = beside(hdus, reading.err, chip)
    except InputError as error:
        raise InputError(f"{error}{hint_at_errors(hdus)}") from error
    name = hdu.name or label(reading.err)
    if reading.error_kind == "sigma" and (kind := kind_by_name(hdu.name)):
        raise InputError(
            f"extension {name}: found error_kind sigma for an extension of that name, expected the standard "
            f"deviation in another one, or the stores of `fphojax preprocess` with preprocess.error_kind: {kind}"
        )
    return name, image_of(hdu, label(reading.err)), keyword("BUNIT", hdu.header) or ""


def _sigma(err, power):
    if power == 1:
        return err
    with np.errstate(all="ignore"):
        return err.astype(np.float64) ** (1 / power)


def _background(hdus, chip, reading, files):
    if "background" in files:
        return _companion(files["background"], chip)[0]
    if reading.background is None:
        return None
    return image_of(beside(hdus, reading.background, chip), label(reading.background))


def _same_shape(what, image, data):
    if image.shape != data.shape:
        raise InputError(f"{what} image has shape {image.shape}, expected {data.shape} as the science image")


def _area(hdus, chip, scale):
    """Return the pixels' areas relative to the nominal one; None where they do not matter or are unknown."""
    if not (scale.per_area and named(hdus, "AREA")):
        return None
    return image_of(beside(hdus, "AREA", chip), "AREA").astype(np.float64)


def _calibrated(values, factor, area, background=None):
    """Subtract a background and convert to nJy per pixel; return values as they are if neither applies."""
    values = values if background is None else values.astype(np.float64) - background
    scale = factor if area is None else factor * area
    return values if area is None and factor == 1 else values.astype(np.float64) * scale


def _band(headers, path, reading):
    """Determine the band, with the detector or module, and what it was read from."""
    if reading.band is not None:
        return reading.band, "band given"
    band, how = band_of(headers, path, key=reading.band_keyword, patterns=reading.band_patterns)
    if reading.split_by is None:
        return band, how
    part = keyword(reading.split_by, *headers)
    if part is None:
        raise InputError(
            f"no keyword {reading.split_by}, expected it to split the band {band} (setting split_by)"
        )
    return f"{band}_{part}", f"{how} + {reading.split_by}"


def _psf(hdus, chip, reading):
    """Find the HDU of the PSF, None if there is none, and remarks about it."""
    key = "PSF" if reading.psf is None else reading.psf
    if reading.psf is None and not named(hdus, key):
        return None, ()
    hdu = beside(hdus, key, chip, shared=True)
    shared = chip.count > 1 and (not isinstance(key, str) or len(named(hdus, key)) == 1)
    return hdu, (f"all chips have the same PSF, extension {label(key)}",) if shared else ()


def _wcs(hdus, chip, reading):
    """Read the WCS, and what a store must keep of it besides the header."""
    if reading.wcs == "gwcs":
        content = asdf_bytes(hdus)
        return gwcs_of(content), {"gwcs": content}
    wcs = read_wcs(chip.hdu.header, hdus, chip.label)
    tables = lookup_tables(hdus, wcs)
    return wcs, {} if tables is None else {"wcs_tables": tables}


def _check_area(scale, headers, wcs, shape):
    """Refuse a pixel area that contradicts the WCS, such as one copied from an image of another scale."""
    key = "PIXAR_SR" if scale.how.endswith("PIXAR_SR") else "PIXAR_A2"
    stated = float(next(header[key] for header in headers if key in header))
    side = pixel_scale(wcs, shape)
    measured = side**2 * (_ARCSEC**2 if key == "PIXAR_SR" else 1.0)
    if not abs(stated / measured - 1) < _AREA_TOLERANCE:
        raise InputError(
            f"{key} = {stated:g}, expected about {measured:.4g}: by the WCS, pixels are {side:.4g} arcsec wide"
        )
