"""A fitted patch, as it was fitted or rebuilt from the folder of a run: its pixels, its model, its draws."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from fphojax.core.model import PARAMETERS
from fphojax.inputs.astrometry import CircularRegion, sky_offsets
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.scene import Scene
from fphojax.system.file_checks import blame
from fphojax.system.notebook_html import Shown

from .patch_result import PatchResult
from .run_directory import RunDirectory

__all__ = ["FittedPatch", "fitted_patch", "model_values", "open_recipe"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedPatch(Shown):
    """A scene and the result of its fit: all that its images are made from.

    Attributes
    ----------
    scene : Scene
    result : PatchResult
    """

    scene: Scene
    result: PatchResult

    def _facts(self):
        return {"": f"{self.scene}, {self.result}"}

    def draw(self, chain: int, draw: int) -> dict[str, np.ndarray]:
        """Return the parameters of the model at one draw; negative numbers count from the end."""
        at = {"chain": chain, "draw": draw}
        return self._values(self.result.draws.isel(at), self.result.nuisance.isel(at, missing_dims="ignore"))

    def median(self) -> dict[str, np.ndarray]:
        """Return the parameters of the model at the medians of the draws."""
        draws, nuisance = self.result.centred_draws, self.result.nuisance
        return self._values(
            *(d.median([n for n in ("chain", "draw") if n in d.dims]) for d in (draws, nuisance))
        )

    def optimum(self) -> dict[str, np.ndarray]:
        """Return the parameters of the model where the chains were started."""
        nuisance = {name: self.result.nuisance[f"{name}_optimum"] for name in self._nuisance()}
        return self._values(self.result.optimum, nuisance)

    def _nuisance(self):
        """Return the names of the model's parameters besides those of the sources."""
        return [name for name in self.scene.model.priors if name not in PARAMETERS]

    def _values(self, point, nuisance):
        values = model_values(point, self.result.region)
        return values | {name: nuisance[name].to_numpy() for name in self._nuisance()}


def model_values(point: xr.Dataset, region: CircularRegion) -> dict[str, np.ndarray]:
    """Convert the parameters of a posterior to those of the model.

    Parameters
    ----------
    point : xarray.Dataset
        Variables as in `PatchResult.posterior`, without chains and draws.
    region : CircularRegion
        Of the patch.

    Returns
    -------
    dict of ndarray
        In the names and units of `SceneModel`.
    """
    offset = sky_offsets(point["ra"].to_numpy(), point["dec"].to_numpy(), region.ra, region.dec)
    values = {name: point[name].to_numpy() for name in ("flux", "q", "sersic", "rhalf")}
    return values | {"x": offset[:, 0], "y": offset[:, 1], "pa": np.deg2rad(point["pa"].to_numpy())}


def open_recipe(run: RunDirectory | str | Path) -> Recipe:
    """Reopen the recipe of a run's scenes, for all its patches.

    Parameters
    ----------
    run : RunDirectory or path-like

    Returns
    -------
    Recipe

    Raises
    ------
    InputError
        A file of the inputs is not where it was.
    """
    run = RunDirectory.of(run)
    return Recipe.from_config(run.read_config(), PSFStore.open(run.path / "psfs.h5"))


def fitted_patch(run: RunDirectory | str | Path, number: int, recipe: Recipe | None = None) -> FittedPatch:
    """Rebuild a patch of a run.

    Parameters
    ----------
    run : RunDirectory or path-like
    number : int
        One of ``run.patches()``.
    recipe : Recipe, optional
        What `open_recipe` gives, where several patches are wanted.

    Returns
    -------
    FittedPatch

    Raises
    ------
    InputError
        The run has no such patch, or a file of its inputs is not where it was.
    """
    run = RunDirectory.of(run)
    result = run.read_patch(number)
    recipe = open_recipe(run) if recipe is None else recipe
    with blame(str(run.config_path)):
        scene = recipe.scene(result.region, active=result.active, fixed=result.fixed, bounds=result.bounds)
    fitted = FittedPatch(scene, result)
    return dataclasses.replace(fitted, scene=scene.corrected(fitted.optimum())[0])
