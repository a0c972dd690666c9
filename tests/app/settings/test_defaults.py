"""Defaults of settings, in the form of a run's file."""

import json

from fphojax.app.settings.defaults import default_settings
from fphojax.app.settings.schema import Settings


def test_defaults_are_those_of_the_settings():
    defaults = default_settings()
    assert json.loads(json.dumps(defaults)) == defaults
    assert defaults["chains"] == Settings.model_fields["chains"].default
    assert isinstance(defaults["detection"], dict)
    assert "bandlist" not in defaults  # which has none
