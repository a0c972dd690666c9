"""`fphojax run`: all stages of a run in order, each as a notebook, none done twice."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fphojax.app.settings.schema import Settings
from fphojax.app.settings.starter import template_folder
from fphojax.app.stage_list import STAGES
from fphojax.app.stages.folders import alone_in_outbase, next_path
from fphojax.errors import InputError, StorageError
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import write_text
from fphojax.system.wording import counted, duration

from .notebooks import IndexRow, execute, write_html, write_index
from .outcome import Outcome
from .record import RunRecord, step_key
from .steps import Step, plan

__all__ = ["FinishedStages", "run_all", "templates_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedStages:
    """Result of `run_all`.

    Attributes
    ----------
    steps : dict of str to Outcome
        By name, in order.
    repeated : tuple of str
        Names of those that were done now; the others had been done before.
    index : Path or None
        Page from which the executed notebooks are reached.
    """

    steps: dict[str, Outcome]
    repeated: tuple[str, ...]
    index: Path | None


def templates_of(settings: Settings) -> Path:
    """Return the folder ``templates`` beside the file of settings, if there is one, else the package's."""
    folder = settings.source.parent / "templates" if settings.source is not None else None
    return folder if folder is not None and folder.is_dir() else template_folder()


@alone_in_outbase
def run_all(
    settings: Settings,
    *,
    stages: Sequence[str] | None = None,
    start: str | None = None,
    retry: bool = False,
    workers: int | None = None,
    notebooks: bool = True,
    progress: bool = False,
) -> FinishedStages:
    """Run all stages of a field, or some of them.

    A step is skipped if it was done before with the same inputs, settings and version of the package, with or without
    a notebook (but not with one of another template), and none before it is repeated. One that was interrupted in
    fitting is resumed.

    Parameters
    ----------
    settings : Settings
    stages : sequence of str, optional
        Only these; those before them must be up to date.
    start : str, optional
        Stage that is repeated in any case, with all that follow.
    retry : bool
        Go on with fits in which sources were given up, and try these again.
    workers : int, optional
        Processes that fit patches side by side.
    notebooks : bool
        Run the templates; else the functions behind them, which leave the same files but no notebooks.
    progress : bool
        Show progress bars.

    Returns
    -------
    FinishedStages

    Raises
    ------
    InputError
        Stages that are not known, or not enough of them; a folder with the run of another file of settings; or the
        first error of a stage, in one line: what was done before it is kept, and so is what the stages that are
        repeated have not replaced.
    KeyboardInterrupt
        After Ctrl-C: the message says how to go on.
    """
    for option, names in (("--stages", stages or ()), ("--from", [start] if start else ())):
        if unknown := [name for name in names if name not in STAGES]:
            raise InputError(f"{option}: found {', '.join(unknown)}, expected one of {', '.join(STAGES)}")
    order = list(STAGES)
    if start and stages and max(map(order.index, stages)) < order.index(start):
        raise InputError(
            f"--from: found {start}, which comes after --stages {', '.join(stages)}, expected one of them"
        )
    folder = settings.outbase / "notebooks"
    record, templates = RunRecord(folder / "record.json"), templates_of(settings)
    record.belongs_to(settings.source)
    steps = plan(settings)
    paths = [templates / f"{step.declared.template}.ipynb" if notebooks else None for step in steps]
    selected = set(STAGES if stages is None else stages)
    if "sample" in selected:
        settings.refuse_forced_sampling()
        if not (record.exists or (settings.outbase / "config.json").is_file()):
            RunDirectory.refuse_strange_files(
                settings.outbase
            )  # before the stages that come first write there
    if stages is not None:
        _refuse_gaps(record, settings, steps, paths, selected, start)
    outcomes, repeated, current, again, fit = {}, [], settings, False, None
    keys, index = _keys(settings, steps), _Index(folder, settings, steps, record)
    for number, (step, template) in enumerate(zip(steps, paths, strict=True)):
        words = f"stage {number + 1} of {len(steps)}, {step.stage}"
        key = next(keys)
        again = again or step.stage == start
        outcome = None if again and step.stage in selected else record.outcome(step, key, template)
        if retry and outcome is not None and step.stage in selected and _gave_up(step, outcome):
            record.reopen(step)
            outcome = None
        if outcome is None and step.stage in selected:
            goes_on = not again and record.is_unfinished(step, key, template)
            if logger.isEnabledFor(logging.INFO):
                logger.info("%s: %s%s", words, _subject(step, current), ", resumed" if goes_on else "")
            record.start(step, key, steps[number + 1 :], settings, template=template, goes_on=goes_on)
            options = _options(step, record, settings, fit, workers, goes_on)
            options |= {"retry": True} if retry and goes_on and step.declared.fits else {}
            began = time.monotonic()
            try:
                outcome = _execute_step(step, current, options, template, folder, progress)
            except KeyboardInterrupt:
                what = index.ended(step, "interrupted", "")
                how = "the same command without --from" if start else "the same command"
                raise KeyboardInterrupt(
                    f"interrupted in {step.name}; what was finished is kept, and {how} continues{what}"
                ) from None
            except InputError as error:
                notebook, what = str(folder / f"{step.name}.ipynb"), ""
                with suppress(OSError, StorageError):  # the disk may be full
                    what = index.ended(step, "failed", str(error).removeprefix(f"{notebook}: "))
                text = str(error).replace(notebook, str(folder / f"{index.page}.ipynb"))
                raise type(error)(f"{text}{what}") from error
            except Exception as error:
                with suppress(OSError, StorageError):
                    index.ended(step, "failed", f"{type(error).__name__}: {error}")
                raise
            record.end(step, outcome)
            logger.info("%s: %s after %s", words, outcome.level, duration(time.monotonic() - began))
            repeated.append(step.name)
            again = True
            index.add(step, outcome, f"{outcome.seconds:.0f}")
            index.write()
        elif outcome is not None:
            index.add(step, outcome, "unchanged")
            logger.info("%s: unchanged", words)
        if outcome is not None:
            outcomes[step.name] = outcome
            current = current.changed(**outcome.changes)
            fit = outcome.files.get("run", fit)
    record.complete(steps)
    return FinishedStages(outcomes, tuple(repeated), index.write())


