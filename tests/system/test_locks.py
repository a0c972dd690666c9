"""Locks: of other processes, of dead ones, of other machines, and what children inherit."""

import errno
import json
import os
import subprocess
import sys
import time

import psutil
import pytest

import fphojax.system.locks as locks
from fphojax.errors import InputError, StorageError
from fphojax.system.locks import file_lock, folder_lock, lock_token, refuse_used_folder, require_lock

TAKE = """
import sys
from fphojax.system.locks import folder_lock
try:
    with folder_lock(sys.argv[1]):
        print("taken", flush=True)
        sys.stdin.read()
except ValueError as error:
    print(error)
"""

# A stale lock, and as many processes as want it at the same time: what they write while they have it must not mix.
# Processes that want a lock at the same moment; none gives it back before all have got it, or been refused.
RACE = """
import multiprocessing, os, sys
from fphojax.system.locks import folder_lock
barrier = multiprocessing.get_context("fork").Barrier(8)
children = []
for number in range(8):
    if not (child := os.fork()):
        barrier.wait(60)
        try:
            with folder_lock(sys.argv[1]):
                barrier.wait(60)
        except ValueError:
            barrier.wait(60)
            os._exit(2)
        os._exit(0)
    children.append(child)
print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def stranger(folder, environment=None):
    """Another process that takes the lock of a folder, and what it says; it ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return process, process.stdout.readline().strip()


def write_lock(path, **changes):
    """A lock as a process might have left it."""
    holder = locks._this_process() | {"token": "other", "command": "fphojax sample"} | changes
    path.write_text(json.dumps(holder) + "\n")


