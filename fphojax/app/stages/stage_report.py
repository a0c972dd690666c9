"""Report that a stage returns to its caller: a notebook, the command line, or the next stage."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Literal

from astropy.table import Table

__all__ = ["Level", "StageReport", "timed"]

Level = Literal["pass", "look at this"]


@dataclass(frozen=True, eq=False)
class StageReport:
    """Findings of a stage, and the files that it wrote.

    Attributes
    ----------
    stage : str
        Its name.
    verdict : str
        What a person needs to know, in a sentence or a few.
    tables : dict of str to astropy Table
        By title.
    files : dict of str to Path
        What was written, by what it is.
    seconds : float
        Wall time.
    level : {"pass", "look at this"}
        Whether a person should look before the next stage.
    """

    stage: str
    verdict: str
    tables: dict[str, Table] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0
    level: Level = "pass"


def timed(stage: Callable[..., StageReport]) -> Callable[..., StageReport]:
    """Make the function of a stage state the wall time that it took."""

    @wraps(stage)
    def measured(*arguments, **options):
        start = time.perf_counter()
        report = stage(*arguments, **options)
        return replace(report, seconds=time.perf_counter() - start)

    return measured
