"""The pixels of one region of the sky, cut from all exposures that reach into it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from fphojax.core.backend import on_device
from fphojax.core.patch import TILE, Patch, padded_length
from fphojax.errors import InputError
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .astrometry import CircularRegion
from .exposures import Exposure
from .stores.stored_exposures import StoredExposure

__all__ = ["PatchFrame", "cut"]


@dataclass(frozen=True, eq=False, repr=False)
class PatchFrame(Shown):
    """The pixels of a region, and the exposures and bands that they belong to.

    Attributes
    ----------
    region : CircularRegion
        The patch on the sky; its centre is the reference of all offsets.
    bands : tuple of str
        Columns of the fluxes.
    exposures : tuple of Exposure or StoredExposure
        Those that have pixels in the region, in the order of the patch.
    patch : Patch
        The pixels as observed, before fixed sources are subtracted.
    masked : tuple of str
        Names of exposures that reach into the region, and have no valid pixel there.
    """

    region: CircularRegion
    bands: tuple[str, ...]
    exposures: tuple[Exposure | StoredExposure, ...]
    patch: Patch
    masked: tuple[str, ...] = ()

    def _facts(self):
        return {
            "": counted(int(np.count_nonzero(np.asarray(self.patch.ierr))), "pixel"),
            "exposures": len(self.exposures),
            "bands": ", ".join(self.bands),
            "centre": f"{self.region.ra:.6f} {self.region.dec:+.6f}",
            "radius": f'{self.region.radius:.2f}"',
        }

    def image(self, exposure: int, tiles: np.ndarray) -> np.ndarray:
        """Assemble tiles to the full frame of one exposure.

        Parameters
        ----------
        exposure : int
            Index into `exposures`.
        tiles : array (T, TILE * TILE)
            Pixel values in the order of ``patch.data``.

        Returns
        -------
        ndarray (ny, nx)
            NaN where the patch has no weight.
        """
        ny, nx = self.exposures[exposure].shape
        image = np.full((ny + TILE, nx + TILE), np.nan)
        ierr = np.asarray(self.patch.ierr)
        tiles = np.asarray(tiles)
        origin = np.asarray(self.patch.origin)
        for t in np.flatnonzero(self._of(exposure)):
            x, y = origin[t]
            values = np.where(ierr[t] > 0, tiles[t], np.nan)
            image[y : y + TILE, x : x + TILE] = values.reshape(TILE, TILE)
        return image[:ny, :nx]

    def pixels(self, exposure: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the used pixels of one exposure: columns, rows, and indices into the raveled tiles."""
        inside = self._of(exposure)[:, None] & (np.asarray(self.patch.ierr) > 0)
        flat = np.flatnonzero(inside)
        tile, pixel = np.divmod(flat, TILE * TILE)
        origin = np.asarray(self.patch.origin)[tile]
        return origin[:, 0] + pixel % TILE, origin[:, 1] + pixel // TILE, flat

    def _of(self, exposure):
        """Return which tiles belong to an exposure; padding does not."""
        real = np.arange(self.patch.n_tile) < int(self.patch.count)
        return real & (np.asarray(self.patch.exposure) == exposure)


def cut(
    exposures: Sequence[Exposure | StoredExposure],
    region: CircularRegion,
    *,
    bands: Sequence[str] | None = None,
    dtype: DTypeLike = np.float32,
) -> PatchFrame:
    """Cut the pixels of a region from exposures.

    Parameters
    ----------
    exposures : sequence of Exposure or StoredExposure
        Those without a valid pixel in the region are left out.
    region : CircularRegion
    bands : sequence of str, optional
        Bands to use, in the order of the fluxes; by default all, in the order of the exposures.
    dtype : dtype
        Floating-point type of the pixel work.

    Returns
    -------
    PatchFrame

    Raises
    ------
    InputError
        If no exposure has a valid pixel there.
    """
    bands = tuple(bands or dict.fromkeys(exposure.band for exposure in exposures))
    used: list[Exposure | StoredExposure] = []
    tiles, masked = [], []
    of_bands = [exposure for exposure in exposures if exposure.band in bands]
    for exposure in sorted(of_bands, key=lambda exposure: bands.index(exposure.band)):
        cutout = _tiles_of(exposure, region)
        if cutout is not None and not len(cutout[0]):
            masked.append(exposure.name)
        elif cutout is not None:
            tiles.append((*cutout, np.full(len(cutout[0]), len(used))))
            used.append(exposure)
    if not used:
        raise InputError(
            f"region ra={region.ra:.6f} dec={region.dec:.6f} radius={region.radius:.2f} arcsec: no exposure in "
            f"{', '.join(bands)} has a valid pixel there, expected at least one"
        )
    origin, data, ierr, index = (np.concatenate(parts) for parts in zip(*tiles, strict=True))
    n = len(origin)
    spare = padded_length(n + 1, smallest=16) - n

    def padded(array, dtype):
        return on_device(np.pad(array, ((0, spare),) + ((0, 0),) * (array.ndim - 1)), dtype)

    patch = Patch(
        data=padded(data, dtype),
        ierr=padded(ierr, dtype),
        origin=padded(origin, np.int32),
        exposure=padded(index, np.int32),
        count=on_device(n, np.int32),
    )
    return PatchFrame(region, bands, tuple(used), patch, tuple(masked))


def _tiles_of(exposure: Exposure | StoredExposure, region: CircularRegion):
    """Return origins (T, 2), data and ierr (T, TILE * TILE) of tiles with weight in a region.

    None where the region lies outside the image.
    """
    window = region.cutout(exposure.wcs, exposure.shape)
    if window is None:
        return None
    (x0, x1, y0, y1), inside = window
    # the grid of tiles starts at the first pixel of the exposure, so that a tile is the same in every patch
    left, bottom = x0 // TILE * TILE, y0 // TILE * TILE
    columns, rows = -(-(x1 - left) // TILE), -(-(y1 - bottom) // TILE)
    ierr = np.zeros((rows * TILE, columns * TILE), dtype=np.float32)
    data = np.zeros_like(ierr)
    inset = np.s_[y0 - bottom : y1 - bottom, x0 - left : x1 - left]
    pixels, weights = exposure.window(x0, x1, y0, y1)
    ierr[inset] = np.where(inside, weights, 0)
    data[inset] = np.where(ierr[inset] > 0, pixels, 0)

    def tiled(image):
        blocks = image.reshape(rows, TILE, columns, TILE).swapaxes(1, 2)
        return blocks.reshape(rows * columns, TILE * TILE)

    data, ierr = tiled(data), tiled(ierr)
    row, column = np.divmod(np.arange(rows * columns), columns)
    origin = np.stack([left + column * TILE, bottom + row * TILE], axis=1)
    weighted = (ierr > 0).any(axis=1)
    return origin[weighted], data[weighted], ierr[weighted]
