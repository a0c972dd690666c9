"""One line for each fault of a settings file, before any setting is looked at."""

import pytest

from fphojax.app.settings.settings_file import expand_variables, read_mapping, shown
from fphojax.errors import InputError


def refused(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_mapping(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings.yml"


def test_mapping(path):
    path.write_text("bands: [g, r]\nsampler: {chains: 4}\nnothing:\n", encoding="utf-8")
    assert read_mapping(path) == {"bands": ["g", "r"], "sampler": {"chains": 4}, "nothing": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "found a list, expected a mapping of settings"),
        ("", "found nothing, expected a mapping of settings"),
        ("5", "found a number, expected a mapping of settings"),
        (b"a: \xff", "found bytes that are not UTF-8, expected a YAML file"),
        ("a: 1\n b: 2", "found mapping values are not allowed here in line 2, column 3, expected YAML"),
        ("a: !x 1", "found the tag !x in line 1, column 4, expected YAML"),
        ("1: a", "1: unknown key, expected a name"),
    ],
)
def test_what_is_no_mapping_of_settings(path, text, message):
    assert refused(path, text) == [message]


def test_each_key_that_stands_twice_has_its_line(path):
    text = "a: 1\nb: {c: 1, d: {e: 1, e: 2}, c: 2, c: 3}\na: 2\nl: [{f: 1, f: 2}]\n"
    assert refused(path, text) == [
        f"{key}: found {n} times, expected once" for key, n in (("a", 2), ("c", 3), ("e", 2), ("f", 2))
    ]
    # the same mapping used in two places has its keys once
    path.write_text("a: &x {p: 1}\nb: *x\n")
    assert read_mapping(path) == {"a": {"p": 1}, "b": {"p": 1}}


def test_file_that_is_absent_or_too_large(path):
    with pytest.raises(InputError, match="no such file, expected a YAML file"):
        read_mapping(path)
    path.write_text("#" * (8 * 1024 * 1024 + 1))
    with pytest.raises(InputError, match="found 8 MB, expected a YAML file of at most 8 MB"):
        read_mapping(path)


def test_variables(monkeypatch):
    monkeypatch.setenv("FIELD", "north")
    monkeypatch.delenv("ABSENT", raising=False)
    problems = []
    value = {
        "outbase": "runs/$FIELD",
        "files": ["${FIELD}_1.fits", "$$5"],
        "empty": None,
        "ties": {"pair": None},
        "gtol": 3.0,
    }
    assert expand_variables(value, (), problems) == {
        "outbase": "runs/north",
        "files": ["north_1.fits", "$5"],
        "ties": {"pair": None},  # the user's own key, which must not vanish
        "gtol": 3.0,
    }
    assert problems == []
    bad = {"a": {"b": "$ABSENT/x"}, "c": "5 $", "d": ["tab\there"]}
    expand_variables(bad, (), problems)
    assert problems == [
        "a.b: found $ABSENT, expected a shell variable that is defined",
        "c: found '5 $', expected $ before names of shell variables only",
        "d: found 'tab\\there', expected text without control characters",
    ]


def test_long_values_are_cut():
    assert shown("a" * 98) == repr("a" * 98)
    text = shown(list(range(1000)))
    assert text.startswith("[0, 1, 2")
    assert text.endswith("... (4890 characters)")
    assert len(text) < 100
