"""The exceptions that speak to a user: about their files and settings, or about the machine."""

from collections.abc import Sequence

__all__ = ["InputError", "MachineError", "StorageError", "at_most_ten"]

_MOST = 10


class InputError(ValueError):
    """Something a user handed over cannot be used.

    The message is one line: the file, key or row, what was found and what was expected.
    """


class MachineError(InputError):
    """The machine fails, not an input: the work stops at once, what was finished is kept, and it can go on."""


class StorageError(MachineError):
    """A disk is full, fails or cannot be written; the message says which file, and why."""


def at_most_ten(problems: Sequence[str], kind: str) -> list[str]:
    """Problems of one kind: ten lines, and how many there are besides.

    Parameters
    ----------
    problems : sequence of str
        One line each.
    kind : str
        What the last line calls them, with the file.
    """
    more = len(problems) - _MOST
    return [*problems[:_MOST], *([f"{kind}: and {more:,} more like these"] if more > 0 else [])]
