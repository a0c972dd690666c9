"""Mappings in JSON files of the program's own: written with a seal, read with one look at everything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import InputError
from .file_checks import blame, decoding, kind_of, require_regular
from .files import replacing
from .seals import UNSEALED, changed, is_sealed, seal

__all__ = ["JsonMapping", "read_json", "sealed_json", "write_json"]

_KEY = "seal"


class JsonMapping(dict):
    """Content of a file; to ask for a key that it lacks is an InputError.

    Parameters
    ----------
    content : dict
    path : path-like
    expected : str
        What the file should be, for the message.
    """

    def __init__(self, content: dict, path, expected: str):
        super().__init__(content)
        self._path, self._expected = path, expected

    def __missing__(self, key):
        raise InputError(f"{self._path}: no key {key}, expected {self._expected}")


def read_json(path, expected: str, kinds: Mapping[str, type | tuple] | None = None) -> JsonMapping:
    """Content of a JSON file that holds a mapping, without its seal.

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
        No such file, no JSON, something else than a mapping, a value of the wrong type, a file that was changed.
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
    """Text of a JSON mapping with room for a seal, for `fphojax.inputs.seals.seal`."""
    before, _, after = text.partition("{")
    comma = "" if after.lstrip().startswith("}") else ","
    return f'{before}{{"{_KEY}": "{UNSEALED}"{comma}{after}'


def write_json(path, content: Any) -> None:
    """Write a mapping with a seal, at once or not at all.

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
