"""Fits of single scenes, for use in notebooks."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from astropy.table import QTable, Table
from numpyro.distributions import Distribution

from fphojax.core.compilation import compiling_for
from fphojax.figures.fit_plots import plot_residuals
from fphojax.figures.posterior_plots import plot_posterior
from fphojax.inference.methods import NUTS, Method
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.bounds import Bounds, default_bounds
from fphojax.inputs.composites import components_inside, split_composites
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.frame import cut
from fphojax.inputs.noise_model import NoiseModel
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.sphere import enclosing_circle, unit_vectors
from fphojax.results.composite_table import composite_table
from fphojax.results.fitted_patch import FittedPatch
from fphojax.results.parameter_table import parameter_table
from fphojax.results.patch_result import PatchResult
from fphojax.results.summary import summary_table
from fphojax.results.table_text import html_table

from .settled import fit_settled

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["SceneFit", "fit", "fit_scene", "scene_region"]


class SceneFit(FittedPatch):
    """A scene and the result of its fit.

    Attributes
    ----------
    scene : Scene
    result : PatchResult
        In catalogue units.
    """

    def _facts(self):
        sizes = self.posterior["posterior"].sizes
        return {"": f"{self.scene}, {sizes['chain']} chains of {sizes['draw']} draws"}

    def _below(self):
        return html_table(self.table())

    @property
    def posterior(self) -> xr.DataTree:
        """Draws and their statistics, as ArviZ takes them."""
        return self.result.posterior

    def table(self, truth: SourceCatalog | None = None) -> Table:
        """Tabulate every parameter as a person reads it, rounded to what is known (`parameter_table`)."""
        return parameter_table(self.result, truth)

    def to_table(self, truth: SourceCatalog | None = None) -> QTable:
        """Return median, 68 % interval and convergence of every parameter as numbers (`summary_table`)."""
        return summary_table(self.result, truth)

    def composites(self) -> QTable:
        """Return totals, shares and components of composite sources, one row each (`composite_table`)."""
        return composite_table(self.result)

    def to_pandas(self, truth: SourceCatalog | None = None) -> "DataFrame":
        """Return `to_table` as a pandas DataFrame."""
        return self.to_table(truth).to_pandas()

    def plot_residuals(self) -> "Figure":
        """Plot data, model and residual of every exposure at the optimum (`fphojax.plot_residuals`)."""
        return plot_residuals(self.scene, self.optimum())

    def plot_posterior(self, truth: SourceCatalog | None = None) -> "Figure":
        """Plot all marginal posteriors (`fphojax.figures.posterior_plots.plot_posterior`)."""
        return plot_posterior(self.result, truth)


def fit(scene: Scene, method: Method | None = None, *, seed: int = 0, progress: bool = False) -> SceneFit:
    """Fit a scene.

    Parameters
    ----------
    scene : Scene
    method : Method, optional
        `NUTS` (the default), `Importance`, `Auto`, `Laplace` or `Optimum`, with their options.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    SceneFit
    """
    method = NUTS() if method is None else method
    with compiling_for(scene.size):
        (scene,), (chains,) = fit_settled(method, [scene], seeds=[seed], progress=progress)
    return SceneFit(scene, PatchResult.from_chains(chains, scene))


def scene_region(catalog: SourceCatalog) -> CircularRegion:
    """Return a circle that contains all sources with their radii of influence."""
    centre, radius = enclosing_circle(unit_vectors(catalog.ra, catalog.dec), catalog.roi)
    ra, dec = np.arctan2(centre[1], centre[0]), np.arcsin(centre[2])
    return CircularRegion(float(np.rad2deg(ra) % 360), float(np.rad2deg(dec)), radius)


def fit_scene(
    exposures: Sequence[Exposure],
    psfs: PSFStore,
    catalog: SourceCatalog,
    method: Method | None = None,
    *,
    bands: Sequence[str] | None = None,
    region: CircularRegion | None = None,
    bounds: Bounds | None = None,
    priors: Mapping[str, Distribution] | None = None,
    noise: NoiseModel | None = None,
    seed: int = 0,
    progress: bool = False,
) -> SceneFit:
    """Fit all sources of a small catalogue at once.

    Parameters
    ----------
    exposures : sequence of Exposure
    psfs : PSFStore
    catalog : SourceCatalog
        Initial parameters. Composite sources are split into their components (`split_composites`).
    method : Method, optional
        `NUTS` (the default), `Importance`, `Auto`, `Laplace` or `Optimum`, with their options.
    bands : sequence of str, optional
        By default those of the exposures.
    region : CircularRegion, optional
        Pixels to use; by default those of `scene_region`.
    bounds, priors
        As for `Scene`; by default `default_bounds`, with the pixel scale of the finest exposure. Bounds have a row
        for each component.
    noise : NoiseModel, optional
        Noise of the exposures, which errors follow, as the stage noise measures it; by default errors are those of
        the images.
    seed, progress
        As for `fit`.

    Returns
    -------
    SceneFit
    """
    bands = tuple(bands or dict.fromkeys(exposure.band for exposure in exposures))
    catalog = split_composites(catalog.select_bands(bands))
    frame = cut(exposures, scene_region(catalog) if region is None else region, bands=bands)
    method = NUTS() if method is None else method
    if bounds is None:
        bounds = default_bounds(catalog, pixscale=min(exposure.pixel_scale for exposure in frame.exposures))
        catalog = components_inside(catalog, bounds)
    scene = Scene(
        frame,
        psfs,
        active=catalog,
        bounds=bounds,
        priors=priors,
        noise=noise,
        listed=method.needs_pairs,
    )
    return fit(scene, method, seed=seed, progress=progress)
