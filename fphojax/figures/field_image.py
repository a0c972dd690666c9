"""The image of a whole field: a colour composite of its exposures on a grid of the sky, for display."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fphojax.inputs.astrometry import sky_position
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.stores.stored_exposures import StoredExposure

from .colours import composite_bands, lupton, noise_of

__all__ = ["FieldImage", "field_image"]

_SIDE = 1000  # pixels at most
_NODES = 33  # of the grid on which the WCS is evaluated; between them, positions are interpolated
_LEAST = 0.002  # of the field that an exposure must add


@dataclass(frozen=True, eq=False)
class FieldImage:
    """A composite, north up and east to the left.

    Attributes
    ----------
    pixels : ndarray, shape (side, side, 3)
        In [0, 1]; the first row is the southern one.
    ra, dec : float
        Of the middle, degrees.
    half : float
        From the middle to an edge, arcsec.
    bands : tuple of str
        From blue to red.
    """

    pixels: np.ndarray
    ra: float
    dec: float
    half: float
    bands: tuple[str, ...]


def field_image(
    exposures: Sequence[Exposure | StoredExposure], bands: Sequence[str], ra: float, dec: float, half: float
) -> FieldImage | None:
    """Compose an image of a field from as few exposures as cover it.

    Every pixel takes the nearest pixel of the first exposure of each band that has one there.

    Parameters
    ----------
    exposures : sequence of Exposure or StoredExposure
    bands : sequence of str
        From blue to red; first, middle and last are shown.
    ra, dec : float
        Middle, degrees.
    half : float
        From the middle to an edge, arcsec.

    Returns
    -------
    FieldImage or None
        None if no exposure lies on the field.
    """
    shown = composite_bands(bands)
    finest = min((exposure.pixel_scale for exposure in exposures if exposure.band in shown), default=None)
    if finest is None:
        return None
    side = int(np.clip(2 * half / finest, 64, _SIDE))
    planes = [_plane([e for e in exposures if e.band == band], ra, dec, half, side) for band in shown]
    if not all(np.isfinite(plane).any() for plane in planes):
        return None
    pixels = lupton({"data": planes}, [noise_of(plane) for plane in planes])["data"]
    return FieldImage(pixels, ra, dec, half, tuple(shown))


def _plane(exposures, ra, dec, half, side):
    """Sample the exposures of one band, in brightness per area; NaN where there is no pixel."""
    plane = np.full((side, side), np.nan)
    for exposure in exposures:
        x, y = _pixels(exposure, ra, dec, half, side)
        ny, nx = exposure.shape
        wanted = np.isnan(plane) & (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
        if wanted.mean() < _LEAST:
            continue
        columns, rows = x[wanted], y[wanted]
        corner = int(columns.min()), int(rows.min())
        data, ierr = exposure.window(corner[0], int(columns.max()) + 1, corner[1], int(rows.max()) + 1)
        at = rows - corner[1], columns - corner[0]
        plane[wanted] = np.where(ierr[at] > 0, data[at] / exposure.pixel_scale**2, np.nan)
    return plane


def _pixels(exposure, ra, dec, half, side):
    """Return column and row of an exposure for every pixel of the grid; -1 where the WCS has none."""
    from scipy.ndimage import zoom

    east, north = np.meshgrid(np.linspace(half, -half, _NODES), np.linspace(-half, half, _NODES))
    sky = sky_position(east.ravel(), north.ravel(), ra, dec)
    nodes = (np.reshape(value, east.shape) for value in exposure.wcs.world_to_pixel_values(*sky))
    places = [zoom(np.asarray(node, dtype=float), side / _NODES, order=1, grid_mode=False) for node in nodes]
    return [np.where(np.isfinite(place), np.rint(place), -1).astype(np.int64) for place in places]
