"""A run of all stages: what is done is not done again, what changed is, and an error stops it in one line."""

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import numpy as np
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import fphojax.app.run.run_all as run_all_module
from fphojax.app.demo import write_demo
from fphojax.app.run.notebooks import IndexRow, execute, write_index
from fphojax.app.run.outcome import Outcome
from fphojax.app.run.record import RunRecord
from fphojax.app.run.run_all import run_all, templates_of
from fphojax.app.run.steps import Step, plan
from fphojax.app.settings.schema import Settings
from fphojax.app.settings.starter import template_folder
from fphojax.app.stage_list import STAGES
from fphojax.app.stages.folders import latest_fit
from fphojax.app.stages.stage_report import StageReport
from fphojax.errors import InputError, MachineError, StorageError
from fphojax.results.run_directory import RunDirectory
from fphojax.system.interrupts import Interruptions

NAMES = [
    "01_check_inputs",
    "02_psf_mixtures",
    "04_catalog",
    "05_optimize_1",
    "06_background_1",
    "07_noise_1",
    "08_detect_1",
    "05_optimize_2",
    "09_sample",
    "10_postprocess",
]


STAGES_BUT_LAST = [stage for stage in STAGES if stage != "postprocess"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    config, _ = write_demo(tmp_path_factory.mktemp("demo"))
    return config


@pytest.fixture
def settings(demo, tmp_path):
    shutil.copytree(demo.parent, tmp_path, dirs_exist_ok=True)
    return Settings.from_yaml(tmp_path / demo.name)


@pytest.fixture
def done(monkeypatch):
    """Stages that do nothing but note that they were called; `done.fails` names one that raises.

    Sampling starts a run in outbase, unless `done.early`: it then fails before.
    """

    class Calls(list):
        fails = None
        early = False
        options = {}  # noqa: RUF012 - of the last call of each step

    calls = Calls()

    def do(step, settings, options, template, folder, progress):
        calls.options[step.name] = options
        if step.stage == "sample" and not calls.early:
            start_run(settings)
        if step.name == calls.fails:
            raise InputError("no good")
        calls.append((step.name, settings.tweakbg.get("F150W"), settings.sampling_draws))
        changes = {"tweakbg": {"F150W": 0.5}} if step.stage == "background" else {}
        return Outcome("pass", "fine", changes, {}, 1.0)

    monkeypatch.setattr(run_all_module, "_execute_step", do)
    return calls


def start_run(settings):
    """As sampling does: its settings take the place of those of an earlier run."""
    settings.outbase.mkdir(exist_ok=True)
    path = settings.outbase / "config.json"
    size = path.stat().st_size if path.is_file() else 0
    path.write_text("x" * (size + 1))  # clocks of file systems are coarse


def names(calls):
    found = [name for name, *_ in calls]
    calls.clear()
    return found


def test_order_and_rounds(settings):
    assert [step.name for step in plan(settings)] == NAMES
    assert [step.name for step in plan(settings.changed(rounds=0))] == [
        *NAMES[:4],
        "07_noise_1",
        *NAMES[8:],
    ]
    stored = settings.changed(pixelstorefile="/nowhere/p.h5", metastorefile="/nowhere/m.json")
    assert plan(stored)[0] == Step("preprocess", 1)


def test_what_is_done_is_not_done_again(settings, done):
    assert run_all(settings, notebooks=False).repeated == tuple(NAMES)
    assert names(done) == NAMES
    again = run_all(settings, notebooks=False)
    assert again.repeated == ()
    assert list(again.steps) == NAMES
    assert names(done) == []


def test_a_changed_setting_repeats_its_stage_and_what_follows(settings, done):
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings.changed(sampling_draws=7), notebooks=False)
    assert names(done) == NAMES[8:]
    run_all(settings.changed(sampling_draws=7, buffer=1.0), notebooks=False)
    assert names(done) == NAMES[3:]


