"""The one exception that speaks to a user about their files and settings."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something a user handed over cannot be used.

    The message is one line: the file, key or row, what was found and what was expected.
    """
