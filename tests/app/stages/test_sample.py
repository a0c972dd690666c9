"""The sampling stage, where nothing could be sampled."""

from types import SimpleNamespace

import pytest

import fphojax.app.stages.sample as stage
from fphojax.inputs.errors import InputError


def test_a_field_without_any_draws_ends_the_run(monkeypatch):
    """In one line that says why, rather than with a catalogue of no sources."""
    done = SimpleNamespace(scene=[0, 1], flagged={"7": "nothing but divergent draws", "8": "MemoryError"})
    monkeypatch.setattr(stage, "run", lambda settings, **options: done)
    with pytest.raises(InputError, match=r"all 2 sources were given up, .*: nothing but divergent draws"):
        stage.sample(None)
