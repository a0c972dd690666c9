"""Linear maps that make a posterior nearly a unit normal: u = origin + factor @ v.

The first one comes from the Fisher matrix at the optimum, or from covariances of an earlier fit; later ones from the
draws of the warm-up.
"""

from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from fphojax.core.gaussians import Sources

from .covariance import places
from .optimum import BestFit

__all__ = [
    "Whitening",
    "from_draws",
    "mixed_covariance",
    "rescale_to_blocks",
    "whitening",
]

FAR_OFF = 100.0  # ratio of variances beyond which they cannot be those of the same posterior


class Whitening(NamedTuple):
    """Linear map u = origin + factor @ v, with factor @ factor.T the covariance of u.

    On the host, of the active coordinates alone.
    """

    origin: jax.Array | np.ndarray
    factor: jax.Array | np.ndarray


def rescale_to_blocks(
    covariance: np.ndarray, slopes: np.ndarray, optimum: BestFit, blocks: ArrayLike, *, with_fluxes: bool
) -> np.ndarray:
    """Rescale the covariance of the coordinates so that each source has its known covariance.

    Correlations between sources stay as they are, in units of the new widths.

    Parameters
    ----------
    covariance : array (n, n)
        Of the coordinates.
    slopes : array (N, n)
        Derivatives of the raveled parameters by them.
    optimum : BestFit
    blocks : array (S, B + 6, B + 6)
        Covariances of each source's fluxes, x, y, q, pa, sersic and rhalf, as a super-scene keeps them; NaN where
        there is none.
    with_fluxes : bool
        Whether fluxes are among the coordinates.
    """
    n_band = optimum.values["flux"].shape[1]
    place = places(optimum.values)
    covariance = np.array(covariance)
    for s, block in enumerate(np.asarray(blocks, dtype=float)):
        rows = np.concatenate(
            [
                place[name][s] if name == "flux" else place[name][s : s + 1]
                for name in Sources._fields
                if name != "flux" or with_fluxes
            ]
        )
        block = block if with_fluxes else block[n_band:, n_band:]
        mine = np.flatnonzero(np.abs(slopes[rows]).sum(axis=0) > 0)
        if not np.isfinite(block).all() or not mine.size:
            continue
        back = np.linalg.pinv(slopes[np.ix_(rows, mine)])
        index = np.ix_(mine, mine)
        stretch = np.eye(len(covariance))
        stretch[index] = _stretch(covariance[index], back @ block @ back.T)
        covariance = stretch @ covariance @ stretch.T
    return covariance


def _stretch(present, target):
    """Find D with D @ present @ D.T = target, leaving directions in which `target` is far off as they are.

    A parameter that is held has no width at all in `target`, and must not lose its own.
    """
    scale = np.sqrt(np.diag(present))[:, None]
    eigenvalues, vectors = np.linalg.eigh(present / scale / scale.T)
    root = np.sqrt(np.maximum(eigenvalues, 1e-10))
    half, back = scale * (vectors * root) @ vectors.T, (vectors / root) @ vectors.T / scale.T
    ratio, axes = np.linalg.eigh(back @ target @ back.T)
    ratio = np.where((ratio > 1 / FAR_OFF) & (ratio < FAR_OFF), ratio, 1.0)
    return half @ (axes * np.sqrt(ratio) @ axes.T) @ back


def whitening(origin: ArrayLike, covariance: ArrayLike, *, full_cov: bool = True) -> Whitening:
    """Build the whitening of a covariance, or of its diagonal alone."""
    covariance = np.asarray(covariance)
    scale = np.sqrt(np.diag(covariance))
    if not full_cov:
        return Whitening(np.asarray(origin), np.diag(scale))
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    factor = scale[:, None] * vectors * np.sqrt(np.maximum(eigenvalues, 1e-8))
    return Whitening(np.asarray(origin), factor)


def from_draws(present: Whitening, draws: np.ndarray, *, full_cov: bool = True) -> Whitening:
    """Build a better whitening from draws of v under the present one.

    Parameters
    ----------
    present : Whitening
    draws : array (m, n)
        Of all chains.

    """
    origin, factor = present
    covariance = factor @ mixed_covariance(draws) @ factor.T
    return whitening(origin + factor @ draws.mean(axis=0), covariance, full_cov=full_cov)


def mixed_covariance(draws: np.ndarray) -> np.ndarray:
    """Return the covariance of draws (m, n), shrunk towards a unit matrix with the weight of n + 5 draws."""
    m, n = draws.shape
    covariance = np.cov(draws.T, ddof=1).reshape(n, n)
    weight = m / (m + n + 5.0)
    return weight * covariance + (1 - weight) * np.eye(n)
