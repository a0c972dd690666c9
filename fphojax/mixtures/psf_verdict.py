"""Tests of how well a mixture of Gaussians reproduces a PSF image."""

import dataclasses

import numpy as np

from .psf_image import EffectivePSF, windowed_moments
from .psf_point_source import point_flux_errors
from .psf_solver import gaussians

__all__ = ["PSFVerdict", "judge", "model_values"]

# Limits of the measures; a verdict is poor beyond any of them.
_LIMITS = {
    "relative_l2": 0.05,
    "ee_error": 0.01,
    "worst_pixel": 0.1,
    "flux_outside": 0.02,
    "pedestal": 0.05,
}


@dataclasses.dataclass(frozen=True)
class PSFVerdict:
    """Measures of how far a mixture is from the effective PSF to which it was fitted.

    Attributes
    ----------
    relative_l2 : float
        Norm of the residual over the norm of the image.
    worst_pixel : float
        Largest absolute residual over the peak of the image.
    ee_radius, ee_image, ee_model : ndarray (n,)
        Encircled-energy curves: radius [native pixels], and the flux of pixels closer than that to the
        source as a fraction of the total amplitude.
    ee_error : float
        Largest absolute difference of the two curves.
    size_image, size_model : float
        det(C)^(1/4) of the windowed moments C [native pixels]: the sigma of a round Gaussian.
    ellipticity_image, ellipticity_model : tuple of float
        (Cxx - Cyy, 2 Cxy) / (Cxx + Cyy) of the windowed moments.
    flux_outside : float
        Fraction of the mixture's total amplitude that falls outside the fitted image.
    pedestal : float
        Fraction of the image's flux in a constant at the mean level of its border, from sky that was not fully
        subtracted or an image that is too small. The mixture describes it as wings.
    point_flux_error : float
        Relative error of the flux of a bright point source that is fitted with the mixture: the largest in size over
        sub-pixel positions and over shares of the source's own photons in the noise (see `point_flux_errors`).
    """

    relative_l2: float
    worst_pixel: float
    ee_radius: np.ndarray
    ee_image: np.ndarray
    ee_model: np.ndarray
    ee_error: float
    size_image: float
    size_model: float
    ellipticity_image: tuple[float, float]
    ellipticity_model: tuple[float, float]
    flux_outside: float
    pedestal: float
    point_flux_error: float

    @property
    def complaints(self) -> list[str]:
        """The measures beyond their limits, as a list of short sentences; empty for a good fit."""
        measures = ((name.replace("_", " "), getattr(self, name), limit) for name, limit in _LIMITS.items())
        return [
            f"{name} {value:.3g} " + (f"> {limit:g}" if value > 0 else f"< {-limit:g}")
            for name, value, limit in measures
            if abs(value) > limit
        ]

    @property
    def poor(self) -> bool:
        """Whether any measure is beyond its limit."""
        return bool(self.complaints)


def model_values(
    effective: EffectivePSF,
    amplitudes: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    *,
    response: float,
    background: float = 0.0,
) -> np.ndarray:
    """Evaluate the mixture on the grid of an effective PSF.

    Parameters
    ----------
    effective : EffectivePSF
    amplitudes, means, covariances : ndarray (K,), (K, 2), (K, 3)
    response : float
        Variance per axis added to each covariance (pixel response).
    background : float

    Returns
    -------
    ndarray (ny, nx)
        Flux per native pixel.
    """
    x, y = np.meshgrid(effective.x, effective.y)
    total = covariances + np.array([response, response, 0.0])
    values = np.full(x.size, float(background))
    for k, amplitude in enumerate(amplitudes):
        density = gaussians(x.ravel(), y.ravel(), means[k : k + 1], total[k : k + 1])[0]
        values += amplitude * density[0]
    return values.reshape(x.shape)


def judge(
    effective: EffectivePSF,
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    response: float,
    background: float = 0.0,
) -> PSFVerdict:
    """Judge a mixture as a model of an effective PSF.

    Parameters
    ----------
    effective : EffectivePSF
    parts : (amplitudes (K,), means (K, 2), covariances (K, 3))
        The mixture.
    response : float
        Variance per axis added to each covariance (pixel response).
    background : float
        Constant that is part of the model and not of the PSF.

    Returns
    -------
    PSFVerdict
    """
    good, total = effective.good, parts[0].sum()
    errors = point_flux_errors(effective, parts, response=response, background=background)
    model = model_values(effective, *parts, response=response, background=background)
    data = np.where(good, effective.values, 0.0)
    residual = np.where(good, effective.values - model, 0.0)
    radius, ee_image, ee_model = _encircled_energy(effective, background, model, total)
    sizes, ellipticities = [], []
    for values in (effective.values - background, model - background):
        _, covariance = windowed_moments(
            values, effective.x, effective.y, good, radius=effective.half_light_radius
        )
        size, ellipticity = _shape(covariance)
        sizes.append(size)
        ellipticities.append(ellipticity)
    inside = (model - background).sum() / effective.oversample**2
    return PSFVerdict(
        relative_l2=float(np.linalg.norm(residual) / np.linalg.norm(data)),
        worst_pixel=float(np.abs(residual).max() / data.max()),
        ee_radius=radius,
        ee_image=ee_image,
        ee_model=ee_model,
        ee_error=float(np.abs(ee_image - ee_model).max()),
        size_image=sizes[0],
        size_model=sizes[1],
        ellipticity_image=ellipticities[0],
        ellipticity_model=ellipticities[1],
        flux_outside=float(1 - inside / total),
        pedestal=_pedestal(effective.values - background, good),
        point_flux_error=float(errors.flat[np.abs(errors).argmax()]),
    )


def _pedestal(values, good):
    """Return the fraction of the flux in a constant at the level of the border."""
    border = good.copy()
    border[1:-1, 1:-1] = False
    if not border.any():
        return 0.0
    return float(values[border].mean() * good.sum() / values[good].sum())


def _encircled_energy(effective, background, model, total):
    """Compute the encircled energy of image and model in steps of one grid point, up to the nearest edge."""
    x, y = np.meshgrid(effective.x, effective.y)
    r = np.hypot(x, y)
    edge = min(-effective.x[0], effective.x[-1], -effective.y[0], effective.y[-1])
    radius = np.arange(1, int(edge * effective.oversample) + 1) / effective.oversample
    r, order = r[effective.good], np.argsort(r[effective.good])
    last = np.searchsorted(r[order], radius, side="right") - 1
    norm = total * effective.oversample**2
    curves = [
        np.cumsum((values - background)[effective.good][order])[last] / norm
        for values in (effective.values, model)
    ]
    return radius, *curves


def _shape(covariance):
    """Return size and ellipticity of a covariance matrix; NaN if it is None."""
    if covariance is None:
        return float("nan"), (float("nan"), float("nan"))
    trace = np.trace(covariance)
    e1, e2 = (covariance[0, 0] - covariance[1, 1]) / trace, 2 * covariance[0, 1] / trace
    return float(np.linalg.det(covariance) ** 0.25), (float(e1), float(e2))
