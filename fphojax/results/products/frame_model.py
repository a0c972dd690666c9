"""Models of whole scenes in the full frames of exposures."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from fphojax.core.patch import TILE, Patch, padded_length
from fphojax.inputs.astrometry import CircularRegion, local_affine
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.frame import PatchFrame
from fphojax.inputs.profiles import apply_profiles
from fphojax.inputs.projection import optics_of, rendered, sources_of
from fphojax.inputs.psf_correction import correction_image
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import StoredExposure, central_noise
from fphojax.results.run_directory import RunDirectory

from .frame_nuisance import FrameNuisance
from .patch_draws import RunDraws
from .photometry import isophotal_radius
from .scene_points import DrawKind, scenes_at

__all__ = ["FrameModel", "model_image"]

_CELL = 31  # tiles on a side of the cells in which frames are drawn; with a spare row they fill a bucket
_FAINT = 1e-3  # sources are drawn as far as their profile exceeds this fraction of the noise of a pixel
_PSF_REACH = 6.0  # standard deviations of the widest Gaussian of the PSF


@dataclass(frozen=True, eq=False)
class FrameModel:
    """Complete model of a run's images, in the full frame of any exposure.

    Attributes
    ----------
    recipe : Recipe
    scenes : list of SourceCatalog
        The sources that were fitted, at the points whose images are averaged.
    still : list of SourceCatalog
        Sources that were not fitted: those of the catalogue, and those of ``big_catalog``.
    nuisance : FrameNuisance
        At the same points.
    """

    recipe: Recipe
    scenes: list[SourceCatalog]
    still: list[SourceCatalog]
    nuisance: FrameNuisance

    @classmethod
    def of_draws(
        cls, run: RunDirectory, draws: RunDraws, recipe: Recipe, kind: DrawKind, n_draw: int
    ) -> "FrameModel":
        """Make the model at one or several points of the posterior; see `scenes_at`."""
        nuisance = FrameNuisance(draws, recipe, kind, n_draw=n_draw)
        return cls(recipe, scenes_at(draws, kind, n_draw=n_draw), _unfitted_catalogs(run, draws), nuisance)

    @classmethod
    def of_catalog(cls, run: RunDirectory, recipe: Recipe) -> "FrameModel":
        """Make the model with the sources as in the run's catalogue."""
        draws = RunDraws(run)
        scene = draws.scene.select_bands(draws.bands)
        fitted = scene[np.isin(scene.id, draws.ids)]
        return cls(recipe, [fitted], _unfitted_catalogs(run, draws), FrameNuisance(draws, recipe, "median"))

    def image(self, exposure: Exposure | StoredExposure) -> np.ndarray:
        """Compute the image of all sources, and of the sky that was fitted with them, shape (ny, nx)."""
        model = sum(model_image(self.recipe, exposure, catalog) for catalog in self.still)
        for i, scene in enumerate(self.scenes):
            image = model_image(self.recipe, exposure, self.nuisance.apply(exposure, scene, i))
            model = model + (image + self.nuisance.sky(exposure, i)) / len(self.scenes)
        return np.asarray(model)


