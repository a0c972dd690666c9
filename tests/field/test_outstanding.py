"""The state of numbered patches that records restore."""

import json

import numpy as np
import pytest

from fphojax.field.outstanding import NumberedPatch, Outstanding
from fphojax.field.reservations import Reservations
from fphojax.results.patch_journal import CheckIn, CheckOut, PendingOutcome, PendingOutcomes, Release


def patch(number, batch, active, fixed=()):
    return NumberedPatch(number, batch, np.array(active, dtype=int), np.array(fixed, dtype=int))


def started():
    out = Reservations(12)
    return out, Outstanding(out)


@pytest.fixture
def three_out():
    """Patches 5, 6 and 7, the last two fitted together; seed 9 waits for the first, 10 for the last."""
    out, numbered = started()
    for of in (patch(5, 5, [0, 1], [2]), patch(6, 6, [3], [2]), patch(7, 6, [4, 5])):
        numbered.take(of)
    numbered.wait(9, out.active_in(0))
    numbered.wait(10, out.active_in(4))
    return out, numbered


def state(out, numbered):
    found = [
        (p.number, p.batch, p.active.tolist(), p.fixed.tolist(), p.outcome and p.outcome.n_iter)
        for p in numbered.patches.values()
    ]
    waiting = np.flatnonzero(out.is_waiting(np.arange(12))).tolist()
    return found, numbered.filling, waiting, out.is_active.tolist(), out.is_fixed.tolist()


def test_records_restore_the_state(three_out):
    out, numbered = three_out
    numbered.keep([PendingOutcome(5, n_iter=31)])
    again, restored = started()
    for record in numbered.records():
        restored.replay(record)
    assert state(again, restored) == state(out, numbered)
    assert numbered.filling
    assert [r.closed for r in numbered.records() if isinstance(r, CheckOut)] == [True, True, False]
    # when patches come back, the same seeds are free again
    for reservations, of in ((out, numbered), (again, restored)):
        assert sorted(of.bring_back(reservations.active_in(0), fitted=True)) == [0, 1, 2, 9]
    assert state(again, restored) == state(out, numbered)
    assert not restored.filling


def test_batch_stays_closed_after_a_restart(three_out):
    out, numbered = three_out
    numbered.bring_back(out.active_in(0), fitted=True)
    _, restored = started()
    for record in numbered.records():
        restored.replay(record)
    assert not restored.filling
    assert [p.number for p in restored.patches.values()] == [6, 7]


def test_patch_that_is_given_back_leaves_the_batch_open(three_out):
    out, numbered = three_out
    numbered.bring_back(out.active_in(4), fitted=False)
    assert numbered.filling


def test_waits_are_noted_by_a_source_of_the_patch(three_out):
    out, numbered = three_out
    assert numbered.waits == [[9, 0], [10, 4]]
    other = out.take(np.array([8]), np.array([], dtype=int))
    numbered.wait(11, other)  # for a patch without number, which no restart brings back
    assert numbered.waits == [[9, 0], [10, 4]]


def test_journal_of_a_life():
    out, numbered = started()
    numbered.replay(CheckOut(1, 1, [0, 1], [2], closed=True))
    assert not numbered.filling
    numbered.replay(CheckOut(2, 2, [3], [2], [[6, 0]]))
    assert numbered.filling
    assert out.is_waiting(np.array([6])).all()
    numbered.replay(PendingOutcomes([PendingOutcome(2, n_iter=8), PendingOutcome(99)]))
    assert [p.outcome and p.outcome.n_iter for p in numbered.patches.values()] == [None, 8]
    entry = json.dumps({"sources": [0, 1]})
    numbers = np.zeros((2, 2))
    numbered.replay(CheckIn(0, entry, numbers.astype(int), numbers, waits=[[7, 3]]))
    assert [p.number for p in numbered.patches.values()] == [2]
    assert out.is_waiting(np.array([6, 7])).tolist() == [False, True]
    numbered.replay(Release(2))
    assert not numbered.patches
    assert len(out) == 0