def test_what_a_stage_finds_reaches_those_that_follow(settings, done):
    run_all(settings, notebooks=False)
    assert [sky for _, sky, _ in done] == [None] * 5 + [0.5] * 5


def test_changed_inputs_repeat_all(settings, done):
    run_all(settings, notebooks=False)
    names(done)
    settings.raw_catalog.touch()
    run_all(settings, notebooks=False)
    assert names(done) == NAMES


def test_two_files_of_settings_do_not_share_a_folder(settings, done):
    """By default, all in one folder have the same outbase; each would replace the results of the other."""
    run_all(settings, notebooks=False)
    names(done)
    other = settings.source.with_name("other.yml")
    shutil.copyfile(settings.source, other)
    message = (
        f"other.yml: outbase: found .*run, which has the run of .*{settings.source.name}, expected another"
    )
    with pytest.raises(InputError, match=message):
        run_all(Settings.from_yaml(other), notebooks=False)
    assert names(done) == []
    settings.source.unlink()  # it was given another name
    assert run_all(Settings.from_yaml(other), notebooks=False).repeated == ()


def test_another_template_repeats_its_stage(settings, done):
    folder = settings.source.parent / "templates"
    folder.mkdir()
    for name in (stage.template for stage in STAGES.values()):
        (folder / f"{name}.ipynb").write_text("{}")
    assert templates_of(settings) == folder
    run_all(settings)
    names(done)
    (folder / "10_postprocess.ipynb").write_text('{"changed": 1}')
    run_all(settings)
    assert names(done) == NAMES[9:]


@pytest.mark.parametrize("first", [True, False])
def test_with_or_without_notebooks_is_all_the_same(settings, done, first):
    """Either leaves the same files; a step that was interrupted goes on, too."""
    done.fails = "09_sample"
    with pytest.raises(InputError):
        run_all(settings, notebooks=first)
    done.fails = None
    names(done)
    run_all(settings, notebooks=not first)
    assert names(done) == NAMES[8:]
    assert done.options["09_sample"]["resume"]
    assert run_all(settings, notebooks=first).repeated == ()


def test_stages_announce_themselves(settings, done, caplog):
    caplog.set_level("INFO", logger="fphojax")
    run_all(settings, stages=["check"], notebooks=False)
    run_all(settings, stages=STAGES_BUT_LAST, notebooks=False)
    found = [record.getMessage() for record in caplog.records]
    assert found[:5] == [
        "stage 1 of 10, check: 4 files of exposures",
        "stage 1 of 10, check: pass after 0 s",
        "stage 1 of 10, check: unchanged",
        "stage 2 of 10, psf: 4 files of exposures",
        "stage 2 of 10, psf: pass after 0 s",
    ]
    assert "stage 4 of 10, optimize: 3 sources" in found
    assert found[-1] == "stage 9 of 10, sample: pass after 0 s"
    caplog.clear()
    done.fails = "09_sample"
    for draws in (7, 7):
        with pytest.raises(InputError):
            run_all(settings.changed(sampling_draws=draws), notebooks=False)
    assert caplog.records[-1].getMessage() == "stage 9 of 10, sample: 3 sources, resumed"


def test_an_error_stops_the_run_and_the_same_call_goes_on(settings, done):
    done.fails = "09_sample"
    with pytest.raises(InputError, match="no good"):
        run_all(settings, notebooks=False)
    assert names(done) == NAMES[:8]
    assert done.options["09_sample"] == {"workers": None, "resume": False, "overwrite": False}
    done.fails = None
    run_all(settings, notebooks=False)
    assert names(done) == NAMES[8:]
    assert done.options["09_sample"] == {"workers": None, "resume": True, "overwrite": False}


