"""Pixel and meta stores: all exposures of a field in one HDF5 and one JSON file, read window by window."""

import functools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
from astropy.io import fits
from astropy.wcs.wcsapi import BaseLowLevelWCS

from fphojax.errors import InputError
from fphojax.inputs.astrometry import footprint, pixel_scale
from fphojax.inputs.exposures import Exposure, capped_ierr, less_sky
from fphojax.inputs.fits_images import blame, gwcs_of, read_wcs
from fphojax.inputs.wcs_checks import frame_name

from .reader import PixelStore, StoreEntry, read_meta

__all__ = ["StoredExposure", "central_noise", "open_stores"]

_WINDOW = 512  # pixels in the middle of an image, where its noise is measured


@dataclass(frozen=True, eq=False)
class StoredExposure:
    """One image in one band with its pixels left in a store; it can be used as an `Exposure`.

    Attributes
    ----------
    name, band : str
    store : PixelStore
    metafile : Path
        The meta file of its header.
    header_text : str
        Its header as one string.
    sky : float
        Level that is subtracted from the pixels read [nJy].
    max_snr : float
        Cap on the signal-to-noise ratio of the pixels read; infinite for none.
    """

    psf: ClassVar[None] = None
    origin: ClassVar[tuple[int, int]] = (0, 0)

    name: str
    band: str
    store: PixelStore = field(repr=False)
    metafile: Path
    header_text: str = field(repr=False)
    sky: float = 0.0
    max_snr: float = np.inf

    flux_scale = 1.0  # stores are calibrated when they are built
    notes = ()  # they were reported then

    def __reduce__(self) -> tuple:
        return _stored, (self.store.path, self.metafile, self.band, self.name, self.sky, self.max_snr)

    @property
    def entry(self) -> StoreEntry:
        """What is known of it without reading the file."""
        return self.store.entries[self.band, self.name]

    @property
    def attributes(self) -> dict:
        """Attributes of its pixels in the store (see `fphojax.inputs.stores.pixel_layout`)."""
        return self.store.attributes(self.band, self.name)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.entry.shape

    @property
    def path(self) -> Path:
        """The pixel store."""
        return self.store.path

    @cached_property
    def header(self) -> fits.Header:
        """Header of the science extension."""
        header = fits.Header.fromstring(self.header_text)
        size = tuple(header.get(f"NAXIS{axis}") for axis in (2, 1))
        if "image_shape" not in self.entry.stated and None not in size and size != self.shape:
            raise InputError(
                f"{self.metafile}: header of exposure {self.name!r} of band {self.band} is that of an image of "
                f"{size[1]} x {size[0]} pixels, expected {self.shape[1]} x {self.shape[0]} as in {self.path}"
            )
        return header

    @cached_property
    def wcs(self) -> BaseLowLevelWCS:
        """The WCS of its header, or the gwcs kept beside its pixels."""
        gwcs = self._bytes("gwcs")
        with blame(f"{self.metafile}: header of exposure {self.name!r} of band {self.band}"):
            wcs = self._header_wcs() if gwcs is None else gwcs_of(gwcs)
            frame_name(wcs)
            return wcs

    @cached_property
    def footprint(self) -> tuple[float, float, float]:
        """A circle on the sky that holds the image: ra, dec (degrees) and radius (arcsec)."""
        stated = self.entry.stated.get("footprint")
        if stated is None:
            return footprint(self.wcs, self.shape)
        ra, dec, radius = (float(value) for value in stated)
        return ra, dec, radius

    @cached_property
    def pixel_scale(self) -> float:
        """Square root of the pixel area at the image centre, arcsec."""
        return pixel_scale(self.wcs, self.shape)

    @property
    def read_as(self) -> str:
        """What was found in its source file and done with it, as far as the store says."""
        stated = self.attributes.get("read_as")
        if stated is not None:
            return str(stated)
        bits = self.attributes.get("bitmask_applied")
        unit = str(self.attributes.get("flux_units", "no unit, taken as nJy"))
        return unit if bits is None else f"{unit}, bitmask {int(bits)}"

    @property
    def masked_fraction(self) -> float:
        """Fraction of the pixels that have no weight."""
        n_pixel = self.shape[0] * self.shape[1]
        n_weighted = self.attributes.get("n_weighted")
        if n_weighted is not None:
            return 1 - int(n_weighted) / n_pixel
        return 1 - sum(int(np.sum(ierr > 0)) for _, ierr in self.stripes()) / n_pixel

    @property
    def psf_image(self) -> np.ndarray | None:
        """PSF at the pixel scale of the image, shape (my, mx); None if the store has none."""
        return self.store.beside(self.band, self.name, "psf")

    @property
    def psf_includes_pixel(self) -> bool:
        """Whether the PSF image is an effective one."""
        dataset = self.store.dataset(self.band, self.name, "psf")
        if dataset is None:
            return True
        includes_pixel = dataset.attrs.get("includes_pixel")
        if not isinstance(includes_pixel, bool | np.bool_ | np.integer):
            raise InputError(
                f"{self.path}: exposure {self.name!r} of band {self.band}: psf has "
                f"includes_pixel = {includes_pixel!r}, "
                "expected true or false"
            )
        return bool(includes_pixel)

    def window(self, x0: int, x1: int, y0: int, y1: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and inverse error of the pixels in half-open ranges, shape (y1 - y0, x1 - x0)."""
        data, ierr = self.store.window(self.band, self.name, x0, x1, y0, y1)
        if self.sky:
            data = less_sky(data, ierr, self.sky)
        return data, capped_ierr(data, ierr, self.max_snr) if np.isfinite(self.max_snr) else ierr

    def stripes(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the whole image and inverse error, some columns at a time."""
        step = 32 * self.store.super_pixel_size
        for x0 in range(0, self.shape[1], step):
            yield self.window(x0, min(x0 + step, self.shape[1]), 0, self.shape[0])

    def less(self, sky: float) -> "StoredExposure":
        """Return the exposure with a constant sky level (nJy) subtracted."""
        return replace(self, sky=self.sky + sky)

    def capped(self, max_snr: float) -> "StoredExposure":
        """Return the exposure with errors raised so that no signal-to-noise ratio exceeds `max_snr`."""
        return replace(self, max_snr=min(self.max_snr, max_snr))

    def _header_wcs(self):
        tables = self._bytes("wcs_tables")
        with fits.HDUList() if tables is None else fits.open(BytesIO(tables)) as hdus:
            return read_wcs(self.header, hdus if len(hdus) else None, "SCI")

    def _bytes(self, what):
        content = self.store.beside(self.band, self.name, what)
        return None if content is None else content.tobytes()


def open_stores(
    pixelfile: str | Path, metafile: str | Path, bands: Sequence[str] | None = None
) -> list[StoredExposure]:
    """Open the exposures of a pixel store and its meta file; no pixel is read.

    Parameters
    ----------
    pixelfile, metafile : path-like
    bands : sequence of str, optional
        Only these; by default all.

    Returns
    -------
    list of StoredExposure
        By band and name.

    Raises
    ------
    InputError
        For files that are not stores, or do not belong together.
    """
    paths = Path(pixelfile).resolve(), Path(metafile).resolve()
    stamps = tuple(path.stat().st_mtime_ns if path.exists() else None for path in paths)
    exposures = _both(*paths, stamps)
    return [exposure for (band, _), exposure in exposures.items() if bands is None or band in bands]


@functools.lru_cache(maxsize=8)
def _both(pixelfile, metafile, stamps):
    """Open all exposures by (band, name); cached, so that copies in one process share one file."""
    store, headers = PixelStore(pixelfile), read_meta(metafile)
    for have, lack, keys in (
        (pixelfile, metafile, store.entries.keys() - headers.keys()),
        (metafile, pixelfile, headers.keys() - store.entries.keys()),
    ):
        if keys:
            band, name = min(keys)
            raise InputError(
                f"{lack}: no exposure {name!r} of band {band} (of {len(keys)} such), expected those of {have}"
            )
    for (band, name), entry in store.entries.items():
        checksum = entry.stated.get("header_crc32")
        if checksum is not None and int(checksum) != zlib.crc32(headers[band, name].encode()):
            raise InputError(
                f"{metafile}: header of exposure {name!r} of band {band} differs from the one that {pixelfile} was "
                "built with, expected stores that belong together"
            )
    return {
        (band, name): StoredExposure(name, band, store, metafile, headers[band, name])
        for band, name in sorted(store.entries)
    }


def _stored(pixelfile, metafile, band, name, sky, max_snr):
    """Open a stored exposure again, when it is unpickled in another process."""
    stamps = tuple(path.stat().st_mtime_ns for path in (pixelfile, metafile))
    return replace(_both(pixelfile, metafile, stamps)[band, name], sky=sky, max_snr=max_snr)


def central_noise(exposure: Exposure | StoredExposure) -> float:
    """Return the typical standard deviation of the pixels in the middle of an image; NaN where none has weight."""
    ny, nx = exposure.shape
    _, ierr = exposure.window(*_middle(nx), *_middle(ny))
    return 1 / np.median(ierr[ierr > 0]) if (ierr > 0).any() else np.nan


def _middle(size):
    return max(0, (size - _WINDOW) // 2), min(size, (size + _WINDOW) // 2)
