"""Locks on folders and files that several processes must not write to at the same time.

A lock is a file, ``.lock`` in a folder or ``.NAME.lock`` beside a file, made with O_EXCL, which is atomic even on
NFS. Each line is a JSON record of a process that works under the lock: the one that took it, and its children, which
know the lock by a token in their environment. The lock is removed at the end. A lock left behind by a killed process
is taken over if all of its processes were on this machine and are gone: there is no process with that number, or one
that started at another time. Whether a process on another machine is alive cannot be known from here; its lock is
never taken over, and the message says which file to remove if that machine is known to be dead.
"""

import json
import os
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fphojax.errors import InputError, StorageError

from .files import storage_fault

__all__ = ["file_lock", "folder_lock", "lock_token", "refuse_used_folder", "require_lock"]

_VARIABLE = "FPHOJAX_LOCKS"  # of the environment: tokens of the locks that this process and its parents hold
_FOLDER_LOCK = ".lock"
_LONGEST_NAME = 255  # bytes
_START_TOLERANCE = 60.0  # seconds by which the start of a process may seem to shift when a clock is set
_PATIENCE = 5.0  # seconds in which a lock that was just made gets its line, and orphans end


@contextmanager
def folder_lock(folder: str | Path) -> Iterator[None]:
    """Keep other processes from writing to a folder, which is made if needed, and removed if left empty.

    Parameters
    ----------
    folder : path-like

    Raises
    ------
    InputError
        Another process works there.
    StorageError
        Nothing can be written there.
    """
    folder = Path(folder)
    folders = []
    try:
        folders = _make_folders(folder)
        with _locked(folder / _FOLDER_LOCK, folder):
            yield
    finally:
        for path in reversed(folders):
            with suppress(OSError):  # it is not empty
                path.rmdir()


@contextmanager
def file_lock(path: str | Path) -> Iterator[None]:
    """Keep other processes from making or changing a file.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    InputError
        Another process works on it; there is no folder for it, it is a folder, or its name is too long for a lock.
    StorageError
        Nothing can be written there.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder, expected one to write {path.name} to")
    lock = path.parent / f".{path.name}.lock"
    if (longer := len(os.fsencode(lock.name)) - _LONGEST_NAME) > 0:
        n_byte = len(os.fsencode(path.name))
        raise InputError(f"{path}: found a name of {n_byte} bytes, expected at most {n_byte - longer}")
    if path.is_dir():
        raise InputError(f"{path}: found a folder, expected the name of a file")
    with _locked(lock, path):
        yield


def refuse_used_folder(folder: str | Path) -> None:
    """Refuse a folder that another process works in; nothing is written, so it may be read-only.

    Raises
    ------
    InputError
        Which process.
    """
    lock = Path(folder) / _FOLDER_LOCK
    holders = _holders(lock)
    if holders and _token(holders) not in _tokens() and not _stale(holders):
        raise InputError(_in_use(Path(folder), lock, holders))


def lock_token(folder: str | Path) -> str:
    """Return a token that identifies the present lock of a folder; "" if there is none."""
    return _token(_holders(Path(folder) / _FOLDER_LOCK) or [])


def require_lock(folder: str | Path, token: str | None) -> None:
    """Refuse to continue without the original lock: its work has ended, or another process has taken over.

    Parameters
    ----------
    folder : path-like
    token : str or None
        See `lock_token`; None for work that needs no lock.

    Raises
    ------
    StorageError
        The lock is gone, or another's.
    """
    if token is not None and lock_token(folder) != token:
        raise StorageError(
            f"{Path(folder) / _FOLDER_LOCK}: is gone or of another run, expected the one of this run"
        )


# ------------------------------------------------------------------------------------------------


@contextmanager
def _locked(lock: Path, what: Path):
    """Hold a lock: a new one, or that of a parent of this process."""
    record = _this_process()
    acquired = _acquire(lock, what, record)
    if acquired:
        os.environ[_VARIABLE] = " ".join([*_tokens(), record["token"]])
    try:
        yield
    finally:
        if acquired:
            os.environ[_VARIABLE] = " ".join(token for token in _tokens() if token != record["token"])
            if _token(_holders(lock) or []) == record["token"]:
                lock.unlink(missing_ok=True)


def _acquire(lock, what, record) -> bool:
    """Take a lock, or join it where a parent process has it; return whether it was taken."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with os.fdopen(os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644), "w") as file:
                file.write(_line(record))
            return True
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno is None or storage_fault(error, of_place=True) is None:
                raise
            if lock.exists() and not _holders(lock):
                lock.unlink(missing_ok=True)  # made, but there was no room for its line
            raise StorageError(
                f"{lock}: cannot be written ({storage_fault(error, of_place=True)})"
            ) from error
        holders = _holders(lock)
        if holders is None:
            continue  # it was removed meanwhile
        if _token(holders) in _tokens():
            if not any(_is_same_process(holder, record) for holder in holders):
                with lock.open("a") as file:
                    file.write(_line(record | {"token": _token(holders)}))
            return False
        if not holders and time.monotonic() < deadline:
            time.sleep(0.05)  # it may be about to get its line
        elif _stale(holders):
            _break_stale(lock, holders)
        elif _stale(holders[:1]) and time.monotonic() < deadline:
            time.sleep(0.05)  # the children of a process that was killed end by themselves
        else:
            raise InputError(_in_use(what, lock, holders))


