"""Progress of a loop: a bar where one is wanted, else lines in the log, the first after half a minute."""

import logging
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any

from tqdm.auto import tqdm

from .wording import duration

__all__ = ["Progress"]

logger = logging.getLogger(__name__)

FIRST_LINE = (
    30.0  # seconds; then each time that what has passed is a quarter more, but at least every ten minutes
)
LATER_LINE, LONGEST_PAUSE = 1.25, 600.0
_BAR = "{desc}: {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {unit}, {remaining} left{postfix}"


class Progress[T]:
    """Progress of a loop over items, or of a number of steps; a context for the latter.

    Parameters
    ----------
    items : iterable, optional
        What is iterated over.
    text : str
        What is done.
    units : str
        What is counted, in the plural.
    total : int, optional
        Number of them; by default the length of `items`.
    initial : int
        How many were done before.
    shown : bool
        Whether to show a bar. Without, lines are logged, for whoever listens.
    """

    def __init__(
        self,
        items: Iterable[T] = (),
        *,
        text: str,
        units: str,
        total: int | None = None,
        initial: int = 0,
        shown: bool = False,
    ) -> None:
        self._items, self._text, self._units = items, text, units
        self.total = total if total is not None or not isinstance(items, Sized) else len(items)
        self.n, self._first, self._note = initial, initial, ""
        self._began, self._due, self._spoke = time.monotonic(), FIRST_LINE, False
        self._bar: Any = None
        if shown:
            self._bar = tqdm(
                total=self.total,
                initial=initial,
                desc=text,
                unit=units,
                bar_format=_BAR,
                smoothing=0.0,
                miniters=1,
            )

    def __iter__(self) -> Iterator[T]:
        with self:
            for item in self._items:
                yield item
                self.update()

    def __enter__(self) -> "Progress[T]":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif kind is None and self._spoke and self.n == self.total:
            self._log(f"after {duration(time.monotonic() - self._began)}")

    def update(self, n: int = 1) -> None:
        """Count `n` more."""
        self.reach(self.n + n)

    def reach(self, n: int, note: str = "") -> None:
        """Count up to `n`, or back to it, with a note on what is behind the number."""
        step, self.n, self._note = n - self.n, n, note
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(step)
            return
        passed = time.monotonic() - self._began
        if passed >= self._due and n == self.total:
            self._spoke = True  # the end is said at the end
        elif passed >= self._due:
            self._due = min(passed * LATER_LINE, passed + LONGEST_PAUSE)
            self._log(self._left(passed))

    def end_early(self, why: str) -> None:
        """Note that no more are to come, and why."""
        self._note, self.total = f"of at most {self.total}: {why}", self.n
        if self._bar is not None:
            self._bar.total = self.n
            self._bar.set_postfix_str(self._note)

    def _left(self, passed: float) -> str:
        """Estimate the time left from the pace so far."""
        done = self.n - self._first
        if self.total is None or done <= 0:
            return f"{duration(passed)} passed"
        return f"about {duration(passed / done * (self.total - self.n))} left"

    def _log(self, when: str) -> None:
        self._spoke = True
        counts = (
            f"{self.n} {self._units}" if self.total is None else f"{self.n} of {self.total} {self._units}"
        )
        logger.info("%s: %s", self._text, ", ".join(part for part in (counts, self._note, when) if part))
