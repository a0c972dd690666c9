"""Lossless conversion of catalogues and bounds to xarray datasets and back."""

import io
import json

import numpy as np
import xarray as xr
from astropy.table import Table
from numpy.typing import ArrayLike

from fphojax.inputs.bounds import PARAMETERS, Bounds
from fphojax.inputs.source_catalog import SourceCatalog

__all__ = ["bounds_from_dataset", "bounds_to_dataset", "catalog_from_dataset", "catalog_to_dataset"]

_COLUMNS = {"ra": "deg", "dec": "deg", "q": "", "pa": "rad", "sersic": "", "rhalf": "arcsec", "roi": "arcsec"}
_UNITS = _COLUMNS | {"flux": "nJy", "x": "arcsec", "y": "arcsec"}


def catalog_to_dataset(catalog: SourceCatalog) -> xr.Dataset:
    """Convert a catalogue to a dataset, ``pa`` in radians.

    Parameters
    ----------
    catalog : SourceCatalog

    Returns
    -------
    xarray.Dataset
        Dimensions source and band.
    """
    values = {name: getattr(catalog, name) for name in _COLUMNS} | {"pa": np.deg2rad(catalog.pa)}
    data: dict[str, tuple] = {
        name: ("source", values[name], {"units": unit}) for name, unit in _COLUMNS.items()
    }
    data["flux"] = (("source", "band"), catalog.flux, {"units": "nJy"})
    if catalog.flux_err is not None:
        data["flux_err"] = (("source", "band"), catalog.flux_err, {"units": "nJy"})
    # columns and header cards of any kind are stored as text, without loss
    text = io.StringIO()
    catalog.extra.write(text, format="ascii.ecsv", serialize_method="data_mask")
    data["extra"] = ((), text.getvalue())
    data["meta"] = ((), json.dumps(catalog.meta, default=_plain))
    return xr.Dataset(data, coords={"source": catalog.id, "band": np.array(catalog.bands)})


def catalog_from_dataset(dataset: xr.Dataset) -> SourceCatalog:
    """Invert `catalog_to_dataset`."""
    columns = {name: dataset[name].to_numpy() for name in (*_COLUMNS, "flux")}
    columns["pa"] = np.rad2deg(columns["pa"])
    extra = dataset["extra"].item()
    return SourceCatalog(
        id=dataset["source"].to_numpy(),
        flux_err=dataset["flux_err"].to_numpy() if "flux_err" in dataset else None,
        bands=tuple(map(str, dataset["band"].to_numpy())),
        meta=json.loads(dataset["meta"].item()),
        extra=Table.read(extra, format="ascii.ecsv", fill_values=[]),
        **columns,
    )


def bounds_to_dataset(bounds: Bounds, ids: ArrayLike) -> xr.Dataset:
    """Convert bounds to a dataset with dimensions side (lower, upper), source and band; ``pa`` in radians.

    Parameters
    ----------
    bounds : Bounds
    ids : array (N,)
        Of the sources.

    Returns
    -------
    xarray.Dataset
    """
    data = {}
    lower, upper = bounds.of_model()
    for name in PARAMETERS:
        dims = ("side", "source", "band") if name == "flux" else ("side", "source")
        data[name] = (dims, np.stack([lower[name], upper[name]]), {"units": _UNITS[name]})
    coords = {"side": np.array(["lower", "upper"]), "source": ids, "band": np.array(bounds.bands)}
    return xr.Dataset(data, coords=coords)


def bounds_from_dataset(dataset: xr.Dataset) -> Bounds:
    """Invert `bounds_to_dataset`."""
    sides = ({name: dataset[name].to_numpy()[i] for name in PARAMETERS} for i in (0, 1))
    lower, upper = (side | {"pa": np.rad2deg(side["pa"])} for side in sides)
    return Bounds(lower, upper, tuple(map(str, dataset["band"].to_numpy())))


def _plain(value):
    """Convert what JSON cannot encode: numpy scalars and arrays to Python's, anything else to text."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)
