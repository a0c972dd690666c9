"""Images of the derivatives of a model: for every exposure, a column for each number that it depends on.

They are those of which `core.design` keeps the products, times ierr, and only on the tiles that a source reaches.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .backend import on_device, tiles_per_block
from .design import FAINTEST, N_PARAMETER, tangents
from .gaussians import project
from .model import SceneModel
from .nearby import coarse_length, nearby_sources
from .nuisance import apply_nuisance
from .pixels import design_of_gaussians
from .programs import program

__all__ = ["SourceColumns", "source_columns"]

SMALLEST = 64  # pairs to which their list is padded, 256, 1024, ...


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


def source_columns(model: SceneModel, values: Mapping[str, jax.Array | np.ndarray]) -> SourceColumns:
    """Compute the images of the derivatives by the sources' parameters.

    Parameters
    ----------
    model : SceneModel
    values : dict of array
        All its parameters.

    Returns
    -------
    SourceColumns
        In the precision of the pixels.
    """
    nearby = _nearby(model, values)
    tile, listed = np.asarray(nearby.tile), np.asarray(nearby.sources)
    real = np.arange(len(tile)) < int(nearby.begin[-1])
    row, column = np.nonzero((listed < model.optics.n_source) & real[:, None])
    tile, source = tile[row], listed[row, column]
    spare = coarse_length(len(tile), smallest=SMALLEST) - len(tile)
    padded = (on_device(np.pad(index, (0, spare))) for index in (tile, source))
    values = _columns(model, values, *padded)
    return SourceColumns(tile, source, np.asarray(values)[: len(tile)])


@program
def _nearby(model, values):
    sources, optics = model.sources(values), apply_nuisance(model.optics, values)
    unit = sources._replace(flux=jnp.ones_like(sources.flux))
    return nearby_sources(
        project(unit, optics, model.table), sources.flux.T[optics.band], model.patch, FAINTEST
    )


@program
def _columns(model, values, tile, source):
    sources, optics, patch = model.sources(values), apply_nuisance(model.optics, values), model.patch
    unit = sources._replace(flux=jnp.ones_like(sources.flux))
    theta, tangent = tangents(unit, optics, model.table)
    flux, dtype = sources.flux.T[optics.band], patch.data.dtype
    polynomial = None if model.response == "variance" else model.response

    def one(pair):
        tile, source = pair
        place = patch.exposure[tile], source
        columns = design_of_gaussians(
            theta[place], tangent[place], patch.centre(tile), dtype, polynomial, optics.pixel_free[place]
        )
        scale = jnp.full(N_PARAMETER, flux[place]).at[0].set(1.0).astype(dtype)
        return columns * scale[:, None] * patch.ierr[tile]

    return jax.lax.map(one, (tile, source), batch_size=tiles_per_block())
