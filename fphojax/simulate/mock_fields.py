"""Small mock fields with known truth, for first trials, tutorials, and forecasts of surveys."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.inputs.astrometry import sky_position
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.units import convert_fields, to_number, to_unit

from .mock_exposures import ExposureSpec, noiseless_image, simulate_exposures

__all__ = ["MockCamera", "MockField", "demo_field", "mock_field", "mock_galaxies", "scattered_galaxies"]

RA, DEC = 53.16, -27.79  # of the centre of every mock field, degrees
_TURN = 37.0  # rotation from each exposure to the next, degrees
_GOLDEN = 0.618  # dithers fill the pixel evenly


class MockField(NamedTuple):
    """A simulated field and a starting point for fitting it.

    Attributes
    ----------
    truth : SourceCatalog
    exposures : list of Exposure
    psfs : PSFStore
        The PSFs with which the exposures were made.
    peaks : SourceCatalog
        Rough positions and fluxes, default shapes.
    """

    truth: SourceCatalog
    exposures: list[Exposure]
    psfs: PSFStore
    peaks: SourceCatalog


@dataclass(frozen=True)
class MockCamera:
    """Observing set-up of a band of a mock field; a Quantity is converted.

    Attributes
    ----------
    band : str
    pixel_scale : float
        Arcsec.
    fwhm : float
        Of the PSF, pixel included, arcsec.
    noise : float
        Standard deviation of a pixel, nJy.
    n_exposure : int
        Each is rotated by 37 degrees and shifted by a fraction of a pixel relative to the one before.
    width : float
        Side of an exposure, arcsec.
    """

    band: str
    pixel_scale: float = 0.03
    fwhm: float = 0.07
    noise: float = 0.1
    n_exposure: int = 1
    width: float = 2.1

    def __post_init__(self) -> None:
        convert_fields(self, pixel_scale=u.arcsec, fwhm=u.arcsec, noise=u.nJy, width=u.arcsec)

    @property
    def psf(self) -> PSFMixture:
        """Effective PSF: a core and faint wings, slightly elongated."""
        return _jwst_like_psf(0.91 * self.fwhm / 2.3548 / self.pixel_scale, 1.03)

    def specs(self) -> list[ExposureSpec]:
        """Return the specifications of the exposures to simulate."""
        size = int(np.ceil(self.width / self.pixel_scale))
        number = np.arange(self.n_exposure)
        dither = self.pixel_scale * np.stack([number * _GOLDEN % 1, number * _GOLDEN**2 % 1])
        ra, dec = sky_position(dither[0], dither[1], RA, DEC)
        return [
            ExposureSpec(
                band=self.band,
                name=f"{self.band}_{i + 1}",
                shape=(size, size),
                pixel_scale=self.pixel_scale,
                rotation_deg=_TURN * i,
                ra=float(ra[i]),
                dec=float(dec[i]),
                psf=self.psf,
                noise=self.noise,
            )
            for i in range(self.n_exposure)
        ]

    def with_snr(self, truth: SourceCatalog, snr: float) -> "MockCamera":
        """Set the noise so that the flux of the first source has a given signal-to-noise ratio.

        The ratio is that of a measurement with known shape, in all exposures together.
        """
        images = [noiseless_image(truth[:1], spec) for spec in self.specs()]
        return dataclasses.replace(self, noise=float(np.sqrt(sum(np.sum(i**2) for i in images))) / snr)


def mock_galaxies(
    *,
    x: ArrayLike,
    y: ArrayLike,
    flux: Mapping[str, ArrayLike],
    q: ArrayLike,
    pa: ArrayLike,
    sersic: ArrayLike,
    rhalf: ArrayLike,
) -> SourceCatalog:
    """Build a catalogue of galaxies around the centre of a mock field.

    Parameters
    ----------
    x, y : array_like or Quantity, shape (N,)
        Arcsec east and north of the centre.
    flux : mapping of str to array_like or Quantity, shape (N,), or float
        By band, nJy.
    q, sersic, rhalf : array_like or Quantity, shape (N,), or float
        Axis ratio b/a, Sersic index, circularised half-light radius [arcsec].
    pa : array_like or Quantity, shape (N,), or float
        Degrees, east of north.

    Returns
    -------
    SourceCatalog
        With the identifiers 1, 2, ...
    """
    x, y = (np.atleast_1d(to_unit(value, u.arcsec, name)) for value, name in ((x, "x"), (y, "y")))
    ra, dec = sky_position(x, y, RA, DEC)
    return SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=np.stack(
            [_for_each(len(ra), values, f"flux in {band}") for band, values in flux.items()], axis=1
        ),
        q=q,
        pa=pa,
        sersic=sersic,
        rhalf=rhalf,
        bands=tuple(flux),
        id=1 + np.arange(len(ra)),
    )


def _for_each(size: int, values: ArrayLike, name: str) -> np.ndarray:
    """Return the flux of each galaxy in a band, nJy; a number is that of all."""
    values = to_unit(values, u.nJy, name)
    if values.shape not in ((), (1,), (size,)):
        raise InputError(
            f"{name} has shape {values.shape}, expected ({size},) as x and y, or a single number"
        )
    return np.broadcast_to(values, size)


def scattered_galaxies(
    number: int, *, width: float, bands: Sequence[str] = ("F200W",), seed: int = 0
) -> SourceCatalog:
    """Scatter galaxies of random shapes and fluxes over a square.

    Parameters
    ----------
    number : int
    width : float
        Side of the square, arcsec.
    bands : sequence of str
    seed : int

    Returns
    -------
    SourceCatalog
    """
    width = to_number(width, u.arcsec, "width")
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-width / 2, width / 2, (2, number))
    return mock_galaxies(
        x=x,
        y=y,
        flux={band: 10 ** rng.uniform(1.3, 2.7, number) for band in bands},
        q=rng.uniform(0.4, 0.95, number),
        pa=rng.uniform(0, 180, number),
        sersic=rng.uniform(1.0, 3.5, number),
        rhalf=rng.lognormal(np.log(0.12), 0.4, number),
    )


def mock_field(truth: SourceCatalog, cameras: Sequence[MockCamera], *, seed: int = 0) -> MockField:
    """Simulate observations of galaxies with one or more cameras.

    Parameters
    ----------
    truth : SourceCatalog
        For example of `mock_galaxies`.
    cameras : sequence of MockCamera
        One for each band to observe.
    seed : int
        Of the noise, and of the errors of the peak list.

    Returns
    -------
    MockField
    """
    psfs = PSFStore()
    for camera in cameras:
        psfs.add(camera.psf, camera.band)
    exposures = simulate_exposures(truth, [spec for camera in cameras for spec in camera.specs()], seed=seed)
    finest = min(camera.pixel_scale for camera in cameras)
    return MockField(truth, exposures, psfs, _rough_peaks(truth, 0.3 * finest, seed))


def demo_field(seed: int = 0) -> MockField:
    """Simulate a blend of three galaxies in two bands, each in two dithered and rotated exposures.

    Pixels and PSFs are like those of JWST/NIRCam in F150W (0.031") and F356W (0.063").

    Parameters
    ----------
    seed : int
        Of the noise, and of the errors of the peak list.

    Returns
    -------
    MockField
    """
    truth = mock_galaxies(
        x=[0.0, 0.43, -0.14],
        y=[0.0, 0.13, -0.46],
        flux={"F150W": [300.0, 120.0, 200.0], "F356W": [500.0, 300.0, 150.0]},
        q=[0.55, 0.8, 0.4],
        pa=[35.0, 100.0, -50.0],
        sersic=[1.3, 2.5, 2.0],
        rhalf=[0.20, 0.12, 0.17],
    )
    psfs = PSFStore()
    for band, core, stretch in (("F150W", 0.85, 1.04), ("F356W", 0.95, 0.97)):
        psfs.add(_jwst_like_psf(core, stretch), band)

    specs = []
    for band, size, scale, noise, rotations in (
        ("F150W", 72, 0.031, 0.12, (0.0, 37.0)),
        ("F356W", 36, 0.063, 0.25, (12.0, 80.0)),
    ):
        for number, (rotation, dither) in enumerate(zip(rotations, ((2.3, -1.6), (-1.8, 2.7)), strict=True)):
            centre = sky_position(scale * dither[0], scale * dither[1], RA, DEC)
            spec = ExposureSpec(
                band=band,
                name=f"{band}_{number + 1}",
                shape=(size, size),
                pixel_scale=scale,
                rotation_deg=rotation,
                ra=float(centre[0]),
                dec=float(centre[1]),
                psf=psfs.lookup(band),
                noise=noise,
            )
            specs.append(spec)
    exposures = simulate_exposures(truth, specs, seed=seed)
    return MockField(truth, exposures, psfs, _rough_peaks(truth, 0.3 * 0.031, seed))


def _rough_peaks(truth: SourceCatalog, shift: float, seed: int) -> SourceCatalog:
    """Mimic a peak finder: positions off by `shift` arcsec, fluxes by 20 to 30 %, and default shapes."""
    rng = np.random.default_rng([seed, 1000])
    angle = rng.uniform(0, 2 * np.pi, len(truth))
    ra, dec = sky_position(shift * np.cos(angle), shift * np.sin(angle), truth.ra, truth.dec)
    wrong = 1 + rng.uniform(0.2, 0.3, truth.flux.shape) * rng.choice([-1, 1], truth.flux.shape)
    return SourceCatalog.from_columns(
        ra=ra,
        dec=dec,
        flux=truth.flux * wrong,
        q=0.8,
        pa=90.0,
        sersic=2.0,
        rhalf=0.15,
        bands=truth.bands,
        id=truth.id,
    )


def _jwst_like_psf(core: float, stretch: float) -> PSFMixture:
    """Build an effective PSF of four Gaussians: a slightly elongated core of `core` pixels, and wings."""
    sigma = core * np.array([1.0, 1.9, 4.0, 9.0])
    variances = np.stack([(sigma * stretch) ** 2, (sigma / stretch) ** 2, 0.02 * sigma**2], axis=1)
    return PSFMixture(np.array([0.62, 0.22, 0.11, 0.05]), np.zeros((4, 2)), variances, includes_pixel=True)
