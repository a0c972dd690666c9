"""Earlier results are moved aside whole, and come back whole."""

import pytest

from fphojax.results.aside import (
    WRITTEN_IN,
    drop_previous,
    move_aside,
    move_back,
    previous_folders,
    put_back,
)
from fphojax.system.json_files import read_json, write_json


@pytest.fixture
def run(tmp_path):
    """A run with patches, its settings, and a catalogue outside."""
    folder = tmp_path / "run"
    (folder / "patches").mkdir(parents=True)
    (folder / "patches" / "patch_1.nc").write_text("draws")
    (folder / "log.txt").write_text("log")
    (folder / "psf.asdf").write_text("psf")
    (tmp_path / "catalogue.fits").write_text("catalogue")
    settings = {"raw_catalog": "../catalogue.fits", "psfstorefile": "psf.asdf", WRITTEN_IN: str(folder)}
    write_json(folder / "config.json", settings)
    return folder


def content(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def moved(run):
    return move_aside(run, [run / "config.json", run / "patches", run / "absent"], copies=[run / "log.txt"])


def test_files_keep_their_relative_paths(run):
    aside = moved(run)
    assert aside == run / "previous_1"
    assert set(content(aside)) == {"config.json", "patches/patch_1.nc", "log.txt"}
    assert set(content(run)) == {f"previous_1/{name}" for name in content(aside)} | {"log.txt", "psf.asdf"}
    assert (aside / "log.txt").read_text() == "log"


def test_settings_still_lead_to_the_same_files(run):
    time = (run / "config.json").stat().st_mtime_ns
    aside = moved(run)
    settings = read_json(aside / "config.json", "settings")
    assert (aside / settings["raw_catalog"]).resolve() == run.parent / "catalogue.fits"
    assert (aside / settings["psfstorefile"]).resolve() == run / "psf.asdf"
    assert settings[WRITTEN_IN] == str(aside)
    assert (aside / "config.json").stat().st_mtime_ns == time


def test_settings_lead_to_what_moved_with_them(run):
    aside = move_aside(run, [run / "config.json", run / "psf.asdf"])
    settings = read_json(aside / "config.json", "settings")
    assert (aside / settings["psfstorefile"]).resolve() == aside / "psf.asdf"


def test_nothing_to_move(run):
    assert move_aside(run, [run / "absent"], copies=[run / "log.txt"]) is None
    assert previous_folders(run) == []


def test_move_back_undoes_it(run):
    before = content(run)
    aside = moved(run)
    (run / "log.txt").write_text("of the next fit")
    move_back(run, aside)
    after = content(run)
    assert read_json(run / "config.json", "settings") == {
        "raw_catalog": "../catalogue.fits",
        "psfstorefile": "psf.asdf",
        WRITTEN_IN: str(run),
    }
    del before["config.json"], after["config.json"]
    assert after == before
    assert previous_folders(run) == []


def test_move_that_was_interrupted_is_undone(run):
    before = content(run)
    unfinished = run / ".previous_1"
    (unfinished / "patches").mkdir(parents=True)
    (run / "patches" / "patch_1.nc").replace(unfinished / "patches" / "patch_1.nc")
    (run / "config.json").replace(unfinished / "config.json")
    put_back(run)
    assert content(run) == before
    assert not unfinished.exists()


def test_numbers_go_up_and_replaced_ones_are_dropped(run):
    for number in (1, 2, 10):
        (run / f"previous_{number}").mkdir()
    (run / "previous_x").mkdir()
    assert [path.name for path in previous_folders(run)] == ["previous_1", "previous_2", "previous_10"]
    assert moved(run).name == "previous_11"
    drop_previous(run, [run / "previous_2", run / "previous_11"])
    assert [path.name for path in previous_folders(run)] == ["previous_1", "previous_10"]
    assert {path.name for path in run.iterdir() if path.name.startswith(".")} == set()
