"""What a file must be before it is opened: a regular one, of a size that can be meant."""

import os
import stat
from pathlib import Path

from .errors import InputError

__all__ = ["require_regular"]

_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def require_regular(path, expected: str, *, most_bytes: int | None = None) -> None:
    """Refuse what is not a regular file: to open a named pipe would wait for ever, to read a device never end.

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
        No such file, one that may not be looked at, a folder, a pipe, a device, or one that is too large.
    """
    path = Path(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: found {reason.lower()}, expected {expected}") from error
    for is_kind, name in _KINDS.items():
        if is_kind(status.st_mode):
            raise InputError(f"{path}: found {name}, expected {expected}")
    if most_bytes is not None and status.st_size > most_bytes:
        raise InputError(
            f"{path}: found {status.st_size / 1e6:.0f} MB, expected {expected} of at most {most_bytes / 1e6:.0f} MB"
        )
