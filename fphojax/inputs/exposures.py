"""Exposures: pixels, inverse errors, WCS, band and PSF image, from FITS files or from arrays."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.utils.masked import Masked
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.system.progress import Progress

from .astrometry import check_celestial, completed, footprint, pixel_scale
from .exposure_display import exposure_html, exposure_text
from .fits_chips import Key
from .fits_frames import FitsFrame, ReadingOptions, read_frame, read_frames
from .fits_images import blame
from .units import has_unit, to_number, to_unit

if TYPE_CHECKING:
    from fphojax.mixtures.psf_result import PSFFit

    from .psf_mixture import PSFMixture

__all__ = ["Exposure", "capped_ierr", "collect", "less_sky", "read_exposures"]


@dataclass(frozen=True, eq=False)
class Exposure:
    """One image in one band, ready to be fitted.

    Make it with `from_fits` or `from_arrays`, which check what they are given.

    Attributes
    ----------
    name : str
        Exposure identifier; unique within a band.
    band : str
    data : ndarray of float32, shape (ny, nx)
        Image, nJy per pixel by convention; 0 where ``ierr`` is 0.
    ierr : ndarray of float32, shape (ny, nx)
        Inverse standard deviation; 0 where the pixel has no weight.
    wcs : APE-14 WCS
        Pixels, zero-indexed, to (ra, dec) in degrees.
    psf_image : ndarray of float64, shape (my, mx), or None
        PSF at the pixel scale of the image, as given, not normalised.
    psf_includes_pixel : bool
        Whether the PSF image is an effective PSF, which includes the pixel response.
    psf : PSFMixture or None
        Mixture to be used instead of one fitted to the PSF image, see `fphojax.PSFStore.of_exposures`.
    origin : tuple of int
        Detector position (x, y) of the first pixel of a cutout, [pixels]: PSFs may depend on the detector position.
    flux_scale : float
        Image counts per unit of catalogue flux (G_e of the model).
    path : Path or None
        The file it came from.
    header : fits.Header
        Header of the science extension.
    read_as : str
        What was found in its file and done with it: chip, unit, mask, band, sky frame.
    notes : tuple of str
        Further remarks on its file, for the user.
    """

    name: str
    band: str
    data: np.ndarray
    ierr: np.ndarray
    wcs: BaseLowLevelWCS
    psf_image: np.ndarray | None = None
    psf_includes_pixel: bool = True
    psf: "PSFMixture | None" = None
    origin: tuple[int, int] = (0, 0)
    flux_scale: float = 1.0
    path: Path | None = None
    header: fits.Header = field(default_factory=fits.Header, repr=False)
    read_as: str = field(default="arrays", repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return exposure_text(self)

    def _repr_html_(self) -> str:
        return exposure_html(self)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.data.shape

    @property
    def celestial_header(self) -> fits.Header:
        """A copy of `header`, with the cards of `wcs` where it has no WCS of its own."""
        header = self.header.copy()
        if "CTYPE1" not in header:
            header.update(self.wcs.to_header(relax=True))
        return header

    @property
    def masked_fraction(self) -> float:
        """Fraction of the pixels that have no weight."""
        return float(np.mean(self.ierr == 0))

    @cached_property
    def pixel_scale(self) -> float:
        """Square root of the pixel area at the image centre, arcsec."""
        return pixel_scale(self.wcs, self.shape)

    @cached_property
    def footprint(self) -> tuple[float, float, float]:
        """A circle on the sky that holds the image: ra, dec (degrees) and radius (arcsec)."""
        return footprint(self.wcs, self.shape)

    def window(self, x0: int, x1: int, y0: int, y1: int) -> tuple[np.ndarray, np.ndarray]:
        """Return image and inverse error of the pixels in half-open ranges, shape (y1 - y0, x1 - x0)."""
        return self.data[y0:y1, x0:x1], self.ierr[y0:y1, x0:x1]

    def less(self, sky: float) -> "Exposure":
        """Return the exposure with a constant sky level (nJy per pixel, or a Quantity) subtracted."""
        sky = to_number(sky, u.nJy, "sky")
        return replace(self, data=less_sky(self.data, self.ierr, sky))

    def capped(self, max_snr: float) -> "Exposure":
        """Return the exposure with errors raised so that no signal-to-noise ratio exceeds `max_snr`."""
        return replace(self, ierr=capped_ierr(self.data, self.ierr, max_snr))

    @classmethod
    def from_arrays(
        cls,
        data: ArrayLike,
        err: ArrayLike,
        wcs: BaseLowLevelWCS,
        *,
        band: str,
        name: str,
        mask: ArrayLike | None = None,
        psf_image: ArrayLike | None = None,
        psf_includes_pixel: bool = True,
        psf: "PSFMixture | PSFFit | None" = None,
        flux_scale: float = 1.0,
        path: Path | None = None,
        header: fits.Header | None = None,
    ) -> "Exposure":
        """Make an exposure from images in memory.

        Parameters
        ----------
        data, err : array_like or Quantity, shape (ny, nx)
            Image and standard deviation, of any dtype and byte order. Plain numbers are nJy per pixel, what has a
            unit is converted; both have one, or neither. Pixels that are masked, where either is not finite, or
            where the error is not positive, have no weight.
        wcs : APE-14 WCS
            Without ``cunit``, it is in degrees.
        mask : array_like, shape (ny, nx), optional
            Pixels where it is not zero have no weight.
        psf_image : array_like, shape (my, mx), optional
        psf : PSFMixture or what `fit_psf` returns, optional
        band, name, psf_includes_pixel, flux_scale, path, header
            As in the class.

        Raises
        ------
        InputError
            Images that are not 2-D or differ in shape, no valid pixel, an unusable WCS or PSF; a unit that is no
            flux density, or of one of the images alone.
        """
        label = f"exposure {name!r}" if path is None else f"{path}"
        with blame(label):
            data, err = _in_njy(data, err)
            data, ierr = _weighted(data, err, mask)
            wcs = completed(wcs)
            check_celestial(wcs, data.shape)
            if psf_image is not None:
                psf_image = _checked_psf(psf_image)
            flux_scale = to_number(flux_scale, u.one, "flux_scale")
            if not (np.isfinite(flux_scale) and flux_scale > 0):
                raise InputError(f"flux scale is {flux_scale}, expected a positive number")
        return cls(
            name=str(name),
            band=str(band),
            data=data,
            ierr=ierr,
            wcs=wcs,
            psf_image=psf_image,
            psf_includes_pixel=bool(psf_includes_pixel),
            psf=_mixture(psf),
            flux_scale=flux_scale,
            path=path,
            header=fits.Header() if header is None else header,
        )

    @classmethod
    def from_frame(cls, frame: FitsFrame) -> "Exposure":
        """Make an exposure from the images of a frame, in nJy.

        Raises
        ------
        InputError
            As `from_arrays`.
        """
        images = {
            "data": frame.data,
            "err": frame.err,
            "wcs": frame.wcs,
            "mask": frame.bad.where,
            "psf_image": frame.psf_image,
            "psf_includes_pixel": frame.psf_includes_pixel,
            "band": frame.band,
            "name": frame.name,
            "header": frame.header,
        }
        with blame(str(frame.path)):
            exposure = cls.from_arrays(**images)
        return replace(exposure, path=frame.path, read_as=frame.read_as, notes=frame.notes)

    @classmethod
    def from_fits(
        cls,
        path: str | Path,
        *,
        sci: Key = "SCI",
        err: Key = "ERR",
        mask: Key | None = None,
        psf: Key | None = None,
        band: str | None = None,
        bitmask: int | None = None,
        band_keyword: str | None = None,
    ) -> "Exposure":
        """Read an exposure from a FITS file, and convert it to nJy.

        The name is the keyword ``EXPID`` of the science or primary header, else the stem of the file's name. Where
        the file has several images of the name `sci`, their EXTVER is added to it.

        Parameters
        ----------
        path : path-like
        sci, err : str, int or tuple
            Extensions of the image and of its standard deviation: a name, the number of an HDU, or (name, EXTVER).
            ``BUNIT`` says their unit: nJy, uJy, mJy, Jy or nanomaggy per pixel; or MJy/sr, with the area of a pixel
            in ``PIXAR_SR`` or ``PIXAR_A2``; none means nJy.
        mask, psf : str, int or tuple, optional
            Extensions of mask and PSF image, which must then exist. By default the mask is ``MASK``, else ``DQ``,
            else zeros of ``WHT``; and the PSF is ``PSF``, if there is one. The keyword ``PIXRESP`` of the PSF's
            header (default true) says whether it includes the pixel response.
        band : str, optional
            By default as the header says: ``FILTER``, ``PUPIL``, or one of ``FILTER1`` and ``FILTER2``.
        bitmask : int, optional
            Bits of the mask that spoil a pixel; by default all, for ``DQ`` of JWST do-not-use and non-science.
        band_keyword : str, optional
            Another keyword that holds the band.

        Raises
        ------
        InputError
            With the file, the extension or key, what was found and what was expected.
        """
        reading = ReadingOptions(
            sci=sci, err=err, mask=mask, psf=psf, band=band, bitmask=bitmask, band_keyword=band_keyword
        )
        return cls.from_frame(read_frame(path, reading))


def collect(paths: Iterable, *, progress: bool = False, **kwargs: Any) -> tuple[list[Exposure], list[str]]:
    """Read exposures, and collect their problems instead of stopping at the first.

    Parameters
    ----------
    paths : iterable of path-like
        Each file may hold several chips, which are exposures of their own.
    progress : bool
        Show a progress bar.
    **kwargs
        Fields of `fphojax.inputs.fits_frames.ReadingOptions`: ``sci``, ``err``, ``mask``, ``psf``, ``band``,
        ``bitmask``, ``band_keyword``, ``band_patterns``.

    Returns
    -------
    exposures : list of Exposure
        Those that can be used, in the order of `paths`.
    problems : list of str
        One line for each that cannot.
    """
    reading = ReadingOptions(**kwargs)
    exposures, problems = [], []
    by_name: dict[tuple[str, str], Exposure] = {}
    for path in Progress(list(paths), text="exposures", units="files", shown=progress):
        try:
            read = [Exposure.from_frame(frame) for frame in read_frames(path, reading)]
        except InputError as error:
            problems.append(str(error))
            continue
        for exposure in read:
            first = by_name.setdefault((exposure.band, exposure.name), exposure)
            if first is exposure:
                exposures.append(exposure)
            else:
                problems.append(
                    f"{path}: exposure {exposure.name!r} of band {exposure.band} was read from {first.path}, "
                    "expected EXPID to be unique within a band"
                )
    return exposures, problems


def read_exposures(paths: Iterable, *, progress: bool = False, **kwargs: Any) -> list[Exposure]:
    """Read exposures, all chips of each file; arguments as in `collect`.

    Raises
    ------
    InputError
        One line for each file that cannot be used.
    """
    exposures, problems = collect(paths, progress=progress, **kwargs)
    if problems:
        raise InputError("\n".join(problems))
    return exposures


def less_sky(data: np.ndarray, ierr: np.ndarray, sky: float) -> np.ndarray:
    """Subtract a sky level from pixels; 0 where they have no weight, float32."""
    return np.where(ierr > 0, data - np.float32(sky), 0).astype(np.float32)


def capped_ierr(data: np.ndarray, ierr: np.ndarray, max_snr: float) -> np.ndarray:
    """Lower inverse errors so that no pixel's signal-to-noise ratio exceeds `max_snr`; float32."""
    capped = np.array(ierr, dtype=np.float32)
    over = np.abs(data) * capped > max_snr
    capped[over] = max_snr / np.abs(data[over])
    return capped


