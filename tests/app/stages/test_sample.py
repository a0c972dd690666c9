"""The sampling stage, where what was sampled is not good."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import fphojax.app.stages.sample as stage
from fphojax.errors import InputError


def test_a_field_without_any_draws_ends_the_run(monkeypatch):
    """In one line that says why, rather than with a catalogue of no sources."""
    done = SimpleNamespace(scene=[0, 1], flagged={"7": "nothing but divergent draws", "8": "MemoryError"})
    monkeypatch.setattr(stage, "sample_field", lambda settings, **options: done)
    with pytest.raises(InputError, match=r"all 2 sources were given up, .*: nothing but divergent draws"):
        stage.sample(None)


@pytest.mark.parametrize(("trusted", "level"), [(True, "pass"), (False, "look at this")])
def test_draws_that_will_not_do(monkeypatch, trusted, level):
    summary = {"n_divergent": 0, "method": "importance", "trusted": trusted}
    entry = {"taskID": 0, "sources": [0], "n_iter": 250, "summary": summary}
    scene = type("Scene", (list,), {"patchlog": [json.dumps(entry)]})([0])
    directory = SimpleNamespace(path=Path("run"), scene_path=Path("run/scene.fits"))
    done = SimpleNamespace(scene=scene, flagged={}, directory=directory)
    monkeypatch.setattr(stage, "sample_field", lambda settings, **options: done)
    report = stage.sample(None)
    assert report.level == level
    assert report.tables["patches"]["method"].tolist() == ["importance"]
    assert ("Not to be trusted" in report.verdict) == (level == "look at this")