def test_an_interrupted_fit_with_other_settings_is_replaced(settings, done):
    done.fails = "09_sample"
    with pytest.raises(InputError):
        run_all(settings, notebooks=False)
    done.fails = None
    kept = (settings.outbase / "config.json").read_text()
    run_all(settings.changed(sampling_draws=7), stages=STAGES_BUT_LAST, notebooks=False)
    assert done.options["09_sample"] == {"workers": None, "resume": False, "overwrite": False}
    assert (settings.outbase / "previous_1" / "config.json").read_text() == kept
    run_all(settings.changed(sampling_draws=7), notebooks=False)
    assert not (settings.outbase / "previous_1").exists()


def test_a_run_that_was_not_begun_is_replaced_and_not_gone_on_with(settings, done):
    """Sampling was interrupted before it had replaced the run of other settings."""
    run_all(settings, notebooks=False)
    done.fails, done.early = "09_sample", True
    for _ in range(2):
        with pytest.raises(InputError):
            run_all(settings.changed(chains=2), notebooks=False)
        assert done.options["09_sample"] == {"workers": None, "resume": False, "overwrite": False}
    names(done)
    assert run_all(settings, notebooks=False).repeated == ()  # the first one is in its place again
    done.early = False
    for resume in (False, True, True):
        with pytest.raises(InputError, match=r"no good; the previous results are in .*previous_1 until"):
            run_all(settings.changed(chains=2), notebooks=False)
        assert done.options["09_sample"] == {"workers": None, "resume": resume, "overwrite": False}


def test_the_stage_to_start_from_is_not_gone_on_with(settings, done):
    done.fails = "09_sample"
    for _ in range(3):
        with pytest.raises(InputError):
            run_all(settings, start="sample", notebooks=False)
    assert done.options["09_sample"] == {"workers": None, "resume": False, "overwrite": False}
    done.fails = "05_optimize_1"
    for _ in range(2):
        with pytest.raises(InputError):
            run_all(settings, start="optimize", notebooks=False)
    assert not done.options["05_optimize_1"]["resume"]


def test_a_run_that_was_made_by_hand_is_not_replaced(settings, done):
    """However often the stage is tried; an earlier run of the record is."""
    start_run(settings)
    done.fails, done.early = "09_sample", True
    for draws in (5, 5, 7):
        with pytest.raises(InputError):
            run_all(settings.changed(sampling_draws=draws), notebooks=False)
        assert done.options["09_sample"] == {"workers": None, "resume": False, "overwrite": False}


def levels(settings):
    """What the index says of each step."""
    text = (settings.outbase / "notebooks" / "index.html").read_text()
    pattern = (
        r'<td>(?:<a href="(.*?)">)?(\w+)(?:</a>)?</td><td class="\w+">(.*?)</td><td>(.*?)</td><td>(.*?)</td>'
    )
    return {name: (level, said, time, page) for page, name, level, said, time in re.findall(pattern, text)}


def test_index_tells_how_all_stages_stand(settings, done):
    """After each of them, those that failed and those that were not done included."""
    done.fails = "06_background_1"
    with pytest.raises(InputError):
        run_all(settings, notebooks=False)
    found = levels(settings)
    assert list(found) == NAMES
    assert {name: level for name, (level, *_) in found.items()} == {
        **dict.fromkeys(NAMES[:4], "pass"),
        "06_background_1": "failed",
        **dict.fromkeys(NAMES[5:], "not run"),
    }
    assert found["06_background_1"][1] == "no good"
    done.fails = None
    run_all(settings, notebooks=False)
    assert [time for _, _, time, _ in levels(settings).values()] == 4 * ["unchanged"] + 6 * ["1"]
    done.fails = "05_optimize_2"
    with pytest.raises(InputError):
        run_all(settings, start="optimize", notebooks=False)
    found = levels(settings)
    assert found["05_optimize_1"][2] == "1"
    assert found["04_catalog"][2] == "unchanged"
    assert found["05_optimize_2"][0] == "failed"
    assert found["09_sample"][:2] == ("out of date", "earlier results: previous_1")


