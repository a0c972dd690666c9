"""Checks of a file before it is opened: it must be a regular one, of a plausible size."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fphojax.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["blame", "decoding", "irregularity", "kind_of", "require_regular", "require_stored"]

_ALWAYS_READ = 64 * 1024 * 1024  # bytes of a dataset, whatever the file holds
_MOST_UNPACKED = 1100  # bytes that a byte of the file can stand for; deflate's limit is 1032

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def irregularity(path: str | Path) -> str:
    """Describe what a path is if not a regular file, such as "no such file"; "" for a regular one.

    Opening a named pipe would block for ever, and reading a device might never end.

    Parameters
    ----------
    path : path-like
    """
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return f"found {(getattr(error, 'strerror', '') or str(error)).lower()}"
    return next((f"found {name}" for is_kind, name in _KINDS.items() if is_kind(mode)), "")


def require_regular(path: str | Path, expected: str, *, most_bytes: int | None = None) -> None:
    """Refuse what is not a regular file (see `irregularity`).

    Parameters
    ----------
    path : path-like
    expected : str
        What the file should be, for the message.
    most_bytes : int, optional
        A larger file is refused.

    Raises
    ------
    InputError
        No such file, one that may not be accessed, a folder, a pipe, a device, or one that is too large.
    """
    if fault := irregularity(path):
        raise InputError(f"{path}: {fault}, expected {expected}")
    size = Path(path).stat().st_size
    if most_bytes is not None and size > most_bytes:
        raise InputError(
            f"{path}: found {size / 1e6:.0f} MB, expected {expected} of at most {most_bytes / 1e6:.0f} MB"
        )


@contextmanager
def blame(label: object) -> Iterator[None]:
    """Prefix the errors of the body with the name of the file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{label}: {error}") from error.__cause__


@contextmanager
def decoding(path: str | Path, expected: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file's content is decoded into one line about the file.

    The body only reads: any error in it means that the file is not what it should be.

    Parameters
    ----------
    path : path-like
    expected : str
        What the file should be, for the message.

    Raises
    ------
    InputError
        In place of any other exception of the body.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if isinstance(error, RecursionError):  # of a text that was made to break readers
            raise InputError(f"{path}: cannot be read (nested too deeply), expected {expected}") from error
        kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: "
        raise InputError(f"{path}: cannot be read ({kind}{reason}), expected {expected}") from error


def kind_of(value: Any) -> str:
    """Name the type of a value of JSON or YAML, for a message to the user."""
    kinds = {type(None): "nothing", bool: "true or false", str: "text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def require_stored(dataset: "h5py.Dataset") -> None:
    """Refuse an HDF5 dataset that declares far more than the file holds: reading it would take all memory.

    Parameters
    ----------
    dataset : h5py.Dataset

    Raises
    ------
    InputError
        Without the name of the file.
    """
    if dataset.nbytes > _ALWAYS_READ + _MOST_UNPACKED * dataset.id.get_storage_size():
        raise InputError(
            f"dataset {dataset.name} declares {dataset.nbytes / 1e9:.1f} GB, of which the file holds "
            f"{dataset.id.get_storage_size()} bytes, expected what it declares"
        )
