"""Groups written with h5py, read with xarray."""

import h5py
import numpy as np
import pytest
import xarray as xr

from fphojax.results.netcdf import read_groups, write_groups


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    data = {
        "flux": (("chain", "draw", "source"), rng.normal(size=(2, 5, 3)), {"units": "nJy"}),
        "single": (("chain", "draw"), rng.normal(size=(2, 5)).astype(np.float32)),
        "diverging": (("chain", "draw"), rng.random((2, 5)) > 0.5),
        "steps": (("chain", "draw"), rng.integers(0, 9, (2, 5))),
        "label": (("source",), np.array(["Zwölf", "", "x"], dtype=object)),
        "note": ((), "one\nline"),
        "seed": ((), 7),
    }
    coords = {"source": np.array(["a", "bb", "c"]), "draw": np.arange(5)}
    return xr.Dataset(data, coords, attrs={"method": "nuts", "version": 3})


def test_groups_are_what_xarray_reads(dataset, tmp_path):
    other = xr.Dataset({"x": (("row",), np.arange(4.0)), "none": (("row", "empty"), np.zeros((4, 0)))})
    path = tmp_path / "patch.nc"
    with h5py.File(path, "w", track_order=True) as file:
        write_groups(file, {"posterior": dataset, "data": other}, {"format": "2"})
    for name, written in {"posterior": dataset, "data": other}.items():
        with xr.open_dataset(path, group=name, engine="h5netcdf") as found:
            xr.testing.assert_identical(found.load(), written)
            assert list(found.data_vars) == list(written.data_vars)
            for variable in written.data_vars:
                kind = written[variable].dtype.kind
                assert found[variable].dtype.kind in ("OU" if kind in "OU" else kind)
    with xr.open_dataset(path, engine="h5netcdf") as root:
        assert root.attrs == {"format": "2"}
        assert not root.data_vars


def test_dimension_without_coordinate_is_no_variable(dataset, tmp_path):
    path = tmp_path / "patch.nc"
    with h5py.File(path, "w", track_order=True) as file:
        write_groups(file, {"posterior": dataset}, {})
    with h5py.File(path) as file:
        group = file["posterior"]
        assert group["flux"].dims[0][0] == group["chain"]
        assert group["flux"].dims[2][0] == group["source"]
        assert h5py.h5ds.is_scale(group["chain"].id)
    with xr.open_dataset(path, group="posterior", engine="h5netcdf") as found:
        assert set(found.coords) == {"source", "draw"}


@pytest.mark.parametrize("writer", ["ours", "xarray"])
def test_groups_are_read_as_they_were_written(dataset, tmp_path, writer):
    """The groups of older files were written by xarray."""
    other = xr.Dataset({"x": (("row",), np.arange(4.0)), "none": (("row", "empty"), np.zeros((4, 0)))})
    groups, path = {"posterior": dataset, "data": other}, tmp_path / "patch.nc"
    if writer == "ours":
        with h5py.File(path, "w", track_order=True) as file:
            write_groups(file, groups, {})
    else:
        xr.DataTree.from_dict(groups).to_netcdf(path, engine="h5netcdf")
    with h5py.File(path) as file:
        found = read_groups(file)
    assert set(found) == set(groups)
    for name, written in groups.items():
        xr.testing.assert_identical(found[name], written)
        for variable in written.variables:
            kind = written[variable].dtype.kind
            assert found[name][variable].dtype.kind in ("OU" if kind in "OU" else kind)
