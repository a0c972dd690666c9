"""Record of a run: which steps are done, and with which inputs, so that none is done twice."""

import copy
import filecmp
import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import fphojax
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.store_build import image_files, input_files
from fphojax.errors import InputError
from fphojax.results.aside import drop_previous, move_aside, move_back, previous_folders
from fphojax.results.run_directory import RunDirectory
from fphojax.system.file_checks import blame
from fphojax.system.json_files import read_json, write_json
from fphojax.system.portable import absolute, map_paths, relative, resolved

from .outcome import Outcome
from .steps import Step, settings_read

__all__ = ["RunRecord", "step_key"]

_INPUTS = ("fitsfiles", "raw_catalog", "big_catalog", "psfstorefile", "noise_file", "splinedatafile")
_COPIED = re.compile(r"postop\.fits|.*\.ya?ml")  # in outbase; copied along with what is moved aside
_OF = "settings"  # key of the file of settings beside those of the steps
_STORES = ("pixelstorefile", "metastorefile")


class RunRecord:
    """Record of steps begun or done, saved as JSON after each change; paths are relative to ``outbase``.

    Parameters
    ----------
    path : Path
        ``notebooks/record.json`` in ``outbase``; made with the first step.
    """

    def __init__(self, path: Path):
        self._path, self._folder = path, path.parent.parent
        self._entries = _entries(path) if path.exists() else {}
        self._of = self._entries.pop(_OF, None)
        for entry in self._entries.values():
            _map_entry(entry, lambda path: resolved(path, self._folder))
        # entries, and where the results went, before the last step was begun
        self._before: tuple[dict, Path | None] | None = None

    @property
    def exists(self) -> bool:
        """Whether any step was begun here."""
        return self._path.is_file()

    def belongs_to(self, source: Path | None) -> None:
        """Note the file of settings that the run belongs to, from the next change on.

        Raises
        ------
        InputError
            The record is of another one, which still exists: each would replace what the other has made.
        """
        if source is None:
            return
        if self._of is not None:
            before = Path(resolved(self._of, self._folder))
            if before.is_file() and not before.samefile(source):
                raise InputError(
                    f"{source}: outbase: found {self._folder}, which has the run of {before}, expected another "
                    "folder: one of them would replace the results of the other"
                )
        self._of = relative(str(absolute(source)), self._folder)

    def is_unfinished(self, step: Step, key: str, template: Path | None) -> bool:
        """Return whether a step with this key was begun and has not ended; see `outcome`."""
        entry = self._begun(step, key, template)
        return entry is not None and "outcome" not in entry

    def outcome(self, step: Step, key: str, template: Path | None) -> Outcome | None:
        """Return how a step with this key ended; None if it did not, or its files are gone.

        A notebook that was made from another template than `template` counts as another step. A step without a
        notebook leaves the same files as one with it, and either is taken for the other.
        """
        entry = self._begun(step, key, template)
        if entry is None or "outcome" not in entry:
            return None
        outcome = Outcome.of_json(entry["outcome"])
        return outcome if all(Path(path).exists() for path in outcome.files.values()) else None

    def _begun(self, step, key, template):
        """Return the entry of a step with this key and template, if it was begun."""
        entry = self._entries.get(step.name)
        if entry is None or entry["key"] != key:
            return None
        hashes = _hash(template), entry.get("template")
        return entry if None in hashes or hashes[0] == hashes[1] else None

    def was_completed(self, step: Step) -> bool:
        """Return whether a step ever ended, with whatever key."""
        entry = self._entries.get(step.name, {})
        return "outcome" in entry or entry.get("done_before", False)

    def start(
        self,
        step: Step,
        key: str,
        following: list[Step],
        settings: Settings,
        *,
        template: Path | None = None,
        goes_on: bool = False,
    ) -> None:
        """Begin a step: forget earlier results of it (unless it goes on) and of those that follow.

        Their files, which are to be made anew, are moved into ``previous_N`` in ``outbase`` until all steps are done
        (`complete`).
        """
        before = copy.deepcopy(self._entries)
        self._before = before, None
        outputs = []
        for other in following if goes_on else [step, *following]:
            if entry := self._entries.get(other.name):
                outputs += self._outputs(other, entry, settings)
                completed = {"done_before": True} if self.was_completed(other) else {}
                self._entries[other.name] = {"key": None, "first": entry.get("first")} | completed
        # a later optimisation overwrites what an earlier one has handed on
        copies = [path for path in self._folder.iterdir() if _COPIED.fullmatch(path.name)] if outputs else []
        if outputs and (aside := move_aside(self._folder, outputs, copies)) is not None:
            self._before = before, aside
            record_copy = aside / self._path.relative_to(self._folder)
            record_copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._path, record_copy)
        if not goes_on:
            stamp = _stamp(settings.outbase / "config.json")
            entry = self._entries.setdefault(step.name, {"first": stamp})
            self._entries[step.name] = entry | {"key": key, "found": stamp}
        self._entries[step.name]["template"] = _hash(template)
        self._write()

    def undo(self, step: Step) -> bool:
        """Put back what a failed step was to replace, if nothing new is in its place.

        Returns
        -------
        bool
            Whether all is as before the step was begun, except for its notebook, now ``NAME_failed``.
        """
        entries, aside = self._before or (None, None)
        if entries is None or aside is None:
            return False
        notebooks = self._path.parent.relative_to(self._folder)
        step_files = [self._path.relative_to(self._folder)]
        step_files += [notebooks / "steps" / f"{step.name}{suffix}" for suffix in (".yml", ".json")]
        pages = [notebooks / f"{step.name}{suffix}" for suffix in (".ipynb", ".html")]
        moved = [path.relative_to(aside) for path in aside.rglob("*") if path.is_file()]
        for name in moved:
            if name in (*step_files, *pages) or not (self._folder / name).exists():
                continue
            same = filecmp.cmp(self._folder / name, aside / name, shallow=False)
            if not (same and _COPIED.fullmatch(str(name))):
                return False
        for name in pages:
            if (self._folder / name).is_file():
                failed = name.with_name(f"{step.name}_failed{name.suffix}")
                (self._folder / name).replace(self._folder / failed)
        (aside / step_files[0]).unlink()
        move_back(self._folder, aside)
        self._entries, self._before = entries, None
        self._write()
        return True

    def complete(self, steps: list[Step]) -> None:
        """Delete what was replaced, if all steps are done."""
        if all("outcome" in self._entries.get(step.name, {}) for step in steps):
            record = self._path.relative_to(self._folder)
            folders = [path for path in previous_folders(self._folder) if (path / record).is_file()]
            drop_previous(self._folder, folders)

    def previous(self) -> Path | None:
        """Return the folder of the results that were there before the last step that replaced any."""
        record = self._path.relative_to(self._folder)
        folders = [path for path in previous_folders(self._folder) if (path / record).is_file()]
        return folders[-1] if folders else None

    def of_fit(self, step: Step, settings: Settings) -> dict[str, bool]:
        """Decide whether a step that was begun resumes the fit in ``outbase`` or replaces it.

        A fit that existed when the step was begun does not belong to this step; one that existed when it was begun
        for the first time does not belong to the record, and is not replaced.
        """
        path, entry = settings.outbase / "config.json", self._entries[step.name]
        now = _stamp(path)
        resume = path.is_file() and now != entry.get("found")
        return {"resume": resume, "overwrite": not resume and now != entry.get("first")}

    def folder(self, step: Step, otherwise: Path) -> Path:
        """Return where a begun step writes: the folder chosen first, so that it is resumed there."""
        entry = self._entries[step.name]
        if "folder" not in entry:
            entry["folder"] = str(otherwise)
            self._write()
        return Path(entry["folder"])

    def reopen(self, step: Step) -> None:
        """Remove the outcome of a step, so that it goes on."""
        del self._entries[step.name]["outcome"]
        self._write()

    def end(self, step: Step, outcome: Outcome) -> None:
        """Record how a step ended."""
        self._entries[step.name]["outcome"] = asdict(outcome)
        self._write()

    def _outputs(self, step, entry, settings):
        """List what a step has left in ``outbase`` and will make anew."""
        notebooks = self._path.parent
        outputs = [notebooks / f"{step.name}{suffix}" for suffix in (".ipynb", ".html")]
        outputs += [notebooks / "steps" / f"{step.name}{suffix}" for suffix in (".yml", ".json")]
        outputs += _numbered(step, entry, settings)
        config = settings.outbase / "config.json"
        # what existed before the step was begun for the first time does not belong to the record
        if step.declared.fits == "outbase" and config.is_file() and _stamp(config) != entry.get("first"):
            run = RunDirectory(settings.outbase, scene_catalog=settings.scene_catalog)
            outputs += run.output_files(input_files(settings))
        return outputs

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries = copy.deepcopy(self._entries)
        for entry in entries.values():
            _map_entry(entry, lambda path: relative(path, self._folder))
        write_json(self._path, entries if self._of is None else {_OF: self._of} | entries)