def test_index_leads_to_the_notebook_that_failed(settings):
    """With its error; what an earlier run left stays what it was."""
    shutil.copytree(template_folder(), settings.source.parent / "templates")
    template = settings.source.parent / "templates" / "01_check_inputs.ipynb"
    parameters = new_code_cell("value = 1", metadata={"tags": ["parameters"]})
    language = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    cells = [parameters, new_code_cell("1 / 0")]
    nbformat.write(new_notebook(cells=cells, metadata=language), template)
    with pytest.raises(InputError, match=r"notebooks/01_check_inputs\.ipynb: ZeroDivisionError"):
        run_all(settings, stages=["check"])
    found = levels(settings)
    assert found["01_check_inputs"] == (
        "failed",
        "ZeroDivisionError: division by zero",
        "",
        "01_check_inputs.html",
    )
    assert found["02_psf_mixtures"][0] == "not run"


def writing(step, settings, options, template, folder, progress):
    """Stages that leave files where the real ones do, with their number of starts in them."""
    made = [
        folder / f"{step.name}.ipynb",
        folder / f"{step.name}.html",
        folder / "steps" / f"{step.name}.yml",
    ]
    files, changes = {}, {}
    match step.stage:
        case "optimize":
            made += [Path(options["out"]) / name for name in ("config.json", "patches/patch0_samples.nc")]
            files["run"] = options["out"]
        case "detect":
            made.append(settings.outbase / f"detect_{step.round}" / "sources.fits")
            files["catalog"] = changes["raw_catalog"] = str(made[-1])
        case "sample":
            made += [
                settings.outbase / name for name in ("config.json", "scene.fits", "patches/patch0_samples.nc")
            ]
        case "postprocess":
            made += [settings.outbase / name for name in ("catalogs/final.fits", "report.html")]
            files["report"] = str(made[-1])
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        writing.starts += 1
        path.write_text(json.dumps({"start": writing.starts, "raw_catalog": str(settings.raw_catalog)}))
        if step.name == writing.interrupted:
            raise KeyboardInterrupt
    return Outcome("pass", "fine", changes, files, 1.0)


def results(folder):
    """What there is in a folder, the record and the index apart."""
    return {
        path.relative_to(folder): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("index.html", "record.json") and "previous" not in str(path)
    }


@pytest.mark.parametrize(
    "name", ["01_check_inputs", "05_optimize_1", "08_detect_1", "09_sample", "10_postprocess"]
)
def test_a_second_run_that_is_interrupted_leaves_the_first_whole(settings, monkeypatch, name):
    """In its place if nothing has taken it, else in a folder of its own, which the message names."""
    monkeypatch.setattr(run_all_module, "_execute_step", writing)
    writing.starts, writing.interrupted = 0, None
    run_all(settings)
    first, config = results(settings.outbase), (settings.outbase / "config.json").read_text()
    assert len(first) == 10 * 3 + 2 * 2 + 1 + 3 + 2
    settings.raw_catalog.touch()
    writing.interrupted = name
    with pytest.raises(KeyboardInterrupt) as interruption:
        run_all(settings)
    aside = settings.outbase / "previous_1"
    where = settings.outbase if name == "01_check_inputs" else aside
    kept = {
        path.relative_to(where): path.read_text()
        for path in where.rglob("*")
        if path.is_file() and path.name not in ("index.html", "record.json", "01_check_inputs_failed.ipynb")
    }
    assert kept.keys() == first.keys()
    others = [path for path in first if path.name != "config.json"]
    assert [kept[path] for path in others] == [first[path] for path in others]
    before = RunDirectory(where).read_config()
    assert before["start"] == json.loads(config)["start"]
    assert before["raw_catalog"] == str(where / "detect_1" / "sources.fits")
    assert (where / "detect_1" / "sources.fits").is_file()
    assert latest_fit(settings.changed(outbase=str(where))).path == where
    if where == aside:
        assert f"continues; the previous results are in {aside} until" in str(interruption.value)
    else:
        assert str(interruption.value).endswith("and the same command continues")
        assert not aside.exists()
    writing.interrupted = None
    for path in set(results(settings.outbase)) - set(first):
        (settings.outbase / path).unlink()
    monkeypatch.setattr(run_all_module, "_execute_step", lambda *a: cleared(*a))
    run_all(settings)
    assert results(settings.outbase).keys() == first.keys()
    assert not list(settings.outbase.glob("*previous*"))
    assert run_all(settings).repeated == ()


