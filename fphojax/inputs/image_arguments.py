"""One image as a user has it, with its PSF: arrays, NDData or a FITS file, made into an exposure."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.nddata import NDData, StdDevUncertainty
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.mixtures.psf_result import PSFFit
from fphojax.system.file_checks import blame

from .exposures import Exposure, read_exposures
from .psf_mixture import PSFMixture, as_mixture
from .units import to_number

__all__ = ["BAND", "CENTRE", "exposures_of_image", "mixture_of"]

BAND = "image"  # of an image that names none
CENTRE = (180.0, 0.0)  # ra and dec of the centre of an image without WCS, degrees


def exposures_of_image(
    image: ArrayLike | NDData | str | Path,
    err: ArrayLike | None = None,
    *,
    wcs: BaseLowLevelWCS | None = None,
    pixel_scale: float | u.Quantity | None = None,
    mask: ArrayLike | None = None,
    band: str | None = None,
) -> list[Exposure]:
    """Make exposures of an image as a user has it.

    Parameters
    ----------
    image : array_like, Quantity, NDData or path-like
        An NDData (CCDData) has its own unit, uncertainty, mask, WCS and PSF. A file is read by `read_exposures`.
    err : array_like, Quantity or float, optional
        Standard deviation, of each pixel or of all.
    wcs : APE-14 WCS, optional
    pixel_scale : float or Quantity, optional
        Side of a pixel, arcsec, where there is no WCS: north is then up and east to the left, and the centre of the
        image is at `CENTRE`.
    mask : array_like, optional
        Pixels where it is not zero have no weight; beside those of the image itself.
    band : str, optional
        By default the keyword FILTER of the image's header, or `BAND`.

    Returns
    -------
    list of Exposure
        One, or one for each chip of a file.

    Raises
    ------
    InputError
        One line: the argument, what was found, what was expected.
    """
    if isinstance(image, str | Path):
        _refuse(f"a file ({image})", err=err, wcs=wcs, pixel_scale=pixel_scale)
        exposures = read_exposures([image], band=band)
    else:
        parts = _of_nddata(image) if isinstance(image, NDData) else {"data": image}
        for name, value in {"err": err, "wcs": wcs}.items():
            if value is not None and name in parts:
                raise InputError(
                    f"{name}: found one beside that of the {type(image).__name__}, expected one of them"
                )
        given = {"err": err, "wcs": wcs, "band": band}
        parts |= {name: value for name, value in given.items() if value is not None}
        exposures = [_exposure(parts, pixel_scale)]
    return exposures if mask is None else [_masked(exposure, mask) for exposure in exposures]


def mixture_of(
    psf: float | u.Quantity | ArrayLike | PSFMixture | PSFFit, scale: float, name: str = "psf"
) -> PSFMixture:
    """Make a mixture of a PSF as a user has it.

    Parameters
    ----------
    psf : float, Quantity, array_like, PSFMixture, or what `fit_psf` returns
        A number is the full width at half maximum of a Gaussian, in arcsec (or in the unit that it has: ``u.pix``,
        too). An image is one of a star as it is in the data, at their pixel scale.
    scale : float
        Pixel scale of the data, arcsec.
    name : str
        For messages.

    Raises
    ------
    InputError
        A width that is no positive length, an image that cannot be a PSF, or something else.
    """
    if isinstance(psf, PSFMixture | PSFFit):
        return as_mixture(psf)
    if np.ndim(psf) == 2:
        return as_mixture(fit_psf(getattr(psf, "value", psf), name=name))
    if isinstance(psf, str) or np.ndim(psf):
        found = repr(psf) if isinstance(psf, str) else f"an array of {np.ndim(psf)} dimensions"
        raise InputError(
            f"{name}: found {found}, expected a width (FWHM, arcsec), an image, a PSFMixture or what fit_psf returns"
        )
    if getattr(psf, "unit", None) == u.pix:
        width = to_number(psf, u.pix, name)
    else:
        width = to_number(psf, u.arcsec, name) / scale
    with blame(name):
        return PSFMixture.gaussian(width)


def _refuse(what, **arguments):
    """Refuse arguments that the image has itself."""
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}: found one beside {what}, which has its own, expected none")


def _of_nddata(image):
    """Return the parts of an NDData, those that it has."""
    unit = image.unit
    data = np.asarray(image.data)
    parts: dict[str, Any] = {"data": data if unit is None else u.Quantity(data, unit, copy=False)}
    if image.uncertainty is not None:
        kind = type(image.uncertainty).__name__
        try:
            err = image.uncertainty.represent_as(StdDevUncertainty)
        except (TypeError, AttributeError) as error:
            raise InputError(
                f"uncertainty is {kind}, expected a standard deviation, variance or inverse variance"
            ) from error
        err_unit = unit if err.unit is None else err.unit
        parts["err"] = err.array if err_unit is None else u.Quantity(err.array, err_unit)
    if image.mask is not None:
        parts["mask"] = image.mask
    if image.wcs is not None:
        parts["wcs"] = getattr(image.wcs, "low_level_wcs", image.wcs)
    if getattr(image, "psf", None) is not None:
        parts["psf_image"] = image.psf
    for key in ("FILTER", "filter", "BAND", "band"):
        if isinstance(image.meta.get(key), str):
            parts["band"] = image.meta[key].strip()
            break
    return parts


def _exposure(parts, pixel_scale):
    """Make an exposure of arrays."""
    data = parts["data"]
    if np.ndim(data) != 2:
        raise InputError(f"image has {np.ndim(data)} dimensions, expected 2")
    if parts.get("err") is None:
        raise InputError("err: found none, expected the standard deviation of each pixel, or of all of them")
    if not np.ndim(parts["err"]):
        parts["err"] = np.ones(np.shape(data)) * parts["err"]
    if (parts.get("wcs") is None) == (pixel_scale is None):
        found = "neither" if pixel_scale is None else "both"
        raise InputError(f"wcs and pixel_scale: found {found}, expected one of them")
    if parts.get("wcs") is None:
        parts["wcs"] = _flat_wcs(np.shape(data), to_number(pixel_scale, u.arcsec, "pixel_scale"))
    return Exposure.from_arrays(**{"band": BAND, "name": "image"} | parts)


def _flat_wcs(shape, scale):
    """Make a WCS with north up, from nothing but the side of a pixel (arcsec)."""
    if not 0 < scale < np.inf:
        raise InputError(f"pixel_scale is {scale:g} arcsec, expected a positive number")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cunit = ("RA---TAN", "DEC--TAN"), ("deg", "deg")
    wcs.wcs.crval, wcs.wcs.crpix = CENTRE, (np.array(shape[::-1]) + 1) / 2
    wcs.wcs.cdelt = -scale / 3600, scale / 3600
    wcs.wcs.set()
    return wcs


def _masked(exposure, mask):
    """Take the weight from masked pixels."""
    mask = np.asarray(mask)
    if mask.shape != exposure.shape:
        raise InputError(f"mask has shape {mask.shape}, expected {exposure.shape} as the image")
    good = (mask == 0) & (exposure.ierr > 0)
    if not good.any():
        raise InputError(f"mask: found none of {mask.size} pixels good, expected at least one")
    return replace(exposure, data=np.where(good, exposure.data, 0), ierr=np.where(good, exposure.ierr, 0))