def _subject(step: Step, settings: Settings) -> str:
    """Say what a stage works on, such as "38 sources"."""
    if step.stage in ("check", "psf") and settings.fitsfiles:
        return f"{counted(len(settings.fitsfiles), 'file')} of exposures"
    if step.stage in ("check", "psf", "preprocess"):
        assert settings.pixelstorefile is not None  # without exposures
        return f"the pixel store {settings.pixelstorefile.name}"
    if settings.raw_catalog is None:
        return "sources are searched in the images"
    with suppress(InputError):  # the stage itself reports it
        return counted(len(SourceCatalog.read(settings.raw_catalog)), "source")
    return settings.raw_catalog.name


class _Index:
    """Page that shows the state of all steps."""

    def __init__(self, folder: Path, settings: Settings, steps: list[Step], record: RunRecord):
        self._folder, self._settings, self._steps, self._record = folder, settings, steps, record
        self._rows: dict[str, IndexRow] = {}
        self._report: str | None = None
        self.page = ""

    def add(self, step: Step, outcome: Outcome, time: str) -> None:
        """Note that a step is done."""
        self._rows[step.name] = IndexRow(step.name, outcome.level, outcome.verdict, time)
        self._report = outcome.files.get("report")

    def ended(self, step: Step, how: str, text: str) -> str:
        """Note that a step was not done, and write the page; return what to say about the earlier results."""
        self.page = step.name
        undone = self._record.undo(step)
        self.page = f"{step.name}_failed" if undone else step.name
        self._rows[step.name] = IndexRow(step.name, how, " ".join(text.split()), page=self.page)
        self.write()
        if undone or (previous := self._record.previous()) is None:
            return ""
        return f"; the previous results are in {previous} until new ones replace them"

    def write(self) -> Path:
        """Write the page in its present state."""
        path = self._folder / "index.html"
        rows = [self._rows.get(step.name) or self._waiting(step) for step in self._steps]
        write_index(
            path,
            f"Stages of {self._settings.outbase.name}",
            rows,
            Path(self._report) if self._report else None,
        )
        return path

    def _waiting(self, step):
        if not self._record.was_completed(step):
            return IndexRow(step.name, "not run")
        previous = self._record.previous()
        return IndexRow(step.name, "out of date", f"earlier results: {previous.name}" if previous else "")


