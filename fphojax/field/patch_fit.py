"""The fit of patches by a method: from the recipe of a run to the files of its patches."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fphojax.core.backend import clear_programs
from fphojax.core.compilation import compiling_for
from fphojax.inference.covariance import parameter_covariance, source_covariances
from fphojax.inference.flags import fit_flags
from fphojax.inference.linear_fit import flux_precision
from fphojax.inference.methods import Method
from fphojax.inputs.recipe import Recipe
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.misfit import is_model_limited, per_band
from fphojax.results.patch_result import PatchResult
from fphojax.results.residuals import write_residuals
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import require_lock

from .cluster import memory_limit
from .scheduler import PatchOutcome, PatchTask
from .settled import fit_settled

__all__ = ["PatchFit", "keep_recipe"]

PROGRAMS = 0.4  # of the memory of a process, beyond which compiled programs are forgotten; dask pauses at 0.8

# The bars of workers share no terminal, and a lock between processes would outlive a worker that is killed.
tqdm.set_lock(threading.RLock())

_recipes: dict[tuple[Path, str | None], Recipe] = {}
_opening = threading.Lock()  # a worker of a foreign cluster may have several threads


def keep_recipe(folder: Path, lock: str | None, recipe: Recipe) -> None:
    """Let fits for a folder in this process use this recipe; that of another run is forgotten."""
    _recipes.clear()
    _recipes[folder, lock] = recipe


@dataclass(frozen=True)
class PatchFit:
    """Fit of patches, which writes the result and the residuals of each to the folder of the run.

    A patch without fixed sources that is optimised has nothing to wait for: it is done after one fit. The sources of
    others are fitted `passes` times, as their neighbours may have been optimised in between.

    Parameters
    ----------
    method : Method
    folder : Path
        Of the run; its recipe is opened when a process first fits a patch.
    tolerance : float
        Gain in log density at which the search for the start of the draws ends.
    passes : int
        How often sources with neighbours outside their patch are optimised.
    flux_precision : bool
        Keep the precision matrix of all fluxes of each band.
    residuals : bool
        Write residuals.
    progress : bool
        Show progress bars of every patch.
    lock : str, optional
        Token of the lock of the folder: once the lock has another one, the run has ended, and nothing is written.
    """

    method: Method
    folder: Path
    tolerance: float = 1e-4
    passes: int = 1
    flux_precision: bool = False
    residuals: bool = True
    progress: bool = False
    lock: str | None = None

    def __call__(self, tasks: list[PatchTask]) -> list[PatchOutcome]:
        """Fit the patches of a list, together if there are several."""
        recipe = self._recipe()
        scenes = [
            recipe.scene(
                task.region,
                active=task.active,
                fixed=task.fixed,
                bounds=task.bounds,
                listed=self.method.needs_pairs,
            )
            for task in tasks
        ]
        several = f"{len(scenes)} patches, one of " if len(scenes) > 1 else ""
        with compiling_for(several + scenes[0].size):
            scenes, chains = fit_settled(
                self.method,
                scenes,
                seeds=[task.seed for task in tasks],
                covariances=[task.covs for task in tasks],
                tolerance=self.tolerance,
                progress=self.progress,
            )
            outcomes = [self._write(*patch) for patch in zip(tasks, scenes, chains, strict=True)]
        clear_programs(PROGRAMS * memory_limit())
        return outcomes

    def _recipe(self) -> Recipe:
        with _opening:
            if (self.folder, self.lock) not in _recipes:
                keep_recipe(self.folder, self.lock, open_recipe(RunDirectory(self.folder)))
            return _recipes[self.folder, self.lock]

    def _write(self, task, scene, chains):
        """Write the result of a patch; return its outcome."""
        if not chains.is_point:
            if chains.n_draw < self.method.n_draw:  # after Ctrl-C; a resumed run makes all of them
                raise KeyboardInterrupt
            if chains.statistics["diverging"].all():
                raise RuntimeError(f"all {chains.statistics['diverging'].size} draws diverged")
        directory, best = RunDirectory(self.folder), chains.optimum
        result = PatchResult.from_chains(chains, scene)
        if self.flux_precision:
            result = result.with_flux_precision(flux_precision(chains.model, best))
        require_lock(self.folder, self.lock)
        directory.write_patch(task.number, result)
        if self.residuals:
            write_residuals(directory.residuals_path(task.number), scene, best.values)
        return (
            self._optimised(scene, chains, result) if chains.is_point else self._sampled(task, chains, result)
        )

    def _optimised(self, scene, chains, result) -> PatchOutcome:
        """Return the outcome of an optimum."""
        best = chains.optimum
        return PatchOutcome(
            final=result.final_catalog("optimum"),
            n_iter=1 if len(scene.fixed) else self.passes,
            block_covs=source_covariances(
                parameter_covariance(chains.model, best, chains.noise), best.values
            ),
            summary={
                "n_step": int(best.n_step),
                "converged": bool(best.converged),
                "flags": _flags(scene, chains, result),
                "chi2": float(best.chi2.sum()),
                "n_pixel": int(np.count_nonzero(scene.frame.patch.ierr)),
                "wall_time": round(result.wall_time, 3),
            },
        )

    def _sampled(self, task, chains, result) -> PatchOutcome:
        """Return the outcome of draws."""
        statistics = chains.statistics
        summary = {
            "n_calls": result.n_calls,
            "wall_time": round(result.wall_time, 3),
            "n_divergent": int(statistics["diverging"].sum()),
            "method": chains.method,
            "fluxes": chains.fluxes,
            "converged": bool(chains.optimum.converged),
            "seed": task.seed,
        }
        for name in ("pareto_k", "effective_size", "efficiency", "trusted"):  # of weights
            if name in statistics:
                summary[name] = statistics[name][0, 0].item()
        if "at_max_depth" in statistics:
            summary["n_at_max_depth"] = int(statistics["at_max_depth"].sum())
        return PatchOutcome(
            final=result.final_catalog("median"),
            n_iter=chains.n_draw,
            block_covs=result.block_covs(),
            summary=summary,
        )


def _flags(scene, chains, result):
    """Return, by id, the flags of each source that has any, each with what was found."""
    frame = scene.frame
    flags = fit_flags(chains.model, chains.optimum, frame.bands)
    per_source, of_exposures = result.own_pixels, [exposure.band for exposure in frame.exposures]
    chi2, n_pixel = (per_band(per_source[name], of_exposures, frame.bands) for name in ("chi2", "n_pixel"))
    limited = is_model_limited(chi2, n_pixel)
    for row in np.flatnonzero(limited.any(axis=1)):
        worst = [
            f"chi2/dof {chi2[row, b] / n_pixel[row, b]:.1f} in {frame.bands[b]}"
            for b in np.flatnonzero(limited[row])
        ]
        flags[row]["model limited"] = ", ".join(worst)
    if frame.masked:
        for flag in flags:
            flag["masked"] = ", ".join(frame.masked)
    return {str(result.active.id[row]): flag for row, flag in enumerate(flags) if flag}
