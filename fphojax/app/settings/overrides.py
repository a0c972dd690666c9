"""Settings of a command line, which take the place of those of a file, or of parts of them."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from fphojax.errors import InputError

from .settings_file import shown, yaml_problem
from .yaml_text import loaded

__all__ = ["assigned", "merged"]


def assigned(changes: list[str], model: type[BaseModel]) -> dict[str, Any]:
    """Parse settings of a command line.

    Parameters
    ----------
    changes : list of str
        KEY=VALUE each; the value is read as YAML. The key of a part has those of all that it is in before it, with
        dots between them: ``bounds_kwargs.n_pix=3``, ``priors.rhalf.loc=0.5``, ``tweakbg.F150W=0.1``.
    model : type
        The model of the settings, which says what has parts.

    Returns
    -------
    dict
        Values by key, those of parts in nested mappings; see `merged`.

    Raises
    ------
    InputError
        One line for each that is not KEY=VALUE, names a part of what has none, or names a setting again.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    known: list[list[str]] = []
    for text in changes:
        key, equals, value = (part.strip() for part in text.partition("="))
        path = _split(key, model)
        if not (key and equals and all(path)):
            problems.append(f"--set: found {shown(text)}, expected KEY=VALUE")
            continue
        if len(path) > 1 and not _has_parts(model, path[0]):
            problems.append(
                f"--set: found {key}, expected {path[0]} without a part, as it is no mapping of settings"
            )
            continue
        for other in known:
            if other[: len(path)] == path or path[: len(other)] == other:
                again = "more than once" if other == path else f"beside {'.'.join(other)}"
                problems.append(f"--set: found {key} {again}, expected each setting once")
                break
        else:
            known.append(path)
            try:
                _put(values, path, loaded(value))
            except yaml.YAMLError as error:
                problems.append(f"--set: {key}: found {yaml_problem(error)}, expected a value in YAML")
    if problems:
        raise InputError("\n".join(problems))
    return values


class _Parts(dict):
    """Parts of a setting, to be put into what the file says of it."""


def merged(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Put settings of a command line into those of a file.

    Parameters
    ----------
    content : mapping
    overrides : mapping
        See `assigned`: a value takes the place of that of the file, parts are put into it.
    """
    new = dict(content)
    for key, value in overrides.items():
        before = new.get(key)
        if isinstance(value, _Parts) and isinstance(before, dict | None):
            new[key] = merged(before or {}, value)
        elif not isinstance(value, _Parts):
            new[key] = value
        # else the file has no mapping here, and is refused for that
    return new


def _put(values: dict, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, _Parts())
    values[path[-1]] = value


def _split(key: str, model: type[BaseModel]) -> list[str]:
    """Split a key at those of its dots that lead into a part; names of bands and files may have dots, too."""
    name, dot, rest = key.partition(".")
    if not dot:
        return [name]
    field = model.model_fields.get(name)
    return [name, *_split_rest(rest, None if field is None else field.annotation)]


def _split_rest(rest: str, annotation: Any) -> list[str]:
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return _split(rest, kind)
    if get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        if get_origin(inner) is dict or (isinstance(inner, type) and issubclass(inner, BaseModel)):
            name, dot, more = rest.partition(".")
            return [name, *(_split_rest(more, inner) if dot else [])]
    return [rest]


def _has_parts(model: type[BaseModel], name: str) -> bool:
    """Return whether a setting has parts; of one that is not known, what reads the settings says so."""
    field = model.model_fields.get(name)
    if field is None:
        return True
    kinds = (field.annotation, *get_args(field.annotation))
    return any(
        get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)) for kind in kinds
    )
