"""A PSF as a mixture of Gaussians, and interpolation between detector positions."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from astropy import units as u
from numpy.typing import ArrayLike

from fphojax.errors import InputError
from fphojax.mixtures.psf_result import PSFFit
from fphojax.system.file_checks import blame
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .units import to_number, to_unit

__all__ = ["PSFMixture", "as_mixture", "blended", "check_values"]

# What a PSF can be: total flux; sum of the sizes of its amplitudes over that; standard deviations of its Gaussians
# [pixels]; distance of its centroid from the source [pixels], beside the width of its strongest Gaussian.
_FLUX = (0.5, 1.5)
_MOST_CANCELLED = 100.0
_SIGMA = (0.01, 1e4)
_MOST_OFF = 1.0
_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
_STAMP = 4.0  # half-size of a PSF image, in standard deviations of its widest Gaussian


@dataclasses.dataclass(frozen=True, repr=False)
class PSFMixture(Shown):
    """A PSF as a sum of Gaussians, in pixels of the exposure.

    Attributes
    ----------
    amplitudes : ndarray (K,)
        Flux of each Gaussian as a fraction of the source's; may be negative, the sum may not be zero or less.
    means : ndarray (K, 2)
        Offsets x, y from the source [pixels].
    covariances : ndarray (K, 3)
        xx, yy, xy [pixels squared].
    includes_pixel : bool
        Whether the response of the pixel is part of the mixture.
    detector_location : (x, y) or None
        Position on the detector [pixels] for which the mixture holds.
    made_from : str
        Identifies the image and the options of the fit (see `fphojax.app.stages.psf_fits`); empty if unknown.
    relative_l2, point_flux_error : float
        How well the mixture describes that image (see `fphojax.mixtures.psf_verdict.PSFVerdict`); NaN if unknown.
    residual : ndarray (ny, nx), odd, or None
        That image less the mixture, per pixel, with the source at the central one; None if unknown.

    Raises
    ------
    InputError
        For shapes that do not agree, values or positions that are not finite, a covariance that is not positive
        definite, or amplitudes that sum to zero or less.
    """

    amplitudes: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    includes_pixel: bool = True
    detector_location: tuple[float, float] | None = None
    made_from: str = ""
    relative_l2: float = float("nan")
    point_flux_error: float = float("nan")
    residual: np.ndarray | None = None

    def _facts(self):
        xx, yy, _ = self.covariances.T
        widest, narrowest = (float(np.sqrt(f((xx + yy) / 2))) for f in (np.max, np.min))
        facts = {
            "": counted(len(self.amplitudes), "Gaussian"),
            "sigma": f"{narrowest:.2f} to {widest:.2f} pixels",
            "flux": f"{self.amplitudes.sum():.4f}",
            "pixel response": "included" if self.includes_pixel else "not included",
        }
        return facts if self.detector_location is None else facts | {"detector": self.detector_location}

    def __post_init__(self) -> None:
        with blame("PSF mixture"):
            for name, unit in (("amplitudes", u.one), ("means", u.pix), ("covariances", u.pix**2)):
                object.__setattr__(self, name, np.array(to_unit(getattr(self, name), unit, name)))
        k = self.amplitudes.size
        for name, shape in (("amplitudes", (k,)), ("means", (k, 2)), ("covariances", (k, 3))):
            values = getattr(self, name)
            if values.shape != shape or k == 0:
                raise InputError(
                    f"PSF mixture: shape of {name} is {values.shape}, expected {shape}, not empty"
                )
            if not np.all(np.isfinite(values)):
                raise InputError(
                    f"PSF mixture: {name} holds {values[~np.isfinite(values)][0]}, expected finite values"
                )
        xx, yy, xy = self.covariances.T
        bad = np.flatnonzero(~((xx > 0) & (yy > 0) & (xx * yy > xy**2)))
        if bad.size:
            raise InputError(
                f"PSF mixture: covariance of Gaussian {bad[0]} is (xx, yy, xy) = "
                f"{tuple(self.covariances[bad[0]].tolist())}, expected a positive definite one"
            )
        if not self.amplitudes.sum() > 0:
            raise InputError(
                f"PSF mixture: total flux is {self.amplitudes.sum():.6g}, expected a positive one"
            )
        if self.detector_location is not None:
            with blame("PSF mixture"):
                x, y = to_unit(self.detector_location, u.pix, "detector_location")
            if not np.isfinite([x, y]).all():
                raise InputError(f"PSF mixture: detector location is ({x}, {y}), expected finite pixels")
            object.__setattr__(self, "detector_location", (float(x), float(y)))
        if self.residual is not None:
            residual = np.array(self.residual, dtype=np.float64)
            if residual.ndim != 2 or not all(side % 2 for side in residual.shape):
                raise InputError(
                    f"PSF mixture: shape of residual is {residual.shape}, expected two odd numbers"
                )
            if not np.isfinite(residual).all():
                raise InputError(
                    f"PSF mixture: residual holds {residual[~np.isfinite(residual)][0]}, expected finite values"
                )
            object.__setattr__(self, "residual", residual)

    @classmethod
    def gaussian(cls, fwhm: ArrayLike) -> "PSFMixture":
        """Make a round Gaussian that includes the pixel response.

        Parameters
        ----------
        fwhm : float or Quantity
            Full width at half maximum, as it is measured in the image [pixels].

        Raises
        ------
        InputError
            A width that is not a positive number of pixels.
        """
        width = to_number(fwhm, u.pix, "FWHM")
        if not 0 < width < np.inf:
            raise InputError(f"FWHM is {width:g} pixels, expected a positive number")
        variance = (width / _FWHM_PER_SIGMA) ** 2
        return cls(np.ones(1), np.zeros((1, 2)), np.array([[variance, variance, 0.0]]))

    @classmethod
    def from_fit(
        cls, fit: PSFFit, *, detector_location: tuple[float, float] | None = None, made_from: str = ""
    ) -> "PSFMixture":
        """Make a mixture from a `fphojax.mixtures.psf_fit.PSFFit`."""
        return cls(
            fit.amplitudes,
            fit.means,
            fit.covariances,
            fit.includes_pixel,
            detector_location,
            made_from,
            fit.verdict.relative_l2,
            fit.verdict.point_flux_error,
            fit.residual,
        )

    def stamp(self) -> np.ndarray:
        """Render the effective PSF in its own image, of an odd size and a sum of 1: ndarray (n, n)."""
        half = int(np.ceil(_STAMP * np.sqrt(self.covariances[:, :2].max() + 1 / 12)))
        image = self.render((2 * half + 1, 2 * half + 1), (half, half))
        return image / image.sum()

    def render(
        self, shape: tuple[int, int], centre: tuple[float, float], *, pixel_variance: float | None = None
    ) -> np.ndarray:
        """Sample the PSF of a source at pixel centres.

        Parameters
        ----------
        shape : (ny, nx)
        centre : (x, y)
            Position of the source [pixels, zero-indexed].
        pixel_variance : float, optional
            Variance per axis added to each covariance; default 1/12 (the pixel) for a mixture that does not
            include the pixel response, else 0.

        Returns
        -------
        ndarray (ny, nx)
        """
        if pixel_variance is None:
            pixel_variance = 0.0 if self.includes_pixel else 1 / 12
        y, x = np.mgrid[: shape[0], : shape[1]]
        image = np.zeros(shape)
        for amplitude, mean, (xx, yy, xy) in zip(self.amplitudes, self.means, self.covariances, strict=True):
            xx, yy = xx + pixel_variance, yy + pixel_variance
            det = xx * yy - xy**2
            dx, dy = x - centre[0] - mean[0], y - centre[1] - mean[1]
            exponent = -0.5 * (yy * dx**2 - 2 * xy * dx * dy + xx * dy**2) / det
            image += amplitude / (2 * np.pi * np.sqrt(det)) * np.exp(exponent)
        return image


def as_mixture(psf: PSFMixture | PSFFit) -> PSFMixture:
    """Return a mixture as it is, and what `fit_psf` returns as a mixture.

    Raises
    ------
    InputError
        It is something else.
    """
    if isinstance(psf, PSFFit):
        return PSFMixture.from_fit(psf)
    if not isinstance(psf, PSFMixture):
        raise InputError(f"psf is {type(psf).__name__}, expected a PSFMixture or what fit_psf returns")
    return psf


def check_values(mixture: PSFMixture) -> None:
    """Refuse a well-formed mixture whose numbers cannot be those of a PSF.

    Parameters
    ----------
    mixture : PSFMixture

    Raises
    ------
    InputError
        For a total flux far from 1, amplitudes that cancel each other, Gaussians much narrower than a pixel or wider
        than any detector, or a centroid far off the source.
    """
    amplitudes = mixture.amplitudes
    total = amplitudes.sum()
    if not _FLUX[0] <= total <= _FLUX[1]:
        raise InputError(f"total flux is {total:.6g}, expected {_FLUX[0]} to {_FLUX[1]}")
    if np.abs(amplitudes).sum() > _MOST_CANCELLED * total:
        k = np.abs(amplitudes).argmax()
        raise InputError(
            f"amplitude of Gaussian {k} is {amplitudes[k]:.6g} of a total flux of {total:.6g}, expected amplitudes "
            f"whose sizes sum to less than {_MOST_CANCELLED:g} times that"
        )
    xx, yy, xy = mixture.covariances.T
    sigma = np.sqrt(np.linalg.eigvalsh(np.stack([[xx, xy], [xy, yy]]).transpose(2, 0, 1)).clip(0))
    bad = np.flatnonzero((sigma < _SIGMA[0]).any(axis=1) | (sigma > _SIGMA[1]).any(axis=1))
    if bad.size:
        widths = " x ".join(f"{s:.3g}" for s in sigma[bad[0]])
        raise InputError(
            f"Gaussian {bad[0]} is {widths} pixels wide (sigma), expected {_SIGMA[0]:g} to {_SIGMA[1]:g}"
        )
    x, y = amplitudes @ mixture.means / total
    most = _MOST_OFF + sigma[amplitudes.argmax()].mean()
    if np.hypot(x, y) > most:
        raise InputError(
            f"centroid is ({x:.6g}, {y:.6g}) pixels off the source, expected it within {most:.3g}"
        )


def blended(mixtures: Sequence[PSFMixture], location: tuple[float, float]) -> PSFMixture:
    """Interpolate PSFs between detector positions: all Gaussians of the neighbours, amplitudes weighted.

    The result has no residual.

    Parameters
    ----------
    mixtures : sequence of PSFMixture
        With detector locations.
    location : (x, y)

    Returns
    -------
    PSFMixture
    """
    positions = np.array([m.detector_location for m in mixtures])
    weights = _interpolation_weights(positions, np.asarray(location, dtype=float))
    used = [(m, w) for m, w in zip(mixtures, weights, strict=True) if w > 0]
    return PSFMixture(
        np.concatenate([w * m.amplitudes for m, w in used]),
        np.concatenate([m.means for m, _ in used]),
        np.concatenate([m.covariances for m, _ in used]),
        mixtures[0].includes_pixel,
        (location[0], location[1]),
    )


def _interpolation_weights(positions, location):
    """Compute weights (n_location,) of sum 1: bilinear on a regular grid, else inverse square distance."""
    columns, rows = (np.unique(p) for p in positions.T)
    if columns.size * rows.size == len(positions) and len(np.unique(positions, axis=0)) == len(positions):
        wx, wy = _linear_weights(columns, location[0]), _linear_weights(rows, location[1])
        return wx[np.searchsorted(columns, positions[:, 0])] * wy[np.searchsorted(rows, positions[:, 1])]
    square = np.sum((positions - location) ** 2, axis=1)
    nearest = np.argsort(square)[:4]
    weights = np.zeros(len(positions))
    if square.min() == 0:
        weights[square.argmin()] = 1.0
        return weights
    weights[nearest] = 1 / square[nearest]
    return weights / weights.sum()


def _linear_weights(nodes, value):
    """Compute weights of linear interpolation between sorted nodes, constant beyond them."""
    return np.array([np.interp(value, nodes, unit) for unit in np.eye(nodes.size)])
