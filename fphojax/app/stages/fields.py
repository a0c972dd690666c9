"""Fit of a field, patch by patch, for any kind of fit: inputs, PSFs, scene, workers, and Ctrl-C."""

import json
import os
from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import suppress
from pathlib import Path

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.app.settings.ties import tied_rows
from fphojax.errors import InputError, MachineError
from fphojax.field.cluster import cluster_client
from fphojax.field.scheduler import Fit, ScheduleReport, schedule
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.field.workers import FieldInputs, keep_inputs
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import ANEW, RunDirectory
from fphojax.results.scene_state import StateFiles
from fphojax.system.interrupts import Interruptions
from fphojax.system.portable import map_paths
from fphojax.system.wording import counted

from .input_checks import CheckReport, check_inputs
from .psf_fits import fitted_psfs
from .store_build import input_files

__all__ = ["fit_field"]


# Settings that may change when a run is resumed.
_MAY_CHANGE = {"outbase", "target_niter", "max_active_fraction", "ntry_checkout"}


_MOST_WIDENED = 3  # largest number of times that sources are fitted again with more pixels


def fit_field(
    settings: Settings,
    folder: Path,
    make_fit: Callable[[Path, bool], Fit],
    *,
    target_niter: int,
    batch: int = 1,
    resume: bool = False,
    retry: bool = False,
    overwrite: bool = False,
    unread: Iterable[str] = (),
    largest_first: bool = False,
    widened: Callable[[SourceCatalog, Sequence], np.ndarray] | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = False,
) -> tuple[RunDirectory, SuperScene, ScheduleReport]:
    """Fit all sources of a field, patch by patch.

    Parameters
    ----------
    settings : Settings
    folder : Path
        Of the run.
    make_fit : callable
        Takes the folder, and whether the fit is made in this process, and returns the fit (see `schedule`).
    target_niter : int
        Iterations after which a source is done.
    batch : int
        Largest number of patches that are fitted together.
    resume : bool
        Go on with the run in the folder.
    retry : bool
        When resuming, retry sources that were given up.
    overwrite : bool
        Whether an earlier run in the folder may be replaced; it is in ``previous_N`` until this one is complete.
    unread : iterable of str
        Settings that the fit does not read, which may differ when it is resumed.
    largest_first : bool
        See `SuperScene`.
    widened : callable, optional
        Takes the catalogue after the fit, and the exposures, and returns radii of influence (arcsec): sources with a
        larger one than before are fitted again, at most three times.
    workers, scheduler
        See `cluster_client`; without either, patches are fitted in this process.
    progress : bool
        Show progress bars.

    Returns
    -------
    RunDirectory
    SuperScene
        All sources as they are at the end.
    ScheduleReport
        Of what was fitted last, where sources were fitted again.

    Raises
    ------
    InputError
        One line for every problem with the inputs, or with the state of a run to resume; nothing is written then.
    MachineError
        The disk is full or fails, or the cluster is gone: what had been fitted is kept.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says how to go on.
    """
    if resume:
        _refuse_other_settings(settings, folder, _MAY_CHANGE.union(unread))
    report = check_inputs(settings, progress=progress)
    if report.problems:
        raise InputError("\n".join(report.problems))
    together = tied_rows(report.catalog, settings)
    options = {
        "target_niter": target_niter,
        "maxactive_per_patch": settings.maxactive_per_patch,
        "maxradius": settings.patch_maxradius,
        "strict": settings.strict,
        "buffer": settings.buffer,
        "seed": settings.seed,
        "largest_first": largest_first,
    }
    if together:  # the last check of the inputs, before anything is written
        LinkedSuperScene(
            report.catalog, settings.bandlist, together=together, **_scene_inputs(report), **options
        )
    # an unavailable cluster, too, is an error before anything is written
    with Interruptions() as interruptions, cluster_client(workers=workers, scheduler=scheduler) as client:
        directory = _start_directory(settings, folder, resume=resume, overwrite=overwrite)
        scene = _open_scene(report, directory, together, options)
        psfs = _psfs_of_run(report, directory, resume=resume, progress=progress)
        if resume:  # only now: a run that cannot be resumed stays as it is
            directory.write_config(settings.to_json(), settings.source)
        if resume and retry:
            scene.retry_flagged()
        local = workers is None and scheduler is None
        if local:
            keep_inputs(FieldInputs.make(settings, report.exposures, psfs), directory.path / "psfs.h5")
        with scene:
            try:
                while True:
                    done = schedule(
                        scene,
                        make_fit(directory.path, local),
                        client=client,
                        batch=batch,
                        max_active_fraction=settings.max_active_fraction,
                        ntry_checkout=settings.ntry_checkout,
                        progress=progress,
                    )
                    if widened is None or scene.options["n_widened"] == _MOST_WIDENED:
                        break
                    if not scene.widen(widened(scene.catalog, report.exposures)):
                        break
            except KeyboardInterrupt:
                interruptions.settle()
                before = directory.previous()
                earlier = f"; the earlier run is in {before[-1]} until this one is complete" if before else ""
                raise KeyboardInterrupt(
                    f"interrupted: {_kept(directory, scene)}; the same command with --resume goes on{earlier}"
                ) from None
            except MachineError as error:
                interruptions.settle()
                raise type(error)(f"{error}; {_kept(directory, scene)}") from error
            finally:
                # what cannot be removed now is removed when the run is resumed
                with interruptions.held(), suppress(OSError):
                    directory.remove_half_written()
    if scene.n_flagged < len(scene):
        directory.complete()
    return directory, scene, done


