"""Covariance of the gradient of the log likelihood under correlated noise.

With T the derivatives of the model image, W = ierr^2 and noise of covariance C, the gradient T^T W r at the truth has
the covariance J = T^T W C W T.  Noise of which chi = r ierr has the autocorrelation of a kernel k is white noise
filtered with k, so J is the sum of products of the columns T ierr, filtered with k.  An error c of the model image of
which the size is known but not the sign, such as that of a PSF, adds the product of T^T W c with itself: the change
that it makes to the parameters, H^-1 T^T W c, then is part of the covariance H^-1 J H^-1.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfft2, next_fast_len, rfft2

from fphojax.core.design import N_PARAMETER
from fphojax.core.model import SceneModel
from fphojax.core.padding import padded_values, real_rows
from fphojax.core.patch import TILE
from fphojax.core.programs import Program
from fphojax.core.source_columns import source_columns

from .optimum import lean_model

__all__ = ["DOUBT", "noise_matrix"]

# fraction of a correction for PSFs that may be wrong: of fits to images without noise, corrections leave 4 to 20 % of
# the chi-squared that the mixtures alone leave, which is 20 to 45 % of the amplitude
DOUBT = 0.35


class _Images(NamedTuple):
    """Images on one grid, of which the first pixel is at (x, y)."""

    x: int
    y: int
    values: np.ndarray  # (n, ny, nx)


def noise_matrix(
    model: SceneModel,
    values: Mapping[str, ArrayLike],
    kernels: Sequence[np.ndarray] | None = None,
    correction: np.ndarray | None = None,
) -> np.ndarray:
    """Compute J, the covariance of the gradient of the log likelihood by the parameters.

    Parameters
    ----------
    model : SceneModel
    values : dict of array
        All parameters.
    kernels : sequence of ndarray (2 m + 1, 2 m + 1), optional
        Of the noise of every exposure, in units of its errors; see `fphojax.core.noise_kernels`. By default that of
        white noise of these errors.
    correction : array (T, TILE * TILE), optional
        What was subtracted from the first tiles for what PSF mixtures leave of their images
        (`fphojax.inputs.psf_correction`): a fraction `DOUBT` of it, the same in all exposures of a band, counts as
        noise.

    Returns
    -------
    ndarray (N, N)
        In the order of `ravel_pytree`; positive semidefinite. With kernels that are 1 it is the Fisher matrix.
    """
    kernels = [np.ones((1, 1))] * model.optics.n_exposure if kernels is None else kernels
    lean = lean_model(model)
    padded = padded_values({name: np.asarray(value, dtype=float) for name, value in values.items()}, lean)
    columns = source_columns(lean, padded)
    patch, n_source = model.patch, model.optics.n_source
    origin, exposure = np.asarray(patch.origin), np.asarray(patch.exposure)
    n_term = 0 if model.basis is None else model.basis.n_term
    size = N_PARAMETER * lean.optics.n_source + n_term
    products = np.zeros((model.optics.n_exposure, size, size))
    order = np.lexsort([columns.source, exposure[columns.tile]])
    tile, source = columns.tile[order], columns.source[order]
    starts = np.flatnonzero(np.diff(exposure[tile] * (lean.optics.n_source + 1) + source, prepend=-1))
    of_exposure: list[list[tuple[slice, _Images]]] = [[] for _ in kernels]
    for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
        s = int(source[begin])
        if s < n_source:  # beyond are those of the padding
            e = exposure[tile[begin]]
            images = _assembled(origin[tile[begin:end]], columns.values[order[begin:end]])
            rows = slice(N_PARAMETER * s, N_PARAMETER * (s + 1))
            of_exposure[e].append((rows, _filtered(images, kernels[e])))
    if n_term and model.basis is not None:
        terms = np.swapaxes(np.asarray(model.basis.columns(patch)), 1, 2) * np.asarray(patch.ierr)[:, None]
        real = np.arange(patch.n_tile) < int(patch.count)
        for e, kernel in enumerate(kernels):
            mine = np.flatnonzero(real & (exposure == e))
            images = _filtered(_assembled(origin[mine], terms[mine]), kernel)
            of_exposure[e].append((slice(size - n_term, size), images))
    for e, parts in enumerate(of_exposure):
        for i, (rows, images) in enumerate(parts):
            for columns_, others in parts[: i + 1]:
                block = _products(images, others)
                products[e, rows, columns_] = block
                products[e, columns_, rows] = block.T
    matrix = np.asarray(_by_parameters(lean, products, padded))
    if correction is not None:
        sums = np.zeros((model.optics.n_exposure, size))
        chi = correction * np.asarray(patch.ierr)[: len(correction)]
        each = np.einsum("nip,np->ni", columns.values, chi[columns.tile])
        place = N_PARAMETER * columns.source[:, None] + np.arange(N_PARAMETER)
        np.add.at(sums, (exposure[columns.tile][:, None], place), each)
        if n_term:
            by_tile = np.einsum("tkp,tp->tk", terms[: len(chi)], chi)
            np.add.at(sums[:, size - n_term :], exposure[: len(chi)], by_tile)
        for band in np.unique(np.asarray(model.optics.band)):
            mine = np.asarray(model.optics.band) == band
            gradient = np.asarray(_sums_by_parameters(lean, np.where(mine[:, None], sums, 0.0), padded))
            matrix = matrix + DOUBT**2 * np.outer(gradient, gradient)
    rows = real_rows(padded, n_source)
    return matrix[np.ix_(rows, rows)]


_sums_by_parameters = Program(SceneModel.sums_by_parameters)
_by_parameters = Program(SceneModel.by_parameters)


def _assembled(origin, tiles):
    """Assemble tiles (n, k, TILE * TILE) to images."""
    low = origin.min(axis=0)
    width, height = origin.max(axis=0) - low + TILE
    images = np.zeros((tiles.shape[1], height, width))
    for (x, y), tile in zip(origin - low, tiles, strict=True):
        images[:, y : y + TILE, x : x + TILE] = tile.reshape(-1, TILE, TILE)
    return _Images(int(low[0]), int(low[1]), images)


def _filtered(images, kernel):
    """Convolve images with a kernel, with its half-width added on all sides."""
    m = len(kernel) // 2
    if m == 0:
        return images._replace(values=images.values * kernel[0, 0])
    shape = [side + 2 * m for side in images.values.shape[1:]]
    sides = [next_fast_len(side, real=True) for side in shape]
    convolved = irfft2(rfft2(images.values, sides) * rfft2(kernel, sides), sides)
    return _Images(images.x - m, images.y - m, convolved[:, : shape[0], : shape[1]])


def _products(images, others):
    """Sum the products of two sets of images over the pixels that they share, array (n, m)."""
    x0, y0 = max(images.x, others.x), max(images.y, others.y)
    x1, y1 = (
        min(corner + part.values.shape[axis] for part, corner in pairs)
        for axis, pairs in (
            (2, ((images, images.x), (others, others.x))),
            (1, ((images, images.y), (others, others.y))),
        )
    )
    if x1 <= x0 or y1 <= y0:
        return np.zeros((len(images.values), len(others.values)))
    flat = (
        part.values[:, y0 - part.y : y1 - part.y, x0 - part.x : x1 - part.x].reshape(len(part.values), -1)
        for part in (images, others)
    )
    first, second = flat
    return first @ second.T