def outside():
    """The environment without the locks of this process."""
    return {name: value for name, value in os.environ.items() if name != locks._VARIABLE}


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    process, output = stranger(tmp_path)
    assert output == "taken"
    with pytest.raises(InputError) as caught, folder_lock(tmp_path):
        pass
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(psutil.Process(process.pid).create_time()))
    host = locks._machine()[0]
    assert str(caught.value) == (
        f"{tmp_path}: in use by process {process.pid} (-c {tmp_path}) on {host}, started {since}, expected no "
        "other process there"
    )
    with pytest.raises(InputError, match="in use by process"):
        refuse_used_folder(tmp_path)
    process.communicate("")
    refuse_used_folder(tmp_path)
    with folder_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path):
    process, _ = stranger(tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()
    assert (tmp_path / ".lock").is_file()
    with folder_lock(tmp_path):
        assert locks._holders(tmp_path / ".lock")[0]["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_number_that_another_process_has_by_now_is_not_the_same_process(tmp_path):
    start = psutil.Process().create_time()
    write_lock(tmp_path / ".lock", start=start - 3600)
    refuse_used_folder(tmp_path)
    with folder_lock(tmp_path):
        pass
    write_lock(tmp_path / ".lock", start=start - 1)  # clocks are set
    with pytest.raises(InputError, match=f"in use by process {os.getpid()}"), folder_lock(tmp_path):
        pass


@pytest.mark.parametrize("elsewhere", [{"host": "nid0012"}, {"space": 4}])
def test_the_lock_of_another_machine_is_never_taken_over(tmp_path, elsewhere):
    write_lock(tmp_path / ".lock", pid=2**22 + 1, **elsewhere)
    for use in (folder_lock(tmp_path).__enter__, lambda: refuse_used_folder(tmp_path)):
        with pytest.raises(
            InputError, match=rf"if that machine is known to be dead, remove {tmp_path}/\.lock$"
        ):
            use()
    assert lock_token(tmp_path) == "other"


def test_children_work_under_the_lock_of_their_parent(tmp_path):
    with folder_lock(tmp_path):
        with folder_lock(tmp_path):  # a stage of a run
            refuse_used_folder(tmp_path)
        process, output = stranger(tmp_path)
        assert output == "taken"
        assert [h["pid"] for h in locks._holders(tmp_path / ".lock")] == [os.getpid(), process.pid]
        process.communicate("")
        process, output = stranger(tmp_path, outside())
        assert "in use by process" in output
        process.communicate("")
        assert (tmp_path / ".lock").is_file()
    assert not list(tmp_path.iterdir())
    assert os.environ[locks._VARIABLE] == ""


def test_orphans_keep_a_lock_as_long_as_they_live(tmp_path, monkeypatch):
    with folder_lock(tmp_path):
        process, _ = stranger(tmp_path)
        lines = (tmp_path / ".lock").read_text().splitlines()
    # as if the parent had been killed
    dead = json.dumps(json.loads(lines[0]) | {"pid": 2**22 + 1})
    (tmp_path / ".lock").write_text(f"{dead}\n{lines[1]}\n")
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    with pytest.raises(InputError, match=f"in use by process {process.pid}"), folder_lock(tmp_path):
        pass
    monkeypatch.setattr(locks, "_PATIENCE", 20)
    process.stdin.close()
    with folder_lock(tmp_path):
        pass
    process.wait()
    process.stdout.close()


def test_a_lock_without_its_line_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE", 0.2)
    for content in ("", '{"host": "x', "[]\n"):
        (tmp_path / ".lock").write_text(content)
        began = time.monotonic()
        with folder_lock(tmp_path):
            assert time.monotonic() - began > 0.2
            assert lock_token(tmp_path)


def test_one_of_many_gets_a_stale_lock(tmp_path):
    write_lock(tmp_path / ".lock", pid=2**22 + 1)
    result = subprocess.run([sys.executable, "-c", RACE, str(tmp_path)], capture_output=True, text=True)
    assert result.stdout.split() == ["0"] + 7 * ["2"], result.stderr
    assert not list(tmp_path.iterdir())


def test_folders_are_made_for_a_lock_and_stay_if_something_is_in_them(tmp_path):
    with folder_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a").exists()

    def failing():
        with folder_lock(tmp_path / "a" / "b"):
            (tmp_path / "a" / "b" / "x").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["x"]
    for path in (tmp_path / "a" / "b" / "x", tmp_path / "a" / "b" / "x" / "y"):
        with (
            pytest.raises(InputError, match="x: is a file, expected a folder for the run"),
            folder_lock(path),
        ):
            pass
    with pytest.raises(InputError, match=r"cannot be made \(File name too long\)"):
        folder_lock(tmp_path / ("x" * 300)).__enter__()


def test_locks_of_files(tmp_path):
    path = tmp_path / "psfs.h5"
    with file_lock(path):
        assert [p.name for p in tmp_path.iterdir()] == [".psfs.h5.lock"]
        with file_lock(tmp_path / "other.h5"):
            pass
    assert not list(tmp_path.iterdir())
    write_lock(tmp_path / ".psfs.h5.lock", host="nid0012")
    with pytest.raises(InputError, match=r"psfs.h5: in use .* remove .*/\.psfs\.h5\.lock$"), file_lock(path):
        pass
    with pytest.raises(InputError, match=r"nowhere: no such folder, expected one to write psfs.h5 to"):
        file_lock(tmp_path / "nowhere" / "psfs.h5").__enter__()


def test_a_lock_that_was_lost_is_noticed(tmp_path):
    require_lock(tmp_path, None)
    with folder_lock(tmp_path):
        token = lock_token(tmp_path)
        require_lock(tmp_path, token)
    for successor in ("", "other"):
        if successor:
            write_lock(tmp_path / ".lock")
        with pytest.raises(StorageError, match=r"\.lock: is gone or of another run"):
            require_lock(tmp_path, token)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_no_lock_where_nothing_can_be_written(tmp_path, monkeypatch, code):
    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", fail)
    reason = os.strerror(code).lower()
    with pytest.raises(StorageError, match=rf"\.lock: cannot be written \({reason}\)"), folder_lock(tmp_path):
        pass
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
