"""The one exception that speaks to a user about their files and settings."""

from collections.abc import Sequence

__all__ = ["InputError", "at_most_ten"]

_MOST = 10


class InputError(ValueError):
    """Something a user handed over cannot be used.

    The message is one line: the file, key or row, what was found and what was expected.
    """


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
