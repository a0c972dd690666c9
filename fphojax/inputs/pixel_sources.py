"""Sources as other programs list them, in pixels of an image, and where they lie on the sky.

A half-light ellipse in pixels is mapped to the sky by the derivatives of the WCS at its centre, so that rotated,
mirrored, oblong and sheared pixels are all accounted for.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.table import Table
from astropy.wcs.wcsapi import BaseLowLevelWCS

from fphojax.errors import InputError

from .astrometry import check_celestial, local_affine
from .catalog_files import ROI_PER_RHALF
from .fits_chips import named
from .fits_images import blame, image_of, opened, read_wcs
from .source_catalog import SourceCatalog

__all__ = ["ZERO_POINT", "PixelSources", "image_wcs", "on_sky"]

ZERO_POINT = 31.4  # AB magnitude of 1 nJy
_LEAST_ROI = 10.0  # pixels: a point source has an image, too
_ROUND = 1 - 1e-6  # axis ratio from which on an ellipse has no direction, but for rounding
_SCIENCE = "SCI"


@dataclass(frozen=True, eq=False)
class PixelSources:
    """N sources in the pixels of an image, fluxes in one band.

    Attributes
    ----------
    id : ndarray, shape (N,)
    x, y : ndarray, shape (N,)
        The centre of the first pixel is (1, 1).
    major : ndarray, shape (N,)
        Semi-major half-light radius, pixels; 0 for a point.
    q : ndarray, shape (N,)
        Axis ratio; above 1 if the axis at `theta` is the shorter one.
    theta : ndarray, shape (N,)
        Direction of the axis `major`, from the first axis of the image towards the second, degrees.
    sersic : ndarray, shape (N,)
    flux : ndarray, shape (N,)
        nJy.
    profile : list of str
        Names as in `fphojax.inputs.profiles.PROFILES`.
    wcs : APE-14 WCS or None
        That of the image, if the file has it.
    image : Path or None
        The image, if the file names it.
    notes : tuple of str
        What could not be taken over.
    """

    id: np.ndarray
    x: np.ndarray
    y: np.ndarray
    major: np.ndarray
    q: np.ndarray
    theta: np.ndarray
    sersic: np.ndarray
    flux: np.ndarray
    profile: list[str]
    wcs: BaseLowLevelWCS | None = None
    image: Path | None = None
    notes: tuple[str, ...] = field(default=())

    def unusable(self) -> dict[str, np.ndarray]:
        """Return which sources have values that no source can have, by what is wrong with them."""
        with np.errstate(invalid="ignore"):
            good = {
                "position": np.isfinite(self.x) & np.isfinite(self.y),
                "flux": np.isfinite(self.flux),
                "half-light radius": np.isfinite(self.major) & (self.major >= 0),
                "shape": np.isfinite(self.theta) & np.isfinite(self.q) & (self.q > 0),
                "Sersic index": np.isfinite(self.sersic) & (self.sersic > 0),
            }
        good["half-light radius"] &= (self.major > 0) | (np.array(self.profile, dtype=str) == "point")
        return {name: ~flags for name, flags in good.items() if not flags.all()}


def on_sky(
    sources: PixelSources, wcs: BaseLowLevelWCS, flux: np.ndarray, bands: tuple[str, ...]
) -> SourceCatalog:
    """Make a catalogue of sources in the pixels of an image.

    Parameters
    ----------
    sources : PixelSources
        Usable ones.
    wcs : APE-14 WCS
        Of the image.
    flux : ndarray, shape (N, n_band)
        nJy.
    bands : tuple of str

    Raises
    ------
    InputError
        A source outside the part of the image that has positions on the sky.
    """
    ra, dec = (
        np.asarray(axis, dtype=float) for axis in wcs.pixel_to_world_values(sources.x - 1, sources.y - 1)
    )
    with np.errstate(invalid="ignore"):
        derivative = local_affine(wcs, ra, dec, dec0=0.0).jacobian  # pixels per arcsec of the coordinates
    lost = np.flatnonzero(~np.isfinite(derivative).all(axis=(1, 2)))
    if lost.size:
        row = lost[0]
        raise InputError(
            f"id {sources.id[row]}: x = {sources.x[row]:g}, y = {sources.y[row]:g} has no position on the sky, "
            "expected a pixel of the image"
        )
    to_sky = np.linalg.inv(derivative)
    to_sky[:, 0] *= np.cos(np.deg2rad(dec))[:, None]  # east
    theta = np.deg2rad(sources.theta)
    axes = np.array([[np.cos(theta), -np.sin(theta) * sources.q], [np.sin(theta), np.cos(theta) * sources.q]])
    directions, lengths, _ = np.linalg.svd(to_sky @ np.moveaxis(axes, -1, 0))
    east, north = directions[:, 0, 0], directions[:, 1, 0]
    pa = (np.rad2deg(np.arctan2(east, north)) + 90) % 180 - 90
    q = lengths[:, 1] / lengths[:, 0]
    rhalf = sources.major * np.sqrt(lengths.prod(axis=1))
    pixel = np.sqrt(np.abs(np.linalg.det(to_sky)))
    special = set(sources.profile) != {"sersic"}
    return SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=flux,
        q=q,
        pa=np.where(q > _ROUND, 0.0, pa),
        sersic=sources.sersic,
        rhalf=rhalf,
        roi=np.maximum(ROI_PER_RHALF * rhalf, _LEAST_ROI * pixel),
        bands=bands,
        id=sources.id,
        extra=Table({"profile": sources.profile}) if special else None,
    )


def image_wcs(path: str | Path) -> BaseLowLevelWCS:
    """Read the WCS of an image: that of the extension SCI, else of the first image.

    Parameters
    ----------
    path : path-like
        ``image.fits[1]`` or ``image.fits[SCI]`` names an extension.

    Raises
    ------
    InputError
        No such file, extension or image, no celestial WCS.
    """
    named_key = re.search(r"\[(\w+)\]$", str(path))
    key = None if named_key is None else named_key[1]
    file = Path(str(path).removesuffix("" if named_key is None else named_key[0]))
    with blame(path), opened(file) as hdus:
        if key is None:
            images = [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]
            chosen = [hdu for hdu in images if hdu.name == _SCIENCE] or images[:1]
        else:
            chosen = named(hdus, int(key) if key.isdecimal() else key)
        if not chosen:
            raise InputError("no such image in the file, expected one with a WCS")
        hdu = chosen[0]
        shape, wcs = image_of(hdu, hdu.name).shape, read_wcs(hdu.header, hdus, hdu.name)
        check_celestial(wcs, shape)
    return wcs
