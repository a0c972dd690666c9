"""Reading of a YAML file of settings, with one-line messages about what is wrong with it."""

import difflib
import os
import string
from collections import Counter
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from fphojax.errors import InputError
from fphojax.system.file_checks import kind_of, require_regular

from .yaml_text import composed, loaded

__all__ = ["describe", "expand_variables", "read_mapping", "shown", "yaml_problem"]

_OF_NAMES = {"ties", "tweakbg", "priors", "band_patterns"}  # settings whose keys are the user's own
_MOST_BYTES = 8 * 1024 * 1024  # of a file of settings: 100,000 names of files
_LONGEST = 100  # characters of a value in a message


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises
    ------
    InputError
        The file is absent, is not YAML, holds something else, or has a key twice.
    """
    require_regular(path, "a YAML file", most_bytes=_MOST_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: found {str(error.strerror).lower()}, expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are not UTF-8, expected a YAML file") from error
    try:
        tree, content = composed(text), loaded(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: found {yaml_problem(error)}, expected YAML") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {kind_of(content)}, expected a mapping of settings")
    assert tree is not None  # it holds a mapping
    wrong = _repeated_keys(tree) or _unnamed(content)
    if wrong:
        raise InputError("\n".join(f"{path}: {problem}" for problem in wrong))
    return content


def shown(value: Any) -> str:
    """Format a value for a message, on one line and of limited length."""
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 30]}... ({len(text)} characters)"


def yaml_problem(error: yaml.YAMLError) -> str:
    """Format the message of PyYAML, without its quotation of the text."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    message = ": ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(message.split()) + where


def _repeated_keys(tree: yaml.Node) -> list[str]:
    """List keys that stand twice in a mapping: YAML forbids it, but its reader silently keeps the last one."""
    lines, visited, todo = [], set(), [tree]
    while todo:
        node = todo.pop()
        if id(node) in visited or isinstance(node, yaml.ScalarNode):
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += reversed(node.value)
            continue
        counts = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        lines += [f"{_name(key)}: found {n} times, expected once" for key, n in counts.items() if n > 1]
        todo += [value for _, value in reversed(node.value)]
    return lines


def _unnamed(content: dict) -> list[str]:
    """List keys of the file that are not text, as the names of all settings are."""
    return [f"{shown(key)}: unknown key, expected a name" for key in content if not isinstance(key, str)]


def expand_variables(value: Any, keys: tuple, problems: list[str]) -> Any:
    """Replace $NAME and ${NAME} in all strings below `value`, and leave out keys without a value.

    Only names of settings may lack one: an id, a band or a pattern without value would vanish silently.

    Parameters
    ----------
    value : mapping, list or scalar
    keys : tuple
        Keys that lead to `value`, for messages.
    problems : list of str
        Gains a line for each variable that is not defined.
    """
    if isinstance(value, dict):
        named = not (keys and keys[0] in _OF_NAMES)
        entries = {key: entry for key, entry in value.items() if entry is not None or not named}
        return {key: expand_variables(entry, (*keys, key), problems) for key, entry in entries.items()}
    if isinstance(value, list):
        return [expand_variables(entry, keys, problems) for entry in value]
    if not isinstance(value, str):
        return value
    if not value.isprintable():
        problems.append(f"{_dotted(keys)}: found {shown(value)}, expected text without control characters")
        return value
    try:
        return string.Template(value).substitute(os.environ)
    except KeyError as error:
        problems.append(f"{_dotted(keys)}: found ${error.args[0]}, expected a shell variable that is defined")
    except ValueError:
        problems.append(
            f"{_dotted(keys)}: found {shown(value)}, expected $ before names of shell variables only"
        )
    return value


def _name(key: Any) -> str:
    """Format a key for a message."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= _LONGEST else shown(key)


def _dotted(keys: tuple) -> str:
    return ".".join(_name(key) for key in keys if key != "[key]")


def describe(model: type[BaseModel], entry: ErrorDetails) -> str:
    """Format one entry of pydantic's ``ValidationError.errors()`` as "key: found ..., expected ..."."""
    keys: tuple = entry["loc"]
    name = _dotted(keys)
    if entry["type"] == "extra_forbidden":
        fields = _section(model, keys[:-1]).model_fields
        matches = difflib.get_close_matches(str(keys[-1]), fields, n=1, cutoff=0.5)
        nearest = f"did you mean {matches[0]}?" if matches else f"expected one of {', '.join(fields)}"
        return f"{name}: unknown key, {nearest}"
    if (entry["type"] in ("missing", "too_long") and isinstance(keys[-1], int)) or entry[
        "type"
    ] == "too_long":
        keys = keys[:-1] if isinstance(keys[-1], int) else keys
        size = _length(_section(model, keys[:-1]).model_fields[keys[-1]].annotation)
        return f"{_dotted(keys)}: found {shown(entry['input'])}, expected {size} values"
    if entry["type"] == "path_type":
        return f"{name}: found {shown(entry['input'])}, expected a path"
    if entry["type"] == "missing":
        description = _section(model, keys[:-1]).model_fields[keys[-1]].description
        return f"{name}: found nothing, expected {description}"
    if entry["type"] == "value_error":
        return f"{name}: {entry['ctx']['error']}"
    if entry["type"] in ("model_type", "dict_type"):
        return f"{name}: found {shown(entry['input'])}, expected a mapping"
    if entry["type"] == "tuple_type":
        n_value = _length(_section(model, keys[:-1]).model_fields[keys[-1]].annotation)
        return f"{name}: found {shown(entry['input'])}, expected {n_value} values"
    message = entry["msg"].replace("String should have", "text of")
    expected = message.removeprefix("Input should be ").partition(", unable to parse")[0]
    return f"{name}: found {shown(entry['input'])}, expected {expected[0].lower()}{expected[1:]}"


def _length(annotation: Any) -> int | None:
    """Return the number of values of the tuple that a field holds."""
    parts = get_args(annotation)
    if get_origin(annotation) is tuple:
        return len(parts)
    return next((n for n in map(_length, parts) if n is not None), None)


def _section(model: type[BaseModel], keys: tuple) -> type[BaseModel]:
    """Return the model of the nested section that the keys lead to."""
    for key in keys:
        if key in model.model_fields:
            annotation: Any = model.model_fields[key].annotation
            model = get_args(annotation)[-1] if get_args(annotation) else annotation
    return model
