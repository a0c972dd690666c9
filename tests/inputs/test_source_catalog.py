"""Catalogues: conventions, round trips through both layouts, and what is refused."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table
from astropy.utils.exceptions import AstropyWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fphojax.inputs import InputError
from fphojax.inputs.source_catalog import ROI_PER_RHALF, SourceCatalog

SHARED = Path(__file__).resolve().parents[2] / "../shared"
DATA = Path(os.environ.get("FPHOJAX_DATA", SHARED / "data"))
REFERENCE = Path(os.environ.get("FPHOJAX_REFERENCE", SHARED / "reference"))

NUMBERS = ("ra", "dec", "q", "pa", "sersic", "rhalf", "roi", "flux")


def small(**changes):
    columns = {
        "ra": [10.0, 10.001, 10.002],
        "dec": [-5.0, -5.001, -5.002],
        "flux": [[1.0, 2.0], [3.0, -4.0], [5.0, 6.0]],
        "q": [0.5, 1.0, 0.7],
        "pa": [6.0, -11.0, 172.0],
        "sersic": [1.0, 4.0, 2.0],
        "rhalf": [0.1, 0.2, 0.3],
        "bands": ("g", "F200W"),
    }
    return SourceCatalog.from_columns(**columns | changes)


def assert_same(found, expected, ulps=4):
    for name in NUMBERS:
        values = getattr(expected, name)
        scale = np.maximum(np.abs(values), 90.0 if name == "pa" else 0.0)
        assert (np.abs(getattr(found, name) - values) <= ulps * np.spacing(scale)).all(), name
    np.testing.assert_array_equal(found.id, expected.id)
    assert found.bands == expected.bands
    assert (found.flux_err is None) == (expected.flux_err is None)
    if found.flux_err is not None:
        np.testing.assert_array_equal(found.flux_err, expected.flux_err)


def numbers(low, high, shape=3):
    return arrays(np.float64, shape, elements=st.floats(low, high))


CATALOGS = st.builds(
    small,
    ra=numbers(0, 359.999),
    dec=numbers(-90, 90),
    flux=numbers(-1e6, 1e6, (3, 2)),
    flux_err=st.none() | numbers(1e-6, 1e6, (3, 2)),
    q=numbers(0.01, 1),
    pa=numbers(-200, 200),
    sersic=numbers(0.3, 8),
    rhalf=numbers(1e-3, 50),
    roi=numbers(1e-3, 50),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CATALOGS)
def test_round_trips(tmp_path, catalog):
    for name in ("a.ecsv", "a.fits"):
        catalog.write(tmp_path / name)
        assert_same(SourceCatalog.read(tmp_path / name), catalog)
    catalog.write_forcepho(tmp_path / "f.fits")
    assert_same(SourceCatalog.read(tmp_path / "f.fits"), catalog, ulps=8)
    assert {path.name for path in tmp_path.iterdir()} <= {"a.ecsv", "a.fits", "f.fits"}


@pytest.mark.parametrize("name", ["a.ecsv", "a.fits"])
def test_extra_columns_ids_and_meta_are_kept(tmp_path, name):
    extra = Table(
        {
            "origin": ["peaks", "detected", "peaks"],
            "n_iter": np.array([1, 2, 3], np.int32),
            "vector": np.arange(6.0).reshape(3, 2),
            "speed": Column([1.0, np.nan, 3.0], unit="km/s"),
            "flag": [True, False, True],
            "maybe": MaskedColumn([1, 2, 3], mask=[False, True, False]),
        }
    )
    catalog = small(id=["a", "bb", "c"], extra=extra, meta={"FIELD": "GOODS-S", "DEPTH": 30.25})
    catalog.write(tmp_path / name)
    found = SourceCatalog.read(tmp_path / name)
    assert_same(found, catalog)
    assert found.meta == catalog.meta
    assert found.extra.colnames == extra.colnames
    for column in extra.colnames:
        np.testing.assert_array_equal(found.extra[column], extra[column])
        assert found.extra[column].dtype.kind == extra[column].dtype.kind
        assert found.extra[column].unit == extra[column].unit
    assert found.extra["maybe"].mask.tolist() == [False, True, False]


def test_own_table_carries_units(tmp_path):
    small(flux_err=np.ones((3, 2)), pa=90.0).write(tmp_path / "a.fits")
    table = Table.read(tmp_path / "a.fits")
    units = {
        "ra": "deg",
        "dec": "deg",
        "roi": "arcsec",
        "pa": "deg",
        "rhalf": "arcsec",
        "g": "nJy",
        "g_err": "nJy",
    }
    assert {name: str(table[name].unit) for name in units} == units
    np.testing.assert_allclose(table["pa"], 90.0)
    assert table.meta["FILTERS"] == "g,F200W"


def test_units_are_converted(tmp_path):
    table = Table(
        {
            "ra": [600.0] * u.arcmin,
            "dec": [0.1] * u.rad,
            "q": [0.5],
            "pa": [90.0] * u.deg,
            "sersic": [1],
            "rhalf": [0.01] * u.arcmin,
            "g": [2.0] * u.uJy,
        },
        meta={"FILTERS": "g"},
    )
    for name in ("user.ecsv", "user.fits"):
        table.write(tmp_path / name)
        found = SourceCatalog.read(tmp_path / name)
        assert found.ra[0] == pytest.approx(10)
        assert found.dec[0] == pytest.approx(np.rad2deg(0.1))
        assert found.pa[0] == pytest.approx(90)
        assert found.rhalf[0] == pytest.approx(0.6)
        assert found.flux[0, 0] == pytest.approx(2000)
        assert found.q[0] == 0.5
        assert found.roi[0] == pytest.approx(ROI_PER_RHALF * 0.6)
        assert found.id.tolist() == [0]


def forcepho(path, *, err=None, err_name="FLUX_ERR", filters="g,F200W", **changes):
    """A table in forcepho's layout, made by hand."""
    columns = {
        "id": np.array([7, 8], ">i4"),
        "roi": np.array([1.0, 2.0], ">f4"),
        "ra": [10.0, 10.001],
        "dec": [-5.0, -5.001],
        "q": [0.9, 0.5],
        "pa": [0.0, 0.3],
        "sersic": [1.0, 2.0],
        "rhalf": [0.1, 0.2],
        "g": [1.0, 2.0],
        "F200W": [3.0, 4.0],
    } | changes
    hdus = [fits.PrimaryHDU(), fits.table_to_hdu(Table({k: v for k, v in columns.items() if v is not None}))]
    if filters is not None:
        hdus[0].header["FILTERS"] = filters
    if err is not None:
        hdus.append(fits.table_to_hdu(Table(err)))
        hdus[-1].name = err_name
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def test_forcepho_conventions(tmp_path):
    found = SourceCatalog.read(forcepho(tmp_path / "f.fits"))
    np.testing.assert_allclose(found.q, [0.81, 0.25])
    # theirs: from +RA (east) towards +Dec (north); ours: from north towards east
    np.testing.assert_allclose(found.pa, [90, 90 - np.rad2deg(0.3)])
    assert found.bands == ("g", "F200W")
    assert found.id.dtype == np.dtype("=i4")
    assert found.flux_err is None
    np.testing.assert_array_equal(found.flux, [[1, 3], [2, 4]])


