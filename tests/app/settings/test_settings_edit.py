"""Sky levels in a user's file of settings: what changes, and what stays."""

import pytest
import yaml

from fphojax.app.settings.settings_edit import with_value, write_sky
from fphojax.errors import InputError

TEXT = """\
# my field
bandlist: [g, r]   # two
tweakbg:   # from last week
  g: 1.0   # old
  r: 2.0

# next
seed: 3
"""


def test_everything_else_stays(tmp_path):
    path = tmp_path / "field.yml"
    path.write_text(TEXT)
    write_sky(path, {"g": 1e-5, "on": -0.1234567})
    text = path.read_text()
    assert yaml.safe_load(text) == {
        "bandlist": ["g", "r"],
        "tweakbg": {"g": 1e-5, "on": -0.123457},
        "seed": 3,
        "tweak_background": "tweakbg",
    }
    for line in ("# my field", "bandlist: [g, r]   # two", "# next", "seed: 3"):
        assert line in text.splitlines()
    write_sky(path, {"g": 2.0})
    assert len(path.read_text().splitlines()) == len(text.splitlines())
    assert [file.name for file in tmp_path.iterdir()] == ["field.yml"]


@pytest.mark.parametrize(
    "text", ["a: 1\nb: {c: 2}  # d\n", "b:\n  c: 2 # e\na: 1", "b:\na: 1\n", "a: 1", "b: null\na: 1\n"]
)
def test_a_value_is_replaced_or_appended(text):
    changed = with_value(text, "b", "{x: 5}")
    assert yaml.safe_load(changed) == {"a": 1, "b": {"x": 5}}
    assert changed.count("#") == text.count("#")


def test_a_file_in_flow_style_is_left_alone(tmp_path):
    path = tmp_path / "field.yml"
    path.write_text("{seed: 3, tweakbg: {g: 1}}")
    with pytest.raises(InputError, match="found a mapping in braces"):
        write_sky(path, {"g": 2.0})
    assert path.read_text() == "{seed: 3, tweakbg: {g: 1}}"
