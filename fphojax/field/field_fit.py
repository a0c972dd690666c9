"""The fit of a field, patch by patch, by any method: folder, scene, workers, and Ctrl-C."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from fphojax.core.backend import patches_per_program
from fphojax.errors import InputError, MachineError
from fphojax.figures.fit_plots import plot_residuals, save_figure
from fphojax.inference.methods import NUTS, Method, Optimum
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.composites import components_inside, split_composites
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import StoredExposure
from fphojax.results.fitted_patch import fitted_patch
from fphojax.results.patch_result import PatchResult
from fphojax.results.products.final_catalog import final_catalog
from fphojax.results.run_directory import ANEW, RunDirectory
from fphojax.results.scene_state import StateFiles
from fphojax.system.interrupts import Interruptions
from fphojax.system.locks import folder_lock, lock_token
from fphojax.system.notebook_html import Shown
from fphojax.system.processes import leave_if_importing
from fphojax.system.wording import counted

from .cluster import cluster_client
from .patch_fit import PatchFit, keep_recipe
from .recipe_files import as_files, describe
from .scheduler import ScheduleReport, schedule
from .superscene import LinkedSuperScene, SuperScene

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["FieldJob", "FinishedField", "fit_field"]

logger = logging.getLogger(__name__)

_MOST_DRAWN = 3  # patches whose residuals are drawn: a figure takes as long as the draws of a source
_MOST_WIDENED = 3  # largest number of times that sources are fitted again with more pixels


@dataclass(frozen=True, eq=False, repr=False)
class FinishedField(Shown):
    """A fitted field.

    Attributes
    ----------
    directory : RunDirectory
    scene : SuperScene
        All sources as they are at the end.
    report : ScheduleReport
        Of what was fitted now; of the last time, where sources were fitted again.
    """

    directory: RunDirectory
    scene: SuperScene
    report: ScheduleReport

    def _facts(self):
        flagged = f"{counted(len(self.flagged), 'source')} given up"
        done = f"{counted(len(self.scene), 'source')} in {counted(len(self.directory.patches()), 'patch')}"
        return {"": f"{str(self.directory.path)!r}, {done}, {flagged}"}

    def to_table(self) -> Table:
        """Return the catalogue of all fitted sources (`fphojax.final_catalog`)."""
        return final_catalog(self.directory)

    def to_pandas(self) -> "DataFrame":
        """Return `to_table` as a pandas DataFrame."""
        return self.to_table().to_pandas()

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

    @property
    def figures(self) -> list[Path]:
        """Figures of the residuals of the first patches."""
        paths = [
            self.directory.figure_path(f"patch{n}_residuals") for n in self.directory.patches()[:_MOST_DRAWN]
        ]
        return [path for path in paths if path.is_file()]


@dataclass(frozen=True, eq=False, kw_only=True)
class FieldJob:
    """A field to fit: what is fitted, how, and what its folder keeps.

    Parameters
    ----------
    catalog : SourceCatalog
        All sources of the field.
    bands : sequence of str
    exposures : sequence of Exposure or StoredExposure
        As they were read.
    make_psfs : callable
        Takes the folder of the run, and returns the PSFs that are in its ``psfs.h5``.
    fit : PatchFit
        Its folder and its lock are set when the run begins.
    scene_options : dict
        Keywords of `LinkedSuperScene`, those that may change when a run is resumed.
    scene_inputs : dict
        Its other keywords: ``bounds_kwargs`` and ``bigscene``.
    together : sequence of sequence of int
        Sources (rows) that are fitted in the same patch.
    config : callable
        Returns the text of ``config.json``, from which the recipe can be made again.
    source : Path, optional
        File of settings, to be copied into the folder.
    catalog_label : str
        What messages call the catalogue.
    inputs : iterable of Path
        Files of the inputs, which stay where they are.
    scene_catalog : str
        Name of the scene's catalogue in the folder.
    max_active_fraction, ntry_checkout
        See `schedule`.
    widened : callable, optional
        Takes the catalogue after the fit, and the exposures, and returns radii of influence (arcsec): sources with a
        larger one than before are fitted again, at most three times.
    """

    catalog: SourceCatalog
    bands: Sequence[str]
    exposures: Sequence[Exposure | StoredExposure]
    make_psfs: Callable[[RunDirectory], PSFStore]
    fit: PatchFit
    scene_options: dict
    config: Callable[[RunDirectory], str]
    scene_inputs: dict = field(default_factory=dict)
    together: Sequence[Sequence[int]] = ()
    source: Path | None = None
    catalog_label: str = "the catalogue"
    inputs: Iterable[Path] = ()
    scene_catalog: str = "scene.fits"
    max_active_fraction: float = 0.1
    ntry_checkout: int = 1000
    widened: Callable[[SourceCatalog, Sequence], np.ndarray] | None = None

    def run(
        self,
        folder: Path,
        *,
        resume: bool = False,
        retry: bool = False,
        overwrite: bool = False,
        workers: int | None = None,
        scheduler: str | None = None,
        progress: bool = False,
    ) -> FinishedField:
        """Fit all sources.

        Parameters
        ----------
        folder : Path
            Of the run; the caller holds its lock.
        resume : bool
            Resume the run in the folder.
        retry : bool
            When resuming, retry sources that were given up.
        overwrite : bool
            Whether an earlier run in the folder may be replaced; it is in ``previous_N`` until this one is complete.
        workers, scheduler
            See `cluster_client`; without either, patches are fitted in this process.
        progress : bool
            Show progress bars.

        Returns
        -------
        FinishedField

        Raises
        ------
        InputError
            Sources that cannot be fitted together, or a state that cannot be resumed; nothing is written then.
        MachineError
            The disk is full or fails, or the cluster is gone: what had been fitted is kept.
        KeyboardInterrupt
            After Ctrl-C: what had been fitted is kept, and the message says how to go on.
        """
        if self.together:  # the last check of the inputs, before anything is written
            self._new_scene(None)
        # an unavailable cluster, too, is an error before anything is written
        with Interruptions() as interruptions, cluster_client(workers=workers, scheduler=scheduler) as client:
            directory = self._start_directory(folder, resume=resume, overwrite=overwrite)
            scene = self._open_scene(directory)
            psfs = self.make_psfs(directory)
            if resume:  # only now: a run that cannot be resumed stays as it is
                directory.write_config(self.config(directory), self.source)
                if retry:
                    scene.retry_flagged()
            local = workers is None and scheduler is None
            fit = replace(
                self.fit, folder=directory.path, lock=lock_token(directory.path), progress=progress and local
            )
            if local:
                recipe = Recipe.from_config(directory.read_config(), psfs, self.exposures)
                keep_recipe(fit.folder, fit.lock, recipe)
            self._announce(scene, workers, scheduler)
            with scene:
                try:
                    report = self._schedule(scene, fit, client, progress)
                    if fit.residuals and not isinstance(fit.method, Optimum):
                        _draw_first(directory, psfs, self.exposures)
                except KeyboardInterrupt:
                    interruptions.hold_to_end()
                    before = directory.previous()
                    earlier = (
                        f"; the earlier run is in {before[-1]} until this one is complete" if before else ""
                    )
                    raise KeyboardInterrupt(
                        f"interrupted: {_progress_text(directory, scene)}; "
                        f"the same command with --resume continues{earlier}"
                    ) from None
                except MachineError as error:
                    interruptions.hold_to_end()
                    raise type(error)(f"{error}; {_progress_text(directory, scene)}") from error
                finally:
                    # what cannot be removed now is removed when the run is resumed
                    with interruptions.hold(), suppress(OSError):
                        directory.remove_half_written()
            if scene.n_flagged < len(scene):
                directory.complete()
        return FinishedField(directory, scene, report)

    def _announce(self, scene, workers, scheduler) -> None:
        """Log what is going to be fitted, and where."""
        done = len(scene) - scene.n_undone
        logger.info(
            "%s %s in %s of %s%s%s",
            "optimising" if isinstance(self.fit.method, Optimum) else "sampling",
            counted(len(scene), "source"),
            counted(len(self.exposures), "exposure"),
            ", ".join(self.bands),
            f"; {done} were done before" if done else "",
            ""
            if workers is None and scheduler is None
            else "; every worker compiles programs before it fits",
        )

    def _schedule(self, scene, fit, client, progress) -> ScheduleReport:
        """Fit all patches, and again those whose sources need more pixels."""
        while True:
            report = schedule(
                scene,
                fit,
                client=client,
                batch=patches_per_program(),
                max_active_fraction=self.max_active_fraction,
                ntry_checkout=self.ntry_checkout,
                progress=progress,
            )
            if self.widened is None or scene.options["n_widened"] == _MOST_WIDENED:
                return report
            n_wider = scene.widen(self.widened(scene.catalog, self.exposures))
            if not n_wider:
                return report
            logger.info("fitting %s again, with more pixels", counted(n_wider, "source"))

    def _start_directory(self, path: Path, *, resume: bool, overwrite: bool) -> RunDirectory:
        """Open the folder of a run: a new one with its settings in it, or that of an earlier part of the run."""
        if resume:
            directory = RunDirectory(path, scene_catalog=self.scene_catalog)
            directory.go_on()
            return directory
        directory = RunDirectory.create(
            path, scene_catalog=self.scene_catalog, overwrite=overwrite, inputs=self.inputs
        )
        directory.write_config(self.config(directory), self.source)
        return directory

    def _new_scene(self, statefile: Path | None) -> SuperScene:
        return LinkedSuperScene(
            self.catalog,
            self.bands,
            statefile=statefile,
            together=self.together,
            **self.scene_inputs,
            **self.scene_options,
        )

    def _open_scene(self, directory: RunDirectory) -> SuperScene:
        """Open the scene of a run, as it was at the end of the run's earlier part if it has one.

        Raises
        ------
        InputError
            There are patches that are missing from the state; they are kept.
        """
        if directory.scene_path.is_file():
            bigscene = self.scene_inputs.get("bigscene")
            try:
                scene = SuperScene.resume(directory.scene_path, bigscene=bigscene, **self.scene_options)
            except InputError as error:
                raise InputError(
                    f"{error}; put that file back to go on, nothing was changed; {ANEW}"
                ) from error
            if list(map(str, scene.catalog.id)) != list(map(str, self.catalog.id)):
                raise InputError(
                    f"{directory.scene_path}: other sources than {self.catalog_label}, expected the same"
                )
            _refuse_unknown_patches(directory, scene)
        else:
            scene = self._new_scene(directory.scene_path)
            _refuse_unknown_patches(directory, scene)
            scene.writeout()
        return scene


def fit_field(
    exposures: Recipe | Sequence[Exposure | StoredExposure],
    psfs: PSFStore | None,
    catalog: SourceCatalog,
    method: Method | None = None,
    *,
    folder: Path | str,
    bounds_kwargs: Mapping | None = None,
    bigscene: SourceCatalog | None = None,
    maxactive_per_patch: int = 15,
    maxradius: float = 15.0,
    passes: int = 2,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> FinishedField:
    """Fit all sources of a field, patch by patch, and keep everything in the folder of a run.

    Parameters
    ----------
    exposures : Recipe, or sequence of Exposure or StoredExposure
        A recipe has the exposures with priors, ties, nuisance parameters and so on. Exposures in memory are put into
        a pixel store in the folder, from which workers, a resumed run and the products read them.
    psfs : PSFStore or None
        None where a recipe has them.
    catalog : SourceCatalog
        All sources of the field: their parameters are the start. Composite sources are split (`split_composites`).
    method : Method, optional
        `NUTS` (the default), `Importance`, `Auto`, `Laplace` or `Optimum`, with their options.
    folder : path-like
    bounds_kwargs : mapping, optional
        Keywords of `default_bounds`; ``pixscale`` is that of the finest exposure if not given.
    bigscene : SourceCatalog, optional
        Sources that are subtracted and never fitted.
    maxactive_per_patch : int
        Most sources fitted together in a patch.
    maxradius : float
        Largest radius of a patch, arcsec.
    passes : int
        How often sources with neighbours outside their patch are optimised (`Optimum` alone).
    seed : int
        Of the order of the patches and of their draws.
    workers, scheduler
        Processes to start on this machine, or the address of a dask scheduler; see `cluster_client`. A script must
        ask for workers below ``if __name__ == "__main__":``, as each of them imports it.
    resume : bool
        Resume the run in the folder: of the same exposures, PSFs, catalogue and method.
    overwrite : bool
        Whether an earlier run in the folder may be replaced.
    progress : bool
        Show progress bars.

    Returns
    -------
    FinishedField

    Raises
    ------
    InputError
        One line on what is wrong with the inputs or the folder, or another process works in it.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and can be resumed.
    """
    if workers is not None:
        leave_if_importing()  # before the folder's lock, which the parent process holds
    method, folder = NUTS() if method is None else method, Path(folder)
    psfs = exposures.psfs if isinstance(exposures, Recipe) else psfs
    if psfs is None:
        raise InputError("psfs: found none, expected a PSFStore or a recipe with one")
    recipe = exposures if isinstance(exposures, Recipe) else Recipe(tuple(exposures), psfs)
    describe(recipe)  # refuses, before there is a folder, what no file can describe
    catalog = split_composites(catalog.select_bands(recipe.bands))
    bounds_kwargs = dict(bounds_kwargs or {})
    bounds_kwargs.setdefault("pixscale", min(exposure.pixel_scale for exposure in recipe.exposures))
    catalog = components_inside(catalog, default_bounds(catalog, **bounds_kwargs))
    stated = {"method": type(method).__name__, **vars(method)} | {"seed": seed, "passes": passes}

    def config(directory):
        """Put the recipe into the folder; refuse another one than that of a run that is resumed."""
        text = json.dumps(as_files(recipe, directory.path) | {"fit_field": stated}, indent=2) + "\n"
        if resume and (before := directory.read_config().get("fit_field") or {}) != stated:
            found, expected = _other(before, stated), _other(stated, before)
            raise InputError(
                f"{directory.config_path}: found a run of {found or 'another kind'}, expected {expected} to resume it"
            )
        return text

    def stored(directory):
        if not (resume and (directory.path / "psfs.h5").is_file()):
            recipe.psfs.write(directory.path / "psfs.h5", overwrite=True)
        return PSFStore.open(directory.path / "psfs.h5")

    job = FieldJob(
        catalog=catalog,
        bands=recipe.bands,
        exposures=recipe.exposures,
        make_psfs=stored,
        fit=PatchFit(method, folder, passes=passes),
        scene_options={
            "target_niter": passes if isinstance(method, Optimum) else method.n_draw,
            "maxactive_per_patch": maxactive_per_patch,
            "maxradius": maxradius,
            "seed": seed,
            "largest_first": isinstance(method, Optimum),
        },
        config=config,
        scene_inputs={"bounds_kwargs": bounds_kwargs, "bigscene": bigscene},
        together=recipe.together(catalog),
    )
    with folder_lock(folder):
        earlier = (folder / "config.json").is_file()
        if earlier and not (resume or overwrite):
            raise InputError(
                f"{folder}: holds a run, expected a new or empty folder (resume=True goes on with it, "
                "overwrite=True replaces it)"
            )
        resume = resume and earlier
        return job.run(
            folder,
            resume=resume,
            overwrite=overwrite,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )


def _refuse_unknown_patches(directory: RunDirectory, scene: SuperScene) -> None:
    """Refuse to fit again or replace patches that the state does not list, as it has been lost.

    Files of patches that are checked out are of fits that had not been checked in; they are made again.
    """
    numbered = {json.loads(entry)["taskID"] for entry in scene.patchlog} | {
        patch.number for patch in scene.out
    }
    unknown = [number for number in directory.patch_files() if number not in numbered]
    if unknown:
        raise InputError(
            f"{directory.samples_path(unknown[0])}: found a patch ({counted(len(unknown), 'patch')} in all) that the "
            f"state of the run does not know, expected none: put back {_state_files(directory)} of the run to go on, "
            f"or move these patches elsewhere to fit their sources again; {ANEW}"
        )


def _draw_first(directory: RunDirectory, psfs: PSFStore, exposures: Sequence) -> None:
    """Draw the residuals of the first patches, where they are not drawn yet."""
    recipe = Recipe.from_config(directory.read_config(), psfs, exposures)
    for number in directory.patches()[:_MOST_DRAWN]:
        path = directory.figure_path(f"patch{number}_residuals")
        if not path.is_file():
            fitted = fitted_patch(directory, number, recipe)
            save_figure(plot_residuals(fitted.scene, fitted.optimum()), path)


def _other(options: Mapping, before: Mapping) -> str:
    """Return the options that are not those of another run, for a message."""
    return ", ".join(f"{name}={value}" for name, value in options.items() if before.get(name) != value)


def _state_files(directory):
    """Return the names of the files of the state, for a message."""
    catalog, *others = StateFiles(directory.scene_path).all
    return ", ".join(path.name for path in (catalog, *reversed(others)))


def _progress_text(directory: RunDirectory, scene: SuperScene) -> str:
    return f"{len(scene) - scene.n_undone} of {len(scene)} sources are done and kept in {directory.path}"
