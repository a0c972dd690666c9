"""The background stage: what it refuses; `test_loop.py` has a field for it."""

import pytest

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.background import background
from fphojax.errors import InputError


def test_levels_cannot_be_written_into_settings_of_no_file(tmp_path):
    settings = Settings(bandlist=["F"], fitsfiles=["image.fits"], outbase=tmp_path / "run")
    with pytest.raises(InputError, match="write: found settings that were not read from a file, expected"):
        background(settings, write=True)
    assert list(tmp_path.iterdir()) == []