@pytest.mark.parametrize("name", ["FLUX_ERR", "UNCERTAINTY"])
def test_forcepho_uncertainties(tmp_path, name):
    path = forcepho(tmp_path / "f.fits", err={"F200W": [0.3, 0.4], "g": [0.1, 0.2]}, err_name=name)
    np.testing.assert_array_equal(SourceCatalog.read(path).flux_err, [[0.1, 0.3], [0.2, 0.4]])
    path = forcepho(tmp_path / "f.fits", err={"chain": [1.0]}, err_name="SAMPLES")
    assert SourceCatalog.read(path).flux_err is None
    path = forcepho(tmp_path / "f.fits", err={"F200W": [0.3], "g": [0.1]}, err_name="FLUX_ERR")
    with pytest.raises(InputError, match="FLUX_ERR has 1 rows"):
        SourceCatalog.read(path)


def test_forcepho_layout_written(tmp_path):
    extra = Table({"n_iter": [5, 6, 7], "note": ["x", "y", "z"]})
    small(extra=extra, flux_err=np.ones((3, 2))).write_forcepho(tmp_path / "f.fits")
    with fits.open(tmp_path / "f.fits") as hdus:
        columns = hdus[1].columns.names
        assert hdus[0].header["FILTERS"] == hdus[1].header["FILTERS"] == "g,F200W"
        assert hdus["FLUX_ERR"].columns.names == ["id", "g", "F200W"]
        assert hdus[1].data["n_iter"].tolist() == [5, 6, 7]
        assert hdus[1].data["source_index"].tolist() == [0, 1, 2]
        np.testing.assert_allclose(hdus[1].data["q"], np.sqrt([0.5, 1, 0.7]))
    head = "id source_index is_active is_valid n_iter n_patch roi ra dec q pa sersic rhalf g F200W note"
    assert columns == head.split()


