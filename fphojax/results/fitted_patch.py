"""A patch of a finished run, rebuilt from the folder of the run: its pixels, its model, its draws."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fphojax.core.culling import TOLERANCE
from fphojax.core.model import PARAMETERS, SceneModel
from fphojax.errors import InputError
from fphojax.inputs.astrometry import CircularRegion, sky_offsets
from fphojax.inputs.exposure_nuisance import Nuisance
from fphojax.inputs.exposures import read_exposures
from fphojax.inputs.fits_frames import recipe_of
from fphojax.inputs.patcher import Patcher, PatchFrame, as_profiled
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import open_stores
from fphojax.mixtures.sersic import load_sersic_table

from .patch_result import PatchResult
from .run_directory import RunDirectory

__all__ = ["FittedPatch", "fitted_patch", "model_values", "open_patcher"]

# Parameters whose prior may differ from the box without draws leaving the box of the pair lists.
_NOT_CULLED_BY = {"pa"}


@dataclass(frozen=True, eq=False)
class FittedPatch:
    """A patch of a run with everything that its images are made from.

    Attributes
    ----------
    number : int
    result : PatchResult
    frame : PatchFrame
    model : SceneModel
    """

    number: int
    result: PatchResult
    frame: PatchFrame
    model: SceneModel

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
        found = {name: self.result.nuisance[f"{name}_optimum"] for name in self._nuisance()}
        return self._values(self.result.optimum, found)

    def _nuisance(self):
        """Return the names of the model's parameters besides those of the sources."""
        return [name for name in self.model.priors if name not in PARAMETERS]

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


def open_patcher(run: RunDirectory) -> Patcher:
    """Open the exposures and PSFs of a run, as its settings say, for all its patches.

    Parameters
    ----------
    run : RunDirectory

    Returns
    -------
    Patcher

    Raises
    ------
    InputError
        A file of the inputs is not where it was.
    """
    config = run.read_config()
    if config["pixelstorefile"] is None:
        exposures = read_exposures(config["fitsfiles"], **recipe_of(config))
    else:
        exposures = open_stores(config["pixelstorefile"], config["metastorefile"])
    sky = run.read_sky()
    exposures = [e.less(sky[e.band]) if e.band in sky else e for e in exposures]
    if config["max_snr"] > 0:
        exposures = [exposure.capped(config["max_snr"]) for exposure in exposures]
    return Patcher(
        exposures,
        PSFStore.open(run.path / "psfs.h5"),
        table=load_sersic_table(config["splinedatafile"]),
        pixel_response=config["pixel_response"],
    )


def fitted_patch(run: RunDirectory, number: int, patcher: Patcher | None = None) -> FittedPatch:
    """Rebuild a patch of a run.

    Parameters
    ----------
    run : RunDirectory
    number : int
        One of ``run.patches()``.
    patcher : Patcher, optional
        What `open_patcher` gives, where several patches are wanted.

    Returns
    -------
    FittedPatch

    Raises
    ------
    InputError
        The run has no such patch, or a file of its inputs is not where it was.
    """
    config = run.read_config()
    result = run.read_patch(number)
    patcher = open_patcher(run) if patcher is None else patcher
    patcher.build_patch(result.region, allbands=result.bands)
    active = result.active
    # draws under a prior other than the box may lie where pair lists made for the box are not valid
    boxed = set(config["priors"]) <= _NOT_CULLED_BY
    model, _ = patcher.prepare_model(
        active=active,
        fixed=as_profiled(result.fixed),
        bounds=result.bounds,
        tolerance=config.get("tolerance", TOLERANCE) if boxed else 0.0,
        profiles=active.extra["profile"] if "profile" in active.extra.colnames else None,
        ties=_ties(config["ties"], active, run),
        nuisance=Nuisance(**config.get("nuisance", {})),
    )
    return FittedPatch(number=number, result=result, frame=patcher.frame, model=model)


def _ties(
    ties: Mapping[str, Mapping[str, str]], active: SourceCatalog, run: RunDirectory
) -> dict[str, dict[int, int]]:
    """Return the run's ties between sources of the patch, with rows in place of ids."""
    row = {str(identifier): i for i, identifier in enumerate(active.id)}
    found = {}
    for name, pairs in ties.items():
        here = {source: other for source, other in pairs.items() if source in row}
        if lost := [other for other in here.values() if other not in row]:
            raise InputError(
                f"{run.config_path}: ties: {name}: found id {lost[0]} outside the patch of its partner, "
                "expected tied sources in one patch"
            )
        found[name] = {row[source]: row[other] for source, other in here.items()}
    return found
