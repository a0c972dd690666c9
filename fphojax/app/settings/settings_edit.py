"""Changes of single values in a user's file of settings; all the rest of its text stays as it is."""

from pathlib import Path

import yaml

from fphojax.errors import InputError
from fphojax.system.files import write_text

from .yaml_text import composed, dumped, loaded

__all__ = ["with_value", "write_sky"]


def write_sky(path: Path, sky: dict[str, float]) -> None:
    """Put sky levels by band into a file of settings, under ``tweakbg``.

    Parameters
    ----------
    path : Path
    sky : dict of str to float

    Raises
    ------
    InputError
        The text cannot be changed in place; the file stays as it was.
    """
    text = path.read_text(encoding="utf-8")
    tree = composed(text)
    if isinstance(tree, yaml.MappingNode) and tree.flow_style:
        raise InputError(
            f"{path}: found a mapping in braces, expected one key a line, to change levels in place"
        )
    rounded = {band: float(f"{level:.6g}") for band, level in sky.items()}
    expected = loaded(text) | {"tweak_background": "tweakbg", "tweakbg": rounded}
    block = dumped(rounded, default_flow_style=True, width=float("inf")).strip()
    for key, value in (("tweak_background", "tweakbg"), ("tweakbg", block)):
        text = with_value(text, key, value)
    if loaded(text) != expected:
        raise InputError(f"{path}: its text cannot be changed in place, expected plain keys and values")
    write_text(path, text)


def with_value(text: str, key: str, value: str) -> str:
    """Return YAML text with another value of a top-level key, or with the key at its end.

    Parameters
    ----------
    text : str
        A mapping.
    key : str
    value : str
        On one line.
    """
    tree = composed(text)
    assert isinstance(tree, yaml.MappingNode)
    for name, node in tree.value:
        if name.value == key:
            # a block ends where the next token starts: after comments that belong to what follows
            return f"{text[: name.end_mark.index]}: {value}{text[_end(node) :]}"
    return text + ("" if text.endswith("\n") else "\n") + f"{key}: {value}\n"


def _end(node):
    """Return the index of the end of a node's text."""
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        return node.end_mark.index
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)
