"""The exceptions that speak to a user: about their files and settings, or about the machine."""

__all__ = ["InputError", "MachineError", "StorageError"]


class InputError(ValueError):
    """Something a user handed over cannot be used.

    The message is one line: the file, key or row, what was found and what was expected.
    """


class MachineError(InputError):
    """The machine fails, not an input: the work stops at once, what was finished is kept, and it can go on."""


class StorageError(MachineError):
    """A disk is full, fails or cannot be written; the message says which file, and why."""
