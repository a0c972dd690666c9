"""The directive `settings-table`: every setting with its type, default and meaning, read from the settings object."""

import json
import types
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fphojax.app.settings.schema import Section, Settings

_NAMES = {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}
_LIMITS = {"Gt": ("gt", ">"), "Ge": ("ge", "≥"), "Lt": ("lt", "<"), "Le": ("le", "≤")}


class Row(NamedTuple):
    """One setting: its key (with a dot before those of a section), kind of value, default, and meaning."""

    key: str
    kind: str
    default: str
    meaning: str


def rows(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[Row]:
    """Yield a row for each setting, in the order of the settings object; those of a section follow it."""
    for name, field in model.model_fields.items():
        meaning = field.description or ""
        if isinstance(field.default, Section):
            yield Row(prefix + name, "section", "", meaning)
            yield from rows(type(field.default), f"{prefix}{name}.")
        else:
            yield Row(prefix + name, _kind(field), _default(field), meaning)


def _kind(field: FieldInfo) -> str:
    return ", ".join([_type(field.annotation), *_limits([field.annotation, *field.metadata])])


def _limits(parts: Iterable[Any]) -> Iterator[str]:
    """Yield the limits of numbers, also those of a number that may be left out."""
    for part in parts:
        attribute, sign = _LIMITS.get(type(part).__name__, ("", ""))
        if attribute:
            yield f"{sign} {getattr(part, attribute):,}"
        elif get_origin(part) in (Union, types.UnionType):
            yield from _limits(get_args(part))
        elif hasattr(part, "__metadata__"):
            yield from _limits(part.__metadata__)


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    if origin is list:
        return f"list of: {_type(parts[0])}"
    if origin is tuple:
        return f"[{', '.join(map(_type, parts))}]"
    if origin is dict:
        return f"mapping of: {_type(parts[1])}"
    name = getattr(annotation, "__name__", str(annotation))
    return {"PriorSettings": "a distribution"}.get(name, _NAMES.get(name, name))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None:
        return ""
    return f"`{json.dumps(default, default=str)}`"


class SettingsTable(SphinxDirective):
    """One table of all settings."""

    def run(self) -> list[nodes.Node]:
        lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
        for row in rows():
            cells = (f"`{row.key}`", row.kind, row.default, row.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings-table", SettingsTable)
    return {"parallel_read_safe": True}
