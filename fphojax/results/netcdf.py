"""xarray datasets as groups of a netCDF file, written with h5py.

The small files of patches have about sixty variables, for which xarray's own writers take eight times as long.
netCDF-4 is HDF5 with dimension scales: a coordinate is the scale of its dimension, every other variable is attached
to the scales of its dimensions.
"""

from collections.abc import Mapping

import h5py
import numpy as np
import xarray as xr

__all__ = ["write_groups"]

# netCDF-4's name of a dimension without coordinate
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. {:10d}"


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
            scales[name].make_scale(_NO_VARIABLE.format(size))
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
