"""Defaults of the settings, as they would stand in a run's file."""

from typing import Any

from pydantic_core import to_jsonable_python

from .schema import Settings

__all__ = ["default_settings"]


def default_settings() -> dict[str, Any]:
    """Return the default of every setting that has one, in plain types; sections are nested."""
    fields = Settings.model_fields.items()
    return to_jsonable_python({name: field.default for name, field in fields if not field.is_required()})
