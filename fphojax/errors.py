"""Exceptions addressed to the user: about files and settings, or about the machine."""

from collections.abc import Sequence

__all__ = ["InputError", "MachineError", "StorageError", "at_most_ten"]

_MOST = 10


class InputError(ValueError):
    """Input from the user that cannot be used.

    The message is one line: the file, key or row, what was found and what was expected.
    """


class MachineError(InputError):
    """Failure of the machine, not of an input: work stops at once, and can resume from what was finished."""


class StorageError(MachineError):
    """Disk that is full, fails or cannot be written; the message says which file, and why."""


def at_most_ten(problems: Sequence[str], kind: str) -> list[str]:
    """Limit problems of one kind to ten lines, and a last one that counts the others.

    Parameters
    ----------
    problems : sequence of str
        One line each.
    kind : str
        What the last line calls them, with the file.
    """
    more = len(problems) - _MOST
    return [*problems[:_MOST], *([f"{kind}: and {more:,} more like these"] if more > 0 else [])]
