import numpy as np
import pytest
from astropy.table import Table

from fphojax.field.bigscene import BigScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.sphere import unit_vectors


def catalog(ids, x, *, roi=2.0, **extra):
    """Sources at x arcsec along the equator, across ra = 0."""
    size = len(ids)
    return SourceCatalog.from_columns(
        id=np.array(ids),
        ra=np.array(x, dtype=float) / 3600 % 360,
        dec=np.zeros(size),
        flux=np.arange(1.0, size + 1)[:, None],
        flux_err=np.ones((size, 1)),
        q=0.8,
        pa=30.0,
        sersic=2.0,
        rhalf=0.5,
        roi=roi,
        bands=("g",),
        extra=Table(extra),
    )


@pytest.fixture
def fixed():
    return catalog([7, 9], [0, 1], source_index=np.array([3, 5]))


CENTRE = unit_vectors(0.0, 0.0)


def test_those_that_overlap_the_patch_are_appended(fixed):
    big = BigScene(catalog([101, 102, 103, 104], [-6.9, -7.1, 6.9, 50], roi=[2, 2, 2, 46]))
    found = big.joined(fixed, CENTRE, 5.0)
    assert found.id[:2].tolist() == [7, 9]
    assert set(found.id[2:].tolist()) == {101, 103, 104}
    assert found["source_index"].tolist() == [3, 5, -1, -1, -1]
    assert dict(zip(found.id.tolist(), found.flux[:, 0].tolist(), strict=True)) == {
        7: 1.0,
        9: 2.0,
        101: 1.0,
        103: 3.0,
        104: 4.0,
    }
    assert found.roi[found.id == 104] == 46
    assert "profile" not in found.extra.colnames
    assert found.flux_err is None


def test_patch_without_any_stays_as_it_is(fixed):
    assert BigScene(catalog([101], [20])).joined(fixed, CENTRE, 5.0) is fixed


def test_ids_of_two_kinds_become_text(fixed):
    found = BigScene(catalog(["halo"], [3])).joined(fixed, CENTRE, 5.0)
    assert found.id.tolist() == ["7", "9", "halo"]


def test_profiles_of_either_catalogue_are_kept(fixed):
    special = catalog([101], [3], profile=["devaucouleurs"])
    assert BigScene(special).joined(fixed, CENTRE, 5.0)["profile"].tolist() == ["sersic"] * 2 + [
        "devaucouleurs"
    ]
    points = catalog([7, 9], [0, 1], source_index=np.array([3, 5]), profile=["point", "sersic"])
    found = BigScene(catalog([101], [3])).joined(points, CENTRE, 5.0)
    assert found["profile"].tolist() == ["point", "sersic", "sersic"]
