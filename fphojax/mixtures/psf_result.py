"""Result of fitting a mixture of Gaussians to a PSF image, with its quality and a figure of it."""

import dataclasses
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates

from fphojax.system.figure_style import styled
from fphojax.system.notebook_html import Shown

from .psf_image import EffectivePSF, effective_psf
from .psf_verdict import PSFVerdict, judge, model_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PIXEL_VARIANCE", "PSFFit", "fit_with_verdict", "judge_mixture", "plot_psf_fit"]

# Variance per axis of a square pixel of unit side.
PIXEL_VARIANCE = 1 / 12


@dataclasses.dataclass(frozen=True, repr=False)
class PSFFit(Shown):
    """A mixture of Gaussians fitted to a PSF image, and its quality.

    Attributes
    ----------
    amplitudes : ndarray (K,)
    means : ndarray (K, 2)
        Offsets x, y from the source, in native pixels.
    covariances : ndarray (K, 3)
        xx, yy, xy in native pixels squared; components are ordered by size.
    includes_pixel : bool
        Whether the mixture includes the response of the native pixel. If not, a renderer integrates over
        pixels (adds I/12 to the covariances).
    background : float
        Constant of the fit per native pixel, not part of the mixture.
    oversample : float
        Pixels of the image per native pixel and axis.
    offset : tuple of float
        Centroid (x, y) of the core minus the geometric centre of the image [native pixels].
    shift : tuple of float
        Part of it that was removed: position (x, y) of the source minus the geometric centre of the image [native
        pixels].
    scale : float
        Factor by which the fit multiplied the image.
    verdict : PSFVerdict
    seconds : float
        Processor time that the fit took.
    residual : ndarray (odd, odd)
        What the mixture leaves of the effective PSF at native pixels, the source at the central one.
    """

    amplitudes: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    includes_pixel: bool
    background: float
    oversample: float
    offset: tuple[float, float]
    shift: tuple[float, float]
    scale: float
    verdict: PSFVerdict
    seconds: float
    residual: np.ndarray

    def _facts(self):
        verdict = self.verdict
        return {
            "": f"{len(self.amplitudes)} Gaussians",
            "relative L2": f"{verdict.relative_l2:.2%}",
            "point-source flux error": f"{verdict.point_flux_error:+.2%}",
            "pixel response": "included" if self.includes_pixel else "not included",
        }

    def effective(self, image: ArrayLike, *, mask: ArrayLike | None = None) -> EffectivePSF:
        """Return the effective PSF (`EffectivePSF`) of an image, scaled as in this fit."""
        raw = effective_psf(
            image,
            oversample=self.oversample,
            includes_pixel=self.includes_pixel,
            mask=mask,
            recentre=self.shift == self.offset,
        )
        return dataclasses.replace(raw, values=raw.values * self.scale, scale=self.scale)

    def values(self, effective: EffectivePSF) -> np.ndarray:
        """Evaluate the model, background included, on the grid of an `EffectivePSF`: ndarray (ny, nx)."""
        response = 0.0 if self.includes_pixel else PIXEL_VARIANCE
        return model_values(
            effective,
            self.amplitudes,
            self.means,
            self.covariances,
            response=response,
            background=self.background,
        )


class _Mixture(Protocol):
    """What a mixture of Gaussians has, whoever made it."""

    @property
    def amplitudes(self) -> np.ndarray: ...

    @property
    def means(self) -> np.ndarray: ...

    @property
    def covariances(self) -> np.ndarray: ...

    @property
    def includes_pixel(self) -> bool: ...


def judge_mixture(
    image: ArrayLike,
    mixture: _Mixture,
    *,
    oversample: float = 1,
    recentre: bool = False,
    name: str = "PSF image",
) -> PSFFit:
    """Judge a mixture that was fitted earlier to an image with default options.

    Parameters
    ----------
    image : array (ny, nx)
    mixture : PSFMixture
    oversample, recentre, name
        As in `fit_psf`.

    Returns
    -------
    PSFFit
    """
    total = float(mixture.amplitudes.sum())
    effective = effective_psf(
        image,
        oversample=oversample,
        includes_pixel=mixture.includes_pixel,
        total=total,
        recentre=recentre,
        name=name,
    )
    parts = mixture.amplitudes, mixture.means, mixture.covariances
    return fit_with_verdict(parts, effective, mixture.includes_pixel, background=0.0)


