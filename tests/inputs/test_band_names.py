"""The band of an image: keywords of several instruments, and names of files."""

from pathlib import Path

import pytest
from astropy.io import fits

from fphojax.inputs import InputError
from fphojax.inputs.band_names import band_of


def found(science=None, primary=None, name="a_g_1.fits", **options):
    return band_of((fits.Header(science or {}), fits.Header(primary or {})), Path("/data", name), **options)


@pytest.mark.parametrize(
    ("cards", "band", "how"),
    [
        ({"FILTER": "F200W"}, "F200W", "FILTER"),
        ({"FILTER": "F200W", "PUPIL": "CLEAR"}, "F200W", "FILTER"),
        ({"FILTER": "F150W2", "PUPIL": "F162M"}, "F162M", "PUPIL"),
        ({"FILTER": "CLEAR", "PUPIL": "F115W"}, "F115W", "PUPIL"),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, "F814W", "FILTER2"),
        ({"FILTER1": "F606W", "FILTER2": "CLEAR2L"}, "F606W", "FILTER1"),
        ({"FILTER1": "F606W"}, "F606W", "FILTER1"),
        ({"FILTER": " ", "FILTER1": "N/A", "FILTER2": "r"}, "r", "FILTER2"),
    ],
)
def test_keywords(cards, band, how):
    assert found(cards) == (band, how)
    assert found(primary=cards) == (band, how)


def test_the_header_of_the_image_counts_before_that_of_the_file():
    assert found({"FILTER": "g"}, {"FILTER": "r"}) == ("g", "FILTER")


def test_settings_name_another_keyword_or_files():
    cards = {"FILTER": "open", "BAND": "Ks"}
    assert found(cards, key="BAND") == ("Ks", "BAND")
    assert found(cards, key="BAND", patterns={"*_g_*.fits": "g"}) == ("g", "file name *_g_*.fits")
    assert found(cards, key="BAND", patterns={"*_r_*.fits": "r"}) == ("Ks", "BAND")
    assert found(patterns={"data/*.fits": "g"}) == ("g", "file name data/*.fits")


@pytest.mark.parametrize(
    ("cards", "options", "match"),
    [
        ({}, {}, "no keyword FILTER .or FILTER1, FILTER2. in the header"),
        ({}, {"key": "BAND"}, "no keyword BAND, expected the band .setting band_keyword."),
        (
            {"FILTER1": "F606W", "FILTER2": "POL0V"},
            {},
            "found FILTER1 = F606W, FILTER2 = POL0V, expected one filter",
        ),
        (
            {"FILTER1": "CLEAR1L", "FILTER2": "CLEAR2L"},
            {},
            "FILTER1 = CLEAR1L, FILTER2 = CLEAR2L, expected one",
        ),
        ({"FILTER": "GR150R", "PUPIL": "F115W"}, {}, "dispersed by the grism GR150R"),
        ({"FILTER": "F444W", "PUPIL": "GRISMR"}, {}, "dispersed by the grism GRISMR"),
        ({"FILTER": "x"}, {"patterns": {"*_g_*": "g", "a_*": "r"}}, r"\*_g_\*: g, a_\*: r\), expected one"),
    ],
)
def test_what_is_refused(cards, options, match):
    with pytest.raises(InputError, match=match):
        found(cards, **options)
