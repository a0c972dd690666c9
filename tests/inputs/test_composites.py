"""Composite sources: split into components, which share their position."""

import numpy as np
import pytest
from astropy.table import Table

from fphojax import InputError, SourceCatalog, default_bounds, split_composites
from fphojax.inputs.composites import (
    centre_ties,
    components_inside,
    composite_name,
    names_shown,
    refuse_composites,
    with_profile,
)
from fphojax.inputs.recipe import linked_rows


@pytest.fixture
def catalog():
    return SourceCatalog.from_columns(
        ra=[10.0, 10.001, 10.002],
        dec=[1.0, 1.0, 1.0],
        flux=[[10.0, 20.0], [30.0, 40.0], [50.0, 60.0]],
        flux_err=np.full((3, 2), 0.5),
        q=0.6,
        pa=30.0,
        sersic=2.0,
        rhalf=[0.2, 0.3, 0.4],
        bands=("g", "r"),
        id=[7, 8, 9],
        extra=Table({"profile": ["bulge_disk", "sersic", "sersic+exponential"], "z": [0.1, 0.2, 0.3]}),
    )


def test_components_have_rows_in_the_place_of_their_source(catalog):
    found = split_composites(catalog)
    assert found.id.tolist() == ["7_bulge", "7_disk", "8", "9_sersic", "9_exponential"]
    assert list(found["profile"]) == ["devaucouleurs", "exponential", "sersic", "sersic", "exponential"]
    assert list(found["galaxy"]) == ["7", "7", "", "9", "9"]
    assert list(found["component"]) == ["bulge", "disk", "", "sersic", "exponential"]
    assert list(found["z"]) == [0.1, 0.1, 0.2, 0.3, 0.3]
    for name, rows in {"7": [0, 1], "8": [2], "9": [3, 4]}.items():
        row = catalog.id.tolist().index(int(name))
        np.testing.assert_allclose(found.flux[rows].sum(axis=0), catalog.flux[row])
        assert (found.ra[rows] == catalog.ra[row]).all()
        assert (found.roi[rows] == catalog.roi[row]).all()
    assert found.rhalf[0] < catalog.rhalf[0] < found.rhalf[1]
    np.testing.assert_array_equal(np.isnan(found.flux_err[:, 0]), [True, True, False, True, True])
    assert split_composites(found) is found


def test_a_list_may_have_a_profile_twice(catalog):
    found = split_composites(with_profile(catalog.without(["profile"])[:1], "sersic+sersic"))
    assert found.id.tolist() == ["7_sersic1", "7_sersic2"]
    assert composite_name(list(found["component"]), list(found["profile"])) == "sersic+sersic"
    assert composite_name(["point", "host"], ["point", "sersic"]) == "point_sersic"


def test_catalogues_without_composites_stay_as_they_are(catalog):
    single = catalog.without(["profile"])
    assert split_composites(single) is single
    assert with_profile(single, "sersic") is single
    assert with_profile(catalog, "point") is catalog
    assert list(with_profile(single, "point")["profile"]) == ["point"] * 3


def test_what_cannot_be_split_is_said(catalog):
    with pytest.raises(
        InputError, match=r"profile is 'sersic\+ring' with the component 'ring', expected some of"
    ):
        split_composites(with_profile(catalog.without(["profile"]), "sersic+ring"))
    with pytest.raises(InputError, match="id 7_disk is also that of a component, expected different ids"):
        split_composites(catalog.replace(id=np.array(["7", "7_disk", "9"])))
    with pytest.raises(
        InputError, match=r"row 0 \(id 7\): profile is bulge_disk, expected a row for each component"
    ):
        refuse_composites(catalog)


def test_components_share_their_position_and_are_linked(catalog):
    found = split_composites(catalog)
    assert centre_ties(found, {}) == {"x": {1: 0, 4: 3}, "y": {1: 0, 4: 3}}
    # a tie of the first component is that of all
    ties = {"x": {3: 2}, "pa": {1: 0}}
    assert centre_ties(found, ties) == {"x": {1: 0, 3: 2, 4: 2}, "y": {1: 0, 4: 3}, "pa": {1: 0}}
    assert ties == {"x": {3: 2}, "pa": {1: 0}}
    assert names_shown(found) == ["7", "", "8", "9", ""]
    assert linked_rows(found, {}) == [[0, 1], [3, 4]]
    assert linked_rows(found, {"pa": {"8": "7_disk"}}) == [[0, 1, 2], [3, 4]]


def test_starts_of_components_alone_are_moved_inside_their_bounds(catalog):
    found = split_composites(catalog)
    bounds = default_bounds(found, rhalf_range=(0.15, 0.31), pixscale=0.1)
    inside = components_inside(found, bounds)
    assert inside.rhalf[0] == 0.15
    assert inside.rhalf[2] == found.rhalf[2]
    assert not bounds.violations(inside, ("rhalf", "q", "sersic"))
