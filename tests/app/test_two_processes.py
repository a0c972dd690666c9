"""Two processes in one folder: the second is refused in one line, and the first goes on as if alone."""

import json
import signal
import time

import pytest
from standard_error import problems
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.system import locks


@pytest.fixture
def settings(tmp_path, tiny):
    """Settings of a field in whose run folder, and with whose stores, a process of another machine works."""
    config = tiny.write_field(tmp_path, pixelstorefile="pixels.h5", metastorefile="meta.json")
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "config.json").write_text("{}")
    elsewhere = locks._this_process() | {"host": "nid0012", "pid": 77, "command": "fphojax run"}
    for name in ("output/.lock", ".pixels.h5.lock", ".psfs.h5.lock"):
        (tmp_path / name).write_text(json.dumps(elsewhere) + "\n")
    return config


@pytest.mark.parametrize(
    "command",
    [
        "run CONFIG",
        "run CONFIG --no-notebooks",
        "sample CONFIG",
        "sample CONFIG --resume",
        "sample CONFIG --overwrite",
        "optimize CONFIG",
        "optimize CONFIG --resume",
        "optimize CONFIG --out FOLDER/output",
        "background CONFIG",
        "background CONFIG --run FOLDER/output",
        "detect CONFIG",
        "detect CONFIG --images",
        "postop CONFIG",
        "loop CONFIG",
        "postprocess FOLDER/output",
        "preprocess CONFIG",
        "preprocess CONFIG --overwrite",
        "psf image.fits --band F --out FOLDER/psfs.h5",
    ],
)
def test_a_folder_in_use_is_refused_in_one_line(settings, command):
    folder = settings.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    words = command.replace("CONFIG", str(settings)).replace("FOLDER", str(folder)).split()
    done = CliRunner().invoke(app, words)
    what = {"preprocess": "pixels.h5", "psf": "psfs.h5"}.get(words[0], "output")
    lock = {"preprocess": ".pixels.h5.lock", "psf": ".psfs.h5.lock"}.get(words[0], "output/.lock")
    assert done.exit_code == 2
    (line,) = problems(done.stderr)
    assert line.startswith(f"error: {folder / what}: in use by process 77 (fphojax run) on nid0012, started ")
    assert line.endswith(f"if that machine is known to be dead, remove {folder / lock}")
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
def test_two_processes_in_one_folder(tiny, tmp_path):
    config = tiny.write_field(tmp_path)
    assert tiny.run("sample", config, "--out", tmp_path / "alone") == (0, [])
    first = tiny.start("sample", config)
    out = tmp_path / "output"
    while not (out / "scene.fits").exists():
        time.sleep(0.1)
    first.send_signal(signal.SIGSTOP)  # else it may have ended before the last of the others has begun
    for more in (["sample", config], ["sample", config, "--resume"], ["sample", config, "--overwrite"]):
        status, lines = tiny.run(*more)
        assert status == 2
        assert len(lines) == 1
        assert lines[0].startswith(f"error: {out}: in use by process {first.pid} (")
    assert tiny.run("postprocess", out)[0] == 2
    assert tiny.run("run", config, "--stages", "check")[0] == 2
    first.send_signal(signal.SIGCONT)
    assert tiny.ended(first) == (0, [])
    tiny.assert_same_run(out, tmp_path / "alone")


@pytest.mark.slow
def test_notebooks_work_under_the_lock_of_their_run(tiny, tmp_path):
    """Each in a process of its own; while they do, others are refused, and nothing is left at the end."""
    config = tiny.write_field(tmp_path)
    process = tiny.start("run", config, "--stages", "check", "--stages", "psf", "--stages", "catalog")
    out = tmp_path / "output"
    lock, pids = out / ".lock", set()
    while process.poll() is None:
        pids.update(holder["pid"] for holder in locks._holders(lock) or [])
        time.sleep(0.1)
    assert tiny.ended(process) == (0, [])
    assert process.pid in pids
    assert not list(out.rglob(".*"))
