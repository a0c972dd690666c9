"""Folders of runs that are refused: what is wrong with a file of the state, and what is said about it."""

import json
import struct
import zlib

import pytest

from fphojax.app.stages.outcome import Outcome
from fphojax.app.stages.record import RunRecord
from fphojax.inputs.errors import InputError
from fphojax.outputs.run_directory import RunDirectory

SAMPLES, RESIDUALS = "output/patches/patch0_samples.nc", "output/patches/patch0_residuals.h5"
CONFIG, LOG, SCENE = "output/config.json", "output/scene_log.json", "output/scene.fits"
BOUNDS, COVARIANCES, JOURNAL = "output/scene.bounds.h5", "output/scene.covs.h5", "output/scene.journal"
RESUME = ("sample", "{}/field.yml", "--resume", "--quiet")
POSTPROCESS = ("postprocess", "{}/output", "--quiet")
BACKGROUND = ("background", "{}/field.yml", "--run", "{}/output", "--quiet")
REPORT = ("report", "{}/output", "--quiet")


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


CHANGED = "does not agree with its own checksum"
ROWS = [
    *(
        (f"{kind} as {name}", become(name, kind), command, f"{name}: {said}")
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
        (f"flip in {name}", flip(name), command, f"{name}: {CHANGED}")
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
        (f"half of {name}", cut(name), command, f"{name}: ")
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
    ("residuals flipped", flip(RESIDUALS), BACKGROUND, f"{RESIDUALS}: {CHANGED}"),
    ("residuals cut", cut(RESIDUALS), BACKGROUND, f"{RESIDUALS}: cannot be read"),
    ("residuals of noise", become(RESIDUALS, "noise"), BACKGROUND, f"{RESIDUALS}: cannot be read"),
    ("residuals a folder", become(RESIDUALS, "folder"), BACKGROUND, f"{RESIDUALS}: found a folder"),
    ("no config", become(CONFIG, "absent"), POSTPROCESS, f"{CONFIG}: no such file"),
    ("no bounds", become(BOUNDS, "absent"), RESUME, f"{BOUNDS}: no such file"),
    ("no covariances", become(COVARIANCES, "absent"), RESUME, f"{COVARIANCES}: no such file"),
    ("no log", become(LOG, "absent"), RESUME, f"{LOG}: no such file"),
    ("no scene", become(SCENE, "absent"), POSTPROCESS, f"{SCENE}: no such file"),
    ("other level", other(CONFIG, '"seed": 0', '"seed": 1'), POSTPROCESS, f"{CONFIG}: {CHANGED}"),
    (
        "config a list",
        as_json(CONFIG, lambda _: [1]),
        POSTPROCESS,
        f"{CONFIG}: found list, expected the settings",
    ),
    (
        "config a number",
        as_json(CONFIG, lambda _: 3),
        POSTPROCESS,
        f"{CONFIG}: found int, expected the settings",
    ),
    (
        "config null",
        as_json(CONFIG, lambda _: None),
        RESUME,
        f"{CONFIG}: found NoneType, expected the settings",
    ),
    ("config bytes", lambda f: f.write(CONFIG, b'{"a": "\xff"}'), POSTPROCESS, f"{CONFIG}: cannot be read"),
    ("config deep", lambda f: f.write(CONFIG, 100_000 * "["), POSTPROCESS, f"{CONFIG}: cannot be read"),
    (
        "scene a number",
        as_json(CONFIG, lambda c: c | {"scene_catalog": 3}),
        POSTPROCESS,
        f"{CONFIG}: scene_catalog",
    ),
    ("ties a list", as_json(CONFIG, lambda c: c | {"ties": []}), POSTPROCESS, f"{CONFIG}: ties: found []"),
    (
        "level text",
        as_json(CONFIG, lambda c: c | {"tweakbg": "g"}),
        POSTPROCESS,
        f"{CONFIG}: tweakbg: found 'g'",
    ),
    (
        "files text",
        as_json(CONFIG, lambda c: c | {"fitsfiles": "g"}),
        POSTPROCESS,
        f"{CONFIG}: fitsfiles: found",
    ),
    (
        "snr text",
        as_json(CONFIG, lambda c: c | {"max_snr": "g"}),
        POSTPROCESS,
        f"{CONFIG}: max_snr: found 'g'",
    ),
    ("log a list", as_json(LOG, lambda _: [1]), RESUME, f"{LOG}: found list, expected the log of a run"),
    ("log null", as_json(LOG, lambda _: None), RESUME, f"{LOG}: found NoneType, expected the log of a run"),
    ("log of nothing", as_json(LOG, lambda _: {}), RESUME, f"{LOG}: no key patchlog"),
    ("no options", without(LOG, "options"), RESUME, f"{LOG}: no key options"),
    ("options a list", as_json(LOG, lambda c: c | {"options": [1]}), RESUME, f"{LOG}: options: found [1]"),
    ("no kind", as_json(LOG, lambda c: c | {"options": {}}), RESUME, f"{LOG}: "),
    (
        "other kind",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"kind": "Scene"}}),
        RESUME,
        f"{LOG}: ",
    ),
    (
        "option text",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"max_fixed": "a"}}),
        RESUME,
        f"{LOG}: ",
    ),
    (
        "together text",
        as_json(LOG, lambda c: c | {"options": c["options"] | {"together": "a"}}),
        RESUME,
        f"{LOG}: ",
    ),
    (
        "patchlog a mapping",
        as_json(LOG, lambda c: c | {"patchlog": {}}),
        RESUME,
        f"{LOG}: patchlog: found {{}}",
    ),
    (
        "entries numbers",
        as_json(LOG, lambda c: c | {"patchlog": [1]}),
        RESUME,
        f"{LOG}: patchlog: entry 0: found 1",
    ),
    (
        "entries empty",
        as_json(LOG, lambda c: c | {"patchlog": [{}]}),
        RESUME,
        f"{LOG}: patchlog: entry 0: found {{}}",
    ),
    ("sources a number", entry(sources=3), RESUME, f"{LOG}: patchlog: entry 0"),
    ("sources text", entry(sources=["7"]), RESUME, f"{LOG}: patchlog: entry 0"),
    ("sources below zero", entry(sources=[-1]), RESUME, f"{LOG}: patchlog: entry 0"),
    ("another scene", copy("peaks.fits", SCENE), RESUME, f"{SCENE}: "),
    ("samples for bounds", copy(SAMPLES, BOUNDS), RESUME, f"{BOUNDS}: cannot be read (KeyError"),
    (
        "PSFs for covariances",
        copy("psfs.h5", COVARIANCES),
        RESUME,
        f"{COVARIANCES}: cannot be read (KeyError",
    ),
    ("bounds for samples", copy(BOUNDS, SAMPLES), POSTPROCESS, f"{SAMPLES}: cannot be read (KeyError"),
    ("residuals for samples", copy(RESIDUALS, SAMPLES), REPORT, f"{SAMPLES}: "),
    ("samples for residuals", copy(SAMPLES, RESIDUALS), BACKGROUND, f"{RESIDUALS}: "),
    ("other settings", lambda f: f.set(seed=4), RESUME, "field.yml: seed: found 4, expected 0"),
    (
        "other sources",
        lambda f: f.replace("peaks.ecsv", "\n7 ", "\n9 "),
        RESUME,
        f"{SCENE}: other sources than",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "command", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_run(finished, spoil, command, said):
    spoil(finished)
    before = finished.listing()
    result = finished.call(*command)
    lines = result.stderr.replace(f"{finished.folder}/", "").splitlines()
    print(*lines, sep="\n")
    assert result.exit_code == 2, result.output
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {said}")
    assert finished.listing() == before


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