def fit_with_verdict(
    parts: tuple[np.ndarray, np.ndarray, np.ndarray],
    effective: EffectivePSF,
    includes_pixel: bool,
    *,
    background: float,
) -> PSFFit:
    """Wrap amplitudes, means and covariances as a fit with its verdict, with a processor time of zero."""
    amplitudes, means, covariances = parts
    response = 0.0 if includes_pixel else PIXEL_VARIANCE
    model = model_values(effective, *parts, response=response, background=background)
    return PSFFit(
        amplitudes=amplitudes,
        means=means,
        covariances=covariances,
        includes_pixel=includes_pixel,
        background=background,
        oversample=effective.oversample,
        offset=effective.offset,
        shift=effective.shift,
        scale=effective.scale,
        verdict=judge(effective, parts, response=response, background=background),
        seconds=0.0,
        residual=_at_native_pixels(effective, np.where(effective.good, effective.values - model, 0.0)),
    )


def _at_native_pixels(effective, values):
    """Interpolate values on the grid of an effective PSF at whole native pixels from the source."""
    places = []
    for grid in (effective.y, effective.x):
        half = max(int(np.floor(min(-grid[0], grid[-1]) + 1e-6)), 0)
        places.append((np.arange(-half, half + 1) - grid[0]) * effective.oversample)
    return map_coordinates(values, np.meshgrid(*places, indexing="ij"), order=3, mode="nearest")


@styled
def plot_psf_fit(fit: PSFFit, image: ArrayLike, **options: Any) -> "Figure":
    """Plot image, model, residual and encircled energy.

    Parameters
    ----------
    fit : PSFFit
    image : array (ny, nx)
        The image that was fitted.
    **options
        ``mask`` if the fit had one.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure

    effective = fit.effective(image, **options)
    model = fit.values(effective)
    data = np.where(effective.good, effective.values, np.nan)
    peak = np.nanmax(data)
    half = 0.5 / effective.oversample
    extent = (effective.x[0] - half, effective.x[-1] + half, effective.y[0] - half, effective.y[-1] + half)
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    axes = figure.subplots(1, 4)
    limit = max(np.nanmax(np.abs(data - model)) / peak, 1e-12)
    for ax, values, title in zip(axes[:2], (data, model), ("image / peak", "model / peak"), strict=True):
        norm = AsinhNorm(1e-3, vmin=-1e-3, vmax=1)
        mappable = ax.imshow(values / peak, origin="lower", extent=extent, norm=norm, cmap="magma")
        ax.set_title(title)
        figure.colorbar(mappable, ax=ax, ticks=[0, 1e-3, 1e-2, 1e-1, 1], shrink=0.8)
    residual = (data - model) / peak
    mappable = axes[2].imshow(residual, origin="lower", extent=extent, vmin=-limit, vmax=limit, cmap="RdBu_r")
    # residuals are largest in the core
    reach = min(6 * effective.half_light_radius, np.abs(extent).min())
    axes[2].set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes[2].set_title("residual / peak, core")
    figure.colorbar(mappable, ax=axes[2], shrink=0.8)
    for ax in axes[:3]:
        ax.set_xlabel("x [native pixels]")
    axes[0].set_ylabel("y [native pixels]")
    verdict = fit.verdict
    radius, difference = verdict.ee_radius, verdict.ee_image - verdict.ee_model
    axes[3].plot(radius, verdict.ee_image, label="image")
    axes[3].plot(radius, verdict.ee_model, "--", label="model")
    axes[3].plot(radius, 0.5 + 10 * difference, ":", label="0.5 + 10 x difference")
    axes[3].set(xlabel="radius [native pixels]", title="encircled energy")
    axes[3].legend(fontsize="small")
    figure.suptitle(
        f"{len(fit.amplitudes)} Gaussians: relative L2 {verdict.relative_l2:.2%}, "
        f"encircled-energy error {verdict.ee_error:.2%}, point-source flux error {verdict.point_flux_error:+.2%}"
    )
    return figure
