"""Files that appear whole or not at all, on disks that are full, gone or barred."""

import errno
import pickle
import resource
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from fphojax.errors import InputError, StorageError
from fphojax.system.files import remove_abandoned, replacing, replacing_hdf5, storage_fault

HDF5 = (
    "Can't decrement id ref count (file write failed: time = Mon Nov 30 13:08:41 2026\n, filename = 'x.h5', "
    "file descriptor = 3, errno = 28, error message = 'No space left on device', buf = 0x7fe3be289810)"
)


@contextmanager
def limited(most=20_000):
    """Files that cannot grow beyond some bytes: EFBIG comes as ENOSPC does, in the middle of writing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_hdf5(path):
    with replacing_hdf5(path) as file:
        for number in range(50):
            file[f"group/{number}"] = np.arange(100.0)


def write_fits(path):
    with replacing(path) as temporary:
        Table({"a": np.arange(10_000.0)}).write(temporary)


def write_text(path):
    with replacing(path) as temporary:
        temporary.write_text("x" * 100_000)


def write_figure(path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().imshow(np.random.default_rng(0).normal(size=(200, 200)))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=200)


WRITERS = {"x.h5": write_hdf5, "x.fits": write_fits, "x.json": write_text, "x.png": write_figure}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_in_one_line_and_what_was_there_stays(tmp_path, name, capfd):
    path = tmp_path / name
    path.write_text("before")
    with limited(), pytest.raises(StorageError) as caught:
        WRITERS[name](path)
    text = str(caught.value)
    assert text.startswith(f"{path}: cannot be written (")
    assert "file too large" in text or "the disk takes no more" in text
    assert "\n" not in text
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    WRITERS[name](path)
    assert path.stat().st_size > 20_000
    assert capfd.readouterr().err == ""  # HDF5 itself says much, and ends the process at its exit


def test_no_space_left_on_a_device():
    with pytest.raises(OSError, match="No space") as caught:
        Path("/dev/full").write_text("x")
    assert storage_fault(caught.value) == "no space left on device"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (errno.ENOSPC, "no space left on device"),
        (errno.EDQUOT, "disk quota exceeded"),
        (errno.EFBIG, "file too large"),
        (errno.EROFS, "read-only file system"),
        (errno.EIO, "input/output error"),
        (errno.ESTALE, "stale file handle"),
        (errno.EMFILE, "too many open files"),
        (errno.ENOENT, None),
        (errno.EACCES, None),
        (errno.ECONNREFUSED, None),
        (errno.ENOMEM, None),
    ],
)
def test_faults_of_the_disk_are_told_from_others(code, fault):
    error = OSError(code, "said")
    assert storage_fault(error) == fault
    assert storage_fault(pickle.loads(pickle.dumps(error))) == fault
    assert storage_fault(RuntimeError(f"[Errno {code}] said")) == fault


def test_faults_are_found_behind_other_errors():
    assert storage_fault(RuntimeError(HDF5)) == "no space left on device"
    refusal = InputError("a.fits: cannot be read, expected FITS")
    refusal.__cause__ = OSError(errno.EIO, "said")
    assert storage_fault(refusal) == "input/output error"
    assert (
        storage_fault(OSError("1000 requested and 24 written"))
        == "the disk takes no more: 1000 requested and 24 written"
    )
    assert storage_fault(ValueError("1000 requested and 24 written")) is None
    assert storage_fault(MemoryError("28")) is None
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "a")
    assert storage_fault(missing) is None
    assert storage_fault(missing, of_place=True) == "no such file or directory"


def test_a_folder_that_vanishes_or_is_barred_is_a_fault_of_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()

    def vanishing():
        with replacing(folder / "x.json") as temporary:
            shutil.rmtree(folder)
            temporary.write_text("x")

    with pytest.raises(StorageError, match=r"x.json: cannot be written \(no such file or directory\)"):
        vanishing()
    with pytest.raises(InputError, match=r"run: no such folder, expected one to write x.json to") as caught:
        write_text(folder / "x.json")
    assert not isinstance(caught.value, StorageError)
    assert storage_fault(caught.value, of_place=True)  # where it was there before

    def barred(*_, dir, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir / ".x.json.abc"))

    monkeypatch.setattr(tempfile, "TemporaryDirectory", barred)
    with pytest.raises(StorageError, match=r"x.json: cannot be written \(permission denied\)"):
        write_text(tmp_path / "x.json")


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Of the files that are named alone; what looks like it is not, and folders of the user, stay."""
    path = tmp_path / "a[1].jsonl"
    with replacing(path) as temporary:  # what a process leaves that is killed here
        shutil.copytree(temporary.parent, left := temporary.parent.with_name(f".{path.name}.abcd_123"))
        temporary.write_text("whole")
    kept = [tmp_path / name for name in (".a[1].jsonl.mine", ".a1.jsonl.abcd_123", ".other.abcd_123")]
    for folder in kept:
        folder.mkdir()
    assert left.is_dir()
    remove_abandoned([path])
    assert sorted(tmp_path.iterdir()) == sorted([path, *kept])


def test_errors_of_others_pass(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.yml") as temporary:
        shutil.copyfile("/nowhere/x.yml", temporary)
    with pytest.raises(RuntimeError, match="singular"), replacing(tmp_path / "x.yml"):
        raise RuntimeError("singular")
    assert not list(tmp_path.iterdir())


def test_errors_survive_the_way_from_a_worker():
    error = pickle.loads(pickle.dumps(StorageError("x: cannot be written")))
    assert type(error) is StorageError
    assert str(error) == "x: cannot be written"
