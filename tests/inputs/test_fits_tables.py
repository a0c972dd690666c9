"""What is left out of a FITS table, and that the rest comes back from a file."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from astropy.utils.exceptions import AstropyWarning

from fphojax.inputs.fits_tables import fits_problems, writable_by_fits


@pytest.fixture
def extra():
    return Table(
        {
            "z": [0.5, 1.5],
            "small": np.array([-3, 4], dtype=np.int8),
            "good": [True, False],
            "name": ["a", "Zwölf"],
            "Z": [1, 2],
            "größe": [1, 2],
            "x" * 61: [1, 2],
            "where": SkyCoord([1, 2] * u.deg, [3, 4] * u.deg),
            "when": Time([2000, 2001], format="jyear"),
            "things": np.array([{}, []], dtype=object),
            "maybe": MaskedColumn([True, False], mask=[False, True]),
            "long": np.array([1, 2], dtype=np.longdouble),
            "RA": [1.0, 2.0],
        }
    )


META = {
    "EPOCH": 2016.5,
    "NAME": "é",
    "LIST": [1, float("inf")],
    "NONE": None,
    "MAP": {"a": 1},
    "à": 1,
    "OK": True,
}


def test_reasons(extra):
    problems = fits_problems(["id", "ra"], extra, META)
    assert problems == {
        "name": "row 1: 'Zwölf' is not ASCII",
        "Z": "its name differs from that of z in case only",
        "größe": "its name is not plain ASCII",
        "x" * 61: "its name is longer than 60 characters",
        "where": "it holds SkyCoord",
        "when": "it holds Time",
        "things": "it holds object",
        "maybe": "it holds masked booleans",
        "long": f"it holds {np.dtype(np.longdouble)}",
        "RA": "its name differs from that of ra in case only",
        "NAME": "'é' is not ASCII",
        "LIST": "it is inf",
        "MAP": "it holds dict",
        "à": "its name is not plain ASCII",
    }


def test_rest_comes_back_from_a_file(extra, tmp_path):
    with pytest.warns(AstropyWarning, match=r"cat.fits: left out, as FITS cannot hold it: name \(row 1"):
        kept, meta = writable_by_fits("cat.fits", ["id", "ra"], extra, META)
    assert meta == {"EPOCH": 2016.5, "NONE": None, "OK": True}
    kept.write(tmp_path / "cat.fits")
    found = Table.read(tmp_path / "cat.fits")
    assert found.colnames == ["z", "small", "good"]
    assert found["small"].tolist() == [-3, 4]
    assert found["good"].tolist() == [True, False]


def test_nothing_is_said_where_all_is_well(extra):
    kept, _ = writable_by_fits("cat.fits", ["id"], extra["z", "good"], {"A": 1})
    assert kept.colnames == ["z", "good"]