def test_bands_chosen(tmp_path):
    path = forcepho(tmp_path / "f.fits")
    found = SourceCatalog.read(path, bands=["F200W"])
    np.testing.assert_array_equal(found.flux, [[3], [4]])
    assert "g" in found.extra.colnames
    found = SourceCatalog.read(path).select_bands(["F200W", "g"])
    np.testing.assert_array_equal(found.flux, [[3, 1], [4, 2]])
    with pytest.raises(InputError, match="no fluxes in F444W, found g, F200W"):
        found = SourceCatalog.read(path).select_bands(["g", "F444W"])
    with pytest.raises(InputError, match=r"f.fits: no column F444W, found id, roi"):
        SourceCatalog.read(path, bands=["F444W"])


def test_indexing():
    catalog = small(flux_err=np.ones((3, 2)), extra=Table({"note": ["x", "y", "z"]}))
    assert len(catalog) == 3
    assert catalog[1].id.tolist() == [1]
    assert catalog[[2, 0]].id.tolist() == [2, 0]
    assert catalog[1:].extra["note"].tolist() == ["y", "z"]
    some = catalog[np.array([True, False, True])]
    assert some.flux.shape == some.flux_err.shape == (2, 2)
    assert len(catalog[[]]) == 0
    assert catalog.replace(q=np.full(3, 0.2)).q.tolist() == [0.2] * 3
    assert catalog.q[0] == 0.5


