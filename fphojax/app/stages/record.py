"""The record of a run: which steps are done, and with what, so that none is done twice."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import fphojax
from fphojax.inputs.files import replacing

from ..config import Settings
from .outcome import Outcome
from .steps import Step, settings_read

__all__ = ["RunRecord", "step_key"]

_INPUTS = ("fitsfiles", "raw_catalog", "big_catalog", "psfstorefile", "splinedatafile")
_STORES = ("pixelstorefile", "metastorefile")  # inputs, where they are not made by the run


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

    def known(self, step: Step) -> bool:
        """Whether a step was ever begun, with whatever key: its files are the record's own."""
        return step.name in self._entries

    def outcome(self, step: Step, key: str) -> Outcome | None:
        """How a step with this key ended; None if it did not, or its files are gone."""
        entry = self._entries.get(step.name)
        if entry is None or entry["key"] != key or "outcome" not in entry:
            return None
        found = Outcome(**entry["outcome"])
        return found if all(Path(path).exists() for path in found.files.values()) else None

    def begin(self, step: Step, key: str, following: list[Step]) -> None:
        """Forget what there was of a step (unless it goes on) and of those that follow, numbered results included."""
        forgotten = following if self.begun(step, key) else [step, *following]
        for name in [other.name for other in forgotten if other.name in self._entries]:
            entry = self._entries[name]
            self._entries[name] = {"key": None}
            for path in [*entry.get("outcome", {}).get("files", {}).values(), entry.get("folder", "")]:
                _remove_numbered(Path(path))
        self._entries.setdefault(step.name, {})["key"] = key
        self._write()

    def folder(self, step: Step, otherwise: Path) -> Path:
        """Where a step that was begun writes: what was said first, so that after an interruption it goes on there."""
        entry = self._entries[step.name]
        if "folder" not in entry:
            entry["folder"] = str(otherwise)
            self._write()
        return Path(entry["folder"])

    def end(self, step: Step, outcome: Outcome) -> None:
        """Note how a step ended."""
        self._entries[step.name]["outcome"] = asdict(outcome)
        self._write()

    def _write(self):
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as temporary:
            temporary.write_text(json.dumps(self._entries, indent=2) + "\n", encoding="utf-8")


def step_key(
    step: Step, settings: Settings, template: Path | None, before: str | None, *, makes_stores: bool
) -> str:
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
    makes_stores : bool
        Whether the run makes the stores, which are then no inputs.

    Returns
    -------
    str
    """
    first = before is None
    read = settings_read(settings, step.stage, first=first)
    content = [fphojax.__version__, step.name, before, read]
    if first:
        names = _INPUTS if makes_stores else (*_INPUTS, *_STORES)
        content.append([_stamp(path) for name in names for path in _paths(getattr(settings, name))])
    if template is not None:
        content.append(hashlib.sha256(template.read_bytes()).hexdigest())
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _paths(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def _stamp(path: Path) -> list:
    """Name, size and time of a file."""
    status = path.stat() if path.exists() else None
    return [str(path), *((status.st_size, status.st_mtime_ns) if status else ())]


def _remove_numbered(path: Path) -> None:
    """Delete ``STAGE_N`` that a file is or lies in, so that the step that is repeated takes its number again."""
    for part in (path, path.parent):
        stage, _, number = part.name.partition(".")[0].rpartition("_")
        if stage in ("optimize", "background", "detect") and number.isdigit():
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
            return