def cleared(step, settings, options, template, folder, progress):
    """As `writing`, where a stage goes on that was interrupted."""
    for path in folder.glob(f"**/{step.name}.*"):
        path.unlink()
    if step.stage in ("sample", "optimize"):
        where = settings.outbase if step.stage == "sample" else Path(options["out"])
        for name in ("config.json", "scene.fits", "patches/patch0_samples.nc"):
            (where / name).unlink(missing_ok=True)
    return writing(step, settings, options, template, folder, progress)


def test_a_moved_run_repeats_nothing(settings, monkeypatch, tmp_path):
    """Neither where all was moved, nor where the folder of the run alone was."""
    monkeypatch.setattr(run_all_module, "_execute_step", writing)
    writing.starts, writing.interrupted = 0, None
    run_all(settings)
    assert str(tmp_path) not in (settings.outbase / "notebooks" / "record.json").read_text()
    moved = tmp_path / "deep" / "moved"
    moved.mkdir(parents=True)
    for path in [path for path in tmp_path.iterdir() if path.name != "deep"]:
        shutil.move(path, moved / path.name)
    again = Settings.from_yaml(moved / settings.source.name)
    done = run_all(again)
    assert done.repeated == ()
    assert done.steps["08_detect_1"].files == {"catalog": str(again.outbase / "detect_1" / "sources.fits")}
    assert done.steps["08_detect_1"].changes == {
        "raw_catalog": str(again.outbase / "detect_1" / "sources.fits")
    }
    shutil.move(again.outbase, tmp_path / "alone")
    alone = again.changed(outbase=str(tmp_path / "alone"))
    assert run_all(alone).repeated == ()
    again.raw_catalog.touch()
    assert len(run_all(alone).repeated) == len(NAMES)


def test_what_to_do_after_ctrl_c(settings, done, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_all_module, "_execute_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"in 01_check_inputs; .*the same command continues"):
        run_all(settings, notebooks=False)
    with pytest.raises(KeyboardInterrupt, match="the same command without --from continues"):
        run_all(settings, start="check", notebooks=False)


def test_an_interrupted_optimisation_goes_on_in_its_folder(settings, done):
    """Not in that of another round, nor in one that was there before."""
    by_hand = settings.outbase / "optimize_1"
    by_hand.mkdir(parents=True)
    done.fails = "05_optimize_1"
    with pytest.raises(InputError):
        run_all(settings, notebooks=False)
    assert done.options["05_optimize_1"] == {
        "out": f"{by_hand.parent}/optimize_2",
        "workers": None,
        "resume": False,
    }
    (by_hand.parent / "optimize_2").mkdir()
    with pytest.raises(InputError):
        run_all(settings, workers=2, notebooks=False)
    assert done.options["05_optimize_1"] == {
        "out": f"{by_hand.parent}/optimize_2",
        "workers": 2,
        "resume": True,
    }
    with pytest.raises(InputError):
        run_all(settings.changed(buffer=1.0), notebooks=False)
    assert done.options["05_optimize_1"] == {
        "out": f"{by_hand.parent}/optimize_2",
        "workers": None,
        "resume": False,
    }
    # nothing took the place of what was there
    assert sorted(path.name for path in by_hand.parent.glob("optimize_*")) == ["optimize_1", "optimize_2"]
    assert not list(by_hand.parent.glob("previous_*"))


def test_only_some_stages_or_from_one_on(settings, done):
    run_all(settings, stages=["check"], notebooks=False)
    assert names(done) == NAMES[:1]
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings, start="sample", notebooks=False)
    assert names(done) == NAMES[8:]
    for option in ({"stages": ["bake"]}, {"start": "bake"}):
        with pytest.raises(InputError, match="found bake, expected"):
            run_all(settings, notebooks=False, **option)


