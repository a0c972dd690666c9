"""A run of all stages: what is done is not done again, what changed is, and an error stops it in one line."""

import json
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import fphojax.app.stages.run_all as run_all_module
from fphojax.app.config import Settings
from fphojax.app.demo import write_demo
from fphojax.app.stages.notebooks import execute, write_index
from fphojax.app.stages.outcome import Outcome
from fphojax.app.stages.record import RunRecord
from fphojax.app.stages.report import StageReport
from fphojax.app.stages.run_all import run_all, templates_of
from fphojax.app.stages.steps import _FIRST_READ, STAGES, Step, plan
from fphojax.app.starter import template_folder
from fphojax.inputs.errors import InputError

NAMES = [
    "01_check_inputs",
    "02_psf_mixtures",
    "04_catalog",
    "05_optimize_1",
    "06_background_1",
    "07_detect_1",
    "05_optimize_2",
    "08_sample",
    "09_postprocess",
]


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

    monkeypatch.setattr(run_all_module, "_done", do)
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
    assert [step.name for step in plan(settings.changed(rounds=0))] == [*NAMES[:4], *NAMES[7:]]
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
    assert names(done) == NAMES[7:]
    run_all(settings.changed(sampling_draws=7, buffer=1.0), notebooks=False)
    assert names(done) == NAMES[3:]


def test_what_a_stage_finds_reaches_those_that_follow(settings, done):
    run_all(settings, notebooks=False)
    assert [sky for _, sky, _ in done] == [None] * 5 + [0.5] * 4


def test_changed_inputs_repeat_all(settings, done):
    run_all(settings, notebooks=False)
    names(done)
    settings.raw_catalog.touch()
    run_all(settings, notebooks=False)
    assert names(done) == NAMES


def test_another_template_repeats_its_stage(settings, done):
    folder = settings.source.parent / "templates"
    folder.mkdir()
    for name in STAGES.values():
        (folder / f"{name}.ipynb").write_text("{}")
    assert templates_of(settings) == folder
    run_all(settings)
    names(done)
    (folder / "09_postprocess.ipynb").write_text('{"changed": 1}')
    run_all(settings)
    assert names(done) == NAMES[8:]


def test_an_error_stops_the_run_and_the_same_call_goes_on(settings, done):
    done.fails = "08_sample"
    with pytest.raises(InputError, match="no good"):
        run_all(settings, notebooks=False)
    assert names(done) == NAMES[:7]
    assert done.options["08_sample"] == {"workers": None, "resume": False, "overwrite": False}
    done.fails = None
    run_all(settings, notebooks=False)
    assert names(done) == NAMES[7:]
    assert done.options["08_sample"] == {"workers": None, "resume": True, "overwrite": False}


def test_an_interrupted_fit_with_other_settings_is_replaced(settings, done):
    done.fails = "08_sample"
    with pytest.raises(InputError):
        run_all(settings, notebooks=False)
    done.fails = None
    run_all(settings.changed(sampling_draws=7), notebooks=False)
    assert done.options["08_sample"] == {"workers": None, "resume": False, "overwrite": True}


def test_a_run_that_was_not_begun_is_replaced_and_not_gone_on_with(settings, done):
    """Sampling was interrupted before it had replaced the run of other settings."""
    run_all(settings, notebooks=False)
    done.fails, done.early = "08_sample", True
    for _ in range(2):
        with pytest.raises(InputError):
            run_all(settings.changed(chains=2), notebooks=False)
        assert done.options["08_sample"] == {"workers": None, "resume": False, "overwrite": True}
    done.early = False
    for resume in (False, True, True):
        with pytest.raises(InputError):
            run_all(settings.changed(chains=2), notebooks=False)
        assert done.options["08_sample"] == {"workers": None, "resume": resume, "overwrite": not resume}


def test_the_stage_to_start_from_is_not_gone_on_with(settings, done):
    done.fails = "08_sample"
    for _ in range(3):
        with pytest.raises(InputError):
            run_all(settings, start="sample", notebooks=False)
    assert done.options["08_sample"] == {"workers": None, "resume": False, "overwrite": True}
    done.fails = "05_optimize_1"
    for _ in range(2):
        with pytest.raises(InputError):
            run_all(settings, start="optimize", notebooks=False)
    assert not done.options["05_optimize_1"]["resume"]


