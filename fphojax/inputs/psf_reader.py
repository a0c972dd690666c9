"""Reader of PSF stores in HDF5; checks what a file really holds before reading it."""

from collections.abc import Iterator

import h5py
import numpy as np

from fphojax.errors import InputError

from .psf_layout import DATASETS, FIELDS, collapsed
from .psf_mixture import PSFMixture

__all__ = ["read_mixtures"]

# Most Gaussians of a dataset `parameters`, whatever it declares.
_MOST_ROWS = 1_000_000
_MOST_BYTES = 2**28
# Characters of an attribute that a message shows.
_MOST_SHOWN = 40
# What h5py raises for files that are broken inside.
_BROKEN = (OSError, RuntimeError, KeyError, TypeError, ValueError, AttributeError)


def read_mixtures(file: h5py.File, name: str) -> Iterator[tuple[str, str | None, list[PSFMixture]]]:
    """Read all PSFs of an open file.

    Parameters
    ----------
    file : h5py.File
    name : str
        What messages call the file.

    Yields
    ------
    band : str
    exposure : str or None
        None for the PSF of all exposures of the band.
    mixtures : list of PSFMixture
        One for each detector position.

    Raises
    ------
    InputError
        One line, with the group, for anything but groups and datasets of numbers in the layout of `PSFStore`: links,
        other types and shapes, sizes that no store has, values that no PSF has.
    """
    for band in _names(file, name):
        group = _item(file, band, name)
        where = f"{name}: /{band}"
        if not isinstance(group, h5py.Group):
            raise InputError(f"{where} is a {_kind(group)}, expected a group")
        names = _names(group, where)
        if "parameters" in names:
            yield band, None, _mixtures(group, where)
        elif not names:
            raise InputError(f"{where} has no dataset `parameters`, expected one")
        for exposure in names:
            below = _item(group, exposure, name)
            if exposure in DATASETS or not isinstance(below, h5py.Group):
                continue
            inside = f"{where}/{exposure}"
            if "parameters" not in _names(below, inside):
                raise InputError(f"{inside} has no dataset `parameters`, expected one")
            yield band, exposure, _mixtures(below, inside)


def _names(group, where):
    try:
        names = list(group)
    except _BROKEN as error:
        raise InputError(f"{where} cannot be read ({_reason(error)}), expected a whole file") from None
    for name in names:
        if isinstance(name, bytes) or not name.isprintable():  # bytes: not UTF-8
            raise InputError(f"{where} has a member named {name!a}, expected a printable name")
    return names


def _item(parent, key, name):
    """Return a member of a group that is stored there, not a link to elsewhere."""
    where = f"{name}: {parent.name.rstrip('/')}/{key}"
    try:
        link = parent.get(key, getlink=True)
        if not isinstance(link, h5py.HardLink):
            target = f"{getattr(link, 'filename', '')} {link.path}".strip()
            raise InputError(f"{where} is a link to {target}, expected the thing itself")
        return parent[key]
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{where} cannot be read ({_reason(error)}), expected a whole file") from None


def _mixtures(group, where):
    """Read the PSFs of a group, one for each detector position."""
    rows = _array(group, "parameters", where, _parameters_fault, "a table of Gaussians")
    width = np.atleast_2d(rows).shape[1]
    n_gauss = _attribute(group, "n_psf_per_source", where)
    if n_gauss is not None and not (np.issubdtype(type(n_gauss), np.integer) and n_gauss == width):
        raise InputError(
            f"{where}: attribute n_psf_per_source is {_shown(n_gauss)}, expected {width}, the Gaussians of a row"
        )
    includes_pixel = _attribute(group, "includes_pixel", where)
    if includes_pixel is not None and not (
        isinstance(includes_pixel, np.bool_ | bool | np.integer) and includes_pixel in (0, 1)
    ):
        raise InputError(
            f"{where}: attribute includes_pixel is {_shown(includes_pixel)}, expected true or false"
        )
    rows = collapsed(rows, where)
    places = [None] * len(rows)
    if "detector_locations" in group:
        places = _array(
            group, "detector_locations", where, _places_fault, f"{len(rows)} positions, as parameters"
        )
        if places.shape != (len(rows), 2):
            raise InputError(
                f"{where}: detector_locations has shape {places.shape}, expected {(len(rows), 2)}, as parameters"
            )
        unique, counts = np.unique(places, axis=0, return_counts=True)
        if (counts > 1).any():
            x, y = unique[counts > 1][0]
            raise InputError(
                f"{where}/detector_locations: ({x}, {y}) is there {counts.max()} times, expected it once"
            )
    made_from = _made_from(group, len(rows), where)
    errors = _fit_errors(group, len(rows), where)
    residuals = _residuals(group, len(rows), where)
    mixtures = []
    for i, (row, place) in enumerate(zip(rows, places, strict=True)):
        try:
            mixtures.append(_mixture(row, bool(includes_pixel), place, made_from[i], errors[i], residuals[i]))
        except InputError as error:
            at = f", location {i}" if len(rows) > 1 else ""
            raise InputError(f"{where}{at}: {error}") from None
    return mixtures


