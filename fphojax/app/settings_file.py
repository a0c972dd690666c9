"""Reading a YAML file of settings, and saying in one line each what is wrong with it."""

import difflib
import os
import string
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel

from fphojax.inputs.errors import InputError

__all__ = ["assigned", "describe", "expand_variables", "read_mapping"]


def read_mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML file that holds one mapping.

    Raises
    ------
    InputError
        The file is absent, is not YAML, holds something else, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: found {error.strerror.lower()}, expected a YAML file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: found bytes that are not UTF-8, expected a YAML file") from error
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: found {' '.join(str(error).split())}, expected YAML") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, expected a mapping of settings")
    repeated = _repeated_keys(tree)
    if repeated:
        raise InputError("\n".join(f"{path}: {problem}" for problem in repeated))
    return content


def assigned(changes: list[str]) -> dict[str, Any]:
    """Settings of a command line, KEY=VALUE each; values are read as YAML.

    Raises
    ------
    InputError
        One line for each that is no such text.
    """
    found, problems = {}, []
    for text in changes:
        key, equals, value = text.partition("=")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not (key.strip() and equals):
            problems.append(f"--set: found {text!r}, expected KEY=VALUE")
    if problems:
        raise InputError("\n".join(problems))
    return found


def _repeated_keys(node: yaml.Node) -> list[str]:
    """YAML forbids a key to stand twice in a mapping, but its reader keeps the last one and says nothing."""
    if not isinstance(node, yaml.MappingNode):
        return []
    counts = Counter(key.value for key, _ in node.value)
    lines = [f"{key}: found {count} times, expected once" for key, count in counts.items() if count > 1]
    return lines + [line for _, value in node.value for line in _repeated_keys(value)]


def expand_variables(value: Any, keys: tuple, problems: list[str]) -> Any:
    """Replace $NAME and ${NAME} in all strings below `value`, and leave out keys without a value.

    Parameters
    ----------
    value : mapping, list or scalar
    keys : tuple
        Keys that lead to `value`, for messages.
    problems : list of str
        Gains a line for each variable that is not defined.
    """
    if isinstance(value, dict):
        given = {key: entry for key, entry in value.items() if entry is not None}
        return {key: expand_variables(entry, (*keys, key), problems) for key, entry in given.items()}
    if isinstance(value, list):
        return [expand_variables(entry, keys, problems) for entry in value]
    if not isinstance(value, str):
        return value
    try:
        return string.Template(value).substitute(os.environ)
    except KeyError as error:
        problems.append(f"{_dotted(keys)}: found ${error.args[0]}, expected a shell variable that is defined")
    except ValueError:
        problems.append(f"{_dotted(keys)}: found {value!r}, expected $ before names of shell variables only")
    return value


def _dotted(keys: tuple) -> str:
    return ".".join(str(key) for key in keys if key != "[key]")


def describe(model: type[BaseModel], entry: dict[str, Any]) -> str:
    """One entry of pydantic's ``ValidationError.errors()`` as "key: found ..., expected ..."."""
    keys, name = entry["loc"], _dotted(entry["loc"])
    if entry["type"] == "extra_forbidden":
        known = _section(model, keys[:-1]).model_fields
        near = difflib.get_close_matches(str(keys[-1]), known, n=1, cutoff=0.5)
        nearest = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
        return f"{name}: unknown key, {nearest}"
    if entry["type"] == "missing":
        description = _section(model, keys[:-1]).model_fields[keys[-1]].description
        return f"{name}: found nothing, expected {description}"
    if entry["type"] == "value_error":
        return f"{name}: {entry['ctx']['error']}"
    if entry["type"] in ("model_type", "dict_type"):
        return f"{name}: found {entry['input']!r}, expected a mapping"
    expected = entry["msg"].removeprefix("Input should be ")
    return f"{name}: found {entry['input']!r}, expected {expected[0].lower()}{expected[1:]}"


def _section(model: type[BaseModel], keys: tuple) -> type[BaseModel]:
    """Model of the nested section that the keys lead to."""
    for key in keys:
        if key in model.model_fields:
            annotation = model.model_fields[key].annotation
            model = get_args(annotation)[-1] if get_args(annotation) else annotation
    return model
