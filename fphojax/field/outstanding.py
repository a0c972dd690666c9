"""Patches that are out under a number, which an interruption does not change: they are out again afterwards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .journal import CheckIn, CheckOut, Kept, KeptOutcome, Record, Release
from .reservations import Reservations

__all__ = ["NumberedPatch", "Outstanding"]


@dataclass(eq=False)
class NumberedPatch:
    """A patch that is out under a number.

    Attributes
    ----------
    number : int
    batch : int
        Number of the first of those that are fitted together with it.
    active, fixed : ndarray of int
        Rows of its sources.
    kept : KeptOutcome or None
        What its fit has found, if it has ended.
    """

    number: int
    batch: int
    active: np.ndarray
    fixed: np.ndarray
    kept: KeptOutcome | None = None


class Outstanding:
    """The patches that are out under a number, in the order in which they went.

    Parameters
    ----------
    out : Reservations
        Of all patches that are out.

    Attributes
    ----------
    patches : dict of int to NumberedPatch
        By the number that `out` has for them.
    filling : bool
        Whether nothing came back since the last of them went: there may be more to be fitted together with it.
    waits : list of [int, int]
        Seeds that had to wait since the last record, each with a source that is active in the patch it waits for.
    """

    def __init__(self, out: Reservations):
        self._out = out
        self.patches: dict[int, NumberedPatch] = {}
        self.filling = False
        self.waits: list[list[int]] = []

    def wait(self, seed: int, place: int) -> None:
        """Note a seed that cannot be taken before a patch is back."""
        self._out.wait(seed, place)
        if place in self.patches:
            self.waits.append([seed, self._out.active_of(place)])

    def take(self, patch: NumberedPatch) -> None:
        """Take a patch out."""
        self.patches[self._out.take(patch.active, patch.fixed)] = patch
        self.filling = True

    def bring_back(self, place: int, *, fitted: bool) -> np.ndarray:
        """Bring a patch back, whether it has a number or not; see `Reservations.bring_back`."""
        if self.patches.pop(place, None) is not None and fitted:
            self.filling = False
        return self._out.bring_back(place)

    def keep(self, outcomes: list[KeptOutcome]) -> None:
        """Keep what fits have found until their turn comes."""
        kept = {outcome.patch: outcome for outcome in outcomes}
        for patch in self.patches.values():
            patch.kept = kept.get(patch.number, patch.kept)

    def replay(self, record: Record) -> None:
        """Let happen what a record of the journal says."""
        match record:
            case CheckOut():
                rows = (np.array(rows, dtype=int) for rows in (record.active, record.fixed))
                self.take(NumberedPatch(record.patch, record.batch, *rows))
                self.filling = not record.closed
                self._wait_again(record)
            case Kept():
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
        """Records from which all is as it is now."""
        last = next(reversed(self.patches), None)
        for place, patch in self.patches.items():
            first = int(patch.active[0])
            waits = [[seed, first] for seed in self._out.waiting(place)]
            closed = place != last or not self.filling
            rows = patch.active.tolist(), patch.fixed.tolist()
            yield CheckOut(patch.number, patch.batch, *rows, waits, closed)
        if kept := [patch.kept for patch in self.patches.values() if patch.kept is not None]:
            yield Kept(kept)

    def _wait_again(self, record):
        for seed, active in record.waits:
            if (place := self._out.active_in(active)) >= 0:
                self._out.wait(seed, place)