def test_stages_before_those_asked_for_are_up_to_date(settings, done):
    """Else sampling starts from the catalogue that the user gave."""
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings.changed(chains=2), stages=["sample"], notebooks=False)
    assert done == [("09_sample", 0.5, 250)]
    names(done)
    run_all(settings.changed(chains=2), stages=["sample"], start="sample", notebooks=False)
    assert names(done) == ["09_sample"]
    with pytest.raises(InputError) as error:
        run_all(settings.changed(gtol=1e-6), stages=["sample"], notebooks=False)
    assert str(error.value) == (
        "--stages: found no 05_optimize_1 that is up to date, expected it before 09_sample: add --stages optimize, "
        "or leave --stages out"
    )


def test_a_gap_between_stages_is_found_before_any_is_done(settings, done):
    run_all(settings, notebooks=False)
    names(done)
    with pytest.raises(InputError, match=r"found no 06_background_1 that .* before 05_optimize_2"):
        run_all(settings, stages=["optimize"], start="optimize", notebooks=False)
    assert names(done) == []
    assert run_all(settings, notebooks=False).repeated == ()


def test_forced_photometry_is_refused_before_anything_is_done(settings, done):
    forced = settings.changed(forced_photometry=True, rounds=0)
    with pytest.raises(InputError, match="forced_photometry: found true, expected false: sampling fits"):
        run_all(forced, notebooks=False)
    assert names(done) == []
    run_all(forced, stages=["check", "psf", "catalog", "optimize"], notebooks=False)
    assert names(done) == NAMES[:4]


def test_a_step_whose_files_are_gone_is_done_again(settings, tmp_path):
    record, step = RunRecord(tmp_path / "record.json"), Step("psf", 1)
    (tmp_path / "psfs.h5").touch()
    record.start(step, "key", [], settings)
    record.end(step, Outcome("pass", "", {}, {"psfs": str(tmp_path / "psfs.h5")}))
    again = RunRecord(tmp_path / "record.json")
    assert again.outcome(step, "key", None) is not None
    assert again.outcome(step, "other", None) is None
    (tmp_path / "psfs.h5").unlink()
    assert again.outcome(step, "key", None) is None
    assert json.loads((tmp_path / "record.json").read_text())["02_psf_mixtures"]["key"] == "key"


def made_and_repeated(settings, step, outcome, now):
    """Names of what is below outbase after a step that ended so is repeated with the settings `now`."""
    record = RunRecord(settings.outbase / "notebooks" / "record.json")
    record.start(step, "key", [], settings)
    record.end(step, outcome)
    record.start(step, "other", [], now)
    aside = settings.outbase / "previous_1"
    if aside.is_dir():
        assert (aside / "notebooks" / "record.json").is_file()
        assert any(path.is_file() and path.name != "record.json" for path in aside.rglob("*"))
        shutil.rmtree(aside)
    return sorted(path.name for path in settings.outbase.iterdir() if path.name != "notebooks")


def sources_in(folder):
    folder.mkdir(parents=True)
    (folder / "sources.fits").touch()
    return folder / "sources.fits"


def test_a_repeated_step_moves_the_numbered_results_that_it_made(settings):
    """So that it takes the number again; what it did not make stays."""
    by_hand = sources_in(settings.outbase / "detect_1")
    made = sources_in(settings.outbase / "detect_2")
    found = Outcome("pass", "", {"raw_catalog": str(made)}, {"catalog": str(made)})
    assert made_and_repeated(settings, Step("detect", 1), found, settings) == ["detect_1"]
    made = sources_in(settings.outbase / "detect_2")  # by the stage that had no catalogue
    assert made_and_repeated(settings, Step("catalog", 1), found, settings) == ["detect_1"]
    given = settings.changed(raw_catalog=str(by_hand))
    read = Outcome("pass", "", {}, {"catalog": str(by_hand)})
    assert made_and_repeated(given, Step("catalog", 1), read, settings) == ["detect_1"]


