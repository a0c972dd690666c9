"""A field fitted patch by patch, whatever the fit: inputs, PSFs, scene, workers, and what Ctrl-C leaves."""

import json
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from tqdm.auto import tqdm

from fphojax.field.scheduler import Fit, ScheduleReport, schedule
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.inputs.catalog import SourceCatalog
from fphojax.inputs.errors import InputError
from fphojax.inputs.psf import PSFMixture, PSFStore
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.outputs.run_directory import RunDirectory

from .check import CheckReport, check_inputs
from .cluster import cluster_client
from .config import Settings
from .workers import FieldInputs, keep_inputs

__all__ = ["fit_field", "fitted_psfs", "tied_rows"]


# What may change from one part of a run to the next.
_MAY_CHANGE = {"outbase", "target_niter", "max_active_fraction", "ntry_checkout"}


_MOST_WIDENED = 3  # times that sources are fitted again with more pixels


def fit_field(
    settings: Settings,
    folder: Path,
    make_fit: Callable[[Path, bool], Fit],
    *,
    target_niter: int,
    batch: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    unread: Iterable[str] = (),
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
        Most patches that are fitted together.
    resume : bool
        Go on with the run in the folder.
    overwrite : bool
        Whether an earlier run in the folder is removed.
    unread : iterable of str
        Settings that the fit does not read, which may be others when it goes on.
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
        One line for every problem with the inputs; nothing is written then.
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
    }
    if together:  # the last that can be wrong with the inputs; only then anything is written
        LinkedSuperScene(
            report.catalog, settings.bandlist, together=together, **_scene_inputs(report), **options
        )
    # a cluster that cannot be had is one more thing that is wrong before anything is written
    with cluster_client(workers=workers, scheduler=scheduler) as client:
        directory = _start_directory(settings, folder, resume=resume, overwrite=overwrite)
        psfs = _psfs_of_run(report, directory, resume=resume, progress=progress)
        scene = _open_scene(report, directory, together, options)
        local = workers is None and scheduler is None
        if local:
            keep_inputs(FieldInputs.make(settings, report.exposures, psfs), directory.path / "psfs.h5")
        with scene:
            try:
                for number in range(_MOST_WIDENED + 1):
                    done = schedule(
                        scene,
                        make_fit(directory.path, local),
                        client=client,
                        batch=batch,
                        max_active_fraction=settings.max_active_fraction,
                        ntry_checkout=settings.ntry_checkout,
                        progress=progress,
                    )
                    if widened is None or number == _MOST_WIDENED:
                        break
                    if not scene.widen(widened(scene.catalog, report.exposures)):
                        break
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted: {len(scene) - scene.n_undone} of {len(scene)} sources are done and kept in "
                    f"{directory.path}; the same command with --resume goes on"
                ) from None
            finally:
                _keep_fitted(directory, scene)
    return directory, scene, done


def tied_rows(catalog: SourceCatalog, settings: Settings) -> list[list[int]]:
    """Rows of sources that share parameters with each other, through the settings' ties.

    Raises
    ------
    InputError
        For an id that the catalogue does not have.
    """
    row = {str(identifier): i for i, identifier in enumerate(catalog.id)}
    linked = DisjointSet()
    for name, pairs in settings.ties.items():
        for pair in pairs.items():
            for identifier in pair:
                if identifier not in row:
                    raise InputError(
                        f"{settings.file}: ties: {name}: found id {identifier}, expected one in "
                        f"{settings.raw_catalog}"
                    )
                linked.add(row[identifier])
            linked.merge(*(row[identifier] for identifier in pair))
    return [sorted(rows) for rows in linked.subsets()]


def fitted_psfs(exposures, n_gauss: int, progress: bool) -> PSFStore:
    """Mixtures of the PSF images that the exposures carry."""
    store = PSFStore()
    for exposure in tqdm(exposures, desc="PSFs", unit="image", disable=not progress):
        fit = fit_psf(exposure.psf_image, n_gauss=n_gauss, includes_pixel=exposure.psf_includes_pixel)
        store.add(PSFMixture.from_fit(fit), exposure.band, exposure=exposure.name)
    return store


def _start_directory(settings: Settings, path: Path, *, resume: bool, overwrite: bool) -> RunDirectory:
    """The folder of a run with its settings in it, new or that of an earlier part of the run."""
    if resume:
        directory = RunDirectory(path, scene_catalog=settings.scene_catalog)
    else:
        directory = RunDirectory.create(path, scene_catalog=settings.scene_catalog, overwrite=overwrite)
    directory.write_config(settings.to_json(), settings.source)
    return directory


def _psfs_of_run(report: CheckReport, directory: RunDirectory, *, resume: bool, progress: bool) -> PSFStore:
    """PSF mixtures of all exposures, from the settings' store or fitted; also in ``psfs.h5`` of the folder."""
    path = directory.path / "psfs.h5"
    if resume and path.is_file():
        return PSFStore.open(path)
    psfs = report.psfs or fitted_psfs(report.exposures, report.settings.n_gauss_psf, progress)
    psfs.write(path, overwrite=True)
    return psfs


def _open_scene(
    report: CheckReport, directory: RunDirectory, together: Sequence[Sequence[int]], options: dict
) -> SuperScene:
    """All sources of a run, as they were at the end of its earlier part if it has one.

    Parameters
    ----------
    report : CheckReport
        What was read.
    directory : RunDirectory
        Patches in it that the scene does not know are deleted.
    together : list of list of int
        See `tied_rows`.
    options : dict
        Keywords of `LinkedSuperScene`.
    """
    inputs = _scene_inputs(report)
    if directory.scene_path.is_file():
        scene = SuperScene.resume(directory.scene_path, bigscene=inputs["bigscene"], **options)
        if list(map(str, scene.catalog.id)) != list(map(str, report.catalog.id)):
            raise InputError(
                f"{directory.scene_path}: other sources than {report.settings.raw_catalog}, expected the same"
            )
    else:
        scene = LinkedSuperScene(
            report.catalog,
            report.settings.bandlist,
            statefile=directory.scene_path,
            together=together,
            **inputs,
            **options,
        )
        scene.writeout()
    _keep_fitted(directory, scene)
    return scene


def _keep_fitted(directory: RunDirectory, scene: SuperScene) -> None:
    """Delete what there is of patches that were given up, perhaps after they were written, or never came back."""
    entries = map(json.loads, scene.patchlog)
    directory.keep_patches(entry["taskID"] for entry in entries if "flag" not in entry)


def _refuse_other_settings(settings: Settings, folder: Path, may_change: Set[str]) -> None:
    """Patches of one run are fitted alike."""
    now = json.loads(settings.to_json())
    run = RunDirectory(folder, scene_catalog=settings.scene_catalog)
    before = run.read_config()
    for key in sorted((now.keys() | before.keys()) - may_change):
        if now.get(key) != before.get(key):
            raise InputError(
                f"{settings.file}: {key}: found {now.get(key)}, expected {before.get(key)} as in "
                f"{run.config_path}, the run to go on with"
            )


def _scene_inputs(report):
    """What a superscene takes from the inputs, besides the catalogue."""
    return {
        "bounds_kwargs": report.settings.bounds_kwargs.model_dump(exclude_none=True),
        "bigscene": report.big_catalog,
    }
