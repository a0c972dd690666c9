"""Defaults of the settings, as they would stand in a run's file."""

from typing import Any

from .schema import Settings

__all__ = ["default_settings"]


def default_settings() -> dict[str, Any]:
    """Return the default of every setting that has one, in plain types; sections are nested."""
    return Settings.model_construct().model_dump(mode="json", warnings=False)