def test_inputs_are_not_deleted_whoever_made_them(settings):
    made = sources_in(settings.outbase / "detect_1")
    found = Outcome("pass", "", {"raw_catalog": str(made)}, {"catalog": str(made)})
    now = settings.changed(raw_catalog=str(made))
    assert made_and_repeated(settings, Step("detect", 1), found, now) == ["detect_1"]
    text = settings.outbase / "background_1.yml"
    text.write_text(settings.dump_yaml())
    levels = Outcome("pass", "", {}, {"settings": str(text)})
    now = Settings.from_yaml(text)
    names = made_and_repeated(settings, Step("background", 1), levels, now)
    assert names == ["background_1.yml", "detect_1"]


def test_folders_outside_of_outbase_are_not_deleted(settings, tmp_path):
    """Nor outbase itself, where it has such a name."""
    elsewhere = sources_in(tmp_path / "detect_1")
    inside = settings.changed(outbase=str(tmp_path / "detect_2"))
    (inside.outbase / "psfs.h5").parent.mkdir()
    (inside.outbase / "psfs.h5").touch()
    files = {"catalog": str(elsewhere), "psfs": str(inside.outbase / "psfs.h5")}
    assert made_and_repeated(inside, Step("detect", 1), Outcome("pass", "", {}, files), inside) == ["psfs.h5"]
    assert elsewhere.is_file()


def test_a_catalogue_that_is_made_first_reaches_the_next_stage(settings, tmp_path):
    report = StageReport("catalog", "", {}, {"catalog": tmp_path / "sources.fits"})
    assert Outcome.of(settings.changed(raw_catalog=None), report).changes == {
        "raw_catalog": str(tmp_path / "sources.fits")
    }
    given = StageReport("catalog", "", {}, {"catalog": settings.raw_catalog})
    assert Outcome.of(settings, given).changes == {}


def test_index_leads_to_notebooks_and_report(tmp_path):
    index = tmp_path / "notebooks" / "index.html"
    index.parent.mkdir()
    (index.parent / "09_sample.html").touch()
    rows = [IndexRow("09_sample", "look at this", "2 < 3", "12"), IndexRow("10_postprocess", "not run")]
    write_index(index, "Stages of a & b", rows)
    text = index.read_text()
    assert 'href="09_sample.html"' in text
    assert "<td>10_postprocess</td>" in text
    assert "2 &lt; 3" in text
    assert "<h1>Stages of a &amp; b</h1>" in text
    assert "report" not in text
    write_index(index, "Stages", rows, tmp_path / "report.html")
    assert 'href="../report.html"' in index.read_text()


def write_template(path, *sources):
    """A notebook of the parameter ``value``, and cells."""
    parameters = new_code_cell("value = 1", metadata={"tags": ["parameters"]})
    language = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    cells = [parameters, *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells, metadata=language), path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_kernel_is_told_of_ctrl_c(tmp_path, number):
    """And of SIGTERM: the cell has its time to end, however often they come, and the kernel is not left behind."""
    template, made = tmp_path / "template.ipynb", tmp_path / "made.ipynb"
    write_template(
        template,
        f"import os, signal, time; from pathlib import Path; folder = Path({str(tmp_path)!r})",
        "try:\n    (folder / 'begun').write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "finally:\n    time.sleep(0.3)\n    (folder / 'ended').touch()",
        "(folder / 'never').touch()",
    )

    def interrupt():
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        for _ in range(3):
            os.kill(os.getpid(), number)
            time.sleep(0.05)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with Interruptions(terminations=True) as interruptions, pytest.raises(KeyboardInterrupt):
            execute(template, made, {"value": 5})
    finally:
        signal.signal(signal.SIGINT, before)
    assert interruptions.last_signal == number
    assert (tmp_path / "ended").exists()
    assert not (tmp_path / "never").exists()
    assert not psutil.pid_exists(int((tmp_path / "begun").read_text()))
    outputs = [
        output for cell in nbformat.read(made, as_version=4).cells for output in cell.get("outputs", [])
    ]
    assert outputs[-1].ename == "KeyboardInterrupt"


