"""The record of a run: which steps are done, and with what, so that none is done twice."""

import hashlib
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import fphojax
from fphojax.inputs.files import replacing

from ..config import Settings
from ..preprocess import image_files
from .outcome import Outcome
from .steps import Step, settings_read

__all__ = ["RunRecord", "step_key"]

_INPUTS = ("fitsfiles", "raw_catalog", "big_catalog", "psfstorefile", "splinedatafile")
_STORES = ("pixelstorefile", "metastorefile")


class RunRecord:
    """Steps that were done or begun, on disk as JSON after each change.

    Parameters
    ----------
    path : Path
        Made with the first step.
    """

    def __init__(self, path: Path):
        self._path = path
        self._entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def begun(self, step: Step, key: str) -> bool:
        """Whether a step with this key was begun and has not ended."""
        entry = self._entries.get(step.name)
        return entry is not None and entry["key"] == key and "outcome" not in entry

    def outcome(self, step: Step, key: str) -> Outcome | None:
        """How a step with this key ended; None if it did not, or its files are gone."""
        entry = self._entries.get(step.name)
        if entry is None or entry["key"] != key or "outcome" not in entry:
            return None
        found = Outcome(**entry["outcome"])
        return found if all(Path(path).exists() for path in found.files.values()) else None

    def begin(
        self, step: Step, key: str, following: list[Step], settings: Settings, *, goes_on: bool = False
    ) -> None:
        """Forget what there was of a step (unless it goes on) and of those that follow, numbered results included."""
        for other in following if goes_on else [step, *following]:
            if entry := self._entries.get(other.name):
                for path in _numbered(other, entry, settings):
                    _remove(path)
                self._entries[other.name] = {"key": None, "first": entry.get("first")}
        if not goes_on:
            there = _stamp(settings.outbase / "config.json")
            entry = self._entries.setdefault(step.name, {"first": there})
            self._entries[step.name] = entry | {"key": key, "found": there}
        self._write()

    def of_fit(self, step: Step, settings: Settings) -> dict[str, bool]:
        """Whether a step that was begun goes on with the fit in ``outbase`` or replaces it.

        A fit that was there when the step was begun is not of this step; one that was there when it was begun for the
        first time is not the record's, and is not replaced.
        """
        path, entry = settings.outbase / "config.json", self._entries[step.name]
        now = _stamp(path)
        resume = path.is_file() and now != entry.get("found")
        return {"resume": resume, "overwrite": not resume and now != entry.get("first")}

    def folder(self, step: Step, otherwise: Path) -> Path:
        """Where a step that was begun writes: what was said first, so that after an interruption it goes on there."""
        entry = self._entries[step.name]
        if "folder" not in entry:
            entry["folder"] = str(otherwise)
            self._write()
        return Path(entry["folder"])

    def reopen(self, step: Step) -> None:
        """Take back how a step ended: it goes on."""
        del self._entries[step.name]["outcome"]
        self._write()

    def end(self, step: Step, outcome: Outcome) -> None:
        """Note how a step ended."""
        self._entries[step.name]["outcome"] = asdict(outcome)
        self._write()

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(self._entries, indent=2) + "\n", encoding="utf-8")


def step_key(step: Step, settings: Settings, template: Path | None, before: str | None) -> str:
    """A hash of all that a step's result depends on.

    Parameters
    ----------
    step : Step
    settings : Settings
        As the user gave them.
    template : Path or None
        The notebook.
    before : str or None
        Key of the step before; None for the first.

    Returns
    -------
    str
    """
    first = before is None
    read = settings_read(settings, step.stage, first=first)
    content = [fphojax.__version__, step.name, before, read]
    names = _INPUTS if first else ()
    names += _STORES if step.stage == "check" else ()  # the run may make them in the stage before
    files = [path for name in names for path in _paths(getattr(settings, name))]
    files += image_files(settings) if step.stage == "preprocess" else []
    content += [[_stamp(path) for path in files]] if files else []
    if template is not None:
        content.append(hashlib.sha256(template.read_bytes()).hexdigest())
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _paths(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def _stamp(path: Path) -> list:
    """Name, size and time of a file."""
    status = path.stat() if path.exists() else None
    return [str(path), *((status.st_size, status.st_mtime_ns) if status else ())]


def _numbered(step: Step, entry: dict, settings: Settings) -> set[Path]:
    """``STAGE_N`` in ``outbase`` that a step made: those that repeat it take the number again. None is an input."""
    outcome = entry.get("outcome", {"files": {}, "changes": {}})
    # a catalogue that the stage was given is handed on unchanged; one that it made is of a detection
    stage = "detect" if step.stage == "catalog" and "raw_catalog" in outcome["changes"] else step.stage
    files = map(Path, [*outcome["files"].values(), *([entry["folder"]] if "folder" in entry else [])])
    parts = {part for file in files for part in (file, file.parent) if part.parent == settings.outbase}
    made = {part for part in parts if re.fullmatch(rf"{stage}_\d+(\..*)?", part.name)}
    inputs = [file.resolve() for file in _input_files(settings)] if made else []
    return {part for part in made if not any(file.is_relative_to(part.resolve()) for file in inputs)}


def _input_files(settings: Settings) -> list[Path]:
    """All files that the user names, that of the settings among them."""
    return [
        *(path for name in (*_INPUTS, *_STORES) for path in _paths(getattr(settings, name))),
        *_paths(settings.source),
        *image_files(settings),
    ]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
