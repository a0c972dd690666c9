"""Outcome of a stage, for the next one and for the record of a run: a small file beside its notebook."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fphojax.app.settings.schema import Settings
from fphojax.app.stage_list import next_settings
from fphojax.app.stages.stage_report import StageReport
from fphojax.errors import InputError
from fphojax.system.file_checks import blame
from fphojax.system.json_files import read_json, write_json

__all__ = ["Outcome", "Verdict", "conclude"]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: level, verdict, changed settings and files.

    Attributes
    ----------
    level : str
        "pass" or "look at this".
    verdict : str
    changes : dict
        Settings that the next stages have, by key.
    files : dict of str to str
        What was written.
    seconds : float
    """

    level: str
    verdict: str
    changes: dict = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, settings: Settings, *reports: StageReport) -> "Outcome":
        """Make the outcome of a stage from its reports, with what they change in the settings."""
        now, then = (s.model_dump(mode="json") for s in (settings, next_settings(settings, *reports)))
        changes = {key: value for key, value in then.items() if value != now[key]}
        return cls(
            "look at this" if any(report.level == "look at this" for report in reports) else "pass",
            " ".join(report.verdict for report in reports),
            changes,
            {what: str(path) for report in reports for what, path in report.files.items()},
            round(sum(report.seconds for report in reports), 1),
        )

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        """Read an outcome that `write` wrote.

        Raises
        ------
        InputError
            The file is missing: the notebook did not reach its verdict.
        """
        if not path.is_file():
            raise InputError(
                f"{path}: no such file, expected the verdict of a stage: its last cell writes it"
            )
        with blame(path):
            return cls.of_json(read_json(path, "the verdict of a stage"))

    @classmethod
    def of_json(cls, content: Mapping[str, Any]) -> "Outcome":
        """Make an outcome from the content of a file.

        Raises
        ------
        InputError
            It is not an outcome.
        """
        try:
            outcome = cls(**content)
            good = isinstance(outcome.changes, dict) and all(
                isinstance(path, str) for path in outcome.files.values()
            )
            good = good and isinstance(outcome.verdict, str) and outcome.level in ("pass", "look at this")
            good = good and isinstance(outcome.seconds, int | float)
        except (TypeError, AttributeError):
            good = False
        if not good:
            raise InputError(f"found {content!r:.100}, expected the outcome of a stage")
        return outcome

    def write(self, path: Path) -> None:
        """Write JSON, atomically."""
        write_json(path, asdict(self))


@dataclass(frozen=True)
class Verdict:
    """The last line of a stage's notebook."""

    level: str
    text: str

    def __repr__(self) -> str:
        return f"{self.level}: {self.text}"

    def _repr_html_(self):
        from html import escape

        colour = {"pass": "#2e7d32", "look at this": "#e65100"}[self.level]
        style = f"border-left: 6px solid {colour}; padding-left: 1em"
        return f'<p style="{style}"><b>{self.level}</b>: {escape(self.text)}</p>'


def conclude(settings: Settings, *reports: StageReport, outcome: str | Path | None = None) -> Verdict:
    """Return the verdict on a stage, which a notebook shows in its last cell.

    Parameters
    ----------
    settings : Settings
        Those that the stage had.
    *reports : StageReport
        What its functions found.
    outcome : path-like, optional
        Where to write the `Outcome`; a run of all stages asks for it.
    """
    combined = Outcome.of(settings, *reports)
    if outcome:
        combined.write(Path(outcome))
    return Verdict(combined.level, combined.verdict)
