"""Projection of source parameters to Gaussians on the image (docs/mathematics/rendering.md).

Every source is a mixture of circular Gaussians, sheared by its axis ratio; every PSF is a mixture of
Gaussians in the pixels of its exposure.  Their convolution, seen through the local affine WCS, is the
mixture of all pairs.
"""

from typing import NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = ["Gaussians", "Optics", "ProfileTable", "Sources", "project"]


class ProfileTable(Protocol):
    """Sersic profiles as mixtures of circular Gaussians."""

    @property
    def order(self) -> int:
        """Number of Gaussians."""
        ...

    def __call__(self, sersic: ArrayLike, rhalf: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Convert Sersic index and half-light radius to amplitudes and variances of the Gaussians."""
        ...


class Sources(NamedTuple):
    """Parameters of S sources in B bands.

    Attributes
    ----------
    flux : array (S, B)
        Total flux in the units of the images.
    x, y : array (S,)
        Offsets from the patch reference, arcsec east and north.
    q : array (S,)
        Axis ratio b/a in (0, 1].
    pa : array (S,)
        Position angle of the major axis, radians east of north.
    sersic : array (S,)
        Sersic index.
    rhalf : array (S,)
        Circularised half-light radius, arcsec.
    """

    flux: jax.Array | np.ndarray
    x: jax.Array | np.ndarray
    y: jax.Array | np.ndarray
    q: jax.Array | np.ndarray
    pa: jax.Array | np.ndarray
    sersic: jax.Array | np.ndarray
    rhalf: jax.Array | np.ndarray


class Optics(eqx.Module):
    """How each of S sources is seen in each of E exposures, with PSFs of up to M Gaussians.

    Attributes
    ----------
    band : int array (E,)
        Column of ``Sources.flux`` that the exposure measures.
    flux_scale : array (E,)
        Photometric factor of the exposure.
    offset : array (S, 2)
        Offset (arcsec east, north) from the patch reference at which the WCS was linearised.
    pixel : array (E, S, 2)
        Pixel position (x, y) of that point.
    jacobian : array (E, S, 2, 2)
        d(pixel x, y) / d(arcsec east, north) there.
    psf_amplitude : array (E, S, M)
        Amplitudes of the PSF's Gaussians; padding has amplitude 0.
    psf_mean : array (E, S, M, 2)
        Their offsets in pixels.
    psf_covariance : array (E, S, M, 3)
        Their covariances xx, yy, xy in pixels squared.
    pixel_variance : array (E, S)
        Variance added per axis for the pixel's own integral: 1/12, or 0 where the PSF has it already
        or where another pixel response is asked for.
    pixel_free : bool array (E, S)
        Where the PSF does not include the pixel response.
    inner : int array (E, S), or None
        If given, `project` appends one component to the profile: this many of the narrowest merged into one.
    """

    band: jax.Array
    flux_scale: jax.Array
    offset: jax.Array
    pixel: jax.Array
    jacobian: jax.Array
    psf_amplitude: jax.Array
    psf_mean: jax.Array
    psf_covariance: jax.Array
    pixel_variance: jax.Array
    pixel_free: jax.Array
    inner: jax.Array | None = None

    @property
    def n_exposure(self) -> int:
        """Number of exposures."""
        return self.pixel.shape[0]

    @property
    def n_source(self) -> int:
        """Number of sources."""
        return self.pixel.shape[1]


class Gaussians(NamedTuple):
    """Gaussians on the image: amplitude * exp(-(fxx dx^2 + 2 fxy dx dy + fyy dy^2) / 2).

    All arrays have the shape (E, S, K, M): exposure, source, component of the profile, component of
    the PSF; K is larger by one than the table's order where `Optics.inner` is given.  ``x, y`` are centres in
    pixels, ``fxx, fxy, fyy`` the precision matrix in 1/pixel^2, ``amplitude`` the value at the centre.
    """

    amplitude: jax.Array
    x: jax.Array
    y: jax.Array
    fxx: jax.Array
    fxy: jax.Array
    fyy: jax.Array


def project(sources: Sources, optics: Optics, table: ProfileTable) -> Gaussians:
    """Project all sources to Gaussians on all exposures.

    Parameters
    ----------
    sources : Sources
        Parameters of S sources.
    optics : Optics
        Positions, Jacobians and PSFs of these sources in E exposures.
    table : callable
        ``(sersic, rhalf) -> (amplitudes, variances)``, each (S, K): the profile as circular Gaussians.

    Returns
    -------
    Gaussians
        Arrays of shape (E, S, K, M).
    """
    amplitudes, variances = (a[None] for a in table(sources.sersic, sources.rhalf))  # (1, S, K)
    if optics.inner is not None:
        amplitudes, variances = _with_inner(amplitudes, variances, optics.inner)

    # R diag(1/q, q) R^T in (east, north): the major axis points along (sin pa, cos pa)
    sin, cos = jnp.sin(sources.pa), jnp.cos(sources.pa)
    major, minor = 1.0 / sources.q, sources.q
    east = major * sin**2 + minor * cos**2
    north = major * cos**2 + minor * sin**2
    cross = (major - minor) * sin * cos

    jac = optics.jacobian
    (axx, axy), (ayx, ayy) = (jac[..., 0, 0], jac[..., 0, 1]), (jac[..., 1, 0], jac[..., 1, 1])
    shape_xx = axx**2 * east + 2 * axx * axy * cross + axy**2 * north  # (E, S)
    shape_yy = ayx**2 * east + 2 * ayx * ayy * cross + ayy**2 * north
    shape_xy = axx * ayx * east + (axx * ayy + axy * ayx) * cross + axy * ayy * north

    def convolve(shape, psf):
        return shape[:, :, None, None] * variances[..., None] + psf[:, :, None, :]

    pixel = optics.pixel_variance[:, :, None]
    cxx = convolve(shape_xx, optics.psf_covariance[..., 0] + pixel)  # (E, S, K, M)
    cyy = convolve(shape_yy, optics.psf_covariance[..., 1] + pixel)
    cxy = convolve(shape_xy, optics.psf_covariance[..., 2])
    det = cxx * cyy - cxy**2

    offset = jnp.stack([sources.x, sources.y], axis=-1) - optics.offset
    centre = optics.pixel + jnp.einsum("esij,sj->esi", jac, offset)
    mean = jnp.broadcast_to((centre[:, :, None, :] + optics.psf_mean)[:, :, None], (*det.shape, 2))

    flux = optics.flux_scale[:, None] * sources.flux[:, optics.band].T  # (E, S)
    weight = amplitudes[..., None] * optics.psf_amplitude[:, :, None, :]
    peak = flux[:, :, None, None] * weight / (2 * jnp.pi * jnp.sqrt(det))
    return Gaussians(peak, mean[..., 0], mean[..., 1], cyy / det, -cxy / det, cxx / det)


def _with_inner(amplitudes, variances, inner):
    """Append to profiles a component, the narrowest ones merged by flux and variance: (E, S, K + 1)."""
    is_inner = jnp.arange(amplitudes.shape[-1]) < inner[..., None]
    flux = jnp.where(is_inner, amplitudes, 0.0)
    total = flux.sum(axis=-1)
    variance = (flux * variances).sum(axis=-1) / jnp.where(total != 0, total, 1.0)

    def appended(array, last):
        array = jnp.broadcast_to(array, is_inner.shape)
        return jnp.concatenate([array, last[..., None]], axis=-1)

    return appended(amplitudes, total), appended(variances, variance)