def _mixture(row, includes_pixel, location, made_from, errors, residual):
    """Convert a row of the parameters to a PSFMixture, without the padding."""
    if np.any(row["amp"]):
        row = row[row["amp"] != 0]
    means = np.stack([row["xcen"], row["ycen"]], axis=1)
    covariances = np.stack([row["Cxx"], row["Cyy"], row["Cxy"]], axis=1)
    place = None if location is None else tuple(location)
    return PSFMixture(
        row["amp"], means, covariances, includes_pixel, place, made_from, *map(float, errors), residual
    )


def _array(group, key, where, fault, expected):
    """Read a dataset, but only if its type and size are possible ones."""
    dataset = _item(group, key, where.rpartition(": ")[0])
    label = f"{where}/{key}"
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{label} is a {_kind(dataset)}, expected a dataset, {expected}")
    try:
        if dataset.is_virtual or dataset.external:
            raise InputError(f"{label} keeps its values in another file, expected them here")
        shape, dtype = dataset.shape, dataset.dtype
        wrong = fault(shape, dtype)
        if wrong:
            raise InputError(f"{label}{wrong}")
        if dataset.id.get_storage_size() == 0:
            raise InputError(f"{label} has shape {shape} and no stored values, expected {expected}")
        return dataset[()]
    except InputError:
        raise
    except _BROKEN as error:
        raise InputError(f"{label} cannot be read ({_reason(error)}), expected {expected}") from None


def _parameters_fault(shape, dtype):
    """Describe what is wrong with type and size of the parameters; empty if nothing."""
    if not dtype.names:
        return f" holds {dtype}, expected the fields {', '.join(FIELDS)}"
    for name in (*FIELDS, "sersic_bin"):
        if name in dtype.names and (dtype[name].kind not in "fiu" or dtype[name].shape):
            return f": field {name} is of type {dtype[name]}, expected plain numbers"
    if shape is None or len(shape) not in (1, 2) or 0 in shape:
        return f" has shape {shape}, expected (locations, Gaussians)"
    size = np.prod(shape, dtype=float)
    if size > _MOST_ROWS or size * dtype.itemsize > _MOST_BYTES:
        return f" has shape {shape}, expected at most {_MOST_ROWS:,} Gaussians of a few numbers"
    return ""


def _places_fault(shape, dtype):
    if dtype.kind not in "fiu":
        return f" holds {dtype}, expected pixels"
    if shape is None or np.prod(shape, dtype=float) > 2 * _MOST_ROWS:
        return f" has shape {shape}, expected (locations, 2)"
    return ""


def _made_from(group, n_location, where):
    """Read what each mixture was fitted to, as `PSFStore.write` stores it."""
    if "made_from" not in group:
        return [""] * n_location
    value = _array(group, "made_from", where, _texts_fault, f"{n_location} short texts")
    if value.shape != (n_location,):
        raise InputError(
            f"{where}/made_from has shape {value.shape}, expected {(n_location,)}, as parameters"
        )
    return [text.decode("ascii", "replace") for text in value]


def _fit_errors(group, n_location, where):
    """Read how well each mixture fits its image, as `PSFStore.write` stores it; NaN where unknown."""
    if "fit_errors" not in group:
        return np.full((n_location, 2), np.nan)
    value = _array(group, "fit_errors", where, _errors_fault, f"{n_location} pairs of numbers")
    if value.shape != (n_location, 2):
        raise InputError(
            f"{where}/fit_errors has shape {value.shape}, expected {(n_location, 2)}, as parameters"
        )
    return value


def _errors_fault(shape, dtype):
    if dtype.kind != "f" or shape is None or np.prod(shape, dtype=float) > 2 * _MOST_ROWS:
        return f" has shape {shape} and holds {dtype}, expected (locations, 2) numbers"
    return ""


def _residuals(group, n_location, where):
    """Read what each mixture leaves of its image, as `PSFStore.write` stores it; None where unknown."""
    if "residual" not in group:
        return [None] * n_location
    value = _array(group, "residual", where, _images_fault, f"{n_location} images")
    if len(value) != n_location:
        raise InputError(f"{where}/residual has {len(value)} images, expected {n_location}, as parameters")
    return [None if np.isnan(image).all() else image for image in value]


def _images_fault(shape, dtype):
    if dtype.kind != "f" or shape is None or len(shape) != 3 or 0 in shape:
        return f" has shape {shape} and holds {dtype}, expected images (locations, rows, columns)"
    if np.prod(shape, dtype=float) * dtype.itemsize > _MOST_BYTES:
        return f" has shape {shape}, expected at most {_MOST_BYTES:,} bytes"
    return ""


def _texts_fault(shape, dtype):
    if dtype.kind != "S" or shape is None or np.prod(shape, dtype=float) * dtype.itemsize > _MOST_BYTES:
        return f" has shape {shape} and holds {dtype}, expected short texts"
    return ""


def _attribute(group, key, where):
    """Read an attribute; None if there is none."""
    try:
        if key not in group.attrs:
            return None
        size = group.attrs.get_id(key).get_space().get_simple_extent_npoints()
        if size > _MOST_ROWS:
            raise InputError(f"{where}: attribute {key} has {size} values, expected one")
        return group.attrs[key]
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where}: attribute {key} cannot be read ({_reason(error)})") from None


def _shown(value):
    """Return the beginning of an attribute's value, as Python writes it."""
    text = repr(value.tolist() if hasattr(value, "tolist") else value)
    return text if len(text) < _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _kind(item):
    return type(item).__name__.lower()


def _reason(error):
    return " ".join(str(error).split())
