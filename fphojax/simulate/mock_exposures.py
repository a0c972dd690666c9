"""Mock exposures with known truth.

The images do not use the renderer of the package: the exact Sersic profile, the PSF and the pixel are
multiplied in Fourier space, where only the PSF is a mixture of Gaussians.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from scipy.fft import fht, fhtoffset, irfft2, next_fast_len
from scipy.interpolate import CubicSpline
from scipy.special import gamma, gammaincinv

from fphojax.errors import InputError
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.units import convert_fields
from fphojax.system.files import replacing

__all__ = [
    "ExposureSpec",
    "noiseless_image",
    "simulate_exposures",
    "write_exposure",
]

# The spectrum is computed up to where the narrowest Gaussian of the PSF has damped it by exp(-14).
_DAMPING = 14.0
# Copies of a source that the discrete transform implies are this many semi-major half-light radii, and
# standard deviations of the widest Gaussian of the PSF, away from the image.
_CLEARANCE = 10.0
_STAMP_SIGMA = 5.0  # half-size of a PSF stamp, in units of the widest Gaussian


@dataclass(frozen=True)
class ExposureSpec:
    """Specification of an exposure to simulate, in tangential projection; a Quantity is converted.

    Attributes
    ----------
    band, name : str
    shape : tuple of int
        (ny, nx).
    pixel_scale : float
        Arcsec.
    rotation_deg : float
        Position angle of the image's y axis, degrees east of north.
    ra, dec : float
        Sky position of the image's centre, degrees.
    psf : PSFMixture
    noise : float
        Standard deviation of a pixel, in the units of the image.
    flux_scale : float
        Image counts per unit of catalogue flux.
    """

    band: str
    name: str
    shape: tuple[int, int]
    pixel_scale: float
    rotation_deg: float
    ra: float
    dec: float
    psf: PSFMixture
    noise: float
    flux_scale: float = 1.0

    def __post_init__(self) -> None:
        convert_fields(
            self, pixel_scale=u.arcsec, rotation_deg=u.deg, ra=u.deg, dec=u.deg, noise=u.nJy, flux_scale=u.one
        )

    def header(self) -> fits.Header:
        """Return the FITS header: WCS, FILTER, EXPID, BUNIT."""
        ny, nx = self.shape
        sin, cos = np.sin(np.deg2rad(self.rotation_deg)), np.cos(np.deg2rad(self.rotation_deg))
        step = self.pixel_scale / 3600
        cards = {
            "FILTER": self.band,
            "EXPID": self.name,
            "BUNIT": "nJy",
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CUNIT1": "deg",
            "CUNIT2": "deg",
            "RADESYS": "ICRS",
            "CRPIX1": (nx + 1) / 2,
            "CRPIX2": (ny + 1) / 2,
            "CRVAL1": self.ra,
            "CRVAL2": self.dec,
            "CD1_1": -step * cos,
            "CD1_2": step * sin,
            "CD2_1": step * sin,
            "CD2_2": step * cos,
        }
        return fits.Header(cards)


def simulate_exposures(catalog: SourceCatalog, specs: Sequence[ExposureSpec], *, seed: int) -> list[Exposure]:
    """Simulate exposures of a catalogue, with Gaussian noise.

    Parameters
    ----------
    catalog : SourceCatalog
        The truth.
    specs : sequence of ExposureSpec
    seed : int
        The noise of an exposure depends on it and on the exposure's place in `specs`.

    Returns
    -------
    list of Exposure
        Each with its effective PSF as an image.

    Raises
    ------
    InputError
        A band without fluxes in the catalogue.
    """
    exposures = []
    for index, spec in enumerate(specs):
        noise = np.random.default_rng([seed, index]).normal(scale=spec.noise, size=spec.shape)
        header = spec.header()
        exposures.append(
            Exposure.from_arrays(
                noiseless_image(catalog, spec) + noise,
                np.full(spec.shape, spec.noise),
                WCS(header),
                band=spec.band,
                name=spec.name,
                psf_image=_effective_psf(spec.psf),
                flux_scale=spec.flux_scale,
                header=header,
            )
        )
    return exposures


def noiseless_image(catalog: SourceCatalog, spec: ExposureSpec) -> np.ndarray:
    """Render a catalogue as an image without noise.

    Parameters
    ----------
    catalog : SourceCatalog
    spec : ExposureSpec

    Returns
    -------
    ndarray of float64, shape (ny, nx)

    Raises
    ------
    InputError
        If the catalogue has no fluxes in the band.
    """
    flux = spec.flux_scale * catalog.select_bands([spec.band]).flux[:, 0]
    affine = local_affine(WCS(spec.header()), catalog.ra, catalog.dec, dec0=spec.dec)
    image = np.zeros(spec.shape)
    for s in np.flatnonzero(np.isfinite(affine.pixel).all(axis=-1)):
        form = _form(affine.jacobian[s], catalog.q[s], np.deg2rad(catalog.pa[s]), catalog.rhalf[s])
        transform = _sersic_transform(float(catalog.sersic[s]))
        image += flux[s] * _pixel_values(spec.shape, affine.pixel[s], form, transform, spec.psf)
    return image


def write_exposure(exposure: Exposure, path: str | Path) -> None:
    """Write an exposure as FITS: SCI, ERR, PSF (if it has one) and MASK (if some pixels have no weight).

    `Exposure.from_fits` reads the same pixels, errors and PSF back.

    Parameters
    ----------
    exposure : Exposure
    path : path-like

    Raises
    ------
    InputError
        For an exposure with a flux scale, which the file cannot store.
    """
    if exposure.flux_scale != 1:
        raise InputError(f"{path}: exposure has the flux scale {exposure.flux_scale:g}, expected 1")
    header = exposure.celestial_header
    header["FILTER"], header["EXPID"] = exposure.band, exposure.name
    bad = exposure.ierr == 0
    # in double precision, so that the inverse of the inverse is the same number
    err = 1 / np.where(bad, np.inf, exposure.ierr).astype(np.float64)
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(exposure.data, header, name="SCI"),
        fits.ImageHDU(err, name="ERR"),
    ]
    if bad.any():
        hdus.append(fits.ImageHDU(bad.astype(np.uint8), name="MASK"))
    if exposure.psf_image is not None:
        pixel_response = fits.Header({"PIXRESP": exposure.psf_includes_pixel})
        hdus.append(fits.ImageHDU(exposure.psf_image, pixel_response, name="PSF"))
    with replacing(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


# --------------------------------------------------------------------------------------------------------
# Images from their Fourier transforms


@functools.lru_cache(maxsize=64)
def _sersic_transform(n: float):
    """Return the Fourier transform in k of the circular Sersic profile of unit flux and half-light radius.

    It is the Hankel transform of I(r) = b^2n / (2 pi n Gamma(2n)) exp(-b r^(1/n)), by FFTLog (Hamilton 2000).
    """
    b = gammaincinv(2 * n, 0.5)
    log_r, step = np.linspace(np.log(1e-10), np.log(1e10), 8192, retstep=True)
    r = np.exp(log_r)
    profile = b ** (2 * n) / (2 * np.pi * n * gamma(2 * n)) * np.exp(-b * r ** (1 / n))
    offset = fhtoffset(step, mu=0)
    k = np.exp(offset) / r[::-1]
    spline = CubicSpline(np.log(k), 2 * np.pi * fht(r * profile, step, mu=0, offset=offset) / k)
    # FFTLog treats its functions as periodic in log k, which spoils the lowest k; the transform is 1 there
    return lambda wave: spline(np.log(np.maximum(wave, 1e-4)))


def _form(jacobian, q, pa, rhalf):
    """Return the matrix F (2, 2) of a source: its transform at k is the circular one at sqrt(k^T F k)."""
    sin, cos = np.sin(pa), np.cos(pa)
    axes = jacobian @ np.array([[sin, cos], [cos, -sin]]).T  # columns: major axis, minor axis
    return rhalf**2 * axes @ np.diag([1 / q, q]) @ axes.T


def _psf_transform(kx, ky, psf):
    """Evaluate the Fourier transform of a PSF mixture seen through square pixels."""
    total = 0.0
    for amplitude, (x, y), (xx, yy, xy) in zip(psf.amplitudes, psf.means, psf.covariances, strict=True):
        damping = 0.5 * (xx * kx**2 + 2 * xy * kx * ky + yy * ky**2)
        total = total + amplitude * np.exp(-damping - 1j * (kx * x + ky * y))
    pixel = 1.0 if psf.includes_pixel else np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi))
    return total * pixel


def _pixel_values(shape, position, form, transform, psf):
    """Compute the pixel values of a source of unit flux; a point source if `form` is zero."""
    variances = np.array([np.linalg.eigvalsh([[xx, xy], [xy, yy]]) for xx, yy, xy in psf.covariances])
    # on the native grid the spectra of undersampled images overlap: use a finer one, of which every
    # `fine`-th value is taken
    fine = int(np.ceil(np.sqrt(2 * _DAMPING / variances.min()) / np.pi))
    clear = _CLEARANCE * np.sqrt(np.max(np.diag(form)) + variances.max())
    position = np.asarray(position)
    if np.any(position < -clear) or np.any(position > np.array(shape[::-1]) + clear):
        return np.zeros(shape)
    ny, nx = (next_fast_len(int(np.ceil(size + 2 * clear)), real=True) for size in shape)
    ky = 2 * np.pi * np.fft.fftfreq(ny * fine, 1 / fine)[:, None]
    kx = 2 * np.pi * np.fft.rfftfreq(nx * fine, 1 / fine)
    wave = np.sqrt(np.maximum(form[0, 0] * kx**2 + 2 * form[0, 1] * kx * ky + form[1, 1] * ky**2, 0))
    phase = np.exp(-1j * (kx * position[0] + ky * position[1]))
    spectrum = transform(wave) * _psf_transform(kx, ky, psf) * phase
    image = irfft2(spectrum, s=(ny * fine, nx * fine)) * fine**2
    return image[::fine, ::fine][: shape[0], : shape[1]]


def _effective_psf(psf: PSFMixture) -> np.ndarray:
    """Integrate the PSF over pixels, on an odd-sized stamp around the source."""
    widest = np.sqrt(psf.covariances[:, :2].max())
    size = 2 * int(np.ceil(_STAMP_SIGMA * widest + np.abs(psf.means).max())) + 1
    centre = (size // 2, size // 2)
    return _pixel_values((size, size), centre, np.zeros((2, 2)), np.ones_like, psf)