def _start_directory(settings: Settings, path: Path, *, resume: bool, overwrite: bool) -> RunDirectory:
    """Open the folder of a run: a new one with its settings in it, or that of an earlier part of the run."""
    if resume:
        directory = RunDirectory(path, scene_catalog=settings.scene_catalog)
        directory.go_on()
        return directory
    options = {"scene_catalog": settings.scene_catalog, "overwrite": overwrite}
    directory = RunDirectory.create(path, **options, inputs=input_files(settings))
    directory.write_config(settings.to_json(), settings.source)
    return directory


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
            known=report.settings.fitted_psfs,
            replace=not resume,
            progress=progress,
            again=again,
        )[0]
    if resume and path.is_file():
        return PSFStore.open(path)
    report.psfs.write(path, overwrite=True)
    return report.psfs


def _open_scene(
    report: CheckReport, directory: RunDirectory, together: Sequence[Sequence[int]], options: dict
) -> SuperScene:
    """Open the scene of a run, as it was at the end of the run's earlier part if it has one.

    Parameters
    ----------
    report : CheckReport
        What was read.
    directory : RunDirectory
    together : list of list of int
        See `fphojax.app.settings.ties.tied_rows`.
    options : dict
        Keywords of `LinkedSuperScene`.

    Raises
    ------
    InputError
        There are patches that are missing from the state; they are kept.
    """
    inputs = _scene_inputs(report)
    if directory.scene_path.is_file():
        try:
            scene = SuperScene.resume(directory.scene_path, bigscene=inputs["bigscene"], **options)
        except InputError as error:
            raise InputError(f"{error}; put that file back to go on, nothing was changed; {ANEW}") from error
        if list(map(str, scene.catalog.id)) != list(map(str, report.catalog.id)):
            raise InputError(
                f"{directory.scene_path}: other sources than {report.settings.raw_catalog}, expected the same"
            )
        _refuse_unknown_patches(directory, scene)
    else:
        scene = LinkedSuperScene(
            report.catalog,
            report.settings.bandlist,
            statefile=directory.scene_path,
            together=together,
            **inputs,
            **options,
        )
        _refuse_unknown_patches(directory, scene)
        scene.writeout()
    return scene


def _refuse_unknown_patches(directory: RunDirectory, scene: SuperScene) -> None:
    """Refuse to fit again or replace patches that the state does not list, as it has been lost.

    Files of patches that are checked out are of fits that had not been checked in; they are made again.
    """
    known = {json.loads(entry)["taskID"] for entry in scene.patchlog} | {patch.number for patch in scene.out}
    unknown = [number for number in directory.patch_files() if number not in known]
    if unknown:
        raise InputError(
            f"{directory.samples_path(unknown[0])}: found a patch ({counted(len(unknown), 'patch')} in all) that the "
            f"state of the run does not know, expected none: put back {_state_files(directory)} of the run to go on, "
            f"or move these patches elsewhere to fit their sources again; {ANEW}"
        )


def _state_files(directory):
    """Return the names of the files of the state, for a message."""
    catalog, *others = StateFiles(directory.scene_path).all
    return ", ".join(path.name for path in (catalog, *reversed(others)))


def _kept(directory: RunDirectory, scene: SuperScene) -> str:
    return f"{len(scene) - scene.n_undone} of {len(scene)} sources are done and kept in {directory.path}"


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


def _with_defaults(found, kind):
    """Add the defaults of settings that an earlier version of the package did not write."""
    filled = dict(found)
    for name, field in kind.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            filled[name] = _with_defaults(found.get(name, {}), type(default))
        elif name not in found and not field.is_required():
            filled[name] = to_jsonable_python(default)
    return filled


def _same(key, now, before):
    """Return whether values of a setting mean the same: paths may lead to one file in several ways."""
    values = [map_paths({key: value}, os.path.realpath) for value in (now, before)]
    return values[0] == values[1]


def _scene_inputs(report):
    """Return what a superscene takes from the inputs, besides the catalogue."""
    return {
        "bounds_kwargs": bounds_options(report.settings, report.exposures),
        "bigscene": report.big_catalog,
    }