def _keys(settings: Settings, steps: list[Step]) -> Iterator[str]:
    """Yield the keys of the steps in order, each from the state of the files when it is asked for."""
    key = None
    for step in steps:
        key = step_key(step, settings, key)
        yield key


def _refuse_gaps(record: RunRecord, settings: Settings, steps, templates, selected: set[str], start) -> None:
    """Refuse steps that need results of missing steps before them, before anything is done."""
    gap, again, stale = None, False, False
    for step, template, key in zip(steps, templates, _keys(settings, steps), strict=True):
        again = again or step.stage == start
        present = not stale and record.outcome(step, key, template) is not None
        if step.stage not in selected:
            gap = gap or (None if present else step)
        elif again or not present:
            if gap is not None:
                raise InputError(
                    f"--stages: found no {gap.name} that is up to date, expected it before {step.name}: "
                    f"add --stages {gap.stage}, or leave --stages out"
                )
            stale = True  # all that follow depend on what is done now


def _gave_up(step: Step, outcome: Outcome) -> bool:
    """Return whether a fit gave up sources."""
    if not step.declared.fits:
        return False
    assert step.declared.scene is not None  # as it fits
    scene = SourceCatalog.read(outcome.files[step.declared.scene])
    return any(scene.extra["fit_flag"] != "")


def _options(
    step: Step, record: RunRecord, settings: Settings, fit: str | None, workers, goes_on: bool
) -> dict:
    """Return a stage's options besides the settings: the fit to look at, or how to go about fitting."""
    stage = step.declared
    options: dict[str, Any] = {"run": fit} if stage.of_fit else {}
    options |= {"workers": workers} if stage.parallel else {}
    if stage.fits == "numbered":
        out = record.folder(step, next_path(settings.outbase, stage.name))
        options |= {"out": str(out), "resume": goes_on}
    elif stage.fits == "outbase":
        options |= record.of_fit(step, settings)
    return options


def _execute_step(
    step: Step, settings: Settings, options: dict, template, folder: Path, progress: bool
) -> Outcome:
    """Run a step, in its notebook if it has a template."""
    if template is None:
        reports = [step.declared(settings, progress=progress, **options)]
        if step.declared.then is not None:
            reports.append(step.declared.then(settings, run=reports[0].files["run"]))
        return Outcome.of(settings, *reports)
    if not template.is_file():
        raise InputError(f"{template}: no such file, expected the template of the stage {step.stage}")
    config, outcome = (folder / "steps" / f"{step.name}{suffix}" for suffix in (".yml", ".json"))
    config.parent.mkdir(parents=True, exist_ok=True)
    outcome.unlink(missing_ok=True)
    write_text(config, settings.dump_yaml(config.parent))
    notebook = folder / f"{step.name}.ipynb"
    parameters = {"config": str(config), "outcome": str(outcome)} | options
    try:
        execute(template, notebook, parameters, progress=progress)
    except BaseException:
        with suppress(Exception):  # the disk may be full, and the notebook cut off
            write_html(notebook)
        raise
    write_html(notebook)
    return Outcome.read(outcome)
