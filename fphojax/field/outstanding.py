"""Numbered patches that are checked out, which survive an interruption: they are out again afterwards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fphojax.results.patch_journal import CheckIn, CheckOut, PendingOutcome, PendingOutcomes, Record, Release

from .reservations import Reservations

__all__ = ["NumberedPatch", "Outstanding"]


@dataclass(eq=False)
class NumberedPatch:
    """A numbered patch that is checked out.

    Attributes
    ----------
    number : int
    batch : int
        Number of the first of the patches that are fitted together with it.
    active, fixed : ndarray of int
        Rows of its sources.
    outcome : PendingOutcome or None
        Result of its fit, if that has ended.
    """

    number: int
    batch: int
    active: np.ndarray
    fixed: np.ndarray
    outcome: PendingOutcome | None = None


class Outstanding:
    """The numbered patches that are checked out, in the order of their check-out.

    Parameters
    ----------
    out : Reservations
        Of all patches that are checked out.

    Attributes
    ----------
    patches : dict of int to NumberedPatch
        By their number in `out`.
    filling : bool
        Whether nothing came back since the last check-out: more patches may be fitted together with that one.
    waits : list of [int, int]
        Seeds that had to wait since the last record, each with a source that is active in the patch it waits for.
    """

    def __init__(self, out: Reservations):
        self._out = out
        self.patches: dict[int, NumberedPatch] = {}
        self.filling = False
        self.waits: list[list[int]] = []

    def wait(self, seed: int, place: int) -> None:
        """Note that a seed cannot be taken before a patch is back."""
        self._out.wait(seed, place)
        if place in self.patches:
            self.waits.append([seed, self._out.active_of(place)])

    def take(self, patch: NumberedPatch) -> None:
        """Check out a patch."""
        self.patches[self._out.take(patch.active, patch.fixed)] = patch
        self.filling = True

    def bring_back(self, place: int, *, fitted: bool) -> np.ndarray:
        """Bring a patch back, numbered or not; see `Reservations.bring_back`."""
        if self.patches.pop(place, None) is not None and fitted:
            self.filling = False
        return self._out.bring_back(place)

    def keep(self, outcomes: list[PendingOutcome]) -> None:
        """Keep results of fits until the turn of their patches comes."""
        by_number = {outcome.patch: outcome for outcome in outcomes}
        for patch in self.patches.values():
            patch.outcome = by_number.get(patch.number, patch.outcome)

    def replay(self, record: Record) -> None:
        """Replay a record of the journal."""
        match record:
            case CheckOut():
                active, fixed = (np.array(rows, dtype=int) for rows in (record.active, record.fixed))
                self.take(NumberedPatch(record.patch, record.batch, active, fixed))
                self.filling = not record.closed
                self._wait_again(record)
            case PendingOutcomes():
                self.keep(record.outcomes)
            case Release():
                places = [place for place, patch in self.patches.items() if patch.number == record.patch]
                for place in places:
                    self.bring_back(place, fitted=False)
            case CheckIn():
                self._wait_again(record)
                place = self._out.active_in(json.loads(record.entry)["sources"][0])
                if place >= 0:
                    self.bring_back(place, fitted=True)

    def records(self) -> Iterator[Record]:
        """Yield records from which the present state can be replayed."""
        last = next(reversed(self.patches), None)
        for place, patch in self.patches.items():
            first = int(patch.active[0])
            waits = [[seed, first] for seed in self._out.waiting(place)]
            closed = place != last or not self.filling
            rows = patch.active.tolist(), patch.fixed.tolist()
            yield CheckOut(patch.number, patch.batch, *rows, waits, closed)
        if pending := [patch.outcome for patch in self.patches.values() if patch.outcome is not None]:
            yield PendingOutcomes(pending)

    def _wait_again(self, record):
        for seed, active in record.waits:
            if (place := self._out.active_in(active)) >= 0:
                self._out.wait(seed, place)
