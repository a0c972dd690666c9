"""Cutouts: the part of every exposure around a position."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from astropy.wcs.wcsapi import BaseLowLevelWCS, SlicedLowLevelWCS

from fphojax.errors import InputError

from .astrometry import local_affine
from .exposures import Exposure
from .stores.stored_exposures import StoredExposure
from .units import in_degrees, to_number

__all__ = ["cutout"]


def cutout(
    exposures: Exposure | StoredExposure | Sequence[Exposure | StoredExposure],
    centre: SkyCoord,
    size: float | u.Quantity,
) -> list[Exposure]:
    """Cut a square around a position out of every exposure.

    Parameters
    ----------
    exposures : Exposure or StoredExposure, or a sequence of them
        Those without a valid pixel in the square are left out.
    centre : SkyCoord
    size : float or Quantity
        Side of the square, along the pixels of each exposure, arcsec.

    Returns
    -------
    list of Exposure
        Cut off at the edges of the images. PSFs stay those of the positions in the whole exposures.

    Raises
    ------
    InputError
        No exposure has a valid pixel there; a size that is not a positive number.
    """
    single = isinstance(exposures, Exposure | StoredExposure)
    exposures = [exposures] if single else list(exposures)  # type: ignore[list-item, arg-type]
    if not isinstance(centre, SkyCoord):
        raise InputError(f"centre is {type(centre).__name__}, expected a SkyCoord")
    ra, dec = in_degrees(centre)
    size = to_number(size, u.arcsec, "size")
    if ra.size != 1:
        raise InputError(f"centre: found {ra.size} positions, expected one")
    if not 0 < size < np.inf:
        raise InputError(f"size is {size:g} arcsec, expected a positive number")
    ra, dec = float(ra.reshape(())), float(dec.reshape(()))
    parts = [_part(exposure, ra, dec, size / 2) for exposure in exposures]
    found = [part for part in parts if part is not None]
    if not found:
        raise InputError(
            f"cutout of {size:g} arcsec at ra={ra:.6f} dec={dec:.6f}: none of {len(exposures)} exposures has a valid "
            "pixel there, expected at least one"
        )
    return found


def _part(exposure, ra, dec, half):
    """Return the part of an exposure within `half` arcsec of a position; None if there is nothing."""
    x, y = local_affine(exposure.wcs, ra, dec, dec0=dec).pixel[0]
    ny, nx = exposure.shape
    reach = half / exposure.pixel_scale
    if not (np.isfinite([x, y]).all() and -reach < x < nx + reach and -reach < y < ny + reach):
        return None
    (x0, x1), (y0, y1) = (
        (max(0, int(np.ceil(place - reach))), min(side, int(np.floor(place + reach)) + 1))
        for place, side in ((x, nx), (y, ny))
    )
    if x0 >= x1 or y0 >= y1:
        return None
    data, ierr = exposure.window(x0, x1, y0, y1)
    if not (ierr > 0).any():
        return None
    header = exposure.header.copy()
    for key, start in (("CRPIX1", x0), ("CRPIX2", y0)):
        if key in header:
            header[key] -= start
    changes = {
        "data": np.array(data),
        "ierr": np.array(ierr),
        "wcs": _sliced(exposure.wcs, x0, x1, y0, y1),
        "origin": (exposure.origin[0] + x0, exposure.origin[1] + y0),
        "header": header,
    }
    if isinstance(exposure, Exposure):
        return replace(exposure, **changes)
    same = ("name", "band", "psf_image", "psf_includes_pixel", "flux_scale", "path", "read_as")
    return Exposure(**changes, **{name: getattr(exposure, name) for name in same})


def _sliced(wcs: BaseLowLevelWCS, x0, x1, y0, y1) -> BaseLowLevelWCS:
    """Return the WCS of a part of an image."""
    part = slice(y0, y1), slice(x0, x1)
    tables = isinstance(wcs, WCS) and any((wcs.cpdis1, wcs.cpdis2, wcs.det2im1, wcs.det2im2))
    if isinstance(wcs, WCS) and not tables:  # astropy would not move the tables
        return wcs[part]
    return SlicedLowLevelWCS(wcs, part)
