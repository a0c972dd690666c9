import numpy as np
import pytest
from astropy.table import Table

from fphojax.inputs import InputError
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.profiles import (
    apply_profiles,
    clip_held,
    held_values,
    profiles_of,
    start_violations,
)
from fphojax.inputs.source_catalog import SourceCatalog

NAMES = ["sersic", "exponential", "devaucouleurs", "point"]


def catalog(profiles=NAMES, **changes):
    size = 4
    extra = Table() if profiles is None else Table({"profile": profiles})
    columns = {"q": 0.7, "pa": 20.0, "sersic": 2.5, "rhalf": 0.3} | changes
    return SourceCatalog.from_columns(
        ra=10 + np.arange(size) / 3600,
        dec=np.zeros(size),
        flux=np.full((size, 1), 50.0),
        bands=("g",),
        extra=extra,
        **columns,
    )


def test_special_profiles_replace_what_they_hold():
    found = apply_profiles(catalog())
    assert found.sersic.tolist() == [2.5, 1, 4, 1]
    assert found.rhalf.tolist() == [0.3, 0.3, 0.3, 0]
    assert found.q.tolist() == [0.7, 0.7, 0.7, 1]
    assert found.pa.tolist() == [20, 20, 20, 0]


def test_catalogue_without_special_profiles_is_untouched():
    for profiles in (None, ["sersic"] * 4):
        plain = catalog(profiles)
        assert profiles_of(plain) == ["sersic"] * 4
        assert apply_profiles(plain) is plain


def test_values_that_are_held():
    held = held_values(NAMES)
    np.testing.assert_array_equal(held["sersic"], [np.nan, 1, 4, 1])
    for name, value in {"q": 1, "pa": 0, "rhalf": 0}.items():
        np.testing.assert_array_equal(held[name], [np.nan, np.nan, np.nan, value])
    assert held_values(["sersic", "sersic"]) == {}
    assert set(held_values(["exponential"])) == {"sersic"}
    with pytest.raises(InputError, match="row 1: profile is 'disk', expected one of sersic, exponential"):
        held_values(["sersic", "disk"])


def test_only_held_values_are_clipped():
    bounds = default_bounds(catalog(None)).replace(sersic=(2.0, 3.0), rhalf=(0.1, 0.2))
    start = catalog(sersic=5.0, rhalf=0.9)
    found = clip_held(start, held_values(NAMES), bounds)
    assert found.sersic.tolist() == [5.0, 3.0, 3.0, 3.0]
    assert found.rhalf.tolist() == [0.9, 0.9, 0.9, 0.2]
    np.testing.assert_array_equal(found.q[:3], start.q[:3])


def test_violations_are_those_of_free_parameters():
    bounds = default_bounds(catalog(None)).replace(sersic=(2.0, 3.0))
    found = start_violations(catalog(sersic=5.0), bounds)
    assert len(found) == 1
    assert "sersic" in found[0]
    assert "row 0" in found[0]
    assert start_violations(catalog(), bounds) == []


def test_position_angles_count_modulo_half_a_turn():
    bounds = default_bounds(catalog(None)).replace(pa=(-100.0, 80.0))
    assert start_violations(catalog(pa=200.0), bounds) == []
    narrow = bounds.replace(pa=(0.0, 40.0))
    assert start_violations(catalog(pa=200.0), narrow) == []
    assert len(start_violations(catalog(pa=60.0), narrow)) == 3  # the point's is held
