"""Positions of sources on an exposure: sky offsets, local affine WCS, circular regions.

Any WCS with the common interface of APE 14 will do (astropy's FITS WCS with SIP, TPV or look-up tables,
gwcs), as long as its world axes are right ascension and declination in degrees, ICRS. FK5 of equinox 2000 is taken as
ICRS: many headers mean FK5 only by default, and the two differ by less than 0.03 arcsec. Other frames are refused.
Positions and radii may come as astropy's Quantity, Angle and SkyCoord; plain numbers are degrees and arcsec.
"""

import math
import warnings
from dataclasses import dataclass
from typing import cast

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation
from astropy.wcs import WCS, WcsError
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import ArrayLike

from fphojax.errors import InputError

from .cutouts import disc_mask
from .units import in_degrees, to_number, to_unit
from .wcs_checks import frame_name

__all__ = [
    "CircularRegion",
    "LocalAffine",
    "check_celestial",
    "completed",
    "footprint",
    "local_affine",
    "pixel_scale",
    "sky_offsets",
    "sky_position",
]

ARCSEC = 3600.0  # per degree
_STEP = (
    4.0  # pixels between stencil points: rounding in ra is 2e-10 arcsec, so a wide stencil is the better one
)
_PIXEL_TOLERANCE = 1e-7
_MAX_ITERATIONS = 20


def _wrapped(angle):
    """Wrap an angle in degrees to [-180, 180)."""
    return (np.asarray(angle, dtype=np.float64) + 180.0) % 360.0 - 180.0


