"""Paths in files that are moved together with what they lead to."""

import shutil
from pathlib import Path

import pytest

from fphojax.system.portable import absolute, map_paths, matching, relative, relative_stamp, resolved, stamp


@pytest.mark.parametrize(
    ("path", "folder", "expected"),
    [
        ("/a/b/images/x.fits", "/a/b/run", "../images/x.fits"),
        ("/a/b/run", "/a/b/run", "."),
        ("/data/x.fits", "/a/b/run", "/data/x.fits"),
        ("x.fits", "/a/b", "x.fits"),
    ],
)
def test_relative_and_back(path, folder, expected):
    assert relative(path, folder) == expected
    assert resolved(expected, folder) == (path if Path(path).is_absolute() else f"{folder}/{path}")


def test_what_is_there_decides_where_a_folder_was_moved_alone(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name / "run").mkdir(parents=True)
    (tmp_path / "old" / "x.fits").touch()
    folder, original = tmp_path / "new" / "run", str(tmp_path / "old" / "run")
    assert resolved("../x.fits", folder, original) == str(tmp_path / "old" / "x.fits")
    assert resolved("../*.fits", folder, original) == str(tmp_path / "old" / "*.fits")
    (tmp_path / "new" / "x.fits").touch()
    assert resolved("../x.fits", folder, original) == str(tmp_path / "new" / "x.fits")
    assert resolved("../gone.fits", folder, original) == str(tmp_path / "new" / "gone.fits")


def test_absolute_paths_keep_their_links(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    assert absolute("link/./a/../x.fits") == tmp_path / "link" / "x.fits"


def test_matching_leaves_hidden_files_out(tmp_path):
    for name in ("b.fits", "a.fits", ".hidden.fits"):
        (tmp_path / name).touch()
    assert matching(f"{tmp_path}/*.fits") == [f"{tmp_path}/a.fits", f"{tmp_path}/b.fits"]
    assert matching(f"{tmp_path}/.*.fits") == [f"{tmp_path}/.hidden.fits"]


def test_paths_of_settings_and_nothing_else_are_changed():
    settings = {
        "fitsfiles": ["a", "b"],
        "raw_catalog": None,
        "preprocess": {"mask_pattern": "m", "wcs": "gwcs"},
        "tweakbg": {"F": 0.1},
        "scene_catalog": "scene.fits",
    }
    assert map_paths(settings, str.upper) == settings | {
        "fitsfiles": ["A", "B"],
        "preprocess": {"mask_pattern": "M", "wcs": "gwcs"},
    }


def test_stamps_of_files_that_were_moved(tmp_path):
    """And of an earlier version, whose stamps had absolute paths."""
    (tmp_path / "a" / "b; c (1)").mkdir(parents=True)
    files = [tmp_path / "a" / "b; c (1)" / "x.fits", tmp_path / "a" / "y.fits", tmp_path / "a" / "gone.fits"]
    files[0].write_text("x")
    files[1].write_text("yy")
    text = stamp(files[1:], tmp_path / "a")
    size, time = 2, files[1].stat().st_mtime_ns
    assert text == f"y.fits ({size}, {time}); gone.fits None"
    absolute = f"{files[1]} ({size}, {time}); {files[2]} None"
    assert relative_stamp(absolute, tmp_path / "a") == text
    assert relative_stamp(text, tmp_path / "a") == text
    before = stamp(files, tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "z")
    moved = [tmp_path / "z" / path.relative_to(tmp_path / "a") for path in files]
    assert stamp(moved, tmp_path / "z") == before
    moved[1].write_text("yyy")
    assert stamp(moved, tmp_path / "z") != before
