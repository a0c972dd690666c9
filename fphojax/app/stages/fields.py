"""A field as the settings describe it, for the stages that fit: inputs, PSFs, options, resumed settings."""

import json
import os
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.app.settings.ties import tied_rows
from fphojax.errors import InputError
from fphojax.field.field_fit import FieldJob, FinishedField
from fphojax.field.patch_fit import PatchFit
from fphojax.inference.methods import Method
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import RunDirectory
from fphojax.system.portable import map_paths

from .input_checks import CheckReport, check_inputs
from .psf_fits import fitted_psfs
from .store_build import input_files

__all__ = ["fit_sources"]


# Settings that may change when a run is resumed.
_MAY_CHANGE = {"outbase", "target_niter", "max_active_fraction", "ntry_checkout"}


def fit_sources(
    settings: Settings,
    folder: Path,
    method: Method,
    *,
    target_niter: int,
    resume: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    unread: Iterable[str] = (),
    largest_first: bool = False,
    widened: Callable[[SourceCatalog, Sequence], np.ndarray] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> FinishedField:
    """Fit all sources of a field as its settings say.

    Parameters
    ----------
    settings : Settings
    folder : Path
        Of the run.
    method : Method
    target_niter : int
        Iterations after which a source is done.
    resume, retry, overwrite, workers, scheduler, progress
        See `FieldJob.run`.
    unread : iterable of str
        Settings that the fit does not read, which may differ when it is resumed.
    largest_first : bool
        See `SuperScene`.
    widened : callable, optional
        See `FieldJob`.

    Returns
    -------
    FinishedField

    Raises
    ------
    InputError
        One line for every problem with the inputs, or with the state of a run to resume; nothing is written then.
    MachineError, KeyboardInterrupt
        See `FieldJob.run`.
    """
    if resume:
        _refuse_other_settings(settings, folder, _MAY_CHANGE.union(unread))
    report = check_inputs(settings, progress=progress)
    if report.problems:
        raise InputError("\n".join(report.problems))
    assert report.catalog is not None  # it would be a problem
    job = FieldJob(
        catalog=report.catalog,
        bands=settings.bandlist,
        exposures=report.exposures,
        make_psfs=lambda directory: _psfs_of_run(report, directory, resume=resume, progress=progress),
        fit=PatchFit(
            method,
            folder,
            tolerance=settings.gtol,
            passes=settings.optimize_passes,
            flux_precision=settings.linear_optimize and not method.needs_pairs,
            residuals=settings.write_residuals,
        ),
        scene_options={
            "target_niter": target_niter,
            "maxactive_per_patch": settings.maxactive_per_patch,
            "maxradius": settings.patch_maxradius,
            "strict": settings.strict,
            "buffer": settings.buffer,
            "seed": settings.seed,
            "largest_first": largest_first,
        },
        config=lambda _: settings.to_json(),
        scene_inputs={
            "bounds_kwargs": bounds_options(settings, report.exposures),
            "bigscene": report.big_catalog,
        },
        together=tied_rows(report.catalog, settings),
        source=settings.source,
        catalog_label=str(settings.raw_catalog),
        inputs=input_files(settings),
        scene_catalog=settings.scene_catalog,
        max_active_fraction=settings.max_active_fraction,
        ntry_checkout=settings.ntry_checkout,
        widened=widened,
    )
    return job.run(
        folder,
        resume=resume,
        retry=retry,
        overwrite=overwrite,
        workers=workers,
        scheduler=scheduler,
        progress=progress,
    )


def _psfs_of_run(report: CheckReport, directory: RunDirectory, *, resume: bool, progress: bool) -> PSFStore:
    """Return PSF mixtures of all exposures, from the settings' store or fitted, now or by the stage psf.

    They are also stored in ``psfs.h5`` of the folder.
    """
    path = directory.path / "psfs.h5"
    if report.psfs is None:
        again = "the same command with --resume"
        return fitted_psfs(
            report.exposures,
            report.settings,
            path,
            existing=report.settings.fitted_psfs,
            replace=not resume,
            progress=progress,
            again=again,
        )[0]
    if resume and path.is_file():
        return PSFStore.open(path)
    report.psfs.write(path, overwrite=True)
    return report.psfs


def _refuse_other_settings(settings: Settings, folder: Path, may_change: Set[str]) -> None:
    """Refuse settings that differ from the run's, since all its patches are fitted alike."""
    now = json.loads(settings.to_json())
    run = RunDirectory(folder, scene_catalog=settings.scene_catalog)
    before = _with_defaults(run.read_config(), Settings)
    for key in sorted((now.keys() | before.keys()) - may_change):
        if not _same(key, now.get(key), before.get(key)):
            raise InputError(
                f"{settings.file}: {key}: found {now.get(key)}, expected {before.get(key)} as in "
                f"{run.config_path}, the run to go on with"
            )


def _with_defaults(values, kind):
    """Add the defaults of settings that an earlier version of the package did not write."""
    filled = dict(values)
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            filled[name] = _with_defaults(values.get(name, {}), type(default))
        elif name not in values and not field.is_required():
            filled[name] = to_jsonable_python(default)
    return filled


def _same(key, now, before):
    """Return whether values of a setting mean the same: paths may lead to one file in several ways."""
    values = [map_paths({key: value}, os.path.realpath) for value in (now, before)]
    return values[0] == values[1]
