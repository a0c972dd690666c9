"""A PSF as a mixture of Gaussians, and mixtures between detector positions."""

import dataclasses

import numpy as np

from .errors import InputError

__all__ = ["PSFMixture", "blended"]


@dataclasses.dataclass(frozen=True)
class PSFMixture:
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

    Raises
    ------
    InputError
        For shapes that do not agree, values that are not finite, a covariance that is not positive definite,
        or amplitudes that sum to zero or less.
    """

    amplitudes: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    includes_pixel: bool = True
    detector_location: tuple[float, float] | None = None

    def __post_init__(self):
        for name in ("amplitudes", "means", "covariances"):
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
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
            x, y = self.detector_location
            object.__setattr__(self, "detector_location", (float(x), float(y)))

    @classmethod
    def from_fit(cls, fit, *, detector_location=None):
        """The mixture of a `fphojax.mixtures.psf_fit.PSFFit`."""
        return cls(fit.amplitudes, fit.means, fit.covariances, fit.includes_pixel, detector_location)

    def render(self, shape, centre, *, pixel_variance=None):
        """The PSF of a source sampled at pixel centres.

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


def blended(mixtures, location):
    """The PSF between detector positions: all Gaussians of the neighbours, their amplitudes weighted.

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
        tuple(location),
    )


def _interpolation_weights(positions, location):
    """Weights (n_location,) that sum to 1: bilinear on a regular grid, inverse square distance elsewhere."""
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
    """Weights of linear interpolation between sorted nodes, constant beyond them."""
    return np.array([np.interp(value, nodes, unit) for unit in np.eye(nodes.size)])
