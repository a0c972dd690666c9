"""Images of the derivatives of a model: for every exposure, a column for each number that it depends on.

They are those of which `core.design` keeps the products, times ierr, and only on the tiles that a source reaches.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .backend import tiles_per_block
from .design import FAINTEST, N_PARAMETER, tangents
from .gaussians import Optics, ProfileTable, Sources, project
from .nearby import coarse_length, nearby_sources
from .patch import Patch
from .pixels import PixelResponse, design_of_gaussians

__all__ = ["SourceColumns", "source_columns"]


class SourceColumns(NamedTuple):
    """Derivatives of sources' images by their parameters, in units of the noise, tile by tile.

    Attributes
    ----------
    tile, source : ndarray of int (n,)
        Pairs of a tile and a source that reaches it.
    values : ndarray (n, 7, TILE * TILE)
        By flux, x, y, q, pa, sersic and rhalf, times ierr.
    """

    tile: np.ndarray
    source: np.ndarray
    values: np.ndarray


def source_columns(
    sources: Sources, optics: Optics, table: ProfileTable, patch: Patch, response: PixelResponse = "variance"
) -> SourceColumns:
    """Compute the images of the derivatives by the sources' parameters.

    Parameters
    ----------
    sources, optics, table, patch, response
        As for `fphojax.core.design.design`.

    Returns
    -------
    SourceColumns
        In the precision of the pixels.
    """
    nearby = _nearby(sources, optics, table, patch)
    tile, listed = np.asarray(nearby.tile), np.asarray(nearby.sources)
    real = np.arange(len(tile)) < int(nearby.begin[-1])
    row, column = np.nonzero((listed < optics.n_source) & real[:, None])
    tile, source = tile[row], listed[row, column]
    spare = coarse_length(len(tile)) - len(tile)
    padded = (jnp.asarray(np.pad(index, (0, spare))) for index in (tile, source))
    values = _columns(sources, optics, table, patch, response, *padded)
    return SourceColumns(tile, source, np.asarray(values)[: len(tile)])


@eqx.filter_jit
def _nearby(sources, optics, table, patch):
    unit = sources._replace(flux=jnp.ones_like(sources.flux))
    return nearby_sources(project(unit, optics, table), sources.flux.T[optics.band], patch, FAINTEST)


@eqx.filter_jit
def _columns(sources, optics, table, patch, response, tile, source):
    unit = sources._replace(flux=jnp.ones_like(sources.flux))
    theta, tangent = tangents(unit, optics, table)
    flux, dtype = sources.flux.T[optics.band], patch.data.dtype
    polynomial = None if response == "variance" else response

    def one(pair):
        tile, source = pair
        place = patch.exposure[tile], source
        columns = design_of_gaussians(
            theta[place], tangent[place], patch.centre(tile), dtype, polynomial, optics.pixel_free[place]
        )
        scale = jnp.full(N_PARAMETER, flux[place]).at[0].set(1.0).astype(dtype)
        return columns * scale[:, None] * patch.ierr[tile]

    return jax.lax.map(one, (tile, source), batch_size=tiles_per_block())