def _break_stale(lock, holders):
    """Remove a stale lock, unless another process has done so, and perhaps taken the lock by now.

    Of processes that found the same file, each looks again once the others are done with it. As they keep it open, no
    new lock can be mistaken for it.
    """
    with suppress(FileNotFoundError), lock.open("rb") as file:
        _wait_for_turn(file)
        if os.path.samestat(os.fstat(file.fileno()), lock.stat()) and _holders(lock) == holders:
            lock.unlink()


def _wait_for_turn(file):
    """Lock an open file until it is closed; without effect on file systems that cannot."""
    with suppress(ImportError, OSError):
        import fcntl  # not on Windows

        fcntl.flock(file, fcntl.LOCK_EX)


def _stale(holders) -> bool:
    """Return whether all processes of a lock are known to be gone."""
    machine = _machine()
    return all(_of_machine(holder) == machine and not _alive(holder) for holder in holders)


def _alive(holder) -> bool:
    try:
        process = psutil.Process(holder["pid"])
        return abs(process.create_time() - holder["start"]) < _START_TOLERANCE and (
            process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _holders(lock) -> list[dict] | None:
    """Read the processes of a lock, without incomplete lines; None if there is no lock."""
    try:
        text = lock.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    holders = []
    for line in text.splitlines():
        with suppress(ValueError):
            holder = json.loads(line)
            if isinstance(holder, dict) and set(_FIELDS) <= holder.keys():
                holders.append(holder)
    return holders


_FIELDS = ("host", "space", "pid", "start", "token", "command")


def _this_process() -> dict:
    host, space = _machine()
    names = [Path(sys.argv[0]).name, *sys.argv[1:2]] if sys.argv else []
    values = host, space, os.getpid(), psutil.Process().create_time(), uuid.uuid4().hex, " ".join(names)
    return dict(zip(_FIELDS, values, strict=True))


def _machine() -> tuple[str, int]:
    """Identify this machine, and its namespace of process numbers: each container has its own."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return socket.gethostname(), space


def _of_machine(holder):
    return holder["host"], holder["space"]


def _is_same_process(holder, process):
    return all(holder[name] == process[name] for name in ("host", "space", "pid"))


def _line(holder):
    return json.dumps(holder) + "\n"


def _token(holders) -> str:
    return holders[0]["token"] if holders else ""


def _tokens() -> list[str]:
    return os.environ.get(_VARIABLE, "").split()


def _in_use(what, lock, holders):
    """Make the line that says who has a lock."""
    machine = _machine()
    holder = next((h for h in holders if _of_machine(h) != machine or _alive(h)), holders[0])
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["start"]))
    text = f"{what}: in use by process {holder['pid']} ({holder['command']}) on {holder['host']}, started {since}"
    if _of_machine(holder) == machine:
        return f"{text}, expected no other process there"
    return f"{text}, expected no other process there; if that machine is known to be dead, remove {lock}"


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder with its parents; return those that were made, the outermost first."""
    missing: list[Path] = []
    try:
        for path in (folder, *folder.parents):
            if path.is_dir():
                break
            if path.exists():
                raise InputError(f"{path}: is a file, expected a folder for the run")
            missing.insert(0, path)
        for path in missing:
            path.mkdir(exist_ok=True)
    except OSError as error:
        fault = storage_fault(error, of_place=True)
        kind = InputError if fault is None else StorageError
        raise kind(f"{path}: cannot be made ({fault or error.strerror}), expected a folder") from error
    return missing
