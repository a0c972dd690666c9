"""Plain YAML: what a word means, and what is refused before it costs anything."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fphojax.app.settings.yaml_text import DEEPEST, MOST_NODES, composed, dumped, loaded


@pytest.mark.parametrize(
    "text",
    ["no", "on", "Yes", "off", "y", "2024-01-01", "1:30", "0250", "1_000", "0o17", "+.5.1", "1e", ".", "1.e"],
)
def test_words_that_look_like_more_are_text(text):
    assert loaded(f"a: {text}") == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("-12", -12),
        ("0x1F", 31),
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("2.", 2.0),
        ("-.5", -0.5),
        ("-.inf", -math.inf),
        ("~", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_numbers_and_words(text, value):
    found = loaded(f"a: {text}")["a"]
    assert found == value
    assert type(found) is type(value)


def test_anchors_and_merged_mappings():
    assert loaded("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\nc: *x") == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 3},
        "c": {"p": 1, "q": 2},
    }
    assert loaded("") is None
    assert composed("# nothing") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python"),
        ("a: !own 1", "the tag !own"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), f"more than {DEEPEST} levels"),
        ("a: &x [1, *x]", "an anchor that contains itself in line 1"),
        ("a: {b: 1", "while parsing"),
        ("9" * 5000, "a value that cannot be understood"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(yaml.YAMLError, match=message):
        loaded(text)


def test_anchors_that_would_fill_the_memory():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(yaml.YAMLError, match=f"anchors that expand to more than {MOST_NODES} values"):
        loaded("\n".join(lines))
    assert len(loaded("\n".join(lines[:3]))["a2"]) == 10


def test_deepest_level_is_read():
    assert loaded("[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1))


PLAIN = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False)
LIKE_MORE = st.sampled_from(["no", "1:30", "0250", "1_000", "1e5", "2024-01-01", "~", "", "=", "<<", "0o7"])
TEXT = LIKE_MORE | st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, blacklist_categories=("Cc",)))


@given(
    st.recursive(PLAIN | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=10)
)
def test_what_is_written_is_read(value):
    assert loaded(dumped(value)) == value


@given(LIKE_MORE)
def test_other_readers_find_the_same_text(text):
    assert yaml.safe_load(dumped([text])) == [text]
