"""Fit of the optimisation stage: finds the optima of patches and writes them."""

import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.core.model import PARAMETERS
from fphojax.inference.covariance import optimum_as_chains, parameter_covariance, source_covariances
from fphojax.inference.flags import fit_flags
from fphojax.inference.linear_fit import flux_precision, held_shapes
from fphojax.inference.optimum import optimize_many
from fphojax.results.misfit import is_model_limited, per_band
from fphojax.results.patch_result import PatchResult
from fphojax.results.residuals import write_residuals
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import refuse_lost_lock

from .scheduler import PatchOutcome, PatchTask
from .workers import bound_memory, field_inputs

__all__ = ["OptimizeFit"]


@dataclass(frozen=True)
class OptimizeFit:
    """Fit that optimises patches, and writes the result and residuals of each to the folder of the run.

    A patch without fixed sources has nothing to wait for: it is done after one fit. The sources of others are fitted
    ``settings.optimize_passes`` times, as their neighbours may have been optimised in between.

    Parameters
    ----------
    settings : Settings
    folder : Path
        Of the run; it holds the PSFs already, in ``psfs.h5``.
    lock : str, optional
        Token of the lock of the folder: once the lock has another one, the run has ended, and nothing is written.
    """

    settings: Settings
    folder: Path
    lock: str | None = None

    def __call__(self, tasks: list[PatchTask]) -> list[PatchOutcome]:
        """Fit the patches of a list, together if there are several."""
        began = time.perf_counter()
        frames, models, starts = zip(*map(self._prepared, tasks), strict=True)
        # the two densities differ by minus the log of the distance to the bounds
        density = "unconstrained" if self.settings.add_barriers else "values"
        optima = optimize_many(models, starts, density=density, tolerance=self.settings.gtol)
        seconds = (time.perf_counter() - began) / len(tasks)
        outcomes = [
            self._written(*patch, seconds) for patch in zip(tasks, frames, models, optima, strict=True)
        ]
        bound_memory()
        return outcomes

    def _prepared(self, task):
        """Prepare frame, model and start of a patch."""
        settings = self.settings
        frame, model, start = field_inputs(settings, self.folder / "psfs.h5").model(task, listed=False)
        if settings.optimize_start == "prior":
            new = np.isnan(task.covs).all(axis=(1, 2))  # the others have been optimised before
            names = ("flux",) if settings.forced_photometry else PARAMETERS
            start = _drawn(model, start, names, new, task.seed)
        return frame, held_shapes(model, start) if settings.forced_photometry else model, start

    def _written(self, task, frame, model, optimum, seconds):
        """Write what was found of a patch; return its outcome."""
        settings, directory = self.settings, RunDirectory(self.folder)
        method = "forced" if settings.forced_photometry else "optimum"
        chains = optimum_as_chains(model, optimum, seed=task.seed, wall_time=seconds, method=method)
        result = PatchResult.from_chains(
            chains, frame, model, active=task.active, fixed=task.fixed, bounds=task.bounds
        )
        if settings.linear_optimize:
            result = result.with_flux_precision(flux_precision(model, optimum))
        refuse_lost_lock(self.folder, self.lock)
        directory.write_patch(task.number, result)
        if settings.write_residuals:
            write_residuals(directory.residuals_path(task.number), frame, model, optimum.values)
        covariance = parameter_covariance(model, optimum)
        return PatchOutcome(
            final=result.final_catalog("optimum"),
            n_iter=1 if len(task.fixed) else settings.optimize_passes,
            block_covs=source_covariances(covariance, optimum.values),
            summary={
                "n_step": int(optimum.n_step),
                "converged": bool(optimum.converged),
                "flags": _flags(model, optimum, frame, result),
                "chi2": float(optimum.chi2.sum()),
                "n_pixel": int(np.count_nonzero(frame.patch.ierr)),
                "wall_time": round(result.wall_time, 3),
            },
        )


def _drawn(model, start, names, rows, seed):
    """Replace start values of some parameters and sources (a mask) by draws from the prior."""
    keys = jax.random.split(jax.random.PRNGKey(seed), len(names))
    drawn = dict(start)
    for name, key in zip(names, keys, strict=True):
        drawn[name] = np.array(start[name])
        drawn[name][rows] = np.asarray(model.priors[name].sample(key))[rows]
    return drawn


def _flags(model, optimum, frame, result):
    """Return, by id, the flags of each source that has any, each with what was found."""
    found = fit_flags(model, optimum, frame.bands)
    own, of_exposures = result.own_pixels, [exposure.band for exposure in frame.exposures]
    chi2, n_pixel = (per_band(own[name], of_exposures, frame.bands) for name in ("chi2", "n_pixel"))
    limited = is_model_limited(chi2, n_pixel)
    for row in np.flatnonzero(limited.any(axis=1)):
        worst = [
            f"chi2/dof {chi2[row, b] / n_pixel[row, b]:.1f} in {frame.bands[b]}"
            for b in np.flatnonzero(limited[row])
        ]
        found[row]["model limited"] = ", ".join(worst)
    if frame.masked:
        for flags in found:
            flags["masked"] = ", ".join(frame.masked)
    return {str(result.active.id[row]): flags for row, flags in enumerate(found) if flags}
