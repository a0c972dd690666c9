"""Ties between sources, by their ids."""

from types import SimpleNamespace

import numpy as np
import pytest

from fphojax.app.settings.ties import tie_problems, tied_rows
from fphojax.errors import InputError
from fphojax.inputs.source_catalog import SourceCatalog


def catalog(**extra):
    """Sources 7, 8, 9, 10 and 11."""
    return SourceCatalog.from_columns(
        ra=150 + 1e-3 * np.arange(5),
        dec=2.0,
        flux=np.ones((5, 1)),
        q=0.8,
        pa=30.0,
        sersic=2.0,
        rhalf=0.2,
        bands=("g",),
        id=[7, 8, 9, 10, 11],
        extra=extra,
    )


def settings(ties):
    return SimpleNamespace(file="field.yml", raw_catalog="peaks.ecsv", ties=ties)


def test_sources_that_share_parameters_form_groups():
    ties = {"x": {"8": "7", "10": "9"}, "y": {"11": "10"}}
    assert sorted(tied_rows(catalog(), settings(ties))) == [[0, 1], [2, 3, 4]]
    assert tied_rows(catalog(), settings({})) == []
    with pytest.raises(InputError, match=r"field\.yml: ties: x: found id 13, expected one in peaks\.ecsv"):
        tied_rows(catalog(), settings({"x": {"13": "7"}}))


def test_every_tie_that_cannot_be_is_told():
    profiles = ["point", "sersic", "exponential", "sersic", "sersic"]
    ties = {
        "x": {"8": "7", "7": "9"},
        "rhalf": {"8": "7"},
        "sersic": {"10": "11", "9": "11"},
        "q": {"12": "7"},
    }
    assert tie_problems(catalog(profile=profiles), settings(ties)) == [
        "field.yml: ties: x: found id 8 with the value of id 7, which is tied itself, expected one that is not",
        "field.yml: ties: rhalf: found id 7 of the profile point, which holds rhalf, expected sources whose profiles "
        "leave it free",
        "field.yml: ties: sersic: found id 9 of the profile exponential, which holds sersic, expected sources whose "
        "profiles leave it free",
        "field.yml: ties: q: found id 12, expected one in peaks.ecsv",
    ]
