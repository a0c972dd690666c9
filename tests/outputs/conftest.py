"""A small patch with made-up chains: two active sources, one fixed, two bands."""

import dataclasses
import json
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr
from astropy.table import Table

from fphojax.core.model import SceneModel
from fphojax.inference.optimize import Optimum
from fphojax.inference.sample import Chains
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.bounds import Bounds, default_bounds
from fphojax.inputs.catalog import SourceCatalog
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.patcher import Patcher, PatchFrame
from fphojax.inputs.psf import PSFMixture, PSFStore
from fphojax.outputs.residuals import write_residuals
from fphojax.outputs.results import PatchResult
from fphojax.outputs.run_directory import RunDirectory
from fphojax.simulate import ExposureSpec, simulate_exposures, write_exposure

RA, DEC = 359.9999999, -41.3
N_CHAIN, N_DRAW = 3, 50


class Fit(NamedTuple):
    """Everything that a result is made from."""

    truth: SourceCatalog
    active: SourceCatalog
    fixed: SourceCatalog
    bounds: Bounds
    frame: PatchFrame
    model: SceneModel
    chains: Chains
    result: PatchResult
    psfs: PSFStore


def _truth():
    return SourceCatalog.from_columns(
        ra=[RA, RA + 1.2e-4, RA - 1.5e-4],
        dec=[DEC, DEC + 1e-4, DEC],
        flux=[[100.0, 50.0], [60.0, 80.0], [30.0, 40.0]],
        q=[0.5, 0.9, 0.7],
        pa=np.rad2deg([1.0, 2.0, 3.0]),
        sersic=[1.0, 2.0, 3.0],
        rhalf=[0.2, 0.15, 0.1],
        bands=("B", "R"),
        id=["one", "two", "three"],
        meta={"FIELD": "mock", "DEPTH": 29.5},
        extra=Table({"n_iter": np.array([0, 3, 5], dtype=np.int32), "note": ["", "a, b", "c"]}),
    )


def _chains(start, seed):
    """Draws scattered about the start, position angles of the first source about a wrap of the box."""
    rng = np.random.default_rng(seed)
    size = {"flux": 1.0, "x": 1e-3, "y": 1e-3, "q": 0.01, "pa": 0.1, "sersic": 0.05, "rhalf": 0.005}
    values = {
        name: np.asarray(value) + size[name] * rng.normal(size=(N_CHAIN, N_DRAW, *np.shape(value)))
        for name, value in start.items()
    }
    n = sum(np.size(value) for value in start.values())
    optimum = Optimum(start, start, np.array([600.0, 500.0]), np.eye(n), np.eye(n), 7, True, {})
    statistics = {"lp": rng.normal(size=(N_CHAIN, N_DRAW)), "diverging": rng.random((N_CHAIN, N_DRAW)) < 0.1}
    return Chains(
        values=values,
        statistics=statistics,
        optimum=optimum,
        covariance=rng.normal(size=(n, n)),
        n_warmup=10,
        n_calls=1234,
        wall_time=0.1 + 0.2,
        seed=9,
        max_treedepth=8,
    )


@pytest.fixture(scope="session")
def fit() -> Fit:
    """The patch and its result."""
    truth = _truth()
    psfs = PSFStore()
    psfs.add(PSFMixture([1.0], [[0.0, 0.0]], [[1.2, 1.0, 0.1]]), "B")
    psfs.add(PSFMixture([0.8, 0.2], np.zeros((2, 2)), [[1.5, 1.5, 0.0], [6.0, 6.0, 0.0]]), "R")
    specs = [
        ExposureSpec("B", "first", (30, 27), 0.05, 10.0, RA, DEC, psfs.lookup("B"), 0.1),
        ExposureSpec("R", "second", (22, 20), 0.07, 130.0, RA, DEC, psfs.lookup("R"), 0.2),
    ]
    exposures = []
    for exposure in simulate_exposures(truth, specs, seed=1):
        ierr = exposure.ierr.copy()
        ierr[3, 4:8] = 0
        exposures.append(dataclasses.replace(exposure, ierr=ierr))
    assert all(isinstance(exposure, Exposure) for exposure in exposures)
    active, fixed = truth[:2], truth[2:]
    patcher = Patcher(exposures, psfs)
    patcher.build_patch(CircularRegion(RA, DEC, 0.8))
    bounds = default_bounds(active)
    model, start = patcher.prepare_model(active=active, fixed=fixed, bounds=bounds)
    chains = _chains(start, seed=3)
    result = PatchResult.from_chains(chains, patcher.frame, model, active=active, fixed=fixed, bounds=bounds)
    return Fit(truth, active, fixed, bounds, patcher.frame, model, chains, result, psfs)


@pytest.fixture(scope="session")
def run(fit, tmp_path_factory) -> RunDirectory:
    """The folder of a run with two patches, which hold the same result."""
    folder = tmp_path_factory.mktemp("mock")
    for exposure in fit.frame.exposures:
        write_exposure(exposure, folder / f"{exposure.name}.fits")
    config = {
        "bandlist": list(fit.frame.bands),
        "fitsfiles": [str(folder / f"{exposure.name}.fits") for exposure in fit.frame.exposures],
        "extensions": {"sci": "SCI", "err": "ERR", "mask": None, "psf": None},
        "pixelstorefile": None,
        "metastorefile": None,
        "splinedatafile": None,
        "pixel_response": "quartic",
        "tolerance": 1e-4,
        "max_snr": 0.0,
        "tweak_background": None,
        "tweakbg": {},
        "priors": {},
        "ties": {},
        "nuisance": {},
    }
    made = RunDirectory.create(folder / "run")
    made.write_config(json.dumps(config))
    fit.psfs.write(made.path / "psfs.h5")
    for patch in (0, 3):
        made.write_patch(patch, fit.result)
        write_residuals(made.residuals_path(patch), fit.frame, fit.model, fit.chains.optimum.values)
    made.write_scene(fit.result.final_catalog(), {"patches": 2})
    return made


@pytest.fixture(scope="session")
def shifted():
    """Function: the result of some of the sources only, their draws moved by so many standard deviations."""

    def made(result, sources, by):
        posterior = result.draws.isel(source=sources)
        posterior = posterior + by * posterior.std(("chain", "draw"))
        posterior = posterior.assign(q=posterior["q"].clip(0.01, 1.0))
        tree = xr.DataTree.from_dict(
            {"posterior": posterior, "sample_stats": result.posterior["sample_stats"].dataset}
        )
        return dataclasses.replace(
            result,
            active=result.active[sources],
            bounds=result.bounds[sources],
            posterior=tree,
            optimum=result.optimum.isel(source=sources),
            at_bound=result.at_bound.isel(source=sources),
            own_pixels=result.own_pixels.isel(source=sources),
        )

    return made