def test_columns_broadcast():
    catalog = SourceCatalog.from_columns(
        ra=[1, 2], dec=[3, 4], flux=[5, 6], q=0.5, pa=0, sersic=1, rhalf=0.2, bands=["g"]
    )
    assert catalog.flux.shape == (2, 1)
    assert catalog.roi.tolist() == [1.0, 1.0]
    assert catalog.q.tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ra": None}, "no column ra, found id"),
        ({"id": [7, 7]}, r"row 1 \(id 7\): row 0 has this id, too, expected a different one for each source"),
        ({"pa": None, "F200W": None}, "no column pa, F200W, found id"),
        ({"q": [0.9, 1.1]}, r"row 1 \(id 8\): q is 1.1, expected sqrt\(b/a\) in \(0, 1\]"),
        ({"q": [-0.9, -0.8]}, r"row 0 \(id 7\): q is -0.9, .* \(and 1 rows more\)"),
        ({"q": [0.9, np.nan]}, "q is nan"),
        ({"rhalf": [0.1, -0.2]}, "rhalf is -0.2, expected a number not below zero"),
        ({"sersic": [0.0, 1.0]}, "sersic is 0"),
        ({"roi": [1.0, -1.0]}, "roi is -1"),
        ({"dec": [0.0, 90.5]}, "dec is 90.5, expected a number in"),
        ({"g": [np.nan, 1.0]}, r"row 0 \(id 7\): g is nan, expected a finite number"),
        ({"ra": [np.inf, 1.0]}, "ra is inf"),
        ({"pa": [0.0, np.nan]}, "pa is nan"),
        ({"g": ["a", "b"]}, "column g holds .*, expected numbers"),
        ({"g": [[1.0, 2.0], [3.0, 4.0]]}, "column g holds"),
        (
            {"err": {"g": [1.0, 0.0], "F200W": [1.0, 1.0]}},
            "uncertainty of g is 0, expected a positive number",
        ),
        ({"filters": None}, "no FILTERS in the header"),
        ({"filters": "g,g"}, "expected different ones"),
        (
            {"g": Column([1.0, 2.0], unit="nJy")},
            "pa has no unit, and the table is neither ours nor forcepho's",
        ),
    ],
)
def test_refusals(tmp_path, changes, message):
    path = forcepho(tmp_path / "f.fits", **changes)
    with pytest.raises(InputError, match=message) as caught:
        SourceCatalog.read(path)
    print(str(caught.value).replace(str(path), "f.fits"))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.fits: no such file"):
        SourceCatalog.read(tmp_path / "nowhere.fits")
    for name in ("text.fits", "text.ecsv"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(InputError, match=rf"{name}: cannot be read"):
            SourceCatalog.read(tmp_path / name)
    fits.PrimaryHDU(np.ones((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="no table among its extensions"):
        SourceCatalog.read(tmp_path / "image.fits")
    with pytest.raises(InputError, match=r"suffix '.csv'"):
        small().write(tmp_path / "a.csv")
    names = ("ra", "dec", "q", "pa", "sersic", "rhalf", "g")
    Table({name: [0.5] for name in names}, meta={"FILTERS": "g"}).write(tmp_path / "bare.ecsv")
    with pytest.raises(InputError, match="pa has no unit"):
        SourceCatalog.read(tmp_path / "bare.ecsv")
    small().write(tmp_path / "a.ecsv")
    newer = (tmp_path / "a.ecsv").read_text().replace("FPHOJAX: 1", "FPHOJAX: 2")
    (tmp_path / "a.ecsv").write_text(newer)
    with pytest.raises(InputError, match="FPHOJAX = 2, expected 1"):
        SourceCatalog.read(tmp_path / "a.ecsv")
    small(flux_err=np.ones((3, 2))).write(tmp_path / "b.ecsv")
    table = Table.read(tmp_path / "b.ecsv")
    table.remove_column("g_err")
    table.write(tmp_path / "b.ecsv", overwrite=True)
    with pytest.raises(InputError, match="flux uncertainties only in F200W_err"):
        SourceCatalog.read(tmp_path / "b.ecsv")


def test_missing_value_is_refused(tmp_path):
    small().write(tmp_path / "a.ecsv")
    table = Table.read(tmp_path / "a.ecsv")
    table["rhalf"] = MaskedColumn(table["rhalf"], mask=[False, True, False])
    table.write(tmp_path / "a.ecsv", overwrite=True)
    with pytest.raises(InputError, match=r"row 1 \(id 1\): rhalf is nan"):
        SourceCatalog.read(tmp_path / "a.ecsv")


def test_shapes_are_checked():
    with pytest.raises(InputError, match=r"flux has shape \(3, 2\), expected \(3, 1\)"):
        small(bands=["g"])
    with pytest.raises(InputError, match="extra columns have 2 rows, expected 3"):
        small(extra=Table({"a": [1, 2]}))
    with pytest.raises(InputError, match="bands q, g"):
        small(bands=["q", "g"])


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.fits"
    small().write(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Table, "write", fail)
    with pytest.raises(OSError, match="disk full"):
        small(q=0.1).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.fits"]


def real_files():
    return sorted([*DATA.glob("*/peaks.fits"), *REFERENCE.glob("*/catalog.fits")])


@pytest.mark.skipif(not real_files(), reason="no ../shared/data and ../shared/reference")
def test_real_files(tmp_path):
    worst = 0.0
    for path in real_files():
        catalog = SourceCatalog.read(path)
        catalog.write_forcepho(tmp_path / "f.fits")
        catalog.write(tmp_path / "a.ecsv")
        SourceCatalog.read(tmp_path / "a.ecsv").write_forcepho(tmp_path / "g.fits")
        for name in ("f.fits", "g.fits"):
            old, new = fits.getdata(path, 1), fits.getdata(tmp_path / name, 1)
            assert set(old.names) <= set(new.names)
            for column in old.names:
                difference = np.abs(new[column] - old[column]) / np.maximum(1, np.abs(old[column]))
                worst = max(worst, difference.max())
                assert column in ("q", "pa") or (difference == 0).all()
    print(f"{len(real_files())} files, largest difference of a value after reading and writing {worst:.1e}")
    assert worst < 1e-15


def test_columns_by_name():
    catalog = SourceCatalog.from_columns(
        ra=[1.0, 2.0],
        dec=0.0,
        flux=[[1.0, 2.0], [3.0, 4.0]],
        q=0.5,
        pa=6.0,
        sersic=1.0,
        rhalf=0.2,
        bands=("g", "r"),
        extra=Table({"source_index": [7, 9]}),
    )
    np.testing.assert_array_equal(catalog["source_index"], [7, 9])
    np.testing.assert_array_equal(catalog["r"], [2.0, 4.0])
    np.testing.assert_array_equal(catalog["ra"], [1.0, 2.0])
    np.testing.assert_array_equal(catalog["roi"], [1.0, 1.0])
    with pytest.raises(KeyError, match="no column flux_g, expected one of id, roi, ra"):
        catalog["flux_g"]


def test_quantities_are_converted():
    columns = {
        "ra": SkyCoord([10.0, 10.001, 10.002], [-5.0, -5.001, -5.002], unit="deg"),
        "dec": None,
        "flux": [[0.1, 2.0], [3.0, -4.0], [5.0, 6.0]] * u.uJy,
        "flux_err": np.ones((3, 2)) * u.nmgy,
        "pa": [0.1, -0.2, 3.0] * u.rad,
        "rhalf": 0.002 * u.arcmin,
        "roi": Column([1.0, 2.0, 3.0], unit="arcmin"),
        "q": 50 * u.percent,
    }
    found = small(**columns)
    np.testing.assert_allclose(found.ra, [10.0, 10.001, 10.002], rtol=1e-14)
    np.testing.assert_allclose(found.dec, [-5.0, -5.001, -5.002], rtol=1e-14)
    np.testing.assert_allclose(found.flux, [[100, 2000], [3000, -4000], [5000, 6000]])
    np.testing.assert_allclose(found.flux_err, np.full((3, 2), 3631))
    np.testing.assert_allclose(found.pa, np.rad2deg([0.1, -0.2, 3.0]))
    np.testing.assert_allclose(found.rhalf, [0.12] * 3)
    np.testing.assert_allclose(found.roi, [60, 120, 180])
    np.testing.assert_allclose(found.q, [0.5] * 3)
    np.testing.assert_allclose(found.replace(pa=[1.0, 2.0, 3.0] * u.rad).pa, np.rad2deg([1, 2, 3]))
    assert small(extra={"note": ["x", "y", "z"]})["note"].tolist() == ["x", "y", "z"]
    assert small(rhalf=0.002 * u.arcmin).roi[0] == pytest.approx(ROI_PER_RHALF * 0.12)
    assert all(type(getattr(found, name)) is np.ndarray for name in (*NUMBERS, "id", "flux_err"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flux": np.ones((3, 2)) * u.arcsec}, "flux: found unit arcsec, expected nJy"),
        ({"flux": np.ones((3, 2)) * u.ABmag}, r"flux: found unit mag\(AB\) is a magnitude"),
        ({"pa": 30 * u.arcsec / u.s}, "pa: found unit arcsec / s, expected deg"),
        (
            {"pa": np.pi / 2},
            r"pa: found plain numbers that look like radians, such as 1.5708, expected degrees",
        ),
        (
            {"pa": np.deg2rad([0, 30, 60])},
            r"such as 0.523599, expected degrees: give pa \* u.rad, or pa \* u.deg",
        ),
        ({"rhalf": 0.1 * u.kpc}, "rhalf: found unit kpc, expected arcsec"),
        ({"q": 0.5 * u.deg}, "q: found unit deg, expected a pure number"),
        ({"ra": "10 11 12"}, "ra: found '10 11 12', expected numbers"),
        ({"ra": MaskedColumn([1.0, 2.0, 3.0], mask=[0, 0, 1])}, "ra: found 1 masked, the first in row 2"),
        ({"dec": [1.0, 2.0]}, r"dec has shape \(2,\), expected \(3,\) as ra"),
        ({"bands": "gr"}, "bands is 'gr', expected a sequence of names"),
        (
            {"id": [1.0, np.nan, 3.0]},
            "row 1: id is nan, expected a number below 2.63 or printable ASCII text",
        ),
        ({"id": MaskedColumn([1, 2, 3], mask=[0, 1, 0])}, "row 1: id is masked, expected an identifier"),
        (
            {"id": ["a", "β", "c"]},
            "row 1: id is β, expected a number below 2.63 or printable ASCII text, which FITS can hold",
        ),
        ({"id": np.array(["a", None, 3], object)}, "id holds object, expected numbers or text"),
    ],
)
def test_arguments_refused(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


def test_degrees_that_are_meant():
    np.testing.assert_array_equal(small(pa=np.pi / 2 * u.deg).pa, [np.pi / 2] * 3)
    assert small(id=np.array(["a", "b", "c"], object)).id.dtype.kind == "U"


def as_file(path, *, units=None, **columns):
    """A plain table of astropy's."""
    known = {"id": [1, 2], "ra": [10.0, 10.1], "dec": [-5.0, -5.1], "q": 0.64, "pa": 30.0, "sersic": 1.0}
    meta = columns.pop("meta", {})
    known |= {"rhalf": 0.1, "g": [1.0, 2.0]} | columns
    table = Table(
        {name: [value] * 2 if np.ndim(value) == 0 else value for name, value in known.items()}, meta=meta
    )
    for name, unit in (units or {}).items():
        table[name].unit = unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        table.write(path, overwrite=True)
    return path


FORCEPHO = {
    "meta": {"FILTERS": "g"},
    "id": np.array([1, 2], np.int32),
    "roi": np.array([0.5, 0.5], np.float32),
}
STATE = dict.fromkeys(("source_index", "is_active", "is_valid", "n_iter", "n_patch"), 0)


@pytest.mark.parametrize(
    ("columns", "layout", "pa", "q"),
    [
        ({}, "fphojax", 30.0, 0.64),  # plain, as the pages say
        ({"units": {"pa": "deg"}}, "fphojax", 30.0, 0.64),
        ({"units": {"pa": "radians"}, "pa": 1.0}, "fphojax", np.rad2deg(1), 0.64),
        ({"units": {"ra": "deg", "rhalf": "arcsec", "g": "nJy"}}, "fphojax", 30.0, 0.64),
        ({"meta": {"FPHOJAX": 1, "FILTERS": "g"}, "roi": 0.5}, "fphojax", 30.0, 0.64),
        (
            FORCEPHO | {"pa": 0.3, "z": 1.0, "z_err": 0.1, "units": {"z": "nJy"}},
            "forcepho",
            90 - np.rad2deg(0.3),
            0.64**2,
        ),
        (
            FORCEPHO | STATE | {"pa": 0.3, "id": ["a", "b"], "roi": 0.5},
            "forcepho",
            90 - np.rad2deg(0.3),
            0.64**2,
        ),
        (FORCEPHO | {"pa": 0.3}, "forcepho", 90 - np.rad2deg(0.3), 0.64**2),
    ],
)
def test_convention_of_a_file(tmp_path, columns, layout, pa, q):
    found, reading = SourceCatalog.read_as(as_file(tmp_path / "a.fits", **columns), ["g"])
    assert reading.layout == layout
    np.testing.assert_allclose(found.pa, pa)
    np.testing.assert_allclose(found.q, q)
    assert str(reading).startswith(f"read as {layout}'s layout (")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (FORCEPHO, r"row 0 \(id 1\): pa is 30, expected radians within 2 pi.*degrees need the unit deg"),
        (FORCEPHO | {"pa": [1.0, -6.3]}, r"row 1 \(id 2\): pa is -6.3, expected radians within 2 pi"),
        (
            FORCEPHO | {"pa": 1.0, "units": {"g": "nJy"}},
            "nor forcepho's .a unit of g.",
        ),
        (
            FORCEPHO | {"pa": 1.0, "g_err": 0.1},
            "nor forcepho's .a column g_err.",
        ),
        ({"meta": {"FILTERS": "g"}}, "neither ours nor forcepho's .no roi., expected pa"),
        (STATE, "neither ours nor forcepho's .no roi, no FILTERS., expected pa"),
        (
            FORCEPHO | {"pa": 0.0, "id": [1, 2], "roi": 0.5},
            "forcepho.s .id of type int64, roi of type float64., expected pa",
        ),
        (
            FORCEPHO | STATE | {"units": {"pa": "deg"}},
            "has forcepho's columns .source_index, .*, but pa has a unit",
        ),
        ({"pa": [0.5235987755982988, 0.0]}, "column pa has no unit and looks like radians"),
        ({"units": {"pa": "rad"}}, r"row 0 .id 1.: pa is 30, expected radians within 2 pi, as its unit says"),
        ({"id": np.ones((2, 2))}, r"id has shape .2, 2., expected one for each source"),
        ({"units": {"g": "furlong"}}, "column g: unknown unit 'furlong', expected nJy"),
        ({"units": {"g": "mag"}}, "column g: unit mag is a magnitude, expected nJy"),
        ({"units": {"rhalf": "pix"}}, "column rhalf: unit pix, expected arcsec"),
        ({"units": {"pa": "nJy"}}, "column pa: unit nJy, expected deg"),
    ],
)
def test_files_that_are_not_clear(tmp_path, columns, message):
    with pytest.raises(InputError, match=rf"a\.fits: .*{message}") as caught:
        SourceCatalog.read(as_file(tmp_path / "a.fits", **columns), ["g"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_names_of_units_in_files(tmp_path, suffix):
    units = {"ra": "degrees", "dec": "degree", "pa": "degrees", "rhalf": "arcseconds", "g": "nanomaggies"}
    path = as_file(tmp_path / "a.fits", units=units)
    if suffix == "ecsv":
        table = Table.read(path, unit_parse_strict="silent")
        path = tmp_path / "a.ecsv"
        table.write(path)
    found, reading = SourceCatalog.read_as(path, ["g"])
    np.testing.assert_allclose(found.flux[:, 0], [3631, 7262])
    np.testing.assert_array_equal(found.rhalf, [0.1, 0.1])
    assert reading.converted == ("g from nanomaggies to nJy",)


def test_ids_of_files(tmp_path):
    for ids, message in (
        (MaskedColumn([1, 2], mask=[False, True]), "row 1: id is masked"),
        ([1.0, np.nan], "row 1: id is nan"),
        (["a", "β"], "row 1: id is β"),
    ):
        with pytest.raises(InputError, match=rf"a\.ecsv: {message}"):
            SourceCatalog.read(as_file(tmp_path / "a.ecsv", id=ids, units={"pa": "deg"}), ["g"])


def test_what_fits_cannot_hold(tmp_path):
    extra = Table(
        {
            "label": ["a", "β", "c"],
            "größe": [1.0, 2.0, 3.0],
            "ID": [1, 2, 3],
            "Note": ["x", "y", "z"],
            "note": ["x", "y", "z"],
            "ok": MaskedColumn([True, False, True], mask=[False, True, False]),
            "any": np.array([1, "b", None], dtype=object),
            "small": np.array([1, -2, 3], np.int8),
            "far": Column([1.0, 2.0, 3.0], unit=u.Unit("furlong", parse_strict="silent")),
            "vector": np.arange(6.0).reshape(3, 2),
            "masked": MaskedColumn([1, 2, 3], mask=[False, True, False]),
        }
    )
    meta = {"AUTHOR": "Müller", "FIELD": "GOODS-S", "DEEP": {"a": 1}, "BAD": float("nan")}
    catalog = small(extra=extra, meta=meta)
    problems = catalog.fits_problems()
    left_out = {"label", "größe", "ID", "note", "ok", "any", "AUTHOR", "DEEP", "BAD"}
    assert set(problems) == left_out
    assert problems["label"] == "row 1: 'β' is not ASCII"
    assert problems["ID"] == "its name differs from that of id in case only"
    for write in (catalog.write, catalog.write_forcepho):
        with pytest.warns(
            AstropyWarning, match=r"a\.fits: left out, as FITS cannot hold it: label \(row 1: 'β'"
        ):
            write(tmp_path / "a.fits")
        found = SourceCatalog.read(tmp_path / "a.fits")
        assert left_out.isdisjoint([*found.extra.colnames, *found.meta])
        assert found.extra["small"].tolist() == [1, -2, 3]
        assert str(found.extra["far"].unit) == "furlong"
        np.testing.assert_array_equal(found.extra["vector"], extra["vector"])
        assert found.extra["masked"].mask.tolist() == [False, True, False]
        assert found.meta["FIELD"] == "GOODS-S"
    kept = catalog.without(problems)
    assert kept.fits_problems() == {}
    kept.write_forcepho(tmp_path / "b.fits")  # without a warning
    catalog.without(["any"]).write(tmp_path / "a.ecsv")
    found = SourceCatalog.read(tmp_path / "a.ecsv")
    assert found.extra["label"].tolist() == ["a", "β", "c"]
    assert found.extra["größe"].tolist() == [1.0, 2.0, 3.0]
    assert found.meta["AUTHOR"] == "Müller"


def test_names_of_bands(tmp_path):
    """Those of DECam's headers have blanks."""
    catalog = small(bands=("g DECam SDSS c0001", "r"))
    for name, write in (
        ("a.fits", catalog.write),
        ("a.ecsv", catalog.write),
        ("f.fits", catalog.write_forcepho),
    ):
        write(tmp_path / name)
        assert SourceCatalog.read(tmp_path / name).bands == catalog.bands
    path = forcepho(tmp_path / "f.fits", filters="g F200W")
    assert SourceCatalog.read(path).bands == ("g", "F200W")
    for band in ("Hβ", "g,r", "", 1):
        with pytest.raises(InputError, match=f"band {band!r}, expected ASCII text without commas"):
            small(bands=(band, "r"))
