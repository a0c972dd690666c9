"""xarray datasets as groups of a netCDF file, written and read with h5py.

The small files of patches have about sixty variables, for which xarray's own backends take eight times as long.
netCDF-4 is HDF5 with dimension scales: a coordinate is the scale of its dimension, every other variable is attached
to the scales of its dimensions.
"""

from collections.abc import Mapping

import h5py
import numpy as np
import xarray as xr

from fphojax.system.file_checks import require_stored

__all__ = ["read_groups", "write_groups"]

# netCDF-4's name of a dimension without coordinate, which its size follows
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. "
# attributes that say how a variable is stored
_OF_STORAGE = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates"}
_OF_STORAGE |= {"_FillValue", "_nc3_strict"}


def write_groups(file: h5py.File, groups: Mapping[str, xr.Dataset], attrs: Mapping) -> None:
    """Write each dataset to a group of a file.

    Parameters
    ----------
    file : h5py.File
        Empty, and made with ``track_order=True``.
    groups : mapping of str to xarray.Dataset
        Numbers, booleans and strings.
    attrs : mapping
        Attributes of the file.
    """
    file.attrs.update(attrs)
    for name, dataset in groups.items():
        _write(file.create_group(name, track_order=True), dataset)


def _write(group, dataset):
    scales = {}
    for name, size in dataset.sizes.items():
        if name in dataset.coords:
            scales[name] = _variable(group, name, dataset[name].variable)
            scales[name].make_scale(name)
        else:
            scales[name] = group.create_dataset(name, data=np.zeros(size, dtype=">f4"))
            scales[name].make_scale(f"{_NO_VARIABLE}{size:10d}")
    for name, variable in dataset.variables.items():
        if name in scales:
            continue
        stored = _variable(group, name, variable)
        for axis, dimension in enumerate(variable.dims):
            stored.dims[axis].attach_scale(scales[dimension])
    group.attrs.update(dataset.attrs)


def _variable(group, name, variable):
    values, attrs = np.asarray(variable.values), dict(variable.attrs)
    if values.dtype == bool:
        # as xarray stores them, and recognises them on reading
        values, attrs = values.astype(np.int8), attrs | {"dtype": "bool"}
    elif values.dtype.kind in "OU":
        text = h5py.string_dtype()
        stored = group.create_dataset(name, shape=values.shape, dtype=text, track_order=True)
        stored[...] = values.astype(object)
        stored.attrs.update(attrs)
        return stored
    stored = group.create_dataset(name, data=values, track_order=True)
    stored.attrs.update(attrs)
    return stored


def read_groups(file: h5py.File) -> dict[str, xr.Dataset]:
    """Read the groups that `write_groups` wrote, or xarray from what it wrote, into memory.

    Parameters
    ----------
    file : h5py.File

    Returns
    -------
    dict of str to xarray.Dataset

    Raises
    ------
    InputError
        A variable is larger than the file can hold.
    """
    return {name: _read(group) for name, group in file.items() if isinstance(group, h5py.Group)}


def _read(group):
    data, coords = {}, {}
    for name, stored in group.items():
        require_stored(stored)
        if stored.is_scale and stored.attrs["NAME"].decode().startswith(_NO_VARIABLE):
            continue
        if stored.is_scale:
            dims: tuple[str, ...] = (name,)
        else:
            dims = tuple(dimension[0].name.rpartition("/")[2] for dimension in stored.dims)
        values = stored.asstr()[...] if h5py.check_string_dtype(stored.dtype) else stored[...]
        attrs = _attributes(stored)
        if attrs.get("dtype") == "bool":
            values = values.astype(attrs.pop("dtype"))
        (coords if stored.is_scale else data)[name] = dims, values, attrs
    return xr.Dataset(data, coords, _attributes(group))


def _attributes(item):
    """Return the attributes of a group or variable; netCDF has no scalars, but arrays of a single number."""
    found = {name: value for name, value in item.attrs.items() if name not in _OF_STORAGE}
    return {name: value[0] if np.shape(value) == (1,) else value for name, value in found.items()}
