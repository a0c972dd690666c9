import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from fphojax.inputs.bounds import PARAMETERS, default_bounds
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.storage import (
    bounds_from_dataset,
    bounds_to_dataset,
    catalog_from_dataset,
    catalog_to_dataset,
)

COLUMNS = ("id", "ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi")


@pytest.fixture
def catalog():
    rng = np.random.default_rng(0)
    return SourceCatalog.from_columns(
        id=np.array(["a", "b b", "c"]),
        ra=rng.uniform(0, 360, 3),
        dec=rng.uniform(-80, 80, 3),
        flux=rng.normal(size=(3, 2)),
        flux_err=np.array([[1.0, np.nan], [2.0, 3.0], [0.5, 0.1]]),
        q=rng.uniform(0.3, 1, 3),
        pa=np.array([-89.5, 0.0, 33.3]),
        sersic=rng.uniform(1, 4, 3),
        rhalf=rng.uniform(0.1, 2, 3),
        bands=("g", "r"),
        meta={"SURVEY": "X", "EPOCH": 2016.5, "N": np.int64(4), "OK": True},
        extra=Table(
            {
                "profile": ["sersic", "point", "é"],
                "z": MaskedColumn([1.0, 2.0, 3.0], mask=[False, True, False], unit="km"),
                "number": np.array([1, 2, 3], dtype=np.int16),
                "pair": np.arange(6.0).reshape(3, 2),
            }
        ),
    )


def test_catalogue_comes_back(catalog):
    stored = catalog_to_dataset(catalog)
    np.testing.assert_allclose(stored["pa"], np.deg2rad([-89.5, 0, 33.3]))
    assert stored["rhalf"].attrs["units"] == "arcsec"
    found = catalog_from_dataset(stored)
    for name in COLUMNS:
        if name == "pa":
            np.testing.assert_allclose(found.pa, catalog.pa, rtol=1e-15)
        else:
            np.testing.assert_array_equal(getattr(found, name), getattr(catalog, name))
    np.testing.assert_array_equal(found.flux_err, catalog.flux_err)
    assert found.bands == ("g", "r")
    assert found.meta == {"SURVEY": "X", "EPOCH": 2016.5, "N": 4, "OK": True}
    assert found.extra.colnames == catalog.extra.colnames
    for name in catalog.extra.colnames:
        assert found.extra[name].dtype.kind == catalog.extra[name].dtype.kind
        assert found.extra[name].tolist() == catalog.extra[name].tolist()
    assert found.extra["z"].mask.tolist() == [False, True, False]
    assert found.extra["z"].unit == "km"


def test_catalogue_without_the_optional(catalog):
    plain = catalog.replace(flux_err=None, extra=Table(), meta={})
    stored = catalog_to_dataset(plain)
    assert "flux_err" not in stored
    found = catalog_from_dataset(stored)
    assert found.flux_err is None
    assert found.meta == {}
    assert found.extra.colnames == []


def test_bounds_come_back(catalog):
    bounds = default_bounds(catalog)
    stored = bounds_to_dataset(bounds, catalog.id)
    assert stored["flux"].dims == ("side", "source", "band")
    assert stored["source"].to_numpy().tolist() == ["a", "b b", "c"]
    np.testing.assert_allclose(stored["pa"].sel(side="upper"), np.deg2rad(bounds.upper["pa"]))
    found = bounds_from_dataset(stored)
    assert found.bands == bounds.bands
    for name in PARAMETERS:
        np.testing.assert_allclose(found.lower[name], bounds.lower[name], rtol=1e-15)
        np.testing.assert_allclose(found.upper[name], bounds.upper[name], rtol=1e-15)