@pytest.mark.parametrize("kind", [StorageError, MachineError])
def test_a_fault_of_the_machine_is_one_outside_of_the_notebook_too(tmp_path, kind):
    template = tmp_path / "template.ipynb"
    write_template(template, f"from fphojax.errors import *; raise {kind.__name__}('scene.fits: full')")
    with pytest.raises(MachineError, match=r"^scene\.fits: full$"):
        execute(template, tmp_path / "made.ipynb", {"value": 5})


def test_sources_that_were_given_up_are_tried_again_on_demand(settings, done, tmp_path, monkeypatch):
    """Their stage goes on, and what follows it is repeated."""
    flags = {"05_optimize_1": [], "09_sample": ["singular"]}

    def do(step, settings, options, *_):
        done.options[step.name] = options
        done.append((step.name, None, None))
        (tmp_path / step.name).touch()
        if step.stage == "sample":
            start_run(settings)
        files = dict.fromkeys(("catalog", "scene"), str(tmp_path / step.name))
        return Outcome("pass", "", {}, files, 1.0)

    def read(path):
        catalog = MagicMock(extra={"fit_flag": np.array(flags.get(Path(path).name, [""]), dtype=str)})
        catalog.__len__.return_value = 1
        return catalog

    monkeypatch.setattr(run_all_module, "_execute_step", do)
    monkeypatch.setattr(run_all_module.SourceCatalog, "read", read)
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings, notebooks=False)
    assert names(done) == []
    run_all(settings, retry=True, notebooks=False)
    assert names(done) == NAMES[8:]
    assert done.options["09_sample"]["resume"]
    assert done.options["09_sample"]["retry"]
    flags.clear()
    run_all(settings, retry=True, notebooks=False)
    assert names(done) == []


def test_log_of_a_notebook_is_relayed(tmp_path, caplog):
    caplog.set_level("INFO", logger="fphojax")
    template, made = tmp_path / "template.ipynb", tmp_path / "made.ipynb"
    write_template(template, "import logging; logging.getLogger('fphojax.there').info('3 sources'); value")
    execute(template, made, {"value": 5})
    assert [record.getMessage() for record in caplog.records] == ["3 sources"]
    (last,) = nbformat.read(made, as_version=4).cells[-1].outputs
    assert last.data["text/plain"] == "5"  # and nothing of the log


def test_a_notebook_ends_with_the_cell_that_fails(tmp_path):
    template, made = tmp_path / "template.ipynb", tmp_path / "made.ipynb"
    write_template(template, "print(value)", "1 / 0", "print('never')")
    with pytest.raises(InputError) as error:
        execute(template, made, {"value": 5})
    assert str(error.value) == f"{made}: ZeroDivisionError: division by zero"
    outputs = [cell.outputs for cell in nbformat.read(made, as_version=4).cells if cell.cell_type == "code"]
    text = [output.text for cell in outputs for output in cell if output.output_type == "stream"]
    assert text == ["5\n"]
    assert outputs[-1] == []


@pytest.mark.parametrize("name", ["NoSuchKernel", "DeadKernelError"])
def test_kernel_that_does_not_work(tmp_path, monkeypatch, name):
    """One line, with the way around it."""
    import papermill
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient.exceptions import DeadKernelError

    def fails(*_, **__):
        raise NoSuchKernel("python3") if name == "NoSuchKernel" else DeadKernelError("Kernel died")

    monkeypatch.setattr(papermill, "execute_notebook", fails)
    with pytest.raises(InputError) as caught:
        execute(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {})
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'b.ipynb'}: no working Jupyter kernel ({name}: ")
    assert line.endswith("--no-notebooks does without")
    assert "\n" not in line
