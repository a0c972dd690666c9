"""Bookkeeping of the sources that are checked out: in which patch, and whether active or fixed."""

from dataclasses import dataclass, field

import numpy as np

from fphojax.errors import InputError

__all__ = ["Reservations"]


@dataclass(eq=False)
class _Patch:
    """Rows of the sources of a patch that is checked out, and the seeds that wait for its return."""

    active: np.ndarray
    fixed: np.ndarray
    waiting: list[int] = field(default_factory=list)


class Reservations:
    """The patches that are checked out.

    A source is either active in one patch and in no other, or fixed in any number of patches.

    Parameters
    ----------
    size : int
        Number of sources, N.

    Attributes
    ----------
    is_active, is_fixed : ndarray of bool, shape (N,)
    n_active : int
    """

    def __init__(self, size: int):
        self.is_active = np.zeros(size, dtype=bool)
        self.is_fixed = np.zeros(size, dtype=bool)
        self.n_active = 0
        self._patches: dict[int, _Patch] = {}
        self._next = 0
        self._active_in = np.full(size, -1, dtype=np.int64)
        self._fixed_in: dict[int, set[int]] = {}
        self._waits_for: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._patches)

    def is_reserved(self, rows: np.ndarray) -> np.ndarray:
        """Return whether sources are checked out, active or fixed."""
        return self.is_active[rows] | self.is_fixed[rows]

    def in_the_way(self, active: np.ndarray, fixed: np.ndarray) -> int | None:
        """Return the number of a patch that keeps these sources from becoming active and fixed, or None."""
        reserved = active[self.is_reserved(active)]
        if not reserved.size:
            reserved = fixed[self.is_active[fixed]]
        if not reserved.size:
            return None
        row = int(reserved[0])
        return int(self._active_in[row]) if self.is_active[row] else min(self._fixed_in[row])

    def take(self, active: np.ndarray, fixed: np.ndarray) -> int:
        """Check out a patch (active sources free, fixed ones not active elsewhere); return its number."""
        number = self._next
        self._next += 1
        self._patches[number] = _Patch(active, fixed)
        self.is_active[active], self._active_in[active] = True, number
        self.is_fixed[fixed] = True
        self.n_active += len(active)
        for row in fixed.tolist():
            self._fixed_in.setdefault(row, set()).add(number)
        return number

    def wait(self, seed: int, number: int) -> None:
        """Note that a seed cannot be taken before a patch is back."""
        self._patches[number].waiting.append(seed)
        self._waits_for[seed] = number

    def is_waiting(self, rows: np.ndarray) -> np.ndarray:
        """Return whether sources are seeds that wait for a patch."""
        return np.array([row in self._waits_for for row in rows.tolist()], dtype=bool)

    def waiting(self, number: int) -> list[int]:
        """Return the seeds that wait for a patch."""
        return self._patches[number].waiting

    def active_in(self, row: int) -> int:
        """Return the number of the patch in which a source is active; -1 if there is none."""
        return int(self._active_in[row])

    def active_of(self, number: int) -> int:
        """Return a source that is active in a patch."""
        return int(self._patches[number].active[0])

    def number_of(self, active: np.ndarray, fixed: np.ndarray | None = None) -> int:
        """Return the number of the patch of these sources.

        Raises
        ------
        InputError
            If there is none.
        """
        number = -1
        if active.ndim == 1 and active.size and active.min() >= 0 and active.max() < len(self.is_active):
            number = int(self._active_in[active[0]])
        patch = self._patches.get(number)
        if (
            patch is None
            or set(active.tolist()) != set(patch.active.tolist())
            or len(active) != len(patch.active)
        ):
            raise InputError(
                f"source_index {active.tolist()}: not the active sources of a patch that is out, "
                "expected those that checkout_region gave"
            )
        if fixed is not None and not np.array_equal(fixed, patch.fixed):
            raise InputError(
                f"fixed sources {fixed.tolist()}: expected {patch.fixed.tolist()}, as checkout_region gave"
            )
        return number

    def bring_back(self, number: int) -> np.ndarray:
        """Bring a patch back; return the rows of its sources, and of the seeds that waited for it."""
        patch = self._patches.pop(number)
        self.is_active[patch.active], self._active_in[patch.active] = False, -1
        self.n_active -= len(patch.active)
        for row in patch.fixed.tolist():
            patches = self._fixed_in[row]
            patches.discard(number)
            if not patches:
                del self._fixed_in[row]
                self.is_fixed[row] = False
        for seed in patch.waiting:
            del self._waits_for[seed]
        return np.concatenate([patch.active, patch.fixed, np.array(patch.waiting, dtype=int)])
