"""Pixels dominated by one source, and chi-squared of the fit in them."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from fphojax.core.nuisance import apply_nuisance
from fphojax.inputs.scene import Scene

from .tiles import residual_tiles

__all__ = ["own_pixels", "owners"]

REACH = 2.0  # half-light ellipses
_NOBODY = -1


def own_pixels(scene: Scene, values: Mapping) -> xr.Dataset:
    """Compute chi-squared of each source's own pixels, exposure by exposure.

    Parameters
    ----------
    scene : Scene
    values : dict of array
        Parameters of its model.

    Returns
    -------
    xarray.Dataset
        Variables chi2 and n_pixel with the dimensions source and exposure; for which pixels these are see `owners`.
    """
    frame, ids = scene.frame, scene.active.id
    residual = residual_tiles(scene, values)
    chi = (residual * np.asarray(frame.patch.ierr)).ravel().astype(np.float64)
    shape = len(ids), len(frame.exposures)
    chi2, n_pixel = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    for e, owner in enumerate(owners(scene, values)):
        owned = owner != _NOBODY
        flat = frame.pixels(e)[2][owned]
        chi2[:, e] = np.bincount(owner[owned], weights=chi[flat] ** 2, minlength=shape[0])
        n_pixel[:, e] = np.bincount(owner[owned], minlength=shape[0])
    data = {"chi2": (("source", "exposure"), chi2), "n_pixel": (("source", "exposure"), n_pixel)}
    names = np.array([exposure.name for exposure in frame.exposures])
    return xr.Dataset(data, {"source": np.asarray(ids), "exposure": names})


def owners(scene: Scene, values: Mapping) -> list[np.ndarray]:
    """Assign each used pixel to a source.

    A pixel belongs to the source inside whose half-light ellipse it lies farthest, if it is within twice the
    ellipse: d^T (A Sigma A^T + 2 ln 2 C)^-1 d <= 4, with d the offset from the source, Sigma the matrix of the
    profile's half-light ellipse on the sky, A the WCS and C the covariance of the PSF core, that is, of the narrowest
    Gaussians with half of its light; 2 ln 2 C is the half-light ellipse of such a Gaussian.

    Parameters
    ----------
    scene, values
        As for `own_pixels`.

    Returns
    -------
    list of ndarray
        For each exposure the rows of the sources, -1 for none, in the order of ``frame.pixels``.
    """
    frame, model = scene.frame, scene.model
    sources = {name: np.asarray(value) for name, value in model.sources(values)._asdict().items()}
    optics = apply_nuisance(model.optics, values)
    centre = np.asarray(optics.pixel) + _displacement(optics, sources)
    matrix = _ellipses(sources, np.asarray(optics.jacobian)) + 2 * np.log(2) * _cores(optics)
    inverse = np.linalg.inv(matrix)
    visible = (np.asarray(optics.psf_amplitude) != 0).any(axis=-1)
    by_exposure = []
    for e in range(len(frame.exposures)):
        x, y, _ = frame.pixels(e)
        nearest, owner = np.full(len(x), REACH**2), np.full(len(x), _NOBODY)
        for s in np.flatnonzero(visible[e]):
            d = np.stack([x, y]) - centre[e, s][:, None]
            distance = np.einsum("ip,ij,jp->p", d, inverse[e, s], d)
            closer = distance <= nearest
            nearest[closer], owner[closer] = distance[closer], s
        by_exposure.append(owner)
    return by_exposure


def _displacement(optics, sources):
    """Compute the offsets (E, S, 2), in pixels, of the sources from where the WCS was expanded."""
    moved = np.stack([sources["x"], sources["y"]], axis=-1) - np.asarray(optics.offset)
    return np.einsum("esij,sj->esi", np.asarray(optics.jacobian), moved)


def _ellipses(sources, jacobian):
    """Compute matrices (E, S, 2, 2) of the half-light ellipses on the images, pixels^2."""
    sin, cos = np.sin(sources["pa"]), np.cos(sources["pa"])
    major, minor = np.stack([sin, cos], axis=-1), np.stack([-cos, sin], axis=-1)  # (east, north)
    area = sources["rhalf"] ** 2
    sky = (area / sources["q"])[:, None, None] * major[:, :, None] * major[:, None]
    sky = sky + (area * sources["q"])[:, None, None] * minor[:, :, None] * minor[:, None]
    return jacobian @ sky @ np.swapaxes(jacobian, -1, -2)


def _cores(optics):
    """Compute covariances (E, S, 2, 2) of the PSF cores plus a pixel, whose Gaussians come narrowest first."""
    amplitude = np.abs(np.asarray(optics.psf_amplitude))
    before = np.cumsum(amplitude, axis=-1) - amplitude
    weight = np.where(before < 0.5 * amplitude.sum(axis=-1, keepdims=True), amplitude, 0.0)
    total = np.maximum(weight.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    mean = np.einsum("esg,esgc->esc", weight / total, np.asarray(optics.psf_covariance))
    xx, yy, xy = np.moveaxis(mean, -1, 0) + np.array([1.0, 1.0, 0.0])[:, None, None] / 12
    return np.stack([np.stack([xx, xy], axis=-1), np.stack([xy, yy], axis=-1)], axis=-2)
