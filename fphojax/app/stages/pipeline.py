"""The sampling run over a field: check, PSFs, then patch by patch until every source has its draws."""

from dataclasses import dataclass
from pathlib import Path

from fphojax.app.settings.schema import Settings
from fphojax.core.backend import patches_together
from fphojax.errors import InputError
from fphojax.field.scheduler import ScheduleReport
from fphojax.field.superscene import SuperScene
from fphojax.field.workers import SamplingFit
from fphojax.results.patch_result import PatchResult
from fphojax.results.run_directory import RunDirectory
from fphojax.system.locks import folder_lock, lock_token

from .fields import fit_field

__all__ = ["FinishedRun", "run"]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Result of `run`: the folder, and what is shown to the person who started it.

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
    retry: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> FinishedRun:
    """Fit a field, and write the results to ``settings.outbase``.

    Parameters
    ----------
    settings : Settings
    overwrite : bool
        Whether an earlier run in the folder may be replaced; it is in ``previous_N`` until this one is complete.
    resume : bool
        Go on with the run in the folder, if there is one.
    retry : bool
        When resuming, retry sources that were given up.
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
        One line for every problem with the inputs, or another process works in the folder; nothing is written then.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says how to go on.
    """
    with folder_lock(settings.outbase):
        resume = resume and (settings.outbase / "config.json").is_file()
        settings.refuse_forced_sampling()
        if not resume and not overwrite:
            _refuse_earlier_run(settings.outbase)
        directory, scene, done = fit_field(
            settings,
            settings.outbase,
            lambda folder, local: SamplingFit(
                settings, folder, progress=progress and local, lock=lock_token(folder)
            ),
            target_niter=settings.target_niter or settings.sampling_draws,
            batch=patches_together(),
            resume=resume,
            retry=retry,
            overwrite=overwrite,
            workers=workers,
            scheduler=scheduler,
            progress=progress,
        )
    figures = [directory.figure_path(f"patch{number}_residuals") for number in done.patches]
    return FinishedRun(directory, scene, done, [path for path in figures if path.is_file()])


def _refuse_earlier_run(folder: Path) -> None:
    """Refuse to replace what is in the folder, before the work rather than after it."""
    if (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: holds a run, expected a new or empty folder (`fphojax sample` with "
            "--resume goes on with it, with --overwrite replaces it)"
        )
