"""Outcome of a stage, on its way through a file."""

from pathlib import Path

import pytest

from fphojax.app.run.outcome import Outcome, Verdict, conclude
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.stage_report import StageReport
from fphojax.errors import InputError


@pytest.fixture
def settings(tmp_path):
    files = {"raw_catalog": tmp_path / "before.fits", "outbase": tmp_path / "run"}
    return Settings(bandlist=["g"], fitsfiles=[str(tmp_path / "g.fits")], **files)


def reports(tmp_path):
    first = StageReport("detect", "Two sources.", files={"catalog": tmp_path / "after.fits"}, seconds=1.26)
    return first, StageReport("check", "All is well.", files={"report": Path("report.html")}, seconds=2.0)


def test_outcome_of_two_reports(settings, tmp_path):
    found = Outcome.of(settings, *reports(tmp_path))
    assert found.level == "pass"
    assert found.verdict == "Two sources. All is well."
    assert found.changes == {"raw_catalog": str(tmp_path / "after.fits")}
    assert found.files == {"catalog": str(tmp_path / "after.fits"), "report": "report.html"}
    assert found.seconds == 3.3


def test_one_report_to_look_at_is_enough(settings):
    parts = StageReport("check", "Good."), StageReport("check", "Not so.", level="look at this")
    assert Outcome.of(settings, *parts).level == "look at this"
    assert Outcome.of(settings, parts[0]).changes == {}


def test_notebook_shows_and_writes_it(settings, tmp_path):
    path = tmp_path / "outcome.json"
    verdict = conclude(settings, *reports(tmp_path), outcome=path)
    assert repr(verdict) == "pass: Two sources. All is well."
    assert Outcome.read(path) == Outcome.of(settings, *reports(tmp_path))
    assert conclude(settings, *reports(tmp_path)) == verdict


def test_html_shows_the_text_as_it_is():
    assert "a &lt;b&gt; &amp; c" in Verdict("look at this", "a <b> & c")._repr_html_()


def test_notebook_that_did_not_reach_its_end(tmp_path):
    with pytest.raises(InputError, match="no such file, expected the verdict of a stage: its last cell"):
        Outcome.read(tmp_path / "outcome.json")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"level": "fine", "verdict": "x"},
        {"level": "pass", "verdict": 3},
        {"level": "pass", "verdict": "x", "changes": []},
        {"level": "pass", "verdict": "x", "files": {"a": 1}},
        {"level": "pass", "verdict": "x", "files": ["a"]},
        {"level": "pass", "verdict": "x", "seconds": "1"},
        {"level": "pass", "verdict": "x", "more": 1},
    ],
)
def test_content_that_is_none(content):
    with pytest.raises(InputError, match=r"found .*, expected the outcome of a stage"):
        Outcome.of_json(content)
