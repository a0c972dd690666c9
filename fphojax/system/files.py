"""Atomic replacement of files, and recognition of faults of the disk."""

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fphojax.errors import InputError, StorageError

if TYPE_CHECKING:
    import h5py

__all__ = ["remove_abandoned", "replacing", "replacing_hdf5", "storage_fault", "to_disk", "write_text"]

# Errors for which the disk is always at fault.
_OF_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENXIO,
    errno.ENODEV,
    errno.ENOTCONN,  # a file system in user space that is gone
    errno.EMFILE,
    errno.ENFILE,
}
# A path is missing or not accessible: a fault of the disk where the path was good before.
_OF_PLACE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR}
_CODE = re.compile(r"\[Errno (\d+)\]|errno = (\d+)")  # the second is HDF5's
_RANDOM = re.compile(r"[a-z0-9_]{8}")  # with what `tempfile` ends the names of folders
_SHORT = re.compile(r"\d+ requested and \d+ written")  # all that numpy says when it writes FITS


def storage_fault(error: BaseException, *, of_place: bool = False) -> str | None:
    """Describe the fault of the storage that caused an error, if one did.

    Parameters
    ----------
    error : BaseException
        With the exceptions that caused it; an errno in the text of a message counts, as HDF5 raises RuntimeError,
        and errors from another process have lost their causes.
    of_place : bool
        Whether a file or folder that is missing or not accessible is the storage's fault, too.

    Returns
    -------
    str or None
        Such as "no space left on device".
    """
    codes, visited = _OF_DISK | (_OF_PLACE if of_place else set()), set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        numbers = {getattr(error, "errno", None) if isinstance(error, OSError) else None}
        text = str(error) if isinstance(error, Exception) else ""
        numbers.update(int(a or b) for a, b in _CODE.findall(text))
        if faults := sorted(number for number in numbers if number in codes):
            reason = os.strerror(faults[0])
            return reason[0].lower() + reason[1:]
        if isinstance(error, OSError) and (truncated := _SHORT.search(text)):
            return f"the disk takes no more: {truncated[0]}"
        error = error.__cause__ or error.__context__
    return None


def to_disk(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path in a temporary folder beside `path`; the file written there replaces `path` at the end.

    It is synced to the disk before that. If the body raises, `path` stays as it was.

    Parameters
    ----------
    path : path-like

    Yields
    ------
    Path
        Of the same suffix as `path`.

    Raises
    ------
    InputError
        If the folder of `path` does not exist.
    StorageError
        If the disk is full, fails or cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
        raise InputError(f"{path.parent}: no such folder, expected one to write {path.name} to") from missing
    try:
        with tempfile.TemporaryDirectory(
            dir=path.parent, prefix=f".{path.name}.", ignore_cleanup_errors=True
        ) as folder:
            temporary = Path(folder, path.name)
            yield temporary
            to_disk(temporary)  # some disks say only now that they are full
            temporary.replace(path)
    except (OSError, RuntimeError) as error:
        name = getattr(error, "filename", None)
        in_folder = isinstance(name, str) and Path(name).is_relative_to(path.parent)
        fault = storage_fault(error, of_place=in_folder)
        if fault is None:
            raise
        raise StorageError(f"{path}: cannot be written ({fault})") from error


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove the temporary folders that a process left beside files when it was killed in `replacing` them.

    Only for files that no other process writes now.
    """
    for path in paths:
        for folder in path.parent.glob(f".{glob.escape(path.name)}.*"):
            if folder.is_dir() and _RANDOM.fullmatch(folder.name.removeprefix(f".{path.name}.")):
                shutil.rmtree(folder)


def write_text(path: str | Path, text: str) -> None:
    """Write a file of text, UTF-8; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing_hdf5(path: str | Path, **options: Any) -> Iterator["h5py.File"]:
    """Yield a new HDF5 file in memory, which replaces `path` at the end (see `replacing`).

    HDF5 itself does not survive a full disk: it ends the process.

    Parameters
    ----------
    path : path-like
    **options
        Of `h5py.File`.

    Yields
    ------
    h5py.File
    """
    import h5py

    with replacing(path) as temporary:
        with h5py.File(temporary, "w", driver="core", backing_store=False, **options) as file:
            yield file
            file.flush()
            image = file.id.get_file_image()
        temporary.write_bytes(image)
