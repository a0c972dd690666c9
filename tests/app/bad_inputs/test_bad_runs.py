"""Folders of runs that are refused: what is wrong with a file of the state, and what is said about it."""

import json
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import pytest

from fphojax.app.run.outcome import Outcome
from fphojax.app.run.record import RunRecord
from fphojax.errors import InputError
from fphojax.results.run_directory import RunDirectory
from fphojax.system import locks

SAMPLES, RESIDUALS = "output/patches/patch0_samples.nc", "output/patches/patch0_residuals.h5"
CONFIG, LOG, SCENE = "output/config.json", "output/scene_log.json", "output/scene.fits"
BOUNDS, COVARIANCES, JOURNAL = "output/scene.bounds.h5", "output/scene.covs.h5", "output/scene.journal"
RESUME = ("sample", "{}/field.yml", "--resume", "--quiet")
POSTPROCESS = ("postprocess", "{}/output", "--quiet")
BACKGROUND = ("background", "{}/field.yml", "--run", "{}/output", "--quiet")
REPORT = ("report", "{}/output", "--quiet")


class Row(NamedTuple):
    name: str
    spoil: Callable
    command: tuple
    said: str  # the beginning of the line


def become(name, kind):
    return lambda field: field.become(name, kind)


def flip(name, where=0.5):
    return lambda field: field.flip(name, where)


def cut(name, part=0.5):
    return lambda field: field.cut(name, part)


def as_json(name, change):
    return lambda field: field.json(change, name)


def entry(**changes):
    """Another first entry of the log."""
    return as_json(LOG, lambda log: log | {"patchlog": [log["patchlog"][0] | changes]})


def without(name, key):
    return as_json(name, lambda content: {k: v for k, v in content.items() if k != key})


def other(name, old, new):
    """Other text in a sealed file."""
    return lambda field: field.replace(name, old, new)


def copy(source, target):
    return lambda field: field.write(target, field.path(source).read_bytes())


def lost(*names):
    """Files of the state that are gone."""

    def spoil(field):
        for name in names:
            field.path(name).unlink()

    return spoil


def in_use(name):
    """The lock of a process of another machine."""
    process = {"host": "nid0012", "pid": 77, "command": "fphojax run"}
    return lambda field: field.write(name, json.dumps(locks._this_process() | process) + "\n")


def other_seal(field):
    """The last digit of the seal is another one."""
    seal = json.loads(field.path(CONFIG).read_text())["seal"]
    field.replace(CONFIG, seal, seal[:-1] + ("1" if seal[-1] == "0" else "0"))


def nothing(_field):
    pass


