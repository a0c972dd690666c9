"""Inputs of a process that fits patches of a run, opened once from the settings, and the sampling fit."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fphojax.app.settings.schema import Settings
from fphojax.core.backend import forget_programs
from fphojax.core.model import SceneModel
from fphojax.errors import InputError
from fphojax.figures.fit_plots import plot_residuals, save_figure
from fphojax.inference.laplace import laplace
from fphojax.inference.optimum import optimize
from fphojax.inference.sampling import sample, sample_many
from fphojax.inputs.exposures import Exposure, collect
from fphojax.inputs.patcher import Patcher, PatchFrame, as_profiled
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import StoredExposure, open_stores
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.results.patch_result import PatchResult
from fphojax.results.residuals import write_residuals
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import refuse_lost_lock

from .cluster import memory_limit
from .scheduler import PatchOutcome, PatchTask

__all__ = ["FieldInputs", "SamplingFit", "bound_memory", "field_inputs", "keep_inputs", "prepared"]

PROGRAMS = 0.4  # of the memory of a process, beyond which compiled programs are forgotten; dask pauses at 0.8

# The bars of workers share no terminal, and a lock between processes would outlive a worker that is killed.
tqdm.set_lock(threading.RLock())

_open: dict[tuple[str, Path], "FieldInputs"] = {}
_building = threading.RLock()  # a worker of a foreign cluster may have several threads


@dataclass(frozen=True, eq=False)
class FieldInputs:
    """Inputs of a run as a process holds them.

    Attributes
    ----------
    settings : Settings
    patcher : Patcher
        Over the exposures less their sky levels, with capped errors.
    priors : dict of numpyro Distribution
    """

    settings: Settings
    patcher: Patcher
    priors: Mapping

    @classmethod
    def make(cls, settings: Settings, exposures, psfs: PSFStore) -> "FieldInputs":
        """Make the inputs from PSFs and from exposures as read, in the bands that are fitted."""
        patcher = Patcher(
            [prepared(exposure, settings) for exposure in exposures],
            psfs,
            table=load_sersic_table(settings.splinedatafile),
            pixel_response=settings.pixel_response,
        )
        return cls(settings, patcher, {name: prior.build() for name, prior in settings.priors.items()})

    def model(
        self, task: PatchTask, *, listed: bool = True
    ) -> tuple[PatchFrame, SceneModel, dict[str, np.ndarray]]:
        """Make frame, model and start of a patch, with priors and ties of the settings and catalogue profiles.

        Parameters
        ----------
        task : PatchTask
        listed : bool
            As for `Patcher.prepare_model`.
        """
        settings, active = self.settings, task.active
        with _building:
            self.patcher.build_patch(task.region, allbands=settings.bandlist)
            model, start = self.patcher.prepare_model(
                active=active,
                fixed=as_profiled(task.fixed),
                bounds=task.bounds,
                priors=self.priors,
                profiles=active["profile"] if "profile" in active.extra.colnames else None,
                ties=_ties_by_row(active, settings),
                tolerance=settings.tolerance,
                nuisance=settings.nuisance.build(),
                listed=listed,
            )
            return self.patcher.frame, model, start


def field_inputs(settings: Settings, psffile: Path) -> FieldInputs:
    """Return the inputs of a run, opened when a process first asks for them.

    Parameters
    ----------
    settings : Settings
    psffile : Path
        Store of the PSF mixtures of the run.
    """
    key = settings.to_json(), psffile
    with _building:
        if key not in _open:
            keep_inputs(FieldInputs.make(settings, _exposures(settings), PSFStore.open(psffile)), psffile)
        return _open[key]


def keep_inputs(inputs: FieldInputs, psffile: Path) -> None:
    """Make `field_inputs` return these in this process; those of another run are forgotten."""
    _open.clear()
    _open[inputs.settings.to_json(), psffile] = inputs


def bound_memory() -> None:
    """Forget compiled programs if this process is about to hold more than it may."""
    forget_programs(PROGRAMS * memory_limit())


@dataclass(frozen=True)
class SamplingFit:
    """Fit that samples patches, and writes samples, residuals and a figure of each to the folder of the run.

    Parameters
    ----------
    settings : Settings
    folder : Path
        Of the run; it holds the PSFs already, in ``psfs.h5``.
    progress : bool
        Show progress bars of every patch.
    lock : str, optional
        Token of the lock of the folder: once the lock has another one, the run has ended, and nothing is written.
    """

    settings: Settings
    folder: Path
    progress: bool = False
    lock: str | None = None

    def __call__(self, tasks: list[PatchTask]) -> list[PatchOutcome]:
        """Fit the patches of a list, together if there are several."""
        frames, models, optima = zip(*map(self._prepared, tasks), strict=True)
        drawn = self._drawn(models, [optimum.values for optimum in optima], tasks)
        outcomes = [self._written(*patch) for patch in zip(tasks, frames, models, optima, drawn, strict=True)]
        bound_memory()
        return outcomes

    def _prepared(self, task):
        """Prepare frame, model and optimum of a patch."""
        frame, model, start = field_inputs(self.settings, self.folder / "psfs.h5").model(task)
        return frame, model, optimize(model, start, tolerance=self.settings.gtol)

    def _written(self, task, frame, model, optimum, chains):
        """Write what was found of a patch; return its outcome."""
        settings, directory = self.settings, RunDirectory(self.folder)
        if chains.n_draw < settings.sampling_draws:  # after Ctrl-C; a resumed run makes all of them
            raise KeyboardInterrupt
        if chains.statistics["diverging"].all():
            raise RuntimeError(f"all {chains.statistics['diverging'].size} draws diverged")
        result = PatchResult.from_chains(
            chains, frame, model, active=task.active, fixed=task.fixed, bounds=task.bounds
        )
        refuse_lost_lock(self.folder, self.lock)
        directory.write_patch(task.number, result)
        if settings.write_residuals:
            values = chains.optimum.values
            write_residuals(directory.residuals_path(task.number), frame, model, values)
            figure = directory.figure_path(f"patch{task.number}_residuals")
            save_figure(plot_residuals(frame, model, values, ids=task.active.id), figure)
        return PatchOutcome(
            final=result.final_catalog("median"),
            n_iter=chains.n_draw,
            block_covs=result.block_covs(),
            summary={
                "n_calls": result.n_calls,
                "wall_time": round(result.wall_time, 3),
                "n_divergent": int(chains.statistics["diverging"].sum()),
                "fluxes": chains.fluxes,
                "converged": bool(optimum.converged),
                "seed": task.seed,
            }
            | _told_by_sampler(chains),
        )

    def _drawn(self, models, starts, tasks):
        """Draw the samples of each patch."""
        settings = self.settings
        size = {"draws": settings.sampling_draws, "chains": settings.chains}
        scenes = list(zip(models, starts, tasks, strict=True))
        if settings.sampler == "laplace":
            return [laplace(model, start, seed=task.seed, **size) for model, start, task in scenes]
        size |= {
            "warmup": settings.warmup,
            "max_treedepth": settings.max_treedepth,
            "full_cov": settings.full_cov,
        }
        if len(scenes) == 1:
            ((model, start, task),) = scenes
            own = {"covariance": task.covs, "seed": task.seed, "progress": self.progress}
            return [sample(model, start, **own, **size)]
        covariances, seeds = [task.covs for task in tasks], [task.seed for task in tasks]
        return sample_many(models, starts, covariances=covariances, seeds=seeds, **size)


def _told_by_sampler(chains):
    """Summarise for the log how many NUTS trajectories were truncated, or how good other draws are."""
    statistics = chains.statistics
    if "pareto_k" in statistics:
        return {"pareto_k": float(statistics["pareto_k"][0, 0])}
    return {"n_at_max_depth": int(statistics["at_max_depth"].sum())}


def prepared(exposure: Exposure | StoredExposure, settings: Settings) -> Exposure | StoredExposure:
    """Subtract an exposure's sky level, and raise errors of very bright pixels to the cap on their S/N."""
    if exposure.band in settings.sky:
        exposure = exposure.less(settings.sky[exposure.band])
    if settings.max_snr > 0:
        exposure = exposure.capped(settings.max_snr)
    return exposure


def _exposures(settings):
    """Read the exposures that the settings name, in the bands that are fitted."""
    if settings.pixelstorefile is not None:
        return open_stores(settings.pixelstorefile, settings.metastorefile, bands=settings.bandlist)
    exposures, problems = collect(settings.fitsfiles, **settings.reading)
    if problems:
        raise InputError("; ".join(problems))
    return [exposure for exposure in exposures if exposure.band in settings.bandlist]


def _ties_by_row(active: SourceCatalog, settings: Settings) -> dict[str, dict[int, int]]:
    """Return the settings' ties between active sources, with rows in place of ids."""
    if not settings.ties:
        return {}
    row = {str(identifier): i for i, identifier in enumerate(active.id)}
    return {
        name: {row[a]: row[b] for a, b in pairs.items() if a in row and b in row}
        for name, pairs in settings.ties.items()
    }