def _in_njy(data, err):
    """Convert image and error to nJy, where they have units; NaN where they are masked."""
    if has_unit(data) != has_unit(err):
        names = ("data", "err") if has_unit(data) else ("err", "data")
        raise InputError(
            f"{names[1]}: found no unit beside {names[0]} with one, expected a unit of both, or of neither"
        )
    images = []
    for values, name in ((data, "data"), (err, "err")):
        if isinstance(values, Masked | np.ma.MaskedArray):
            values = values.astype(np.float64).filled(np.nan)
        images.append(to_unit(values, u.nJy, name) if has_unit(values) else values)
    return images


def _weighted(data, err, mask):
    """Return image and inverse error in float32, both 0 where the pixel has no weight."""
    data, err = np.asarray(data), np.asarray(err)
    for what, values in (("science", data), ("error", err)):
        if values.dtype.kind not in "biufO":
            raise InputError(f"{what} image holds {values.dtype}, expected real numbers")
    if data.ndim != 2:
        raise InputError(f"science image has shape {data.shape}, expected a 2-D image")
    for what, other in (("error", err), ("mask", mask)):
        if other is not None and np.shape(other) != data.shape:
            raise InputError(
                f"{what} image has shape {np.shape(other)}, expected {data.shape} as the science image"
            )
    with np.errstate(all="ignore"):
        flux = data.astype(np.float32)
        ierr = (1 / err.astype(np.float64)).astype(np.float32)
        good = np.isfinite(flux) & np.isfinite(ierr) & (ierr > 0)
    if mask is not None:
        good &= np.asarray(mask) == 0
    if not good.any():
        raise InputError(
            f"no valid pixel among {data.size}, expected finite data with finite positive errors off the mask"
        )
    return np.where(good, flux, np.float32(0)), np.where(good, ierr, np.float32(0))


def _mixture(psf):
    """Return a mixture, or that of a fit to a PSF image."""
    if psf is None:
        return None
    from .psf_mixture import as_mixture  # sets up JAX

    return as_mixture(psf)


def _checked_psf(image):
    """Check a PSF image, and convert it to native float64."""
    image = np.asarray(to_unit(image, u.one, "psf_image") if has_unit(image) else image).astype(np.float64)
    if image.ndim != 2:
        raise InputError(f"PSF image has shape {image.shape}, expected a 2-D image")
    if not np.isfinite(image).all():
        raise InputError(f"PSF image has {np.sum(~np.isfinite(image))} non-finite pixels, expected none")
    if not image.sum() > 0:
        raise InputError(f"PSF image has the total flux {image.sum():g}, expected a positive one")
    return image
