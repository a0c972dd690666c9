"""Plain YAML for settings: the part of YAML in which nothing means other than it looks.

Numbers and words are those of YAML 1.2: ``no``, ``on``, ``2024-01-01``, ``1:30``, ``0250`` and ``1_000`` are text
here, which YAML 1.1 (and PyYAML's own reader) takes for booleans, a date, 90, 168 and 1000. Files are refused before
they can take time or memory: by size, depth, and the size that their anchors would expand to.
"""

import re
from typing import Any

import yaml

__all__ = ["composed", "dumped", "loaded"]

DEEPEST = 20  # levels of mappings and lists
MOST_NODES = 1_000_000  # after anchors are expanded; a list of as many files has as many

_SPECIAL = {
    "tag:yaml.org,2002:bool": r"^(?:true|True|TRUE|false|False|FALSE)$",
    "tag:yaml.org,2002:int": r"^(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0b[01]+)$",
    "tag:yaml.org,2002:float": r"^[-+]?(?:(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
    r"|(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$",
    "tag:yaml.org,2002:null": r"^(?:~|null|Null|NULL|)$",
    "tag:yaml.org,2002:merge": r"^(?:<<)$",
}
_KINDS = {tag: re.compile(pattern) for tag, pattern in _SPECIAL.items()}


class _Loader(yaml.SafeLoader):
    """Loader of plain YAML: no tags, no more than `DEEPEST` levels."""

    def __init__(self, text) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if getattr(event, "tag", None) is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {event.tag}", event.start_mark)
        if self._depth == DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {DEEPEST} levels", event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Dumper that puts text into quotes which either version of YAML would take for something else."""


_Loader.yaml_implicit_resolvers = {None: list(_KINDS.items())}
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _KINDS["tag:yaml.org,2002:float"], None)


def composed(text: str) -> yaml.Node | None:
    """Compose the node tree of a text; None if it is empty.

    Raises
    ------
    yaml.YAMLError
        The text is not YAML, or not plain YAML.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None:
        _refuse_large(node)
    return node


def loaded(text: str) -> Any:
    """Load the value of a text.

    Raises
    ------
    yaml.YAMLError
        As for `composed`, or for a number of more digits than Python converts.
    """
    node = composed(text)
    if node is None:
        return None
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except ValueError as error:
        raise yaml.YAMLError(f"a value that cannot be understood: {error}") from error
    finally:
        loader.dispose()


def dumped(value: Any, **options: Any) -> str:
    """Format a value as text that `loaded` reads back.

    Parameters
    ----------
    value : mapping, list or scalar
    **options
        Of ``yaml.dump``.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)


def _refuse_large(root: yaml.Node) -> None:
    """Refuse anchors that contain themselves, or that expand to too many values."""
    sizes: dict[int, int | None] = {}

    def size(node):
        if id(node) in sizes:
            if sizes[id(node)] is None:
                raise yaml.YAMLError(f"an anchor that contains itself in line {node.start_mark.line + 1}")
            return sizes[id(node)]
        sizes[id(node)] = None
        match node:
            case yaml.MappingNode():
                total = 1 + sum(size(key) + size(value) for key, value in node.value)
            case yaml.SequenceNode():
                total = 1 + sum(size(value) for value in node.value)
            case _:
                total = 1
        if total > MOST_NODES:
            raise yaml.YAMLError(f"anchors that expand to more than {MOST_NODES} values")
        sizes[id(node)] = total
        return total

    size(root)
