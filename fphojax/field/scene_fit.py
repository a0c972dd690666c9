"""Joint fit of a few sources in one call, for use in notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.table import QTable
from numpyro.distributions import Distribution

from fphojax.core.model import SceneModel
from fphojax.figures.fit_plots import plot_residuals
from fphojax.figures.posterior_plots import plot_posterior
from fphojax.inference.laplace import laplace
from fphojax.inference.sampling import sample
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.bounds import Bounds, default_bounds
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.patcher import Patcher, PatchFrame
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.sphere import enclosing_circle, unit_vectors
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import summary_table

__all__ = ["SceneFit", "fit_scene", "scene_region"]


@dataclass(frozen=True, eq=False)
class SceneFit:
    """Result of `fit_scene`.

    Attributes
    ----------
    result : PatchResult
        The posterior, in catalogue units.
    frame : PatchFrame
        The pixels and exposures of the fit.
    model : SceneModel
    optimum : dict of ndarray
        Most probable parameters of the model.
    """

    result: PatchResult
    frame: PatchFrame
    model: SceneModel
    optimum: dict[str, np.ndarray]

    def table(self, truth: SourceCatalog | None = None) -> QTable:
        """Return median, 68 % interval and convergence of every parameter (`summary_table`)."""
        return summary_table(self.result, truth)

    def plot_residuals(self):
        """Plot data, model and residual of every exposure at the optimum (`fphojax.plot_residuals`)."""
        return plot_residuals(self.frame, self.model, self.optimum, ids=self.result.active.id)

    def plot_posterior(self, truth: SourceCatalog | None = None):
        """Plot all marginal posteriors (`fphojax.figures.posterior_plots.plot_posterior`)."""
        return plot_posterior(self.result, truth)


def scene_region(catalog: SourceCatalog) -> CircularRegion:
    """Return a circle that contains all sources with their radii of influence."""
    centre, radius = enclosing_circle(unit_vectors(catalog.ra, catalog.dec), catalog.roi)
    ra, dec = np.arctan2(centre[1], centre[0]), np.arcsin(centre[2])
    return CircularRegion(float(np.rad2deg(ra) % 360), float(np.rad2deg(dec)), radius)


def fit_scene(
    exposures: Sequence[Exposure],
    psfs: PSFStore,
    catalog: SourceCatalog,
    *,
    bands: Sequence[str] | None = None,
    region: CircularRegion | None = None,
    bounds: Bounds | None = None,
    priors: Mapping[str, Distribution] | None = None,
    draws: int = 300,
    warmup: int = 200,
    chains: int = 2,
    seed: int = 0,
    method: Literal["nuts", "laplace"] = "nuts",
    progress: bool = False,
) -> SceneFit:
    """Fit all sources of a small catalogue at once, and draw from their posterior.

    Parameters
    ----------
    exposures : sequence of Exposure
    psfs : PSFStore
    catalog : SourceCatalog
        Initial parameters.
    bands : sequence of str, optional
        By default those of the exposures.
    region : CircularRegion, optional
        Pixels to use; by default those of `scene_region`.
    bounds, priors
        As for `Patcher.prepare_model`; by default `default_bounds`.
    draws, warmup, chains, seed, progress
        As for `fphojax.sample`.
    method : {"nuts", "laplace"}
        Chains, or the Gaussian around the optimum (`fphojax.inference.laplace`), which needs no warm-up.

    Returns
    -------
    SceneFit
    """
    bands = tuple(bands or dict.fromkeys(exposure.band for exposure in exposures))
    catalog = catalog.select_bands(bands)
    bounds = default_bounds(catalog) if bounds is None else bounds
    patcher = Patcher([exposure for exposure in exposures if exposure.band in bands], psfs)
    patcher.build_patch(scene_region(catalog) if region is None else region, allbands=bands)
    model, start = patcher.prepare_model(active=catalog, bounds=bounds, priors=priors)
    options = {"draws": draws, "chains": chains, "seed": seed}
    if method == "laplace":
        found = laplace(model, start, **options)
    else:
        found = sample(model, start, warmup=warmup, progress=progress, **options)
    result = PatchResult.from_chains(found, patcher.frame, model, active=catalog, bounds=bounds)
    return SceneFit(result, patcher.frame, model, found.optimum.values)