UNKNOWN = f"{SAMPLES}: found a patch (1 patch in all) that the state of the run does not know, expected none"
USED = "in use by process 77 (fphojax run) on nid0012, started"
CHANGED = "does not agree with its own checksum"
ROWS = [
    *(
        Row(f"{kind} as {name}", become(name, kind), command, f"{name}: {said}")
        for name, command, expected in (
            (CONFIG, POSTPROCESS, "the settings of a run"),
            (SAMPLES, POSTPROCESS, "the result of a patch"),
            (LOG, RESUME, "the log of a run"),
            (BOUNDS, RESUME, "bounds of sources"),
            (COVARIANCES, RESUME, "covariances of sources"),
        )
        for kind, said in (
            ("folder", f"found a folder, expected {expected}"),
            ("pipe", f"found a named pipe, expected {expected}"),
            ("empty", "cannot be read"),
            ("noise", "cannot be read"),
            ("text", "cannot be read"),
        )
        if not (name == CONFIG and kind in ("folder", "pipe") and command is RESUME)
    ),
    *(
        Row(f"flip in {name}", flip(name), command, f"{name}: {CHANGED}")
        for name, command in (
            (CONFIG, POSTPROCESS),
            (CONFIG, RESUME),
            (CONFIG, REPORT),
            (SAMPLES, POSTPROCESS),
            (SAMPLES, REPORT),
            (LOG, RESUME),
            (BOUNDS, RESUME),
            (COVARIANCES, RESUME),
            (SCENE, RESUME),
            (SCENE, POSTPROCESS),
        )
    ),
    *(
        Row(f"half of {name}", cut(name), command, f"{name}: ")
        for name, command in (
            (CONFIG, POSTPROCESS),
            (SAMPLES, POSTPROCESS),
            (LOG, RESUME),
            (BOUNDS, RESUME),
            (COVARIANCES, RESUME),
            (SCENE, RESUME),
            (SCENE, POSTPROCESS),
        )
    ),
    Row("residuals flipped", flip(RESIDUALS), BACKGROUND, f"{RESIDUALS}: {CHANGED}"),
    Row("residuals cut", cut(RESIDUALS), BACKGROUND, f"{RESIDUALS}: cannot be read"),
    Row("residuals of noise", become(RESIDUALS, "noise"), BACKGROUND, f"{RESIDUALS}: cannot be read"),
    Row("residuals a folder", become(RESIDUALS, "folder"), BACKGROUND, f"{RESIDUALS}: found a folder"),
    Row("no config", become(CONFIG, "absent"), POSTPROCESS, f"{CONFIG}: no such file"),
    Row("no bounds", become(BOUNDS, "absent"), RESUME, f"{BOUNDS}: no such file"),
    Row("no covariances", become(COVARIANCES, "absent"), RESUME, f"{COVARIANCES}: no such file"),
    Row("no log", become(LOG, "absent"), RESUME, f"{LOG}: no such file"),
    Row("no scene", become(SCENE, "absent"), POSTPROCESS, f"{SCENE}: no such file"),
    Row("other level", other(CONFIG, '"seed": 0', '"seed": 1'), POSTPROCESS, f"{CONFIG}: {CHANGED}"),
    Row(
        "config a list",
        as_json(CONFIG, lambda _: [1]),
        POSTPROCESS,
        f"{CONFIG}: found a list, expected the settings",
    ),
    Row(
        "config a number",
        as_json(CONFIG, lambda _: 3),
        POSTPROCESS,
        f"{CONFIG}: found a number, expected the settings",
    ),
    Row(
        "config null",
        as_json(CONFIG, lambda _: None),
        RESUME,
        f"{CONFIG}: found nothing, expected the settings",
    ),
    Row(
        "config bytes", lambda f: f.write(CONFIG, b'{"a": "\xff"}'), POSTPROCESS, f"{CONFIG}: cannot be read"
    ),
    Row("config deep", lambda f: f.write(CONFIG, 100_000 * "["), POSTPROCESS, f"{CONFIG}: cannot be read"),
    Row(
        "scene a number",
        as_json(CONFIG, lambda c: c | {"scene_catalog": 3}),
        POSTPROCESS,
        f"{CONFIG}: scene_catalog",
    ),
    Row("ties a list", as_json(CONFIG, lambda c: c | {"ties": []}), POSTPROCESS, f"{CONFIG}: ties: found []"),
    Row(
        "level text",
        as_json(CONFIG, lambda c: c | {"tweakbg": "g"}),
        POSTPROCESS,
        f"{CONFIG}: tweakbg: found 'g'",
    ),
    Row(
        "files text",
        as_json(CONFIG, lambda c: c | {"fitsfiles": "g"}),
        POSTPROCESS,
        f"{CONFIG}: fitsfiles: found",
    ),
    Row(
        "snr text",
        as_json(CONFIG, lambda c: c | {"max_snr": "g"}),
        POSTPROCESS,
        f"{CONFIG}: max_snr: found 'g'",
    ),
    Row("log a list", as_json(LOG, lambda _: [1]), RESUME, f"{LOG}: found a list, expected the log of a run"),
    Row("log null", as_json(LOG, lambda _: None), RESUME, f"{LOG}: found nothing, expected the log of a run"),
    Row("log of nothing", as_json(LOG, lambda _: {}), RESUME, f"{LOG}: no key patchlog"),
    Row("no options", without(LOG, "options"), RESUME, f"{LOG}: no key options"),
    Row("options a list", as_json(LOG, lambda c: c | {"options": [1]}), RESUME, f"{LOG}: options: found [1]"),
    Row("no kind", as_json(LOG, lambda c: c | {"options": {}}), RESUME, f"{LOG}: "),
    Row(
        "other kind",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"kind": "Scene"}}),
        RESUME,
        f"{LOG}: ",
    ),
    Row(
        "option text",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"max_fixed": "a"}}),
        RESUME,
        f"{LOG}: ",
    ),
    Row(
        "together text",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"together": "a"}}),
        RESUME,
        f"{LOG}: ",
    ),
    Row(
        "patchlog a mapping",
        as_json(LOG, lambda c: c | {"patchlog": {}}),
        RESUME,
        f"{LOG}: patchlog: found {{}}",
    ),
    Row(
        "entries numbers",
        as_json(LOG, lambda c: c | {"patchlog": [1]}),
        RESUME,
        f"{LOG}: patchlog: entry 0: found 1",
    ),
    Row(
        "entries empty",
        as_json(LOG, lambda c: c | {"patchlog": [{}]}),
        RESUME,
        f"{LOG}: patchlog: entry 0: found {{}}",
    ),
    Row("sources a number", entry(sources=3), RESUME, f"{LOG}: patchlog: entry 0"),
    Row("sources text", entry(sources=["7"]), RESUME, f"{LOG}: patchlog: entry 0"),
    Row("sources below zero", entry(sources=[-1]), RESUME, f"{LOG}: patchlog: entry 0"),
    Row("another scene", copy("peaks.fits", SCENE), RESUME, f"{SCENE}: "),
    Row("samples for bounds", copy(SAMPLES, BOUNDS), RESUME, f"{BOUNDS}: cannot be read (KeyError"),
    Row(
        "PSFs for covariances",
        copy("psfs.h5", COVARIANCES),
        RESUME,
        f"{COVARIANCES}: cannot be read (KeyError",
    ),
    Row("bounds for samples", copy(BOUNDS, SAMPLES), POSTPROCESS, f"{SAMPLES}: cannot be read (KeyError"),
    Row("residuals for samples", copy(RESIDUALS, SAMPLES), REPORT, f"{SAMPLES}: "),
    Row("samples for residuals", copy(SAMPLES, RESIDUALS), BACKGROUND, f"{RESIDUALS}: "),
    Row("other settings", lambda f: f.set(seed=4), RESUME, "field.yml: seed: found 4, expected 0"),
    Row(
        "other sources",
        lambda f: f.replace("peaks.ecsv", "\n7 ", "\n9 "),
        RESUME,
        f"{SCENE}: other sources than",
    ),
    Row("scene gone", lost(SCENE), RESUME, UNKNOWN),
    Row("state gone", lost(SCENE, LOG, BOUNDS, COVARIANCES), RESUME, UNKNOWN),
    Row("log emptied", as_json(LOG, lambda log: log | {"patchlog": []}), RESUME, UNKNOWN),
    Row(
        "config gone",
        lost(CONFIG),
        RESUME,
        f"{SAMPLES}: found a patch (1 patch in all) of a run without config.json, expected a new or empty folder",
    ),
    Row(
        "no patch left", lost(SAMPLES), POSTPROCESS, "output: no patch has a result, expected a run that has"
    ),
    Row("seal changed", other_seal, POSTPROCESS, f"{CONFIG}: {CHANGED}"),
    Row("seal changed before more", other_seal, RESUME, f"{CONFIG}: {CHANGED}"),
    Row(
        "PSFs from a store",
        lambda field: field.set(psfstorefile="psfs.h5"),
        RESUME,
        "field.yml: psfstorefile: found psfs.h5, expected None as in output/config.json, the run to go on",
    ),
    Row(
        "again",
        nothing,
        ("sample", "{}/field.yml", "--quiet"),
        "output: holds a run, expected a new or empty",
    ),
    Row(
        "another kind of fit there",
        nothing,
        ("optimize", "{}/field.yml", "--out", "{}/output", "--quiet"),
        "output: holds a run, expected a new or empty folder for another one",
    ),
    Row(
        "source that was not fitted",
        nothing,
        (*POSTPROCESS, "--cutout", "99"),
        "output: no patch has fitted source 99, expected ids of fitted sources",
    ),
    Row(
        "kind of draw",
        nothing,
        (*POSTPROCESS, "--draw", "mode"),
        "--draw: found mode, expected one of median",
    ),
    Row(
        "format",
        nothing,
        (*POSTPROCESS, "--format", "csv"),
        "format 'csv' of a catalogue, expected some of fits, ecsv, parquet, votable",
    ),
    Row("no such run", nothing, ("report", "{}/no"), "no: no such folder, expected the folder of a run"),
    Row(
        "report nowhere",
        nothing,
        (*REPORT, "--out", "{}/no/a.html"),
        "no: no such folder, expected one to write a.html to",
    ),
    Row(
        "demo in a file",
        nothing,
        ("demo", "--out", "{}/g1.fits"),
        "--out: found the file g1.fits, expected a",
    ),
    Row(
        "demo below a file",
        nothing,
        ("demo", "--out", "{}/g1.fits/a"),
        "--out: found the file g1.fits, expected",
    ),
    Row(
        "camera",
        nothing,
        ("init", "{}/no", "--instrument", "keck"),
        "--instrument: found 'keck', expected one",
    ),
    Row(
        "table nowhere",
        nothing,
        ("mixtures", "sersic", "--out", "{}/no/s.h5"),
        "no: no such folder, expected one to write s.h5 to",
    ),
    *(
        Row(f"in use by another: {' '.join(command)}", in_use("output/.lock"), command, f"output: {USED}")
        for command in (
            RESUME,
            POSTPROCESS,
            ("run", "{}/field.yml", "--quiet"),
            ("sample", "{}/field.yml", "--overwrite"),
            ("optimize", "{}/field.yml", "--quiet"),
            ("detect", "{}/field.yml", "--quiet"),
        )
    ),
    Row(
        "store in use by another",
        in_use(".p.h5.lock"),
        ("psf", "{}/g1.fits", "--band", "g", "--out", "{}/p.h5"),
        f"p.h5: {USED}",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_run(finished, row):
    row.spoil(finished)
    finished.refused(*row.command, said=[[row.said]])


def record(number: int, entry: dict) -> bytes:
    """A record of the journal that holds no source's numbers."""
    body = (json.dumps({"number": number, "entry": entry, "rows": 0, "widths": [2, 8]}) + "\n").encode()
    return struct.pack("<II", len(body), zlib.crc32(body)) + body


@pytest.mark.parametrize("spoil", ["length", "checksum", "content", "cut"])
def test_journal_with_a_damaged_record_before_others(finished, spoil):
    """Whatever is wrong with a record, those behind it are not dropped with it."""
    first, second = record(1, {"sources": []}), record(2, {"sources": []})
    damaged = {
        "length": b"\xff\xff\xff\x7f" + first[4:],
        "checksum": first[:4] + b"\0\0\0\0" + first[8:],
        "content": first[:-3] + b"?" + first[-2:],
        "cut": first[:-9],
    }[spoil]
    finished.write(JOURNAL, damaged + second)
    finished.refused(*RESUME, said=[[f"{JOURNAL}: record at byte 0 is damaged"]])


RECORDS = [
    ("list", [1]),
    ("number", 3),
    ("entry a list", {"01_check_inputs": []}),
    ("no key", {"01_check_inputs": {}}),
    ("folder a number", {"01_check_inputs": {"key": "a", "folder": 3}}),
    ("outcome a list", {"01_check_inputs": {"key": "a", "outcome": []}}),
    ("outcome empty", {"01_check_inputs": {"key": "a", "outcome": {}}}),
    (
        "files a list",
        {"01_check_inputs": {"key": "a", "outcome": {"level": "pass", "verdict": "", "files": [1]}}},
    ),
    ("level", {"01_check_inputs": {"key": "a", "outcome": {"level": "good", "verdict": ""}}}),
    ("more", {"01_check_inputs": {"key": "a", "outcome": {"level": "pass", "verdict": "", "x": 1}}}),
]


@pytest.mark.parametrize("content", [row[1] for row in RECORDS], ids=[row[0] for row in RECORDS])
def test_record(tiny, content):
    path = tiny.path("output/notebooks/record.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    tiny.refused("run", "{}/field.yml", "--quiet", said=[["output/notebooks/record.json: ", "expected"]])


@pytest.mark.parametrize("kind", ["folder", "pipe", "noise", "empty", "text"])
def test_record_that_is_none(tiny, kind):
    tiny.path("output/notebooks").mkdir(parents=True)
    tiny.become("output/notebooks/record.json", kind)
    tiny.refused(
        "run", "{}/field.yml", "--quiet", said=[["output/notebooks/record.json: ", "expected the record"]]
    )


def test_files_that_were_not_changed_are_read(tmp_path):
    """What is sealed, and the same without a seal, as older versions left it."""
    outcome = Outcome("pass", "good [b]", {"seed": 3}, {"a": "b"}, 1.5)
    outcome.write(tmp_path / "outcome.json")
    assert Outcome.read(tmp_path / "outcome.json") == outcome
    text = (tmp_path / "outcome.json").read_text()
    (tmp_path / "outcome.json").write_text(text.replace("good", "bad"))
    with pytest.raises(InputError, match="checksum"):
        Outcome.read(tmp_path / "outcome.json")
    run = RunDirectory.create(tmp_path / "run")
    run.write_config(json.dumps({"scene_catalog": "scene.fits"}))
    assert run.read_config() == {"scene_catalog": "scene.fits"}
    run.config_path.write_text('{"scene_catalog": "a.fits"}')
    assert run.read_config() == {"scene_catalog": "a.fits"}
    run.config_path.write_text('{"scene_catalog": "a.fits", "seal": "none"}')
    with pytest.raises(InputError, match="checksum"):
        run.read_config()
    assert RunRecord(tmp_path / "record.json") is not None


@pytest.mark.parametrize("name", ["g1.fits", "field.yml", "output/scene.fits"])
def test_a_report_does_not_take_the_place_of_another_file(finished, name):
    said = [[f"--out: found {name}, expected a name that ends in .html"]]
    finished.refused(*REPORT, "--out", f"{{}}/{name}", said=said)


@pytest.mark.parametrize("name", ["g1.fits", "psfs.h5", "field.yml"])
def test_a_sersic_table_does_not_take_the_place_of_another_file(tiny, name):
    tiny.refused("mixtures", "sersic", "--out", f"{{}}/{name}", said=[[f"{name}: found", "expected"]])


def test_a_run_begins_in_no_folder_of_others(tiny):
    tiny.path("mine").mkdir()
    for name in ("psfs.h5", "notes.txt"):
        tiny.write(f"mine/{name}", "mine")
    tiny.set(outbase="mine")
    said = [["mine: holds notes.txt, which is not of a run, expected a new or empty folder for the run"]]
    tiny.refused("run", "{}/field.yml", "--quiet", said=said)


def test_starting_in_a_file(tiny):
    tiny.refused("init", "{}/g1.fits", said=[["g1.fits: is a file, expected a folder"]])
