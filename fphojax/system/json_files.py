"""The program's own JSON files, mappings: written with a seal (a checksum), verified on reading."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from fphojax.errors import InputError

from .file_checks import blame, decoding, kind_of, require_regular
from .files import replacing
from .seals import UNSEALED, changed, is_sealed, seal

__all__ = ["JsonMapping", "read_json", "sealed_json", "write_json"]

_KEY = "seal"


class JsonMapping(dict):
    """Content of a file; a missing key raises an InputError.

    Parameters
    ----------
    content : dict
    path : path-like
    expected : str
        What the file should be, for the message.
    """

    def __init__(self, content: dict, path: str | Path, expected: str):
        super().__init__(content)
        self._path, self._expected = path, expected

    def __missing__(self, key: str) -> NoReturn:
        raise InputError(f"{self._path}: no key {key}, expected {self._expected}")


def read_json(
    path: str | Path, expected: str, kinds: Mapping[str, type | tuple] | None = None
) -> JsonMapping:
    """Read a JSON file that holds a mapping, and drop its seal.

    Parameters
    ----------
    path : path-like
    expected : str
        What the file should be, for messages.
    kinds : mapping of str to type, optional
        Types (as for `isinstance`) of some values, where the file has them.

    Raises
    ------
    InputError
        No such file, not JSON, not a mapping, a value of the wrong type, or a file that was changed.
    """
    path = Path(path)
    require_regular(path, expected)
    with blame(path):
        sealed = is_sealed(path)
    with decoding(path, expected):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {kind_of(content)}, expected {expected}")
    if content.pop(_KEY, None) is not None and not sealed:
        raise InputError(f"{path}: {changed()}")
    for key, kind in (kinds or {}).items():
        if key in content and not isinstance(content[key], kind):
            raise InputError(f"{path}: {key}: found {content[key]!r}, expected {expected}")
    return JsonMapping(content, path, expected)


def sealed_json(text: str) -> str:
    """Add room for a seal to the text of a JSON mapping, for `fphojax.system.seals.seal`."""
    before, _, after = text.partition("{")
    comma = "" if after.lstrip().startswith("}") else ","
    return f'{before}{{"{_KEY}": "{UNSEALED}"{comma}{after}'


def write_json(path: str | Path, content: Any) -> None:
    """Write a mapping with a seal, atomically.

    Parameters
    ----------
    path : path-like
    content : mapping or str
        Plain Python values, or the text of them.
    """
    text = content if isinstance(content, str) else json.dumps(content, indent=2) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(sealed_json(text), encoding="utf-8")
        seal(temporary)