def test_a_run_that_was_made_by_hand_is_not_replaced(settings, done):
    """However often the stage is tried; an earlier run of the record is."""
    start_run(settings)
    done.fails, done.early = "08_sample", True
    for draws in (5, 5, 7):
        with pytest.raises(InputError):
            run_all(settings.changed(sampling_draws=draws), notebooks=False)
        assert done.options["08_sample"] == {"workers": None, "resume": False, "overwrite": False}


def test_what_to_do_after_ctrl_c(settings, done, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_all_module, "_done", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"in 01_check_inputs; .*the same command goes on"):
        run_all(settings, notebooks=False)
    with pytest.raises(KeyboardInterrupt, match="the same command without --from goes on"):
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
    assert not done.options["05_optimize_1"]["resume"]
    assert [path.name for path in by_hand.parent.glob("optimize_*")] == ["optimize_1"]


def test_only_some_stages_or_from_one_on(settings, done):
    run_all(settings, stages=["check"], notebooks=False)
    assert names(done) == NAMES[:1]
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings, start="sample", notebooks=False)
    assert names(done) == NAMES[7:]
    for option in ({"stages": ["bake"]}, {"start": "bake"}):
        with pytest.raises(InputError, match="found bake, expected"):
            run_all(settings, notebooks=False, **option)


def test_stages_before_those_asked_for_are_up_to_date(settings, done):
    """Else sampling starts from the catalogue that the user gave."""
    run_all(settings, notebooks=False)
    names(done)
    run_all(settings.changed(chains=2), stages=["sample"], notebooks=False)
    assert done == [("08_sample", 0.5, 250)]
    names(done)
    run_all(settings.changed(chains=2), stages=["sample"], start="optimize", notebooks=False)
    assert names(done) == ["08_sample"]
    with pytest.raises(InputError) as error:
        run_all(settings.changed(gtol=1e-6), stages=["sample"], notebooks=False)
    assert str(error.value) == (
        "--stages: found no 05_optimize_1 that is up to date, expected it before 08_sample: add --stages optimize, "
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
    record.begin(step, "key", [], settings)
    record.end(step, Outcome("pass", "", {}, {"psfs": str(tmp_path / "psfs.h5")}))
    again = RunRecord(tmp_path / "record.json")
    assert again.outcome(step, "key") is not None
    assert again.outcome(step, "other") is None
    (tmp_path / "psfs.h5").unlink()
    assert again.outcome(step, "key") is None
    assert json.loads((tmp_path / "record.json").read_text())["02_psf_mixtures"]["key"] == "key"


def made_and_repeated(settings, step, outcome, now):
    """Names of what is below outbase after a step that ended so is repeated with the settings `now`."""
    record = RunRecord(settings.outbase / "notebooks" / "record.json")
    record.begin(step, "key", [], settings)
    record.end(step, outcome)
    record.begin(step, "other", [], now)
    return sorted(path.name for path in settings.outbase.iterdir() if path.name != "notebooks")


def sources_in(folder):
    folder.mkdir(parents=True)
    (folder / "sources.fits").touch()
    return folder / "sources.fits"


def test_a_repeated_step_deletes_the_numbered_results_that_it_made(settings):
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


def test_every_stage_has_its_template():
    assert sorted(path.stem for path in template_folder().glob("*.ipynb")) == sorted(STAGES.values())
    named = set().union(*_FIRST_READ.values())
    assert named <= set(Settings.model_fields)


def test_index_leads_to_notebooks_and_report(tmp_path):
    index = tmp_path / "notebooks" / "index.html"
    index.parent.mkdir()
    rows = [("08_sample", "look at this", "2 < 3", 12.3)]
    write_index(index, "Stages of a & b", rows)
    text = index.read_text()
    assert 'href="08_sample.html"' in text
    assert "2 &lt; 3" in text
    assert "<h1>Stages of a &amp; b</h1>" in text
    assert "report" not in text
    write_index(index, "Stages", rows, tmp_path / "report.html")
    assert 'href="../report.html"' in index.read_text()


def test_a_notebook_ends_with_the_cell_that_fails(tmp_path):
    template, made = tmp_path / "template.ipynb", tmp_path / "made.ipynb"
    parameters = new_code_cell("value = 1", metadata={"tags": ["parameters"]})
    cells = [
        parameters,
        new_code_cell("print(value)"),
        new_code_cell("1 / 0"),
        new_code_cell("print('never')"),
    ]
    language = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=language), template)
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
    assert line.startswith(f"{tmp_path / 'b.ipynb'}: no Jupyter kernel that works ({name}: ")
    assert line.endswith("--no-notebooks does without")
    assert "\n" not in line