def sky_offsets(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> np.ndarray:
    """Compute offsets from a reference position, ``x = (ra - ra0) cos(dec0)`` and ``y = dec - dec0``.

    Parameters
    ----------
    ra, dec : array_like, shape (N,), or Quantity
        Degrees.
    ra0, dec0 : float or Quantity
        Reference position, degrees.

    Returns
    -------
    ndarray, shape (N, 2)
        East and north offsets, arcsec. The difference in ra is wrapped to +-180 degrees.
    """
    (ra, dec), (ra0, dec0) = in_degrees(ra, dec), in_degrees(ra0, dec0)
    difference = ra - ra0
    # Wrapping costs digits, and hardly any patch lies across ra = 0.
    difference = np.where(np.abs(difference) > 180.0, _wrapped(difference), difference)
    x = difference * np.cos(np.deg2rad(dec0)) * ARCSEC
    y = (dec - dec0) * ARCSEC
    return np.stack(np.broadcast_arrays(x, y), axis=-1)


def sky_position(
    x: ArrayLike, y: ArrayLike, ra0: float | np.ndarray, dec0: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the sky position of offsets; the inverse of `sky_offsets`.

    Parameters
    ----------
    x, y : array_like or Quantity
        East and north offsets, arcsec.
    ra0, dec0 : float or Quantity
        Reference position, degrees.

    Returns
    -------
    ra, dec : ndarray
        Degrees, ra in [0, 360).
    """
    ra0, dec0 = in_degrees(ra0, dec0)
    ra = ra0 + to_unit(x, u.arcsec, "x") / (ARCSEC * np.cos(np.deg2rad(dec0)))
    dec = dec0 + to_unit(y, u.arcsec, "y") / ARCSEC
    ra = np.where((ra < 0.0) | (ra >= 360.0), ra % 360.0, ra)
    return np.where(ra == 360.0, 0.0, ra), dec  # -1e-20 % 360 is 360


@dataclass(frozen=True, eq=False)
class LocalAffine:
    """First-order expansion of a WCS at each source, ``pixel + jacobian @ (offset - offset_of_source)``.

    Attributes
    ----------
    pixel : ndarray, shape (N, 2)
        Zero-indexed pixel coordinates (x, y); NaN where the WCS has none.
    jacobian : ndarray, shape (N, 2, 2)
        d(pixel x, pixel y) / d(offset east, offset north), pixels per arcsec.
    """

    pixel: np.ndarray
    jacobian: np.ndarray


def _pixel_to_world(wcs, x, y):
    """Return (ra, dec) of pixels, also outside the bounding box of a gwcs, where it would return NaN."""
    if getattr(wcs, "bounding_box", None) is not None and callable(wcs):
        return wcs(x, y, with_bounding_box=False)
    return wcs.pixel_to_world_values(x, y)


def _first_guess(wcs, ra, dec):
    """Estimate pixel coordinates, shape (N, 2), well enough to start Newton's method from."""
    with warnings.catch_warnings():
        # The inverse of a distortion may not converge far away from the image; Newton's method decides.
        warnings.filterwarnings("ignore", message=".*failed to converge")
        pixel = np.stack(wcs.world_to_pixel_values(ra, dec), axis=-1).astype(np.float64)
    if wcs.pixel_bounds is not None:  # outside them gwcs returns NaN; start from their centre
        pixel[~np.isfinite(pixel).all(axis=-1)] = np.mean(wcs.pixel_bounds, axis=1)
    return pixel


def _sky_stencil(wcs, pixel, ra, dec, dec0):
    """Compute offsets of pixels from given positions, and their derivatives by central differences.

    The differences are of fourth order.

    Returns
    -------
    offset : ndarray, shape (N, 2), arcsec
    derivative : ndarray, shape (N, 2, 2), d(offset) / d(pixel)
    """
    shifts = _STEP * np.array(
        [[0, 0], [1, 0], [-1, 0], [2, 0], [-2, 0], [0, 1], [0, -1], [0, 2], [0, -2]], dtype=np.float64
    )
    points = pixel + shifts[:, None, :]
    world = _pixel_to_world(wcs, points[..., 0].ravel(), points[..., 1].ravel())
    ra_p, dec_p = (np.reshape(axis, points.shape[:2]) for axis in world)
    x = _wrapped(ra_p - ra) * np.cos(np.deg2rad(dec0))
    offset = np.stack([x, dec_p - dec], axis=-1) * ARCSEC
    columns = [
        (8 * (offset[i] - offset[i + 1]) - (offset[i + 2] - offset[i + 3])) / (12 * _STEP) for i in (1, 5)
    ]
    return offset[0], np.stack(columns, axis=-1)


def _inverse(matrix):
    """Invert 2x2 matrices; NaN or infinite where singular, without a warning."""
    (a, b), (c, d) = np.moveaxis(matrix, 0, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.moveaxis(np.array([[d, -b], [-c, a]]) / (a * d - b * c), -1, 0)


def local_affine(wcs: BaseLowLevelWCS, ra: ArrayLike, dec: ArrayLike, *, dec0: float) -> LocalAffine:
    """Compute the pixel positions of sources, and linearise the WCS there.

    Newton's method on the forward transformation, starting from the WCS's own inverse, which for SIP is good
    to 1e-6 pixel only, and may fail outside the image.

    Parameters
    ----------
    wcs : APE-14 WCS
        World axes (ra, dec), degrees.
    ra, dec : array_like, shape (N,)
        Degrees.
    dec0 : float
        Declination of the reference position of the offsets (see `sky_offsets`), degrees. Its ra does not matter.

    Returns
    -------
    LocalAffine
        Pixel positions accurate to better than 1e-7 pixel. A source that the WCS cannot place (behind the
        projection, non-finite position, no convergence) is NaN throughout: it is outside the exposure.
    """
    ra, dec = (np.atleast_1d(np.asarray(axis, dtype=np.float64)) for axis in (ra, dec))
    finite = np.isfinite(ra) & np.isfinite(dec)
    pixel = np.full((*ra.shape, 2), np.nan)
    jacobian = np.full((*ra.shape, 2, 2), np.nan)
    if finite.any():
        pixel[finite] = _first_guess(wcs, ra[finite], dec[finite])

    todo = np.isfinite(pixel).all(axis=-1)
    for _ in range(_MAX_ITERATIONS):
        if not todo.any():
            break
        offset, derivative = _sky_stencil(wcs, pixel[todo], ra[todo], dec[todo], dec0)
        jacobian[todo] = _inverse(derivative)
        step = np.einsum("nij,nj->ni", jacobian[todo], offset)
        pixel[todo] -= step
        todo[todo] = ~(np.abs(step).max(axis=-1) < _PIXEL_TOLERANCE)
        todo &= np.isfinite(pixel).all(axis=-1)
    lost = todo | ~np.isfinite(pixel).all(axis=-1) | ~np.isfinite(jacobian).all(axis=(-2, -1))
    pixel[lost], jacobian[lost] = np.nan, np.nan
    return LocalAffine(pixel=pixel, jacobian=jacobian)


def pixel_scale(wcs: BaseLowLevelWCS, shape: tuple[int, int]) -> float:
    """Return the square root of a pixel's area at the centre of an image of `shape` (ny, nx), arcsec."""
    centre = (np.array(shape[::-1], dtype=np.float64) - 1) / 2
    ra, dec = (np.atleast_1d(axis) for axis in _pixel_to_world(wcs, *centre))
    _, derivative = _sky_stencil(wcs, centre[None], ra, dec, dec[0])
    return float(np.sqrt(np.abs(np.linalg.det(derivative[0]))))


def footprint(wcs: BaseLowLevelWCS, shape: tuple[int, int]) -> tuple[float, float, float]:
    """Return a circle on the sky that contains an image, with a margin for distortion.

    Parameters
    ----------
    wcs : APE-14 WCS
    shape : tuple of int
        (ny, nx).

    Returns
    -------
    ra, dec, radius : float
        Centre of the image in degrees, and radius in arcsec: that of the whole sky where a corner has no
        position.
    """
    x, y = (axis.ravel() for axis in np.meshgrid(*([0, (n - 1) / 2, n - 1] for n in shape[::-1])))
    ra, dec = (np.asarray(axis, dtype=np.float64) for axis in _pixel_to_world(wcs, x, y))
    angles = np.deg2rad(ra), np.deg2rad(dec)
    reach = np.rad2deg(angular_separation(angles[0][4], angles[1][4], *angles).max()) * ARCSEC
    radius = 1.1 * reach + pixel_scale(wcs, shape)
    return float(ra[4]), float(dec[4]), float(radius) if np.isfinite(radius) else 180 * ARCSEC


def completed(wcs: BaseLowLevelWCS) -> BaseLowLevelWCS:
    """Complete a WCS as astropy does: one made in Python without ``cunit`` is in degrees.

    Parameters
    ----------
    wcs : APE-14 WCS

    Returns
    -------
    APE-14 WCS
        A copy, where something had to be completed.

    Raises
    ------
    InputError
        The argument is not a WCS, or astropy cannot complete it.
    """
    if not hasattr(wcs, "pixel_n_dim"):
        raise InputError(
            f"wcs is {type(wcs).__name__}, expected a celestial WCS such as astropy.wcs.WCS(header)"
        )
    if not isinstance(wcs, WCS) or all(map(str, wcs.wcs.cunit)):
        return wcs
    try:
        wcs = wcs.deepcopy()
        wcs.wcs.set()
    except WcsError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"no usable WCS ({reason}), expected a celestial WCS") from error
    return wcs


def check_celestial(wcs: BaseLowLevelWCS, shape: tuple[int, int]) -> None:
    """Refuse a WCS that does not map pixels (x, y) to (ra, dec) in degrees, ICRS (or FK5 of equinox 2000).

    Raises
    ------
    InputError
        With what was found and what was expected.
    """
    expected = "expected a celestial WCS with the axes right ascension, declination"
    types = list(getattr(wcs, "world_axis_physical_types", None) or [])
    if types != ["pos.eq.ra", "pos.eq.dec"] or wcs.pixel_n_dim != 2:
        raise InputError(f"no usable WCS: {wcs.pixel_n_dim} pixel axes and world axes {types}; {expected}")
    frame_name(wcs)
    if any(str(unit) != "deg" for unit in wcs.world_axis_units):
        raise InputError(f"WCS has the units {list(wcs.world_axis_units)}; expected deg")
    scale = pixel_scale(wcs, shape)
    if not (np.isfinite(scale) and scale > 0):
        raise InputError(f"WCS gives a pixel scale of {scale} arcsec at the image centre; {expected}")


@dataclass(frozen=True)
class CircularRegion:
    """A circle on the sky.

    ``CircularRegion(53.16, -27.79, 2.0)`` or, with a SkyCoord in the place of ra and dec,
    ``CircularRegion(SkyCoord("03h32m38s -27d47m24s"), radius=2 * u.arcsec)``.

    Attributes
    ----------
    ra, dec : float
        Centre, degrees. A Quantity or Angle is converted.
    radius : float
        Arcsec. A Quantity or Angle is converted.

    Raises
    ------
    InputError
        A unit of another dimension, a number that is not finite, a negative radius.
    """

    ra: float
    dec: float = cast(float, None)  # of the SkyCoord that is given as `ra`
    radius: float = cast(float, None)

    def __post_init__(self) -> None:
        if self.radius is None:
            raise InputError("radius: found nothing, expected the radius of a region (arcsec)")
        numbers = self.ra, self.dec, self.radius
        if not all(
            type(number) is float for number in numbers
        ):  # hundreds of thousands of patches have floats
            ra, dec = in_degrees(self.ra, self.dec)
            numbers = to_number(ra, u.deg, "ra"), to_number(dec, u.deg, "dec")
            numbers += (to_number(self.radius, u.arcsec, "radius"),)
            for name, number in zip(("ra", "dec", "radius"), numbers, strict=True):
                object.__setattr__(self, name, number)
        if not (all(map(math.isfinite, numbers)) and numbers[2] >= 0):
            values = "ra={:g} dec={:g} radius={:g}".format(*numbers)
            raise InputError(f"region: found {values}, expected finite numbers, the radius not below zero")

    def _separation(self, ra, dec):
        """Compute the great-circle distance from the centre, arcsec."""
        angles = np.deg2rad([self.ra, self.dec]), np.deg2rad(ra), np.deg2rad(dec)
        return np.rad2deg(angular_separation(*angles[0], *angles[1:])) * ARCSEC

    def contains(self, ra: ArrayLike | SkyCoord, dec: ArrayLike | None = None) -> np.ndarray:
        """Return whether positions (degrees, Quantity, SkyCoord as `ra`) lie in the circle, rim included."""
        return self._separation(*in_degrees(ra, dec)) <= self.radius

    def cutout(
        self, wcs: BaseLowLevelWCS, shape: tuple[int, int]
    ) -> tuple[tuple[int, int, int, int], np.ndarray] | None:
        """Cut out the part of an image that lies in the circle.

        Parameters
        ----------
        wcs : APE-14 WCS
        shape : tuple of int
            (ny, nx).

        Returns
        -------
        box : tuple of int
            (x0, x1, y0, y1), half-open pixel ranges, as tight as possible.
        mask : ndarray of bool, shape (y1 - y0, x1 - x0)
            Pixels whose centres lie in the circle.
            None instead of the pair where there are none.
        """
        search = self._search_box(wcs, shape)
        if search is None:
            return None
        x0, _, y0, _ = search

        def sky(x, y):
            return _pixel_to_world(wcs, x, y)

        inside = disc_mask(sky, self.contains, search, (self.ra, self.dec), self.radius)
        columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
        if not rows.size:
            return None
        u0, u1, v0, v1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
        return (int(x0 + u0), int(x0 + u1), int(y0 + v0), int(y0 + v1)), inside[v0:v1, u0:u1]

    def bounding_box(self, wcs: BaseLowLevelWCS, shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """Return half-open ranges (x0, x1, y0, y1) of the pixels in the circle; None if there are none."""
        cutout = self.cutout(wcs, shape)
        return None if cutout is None else cutout[0]

    def pixel_mask(self, wcs: BaseLowLevelWCS, shape: tuple[int, int]) -> np.ndarray:
        """Return which pixels of an image have their centres in the circle; bool, shape (ny, nx)."""
        full = np.zeros(shape, dtype=bool)
        cutout = self.cutout(wcs, shape)
        if cutout is not None:
            (x0, x1, y0, y1), mask = cutout
            full[y0:y1, x0:x1] = mask
        return full

    def _search_box(self, wcs, shape):
        """Return pixel ranges certain to contain the circle, distortion allowed for; None if far away."""
        ny, nx = shape
        ra, dec, reach = footprint(wcs, shape)
        if self._separation(ra, dec) > self.radius + reach:
            return None
        affine = local_affine(wcs, self.ra, self.dec, dec0=self.dec)
        if not np.isfinite(affine.pixel).all():
            return 0, nx, 0, ny
        half = 1.1 * self.radius * np.linalg.norm(affine.jacobian[0], axis=1) + 2
        low = np.clip(np.floor(affine.pixel[0] - half), 0, (nx, ny)).astype(int)
        high = np.clip(np.ceil(affine.pixel[0] + half) + 1, 0, (nx, ny)).astype(int)
        return (low[0], high[0], low[1], high[1]) if (low < high).all() else None