def model_image(
    recipe: Recipe,
    exposure: Exposure | StoredExposure,
    catalog: SourceCatalog,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Compute the image of sources in an exposure, with what the PSF images add to it (`psf_correction`).

    Parameters
    ----------
    recipe : Recipe
        Its PSFs and its profile table are used.
    exposure : Exposure or StoredExposure
    catalog : SourceCatalog
        With fluxes in the exposure's band. Sources with ``profile`` in `extra` are drawn as that says.
    box : tuple of int, optional
        Half-open pixel ranges (x0, x1, y0, y1); by default the whole frame.

    Returns
    -------
    ndarray of float32, shape (y1 - y0, x1 - x0)
    """
    ny, nx = exposure.shape
    x0, x1, y0, y1 = (0, nx, 0, ny) if box is None else box
    image = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    catalog = apply_profiles(catalog.select_bands([exposure.band]))
    if not len(catalog):
        return image
    centre = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=catalog.dec[0]).pixel
    reach = _reach(recipe.psfs, exposure, catalog)
    step = _CELL * TILE
    for left in range(x0, x1, step):
        for bottom in range(y0, y1, step):
            right, top = min(left + step, x1), min(bottom + step, y1)
            gap = np.maximum(np.maximum((left, bottom) - centre, centre - (right - 1, top - 1)), 0)
            in_reach = np.hypot(*gap.T) <= reach  # False where the WCS has no position
            if not in_reach.any():
                continue
            frame = _cell(exposure, left, bottom, catalog[in_reach])
            tiles = rendered(
                _padded(catalog[in_reach]), frame, recipe.psfs, recipe.table, recipe.pixel_response
            )
            tiles = np.asarray(tiles)[: _CELL**2]
            cell = tiles.reshape(_CELL, _CELL, TILE, TILE).swapaxes(1, 2).reshape(step, step)
            inside = np.s_[bottom - y0 : top - y0, left - x0 : right - x0]
            image[inside] = cell[: top - bottom, : right - left]
            box = left, right, bottom, top
            more = _correction(recipe, exposure, catalog[in_reach], frame, box)
            image[inside] += 0 if more is None else more
    return image


def _correction(recipe, exposure, catalog, frame, box):
    """Compute what the PSF images add to the model in a box; None if nothing."""
    sources, optics = (
        sources_of(catalog, frame),
        optics_of(catalog, frame, recipe.psfs, recipe.pixel_response),
    )
    noise = central_noise(exposure)
    noise = noise if np.isfinite(noise) else 1.0
    return correction_image(sources, optics, exposure, recipe.psfs, recipe.table, box, noise)


def _reach(psfs, exposure, catalog):
    """Compute how far from its centre each source is drawn, pixels."""
    noise = central_noise(exposure)
    noise = noise if np.isfinite(noise) else 1.0
    psf = psfs.in_exposure(exposure)
    widest = np.sqrt(np.max(np.asarray(psf.covariances)[:, :2]))
    scale = exposure.pixel_scale
    rhalf = np.maximum(catalog.rhalf, 0.01 * scale)  # points have none
    level = _FAINT * noise / (exposure.flux_scale * scale**2)
    radius = isophotal_radius(level, np.abs(catalog.flux[:, 0]), rhalf, catalog.sersic)
    return radius / np.sqrt(catalog.q) / scale + _PSF_REACH * widest + np.abs(psf.means).max()


def _cell(exposure, left, bottom, catalog):
    """Make a frame whose tiles fill a square, all with weight."""
    n = _CELL**2
    row, column = np.divmod(np.arange(n), _CELL)
    spare = padded_length(n + 1, smallest=16) - n
    ones = np.pad(np.ones((n, TILE**2)), ((0, spare), (0, 0)))
    origin = np.stack([left + column * TILE, bottom + row * TILE], axis=1)
    patch = Patch(
        data=jnp.zeros_like(ones, dtype=np.float32),
        ierr=jnp.asarray(ones, dtype=np.float32),
        origin=jnp.asarray(np.pad(origin, ((0, spare), (0, 0))), dtype=np.int32),
        exposure=jnp.zeros(n + spare, dtype=np.int32),
        count=jnp.asarray(n, dtype=np.int32),
    )
    region = CircularRegion(float(catalog.ra[0]), float(catalog.dec[0]), float(catalog.roi[0]))
    return PatchFrame(region=region, bands=(exposure.band,), exposures=(exposure,), patch=patch)


def _padded(catalog):
    """Pad with sources of no flux to a length of the series, so that few programs are compiled."""
    size = padded_length(len(catalog))
    rows = np.concatenate([np.arange(len(catalog)), np.zeros(size - len(catalog), dtype=int)])
    flux = catalog.flux[rows]
    flux[len(catalog) :] = 0
    return catalog[rows].replace(flux=flux)


def _unfitted_catalogs(run, draws):
    """Return catalogues of the sources that are in the images but were not fitted."""
    catalogs = [draws.unfitted.select_bands(draws.bands)]
    big = run.read_config().get("big_catalog")
    if big is not None:
        catalogs.append(SourceCatalog.read(big, bands=draws.bands))
    return [catalog for catalog in catalogs if len(catalog)]
