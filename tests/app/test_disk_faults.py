"""Disks that are full in the middle of a command: one line, nothing lost, and on it goes when there is room."""

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fphojax.app.cli import program
from fphojax.inputs.stores.stored_exposures import open_stores
from fphojax.results.run_directory import RunDirectory

STORES = {"pixelstorefile": "pixels.h5", "metastorefile": "meta.json"}


@pytest.fixture(scope="module")
def field(tiny, tmp_path_factory):
    """The settings of a field, and the run that was left alone."""
    folder = tmp_path_factory.mktemp("field")
    config = tiny.write_field(folder)
    assert tiny.run("sample", config, "--out", folder / "undisturbed") == (0, [])
    assert tiny.run("optimize", config, "--out", folder / "optimised") == (0, [])
    return config


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of its own, and a function that says how many kB it has."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        there = ["-o", f"{'remount,' if os.path.ismount(folder) else ''}size={size}k"]
        done = subprocess.run(["mount", "-t", "tmpfs", *there, "tmpfs", folder], capture_output=True)
        if done.returncode:
            pytest.skip("a small disk cannot be mounted here: it takes rights of the administrator")

    yield folder, mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "--lazy", folder], check=True)  # a store that was read is open


def kilobytes(folder: Path) -> int:
    return sum(path.stat().st_blocks for path in folder.rglob("*")) // 2


def refused(status, lines, reason, how):
    """One line that says what was to be written, why not, and how to go on."""
    assert status == 1, lines
    assert len(lines) == 1, lines
    assert re.fullmatch(
        rf"error: /\S+: (cannot be written|cannot be made) \(.*(?:{reason}).*\).*{how}", lines[0]
    ), lines


@pytest.mark.slow
@pytest.mark.parametrize(("command", "before"), [("sample", "undisturbed"), ("optimize", "optimised")])
@pytest.mark.parametrize("fraction", [0.2, 0.7, 0.97])
def test_a_disk_that_fills_up_under_a_fit(tiny, field, disk, command, before, fraction):
    folder, mount = disk
    whole = field.parent / before
    mount(int(fraction * kilobytes(whole)))
    out = folder / "run"
    how = "; the same command with --resume continues"
    refused(*tiny.run(command, field, "--out", out), "no space left on device|the disk takes no more", how)
    mount(4 * kilobytes(whole))
    assert tiny.run(command, field, "--out", out, "--resume") == (0, [])
    tiny.assert_same_run(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "before"), [("sample", "undisturbed"), ("optimize", "optimised")])
def test_files_that_may_not_grow_under_a_fit(tiny, field, tmp_path, command, before):
    """As on a file system with a limit, or a quota."""
    whole, out = field.parent / before, tmp_path / "run"
    largest = max(path.stat().st_size for path in (whole / "patches").iterdir())
    how = r"; 0 of 3 sources are done and kept in /\S+; the same command with --resume continues"
    refused(*tiny.run(command, field, "--out", out, most=largest - 1), "file too large", how)
    assert tiny.run(command, field, "--out", out, "--resume") == (0, [])
    tiny.assert_same_run(out, whole)


@pytest.mark.slow
def test_a_disk_that_fills_up_under_workers(tiny, field, disk):
    folder, mount = disk
    whole = field.parent / "undisturbed"
    mount(int(0.7 * kilobytes(whole / "patches")))  # figures are drawn after all fits
    how = r"; \d of 3 sources are done and kept in /\S+; the same command with --resume continues"
    out = folder / "run"
    refused(*tiny.run("sample", field, "--out", out, "--workers", 2), "no space left on device", how)
    mount(4 * kilobytes(whole))
    assert tiny.run("sample", field, "--out", out, "--workers", 2, "--resume") == (0, [])
    result = RunDirectory(out)
    assert all(result.read_scene().extra["fit_flag"] == "")
    # a patch behind the one that found no room is kept; so the numbers, and with them the seeds, are others
    assert sorted(result.read_patch(n).active.id.item() for n in result.patches()) == [1, 2, 3]
    assert all(result.read_scene().extra["n_iter"] == 20)


@pytest.mark.slow
def test_a_disk_that_fills_up_under_preprocess(tiny, disk):
    folder, mount = disk
    mount(4000)
    config = tiny.write_field(folder, **STORES)
    tiny.write_copies(folder, 3)
    config.write_text(config.read_text().replace("fitsfiles: image.fits", "fitsfiles: 'image?.fits'"))
    used = kilobytes(folder)
    mount(used + 250)
    status, lines = tiny.run("preprocess", config)
    refused(
        status, lines, "no space left on device", ", expected room on the disk; the same command continues"
    )
    assert not (folder / "pixels.h5").exists()
    mount(8000)
    assert tiny.run("preprocess", config) == (0, [])
    assert len(open_stores(folder / "pixels.h5", folder / "meta.json")) == 3
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_disk_that_fills_up_under_postprocess(tiny, field, disk):
    folder, mount = disk
    mount(8000)
    out = folder / "run"
    shutil.copytree(field.parent / "undisturbed", out)
    used = kilobytes(out)
    assert tiny.run("postprocess", out) == (0, [])
    made = {path.relative_to(out): path.stat().st_size for path in out.rglob("*") if path.is_file()}
    more = kilobytes(out) - used
    for name in ("catalogs", "regions", "images"):
        shutil.rmtree(out / name)
    for fraction in (0.1, 0.6, 0.9):
        mount(used + int(fraction * more) + 8)
        status, lines = tiny.run("postprocess", out)
        refused(
            status,
            lines,
            "no space left on device|the disk takes no more",
            "; the same command can be run again",
        )
    mount(8000)
    assert tiny.run("postprocess", out) == (0, [])
    assert made == {path.relative_to(out): path.stat().st_size for path in out.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_cache_of_programs_that_cannot_be_written_stops_nothing(tiny, field, disk, monkeypatch):
    folder, mount = disk
    mount(16)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(folder))
    out = folder.parent / "run"
    assert tiny.run("optimize", field, "--out", out) == (0, [])
    tiny.assert_same_run(out, field.parent / "optimised")


def test_help_onto_a_full_disk_is_one_line(monkeypatch, capsys):
    """typer itself prints it, outside of any command."""

    def app():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(program, "app", app)
    with pytest.raises(SystemExit) as end:
        program.main()
    assert end.value.code == 1
    assert capsys.readouterr().err == "error: no space left on device\n"
