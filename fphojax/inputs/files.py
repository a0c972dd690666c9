"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

__all__ = ["replacing"]


@contextmanager
def replacing(path) -> Iterator[Path]:
    """A name in a temporary folder beside `path`; the file written there takes the place of `path` at the end.

    If the body raises, `path` stays as it was.

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
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder, expected one to write {path.name} to")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder, path.name)
        yield temporary
        os.replace(temporary, path)