def _entries(path):
    """Read the entries of a record, by the name of their step."""
    expected = "the record of a run (without it, all stages are repeated)"
    entries = read_json(path, expected)
    for name, entry in entries.items():
        if name == _OF and isinstance(entry, str):
            continue
        good = isinstance(entry, dict) and "key" in entry and isinstance(entry.get("folder", ""), str)
        if good and "outcome" in entry:
            with blame(f"{path}: {name}"):
                Outcome.of_json(entry["outcome"])
        if not good:
            raise InputError(f"{path}: {name}: found {entry!r:.100}, expected {expected}")
    return entries


def _map_entry(entry: dict, change) -> None:
    """Change all paths of an entry."""
    if "folder" in entry:
        entry["folder"] = change(entry["folder"])
    if (outcome := entry.get("outcome")) is not None:
        outcome["files"] = {what: change(path) for what, path in outcome["files"].items()}
        outcome["changes"] = map_paths(outcome["changes"], change)


def step_key(step: Step, settings: Settings, before: str | None) -> str:
    """Hash all that a step's result depends on; of files, their names, sizes and times, but not their folders.

    Parameters
    ----------
    step : Step
    settings : Settings
        As the user gave them.
    before : str or None
        Key of the step before; None for the first.

    Returns
    -------
    str
    """
    first = before is None
    read = map_paths(settings_read(settings, step.stage, first=first), os.path.basename)
    read.pop("outbase", None)
    content: list = [fphojax.__version__, step.name, before, read]
    names = _INPUTS if first else ()
    names += _STORES if step.stage == "check" else ()  # the stage before may make them
    files = [path for name in names for path in _paths(getattr(settings, name))]
    files += image_files(settings) if step.stage == "preprocess" else []
    content += [[[path.name, *_stamp(path)] for path in files]] if files else []
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _hash(template: Path | None) -> str | None:
    """Hash a notebook; None if there is none."""
    return None if template is None else hashlib.sha256(template.read_bytes()).hexdigest()


def _paths(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def _stamp(path: Path) -> list:
    """Return size and time of a file; an empty list if it does not exist."""
    status = path.stat() if path.exists() else None
    return [status.st_size, status.st_mtime_ns] if status else []


def _numbered(step: Step, entry: dict, settings: Settings) -> set[Path]:
    """List each ``STAGE_N`` that a step made and its repetition replaces; inputs are left out."""
    outcome = entry.get("outcome", {"files": {}, "changes": {}})
    # a catalogue that the stage was given is handed on unchanged; one that it made comes from a detection
    stage = "detect" if step.stage == "catalog" and "raw_catalog" in outcome["changes"] else step.stage
    files = map(Path, [*outcome["files"].values(), *([entry["folder"]] if "folder" in entry else [])])
    parts = {part for file in files for part in (file, file.parent) if part.parent == settings.outbase}
    outputs = {part for part in parts if re.fullmatch(rf"{stage}_\d+(\..*)?", part.name)}
    inputs = [file.resolve() for file in input_files(settings)] if outputs else []
    return {part for part in outputs if not any(file.is_relative_to(part.resolve()) for file in inputs)}
