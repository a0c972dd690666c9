"""Progress of a loop: what is logged, when, and what a bar shows."""

import io
import logging
import sys

import pytest

import fphojax.system.progress as module
from fphojax.system.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; its time is the first entry."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="fphojax")
    return lambda: [record.getMessage() for record in caplog.records]


def test_short_loop_says_nothing(clock, lines):
    for _ in Progress(range(5), text="exposures", units="files"):
        clock[0] += 5
    assert lines() == []


def test_long_loop_says_how_far_it_is_and_when_it_ended(clock, lines):
    seen = []
    for number in Progress(range(100), text="exposures", units="files"):
        seen.append(number)
        clock[0] += 10
    assert seen == list(range(100))
    found = lines()
    assert found[0] == "exposures: 3 of 100 files, about 16 min left"
    assert found[-1] == "exposures: 100 of 100 files, after 17 min"
    assert 8 < len(found) < 20  # each later than the one before by a quarter of the time


def test_lines_are_at_most_ten_minutes_apart(clock, lines):
    for _ in Progress(range(40), text="field", units="sources"):
        clock[0] += 601
    assert len(lines()) == 40


def test_number_that_goes_back_and_notes(clock, lines):
    with Progress[None](text="field", units="sources", total=10, initial=4) as progress:
        clock[0] = 40
        progress.reach(6, "2 patches")
        clock[0] = 60
        progress.reach(5, "2 patches")
    assert lines() == [
        "field: 6 of 10 sources, 2 patches, about 80 s left",
        "field: 5 of 10 sources, 2 patches, about 5 min left",
    ]


def test_nothing_done_yet(clock, lines):
    with Progress[None](text="field", units="sources", total=10) as progress:
        clock[0] = 40
        progress.reach(0)
    assert lines() == ["field: 0 of 10 sources, 40 s passed"]


def test_early_end(clock, lines):
    with Progress[None](text="warm-up", units="draws", total=500) as progress:
        clock[0] = 40
        progress.update(60)
        progress.end_early("the chains have settled")
    assert lines()[1:] == ["warm-up: 60 of 60 draws, of at most 500: the chains have settled, after 40 s"]


def test_failure_is_no_end(clock, lines):
    def items():
        yield 1
        clock[0] = 40
        yield 2
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(Progress(items(), text="a", units="b", total=2))
    assert lines() == []


def test_bar(monkeypatch, lines):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with Progress[None](text="warm-up", units="draws", total=500, shown=True) as progress:
        progress.reach(60, "3 patches")
        progress.end_early("the chains have settled")
    shown = screen.getvalue().split("\r")
    assert "warm-up:   0% |" in shown[1]
    assert "60/60 draws" in shown[-1]
    assert "of at most 500: the chains have settled" in shown[-1]
    assert lines() == []
