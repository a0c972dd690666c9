"""Effect of the nuisance parameters of a run's patches on the images of its exposures."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from fphojax.core.sky import sky_basis
from fphojax.inputs.astrometry import ARCSEC, CircularRegion
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import StoredExposure

from .patch_draws import PatchDraws, RunDraws
from .scene_points import DrawKind, select_points

__all__ = ["FrameNuisance"]


@dataclass(frozen=True, eq=False)
class _Part:
    """Nuisance parameters of a patch in one exposure, by name, each (point, ...).

    The sky's coordinates run from -1 to 1 over `half_width` on both sides of `centre` (pixels; see `SkyBasis`).
    """

    patch: int
    region: CircularRegion
    values: dict[str, np.ndarray]
    centre: np.ndarray
    half_width: np.ndarray


class FrameNuisance:
    """Sky, flux scale and shift of exposures at one point of the posterior, or at several.

    Flux scale and shift are those of the last patch of each source, the sky that of the last patch of each pixel.
    A source or pixel that is not in any patch of the exposure is unchanged.

    Parameters
    ----------
    draws : RunDraws
    recipe : Recipe
        Of the run.
    kind, n_draw
        As for `scenes_at`.
    """

    def __init__(self, draws: RunDraws, recipe: Recipe, kind: DrawKind, *, n_draw: int = 16):
        self._last = np.array([draws.patches_of[name][-1] for name in draws.ids.tolist()])
        self._parts: dict[tuple[str, str], list[_Part]] = defaultdict(list)
        for patch in draws.patches():
            for key, part in _parts(patch, recipe, kind, n_draw):
                self._parts[key].append(part)

    @property
    def names(self) -> list[str]:
        """Names of the parameters that any patch has."""
        return sorted({name for parts in self._parts.values() for part in parts for name in part.values})

    def apply(self, exposure: Exposure | StoredExposure, scene: SourceCatalog, point: int) -> SourceCatalog:
        """Apply an exposure's flux scale and shift to the fitted sources.

        Parameters
        ----------
        exposure : Exposure or StoredExposure
        scene : SourceCatalog
            As `scenes_at` gives it.
        point : int
            Which of its catalogues it is.
        """
        ra, dec, flux = scene.ra.copy(), scene.dec.copy(), scene.flux.copy()
        for part in self._parts.get((exposure.band, exposure.name), ()):
            rows = self._last == part.patch
            if "scale" in part.values:
                flux[rows] *= part.values["scale"][point]
            if "shift" in part.values:
                east, north = part.values["shift"][point]
                ra[rows] += east / (ARCSEC * np.cos(np.deg2rad(part.region.dec)))
                dec[rows] += north / ARCSEC
        return scene.replace(ra=ra % 360, dec=dec, flux=flux)

    def sky(
        self,
        exposure: Exposure | StoredExposure,
        point: int,
        box: tuple[int, int, int, int] | None = None,
    ) -> np.ndarray:
        """Compute the sky in an exposure, or in a box (x0, x1, y0, y1) of it, in the image's units."""
        ny, nx = exposure.shape
        x0, x1, y0, y1 = (0, nx, 0, ny) if box is None else box
        image = np.zeros((y1 - y0, x1 - x0))
        for part in self._parts.get((exposure.band, exposure.name), ()):
            cutout = part.region.cutout(exposure.wcs, exposure.shape) if "sky" in part.values else None
            if cutout is None:
                continue
            (left, right, bottom, top), inside = cutout
            u = (np.arange(left, right) - part.centre[0]) / part.half_width[0]
            v = (np.arange(bottom, top) - part.centre[1]) / part.half_width[1]
            level, *slopes = part.values["sky"][point]
            values = np.full(inside.shape, level)
            if slopes:
                values += slopes[0] * u + slopes[1] * v[:, None]
            # the part of it that is in the box
            columns, rows = np.clip((left, right), x0, x1), np.clip((bottom, top), y0, y1)
            window = np.s_[rows[0] - bottom : rows[1] - bottom, columns[0] - left : columns[1] - left]
            target = image[rows[0] - y0 : rows[1] - y0, columns[0] - x0 : columns[1] - x0]
            target[inside[window]] = values[window][inside[window]]
        return image


def _parts(patch: PatchDraws, recipe, kind, n_draw):
    """Yield the band and name, and the `_Part`, of each exposure of a patch with nuisance parameters."""
    if not patch.nuisance:
        return
    values = {name: select_points(array, patch, kind, n_draw) for name, array in patch.nuisance.items()}
    region = CircularRegion(*patch.region)
    bases = {}
    if "sky" in values and values["sky"].shape[-1] > 1:
        frame = recipe.cut(region)
        exposures = frame.exposures
        basis = sky_basis(frame.patch, len(exposures), values["sky"].shape[-1])
        edges = zip(np.asarray(basis.centre), np.asarray(basis.half_width), strict=True)
        bases = {(e.band, e.name): edge for e, edge in zip(exposures, edges, strict=True)}
    for e, key in enumerate(patch.exposures):
        edge = bases.get(key, (np.zeros(2), np.ones(2)))
        yield key, _Part(patch.patch, region, {name: array[:, e] for name, array in values.items()}, *edge)
