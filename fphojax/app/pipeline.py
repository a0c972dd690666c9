"""The sampling run over a field: check, PSFs, then patch by patch until every source has its draws."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.cluster.hierarchy import DisjointSet
from tqdm.auto import tqdm

from fphojax.field.scheduler import ScheduleReport, schedule
from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.inputs.catalog import SourceCatalog
from fphojax.inputs.errors import InputError
from fphojax.inputs.psf import PSFMixture, PSFStore
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.outputs.results import PatchResult
from fphojax.outputs.run_directory import RunDirectory

from .check import CheckReport, check_inputs
from .cluster import cluster_client
from .config import Settings
from .workers import FieldInputs, SamplingFit, keep_inputs

__all__ = ["FinishedRun", "fitted_psfs", "open_scene", "psfs_of_run", "run", "start_directory", "tied_rows"]

# What may change from one part of a run to the next.
_MAY_CHANGE = {"outbase", "target_niter", "max_active_fraction", "ntry_checkout"}


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What `run` leaves: the folder, and what it shows to the person who started it.

    Attributes
    ----------
    directory : RunDirectory
    scene : SuperScene
        All sources as they are at the end.
    report : ScheduleReport
        Of this part of the run.
    figures : list of Path
    """

    directory: RunDirectory
    scene: SuperScene
    report: ScheduleReport
    figures: list[Path]

    @property
    def result(self) -> PatchResult | None:
        """The result of a run that has one patch."""
        patches = self.directory.patches()
        return self.directory.read_patch(patches[0]) if len(patches) == 1 else None

    @property
    def flagged(self) -> dict[str, str]:
        """Reason by id of each source that was given up."""
        ids = self.scene.catalog.id
        return {str(ids[row]): reason for row, reason in sorted(self.scene.flags.items())}


def run(
    settings: Settings,
    *,
    overwrite: bool = False,
    resume: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> FinishedRun:
    """Fit a field, and write the results to ``settings.outbase``.

    Parameters
    ----------
    settings : Settings
    overwrite : bool
        Whether the folder of an earlier run may be replaced.
    resume : bool
        Go on with the run in the folder, if there is one.
    workers, scheduler
        See `cluster_client`; without either, patches are fitted in this process.
    progress : bool
        Show progress bars.

    Returns
    -------
    FinishedRun

    Raises
    ------
    InputError
        One line for every problem with the inputs; nothing is written then.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says how to go on.
    """
    resume = resume and (settings.outbase / "config.json").is_file()
    if resume:
        _refuse_other_settings(settings)
    elif not overwrite:
        _refuse_earlier_run(settings.outbase)
    report = check_inputs(settings, progress=progress)
    if report.problems:
        raise InputError("\n".join(report.problems))
    together = tied_rows(report.catalog, settings)
    options = {
        "target_niter": settings.target_niter or settings.sampling_draws,
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
        directory = start_directory(settings, settings.outbase, resume=resume, overwrite=overwrite)
        psfs = psfs_of_run(report, directory, resume=resume, progress=progress)
        scene = open_scene(report, directory, together, options)
        local = workers is None and scheduler is None
        if local:
            keep_inputs(FieldInputs.make(settings, report.exposures, psfs), directory.path / "psfs.h5")
        fit = SamplingFit(settings, directory.path, progress=progress and local)
        with scene:
            try:
                done = schedule(
                    scene,
                    fit,
                    client=client,
                    max_active_fraction=settings.max_active_fraction,
                    ntry_checkout=settings.ntry_checkout,
                    progress=progress,
                )
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted: {len(scene) - scene.n_undone} of {len(scene)} sources are done and kept in "
                    f"{directory.path}; the same command with --resume goes on"
                ) from None
    figures = [directory.figure_path(f"patch{number}_residuals") for number in done.patches]
    return FinishedRun(directory, scene, done, [path for path in figures if path.is_file()])


def start_directory(
    settings: Settings, path: Path, *, resume: bool = False, overwrite: bool = False
) -> RunDirectory:
    """The folder of a run with its settings in it, new or that of an earlier part of the run."""
    if resume:
        directory = RunDirectory(path, scene_catalog=settings.scene_catalog)
    else:
        directory = RunDirectory.create(path, scene_catalog=settings.scene_catalog, overwrite=overwrite)
    directory.write_config(settings.to_json(), settings.source)
    return directory


def psfs_of_run(
    report: CheckReport, directory: RunDirectory, *, resume: bool = False, progress: bool = False
) -> PSFStore:
    """PSF mixtures of all exposures, from the settings' store or fitted; also in ``psfs.h5`` of the folder."""
    path = directory.path / "psfs.h5"
    if resume and path.is_file():
        return PSFStore.open(path)
    psfs = report.psfs or fitted_psfs(report.exposures, report.settings.n_gauss_psf, progress)
    psfs.write(path, overwrite=True)
    return psfs


def open_scene(
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
    entries = map(json.loads, scene.patchlog)
    directory.keep_patches(entry["taskID"] for entry in entries if "flag" not in entry)
    return scene


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


def _scene_inputs(report):
    """What a superscene takes from the inputs, besides the catalogue."""
    return {
        "bounds_kwargs": report.settings.bounds_kwargs.model_dump(exclude_none=True),
        "bigscene": report.big_catalog,
    }


def _refuse_earlier_run(folder: Path) -> None:
    """Before the work rather than after: what is in the folder is not to be replaced."""
    if (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: holds a run, expected a new or empty folder (--resume goes on with it, --overwrite "
            "replaces it)"
        )


def _refuse_other_settings(settings: Settings) -> None:
    """Patches of one run are fitted alike."""
    now = json.loads(settings.to_json())
    before = RunDirectory(settings.outbase, scene_catalog=settings.scene_catalog).read_config()
    for key in sorted((now.keys() | before.keys()) - _MAY_CHANGE):
        if now.get(key) != before.get(key):
            raise InputError(
                f"{settings.file}: {key}: found {now.get(key)}, expected {before.get(key)} as in "
                f"{settings.outbase / 'config.json'}, the run to go on with"
            )


def fitted_psfs(exposures, n_gauss: int, progress: bool) -> PSFStore:
    """Mixtures of the PSF images that the exposures carry."""
    store = PSFStore()
    for exposure in tqdm(exposures, desc="PSFs", unit="image", disable=not progress):
        fit = fit_psf(exposure.psf_image, n_gauss=n_gauss, includes_pixel=exposure.psf_includes_pixel)
        store.add(PSFMixture.from_fit(fit), exposure.band, exposure=exposure.name)
    return store
