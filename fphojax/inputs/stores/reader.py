"""Reader of pixel and meta stores: what they hold, and the pixels of a window."""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np

from fphojax.errors import InputError
from fphojax.system.file_checks import blame, decoding, kind_of, require_regular, require_stored

from .pixel_layout import CRC, INDEX, PROVENANCE, STATED, unpacked

__all__ = ["PixelStore", "StoreEntry", "read_meta"]

# Attributes of pixels that are read back, and their types.
_NUMBER, _INTEGER = int | float | np.integer | np.floating, int | np.integer
_ATTRIBUTES = {
    "counts_to_flux": _NUMBER,
    "n_weighted": _INTEGER,
    "data_crc32": _INTEGER,
    "header_crc32": _INTEGER,
}
_NAMES = {_NUMBER: "a number", _INTEGER: "an integer"}
_LARGEST_SUPER_PIXEL, _LARGEST_SIDE = 4096, 1_000_000  # pixels


@dataclass(frozen=True)
class StoreEntry:
    """What must be known of an exposure to find and verify it; the rest stays in the file.

    Attributes
    ----------
    band, name : str
    shape : tuple of int
        (ny, nx) of the image, without padding.
    stated : dict
        Those of the attributes `STATED` (see `fphojax.inputs.stores.pixel_layout`) that it has.
    """

    band: str
    name: str
    shape: tuple[int, int]
    stated: dict = field(repr=False)


class PixelStore:
    """A pixel store, ours or forcepho's, open for reading.

    It can be sent to other processes; each opens the file for itself.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    path : Path
    super_pixel_size : int
    entries : dict of (band, name) to StoreEntry

    Raises
    ------
    InputError
        For a file that is missing, truncated, or not a pixel store.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process: int | None = None  # that opened it
        require_regular(self.path, "a pixel store (fphojax preprocess)")
        try:
            with blame(str(self.path)), _one_line():
                self.super_pixel_size = self._super_pixel_size()
                self.entries = {(entry.band, entry.name): entry for entry in self._entries()}
                if not self.entries:
                    raise InputError("found no exposure, expected datasets BAND/EXPOSURE/data")
        except InputError:
            self.close()
            raise

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": None}

    def file(self) -> h5py.File:
        """Return the HDF5 file, opened by this process."""
        if self._process != os.getpid():  # handles do not survive a fork
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = self._process = None

    @overload
    def dataset(self, band: str, name: str) -> h5py.Dataset: ...

    @overload
    def dataset(self, band: str, name: str, what: str) -> h5py.Dataset | None: ...

    def dataset(self, band: str, name: str, what: str = "data") -> h5py.Dataset | None:
        """Return a dataset of an exposure; None if it does not have it.

        Raises
        ------
        InputError
            If the pixels are missing, or this is not a dataset stored in this file.
        """
        item = self._item(f"{band}/{name}/{what}")
        if item is None and what == "data":
            raise InputError(f"no dataset {band}/{name}/data in the file, expected it as the index says")
        if item is not None and not isinstance(item, h5py.Dataset):
            raise InputError(f"{band}/{name}/{what} is a group, expected a dataset")
        if item is not None and (item.is_virtual or item.external):
            raise InputError(f"{band}/{name}/{what} has its values in other files, expected them in this one")
        return item

    def _item(self, path):
        """Return the item at a path within the file; None if there is nothing."""
        item = self.file()
        for part in path.split("/"):
            link = item.get(part, getlink=True) if isinstance(item, h5py.Group) else None
            if link is None:
                return None
            if not isinstance(link, h5py.HardLink):
                raise InputError(f"{path} leads over a link to {link.path}, expected it in the file itself")
            item = item[part]
        return item

    def beside(self, band: str, name: str, what: str) -> np.ndarray | None:
        """Read a whole dataset stored beside the pixels of an exposure; None if there is none.

        Raises
        ------
        InputError
            It cannot be read, or differs from its own checksum.
        """
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            dataset = self.dataset(band, name, what)
            if dataset is None:
                return None
            require_stored(dataset)
            content = dataset[()]
            if int(dataset.attrs.get(CRC, zlib.crc32(content))) != zlib.crc32(content):
                raise InputError(f"{what} differs from its own checksum, expected it as it was written")
            return content

    def entry_in_file(self, band: str, name: str) -> StoreEntry:
        """Make an exposure's entry from the pixels themselves, to be compared with that of the index."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            return self._entry(band, name, self.dataset(band, name), self._full())

    def attributes(self, band: str, name: str) -> dict:
        """Return all attributes of an exposure's pixels."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            attributes = dict(self.dataset(band, name).attrs)
            for key, kind in _ATTRIBUTES.items():
                if key in attributes and not isinstance(attributes[key], kind):
                    raise InputError(f"data has {key} = {attributes[key]!r}, expected {_NAMES[kind]}")
            return attributes

    def provenance(self) -> dict | None:
        """Return the settings and images the store was made from (see `store_layout`); None if not stated."""
        if PROVENANCE not in self.file():
            return None
        with blame(f"{self.path}: dataset {PROVENANCE}"), _one_line():
            provenance = json.loads(self._text(PROVENANCE))
            if not (isinstance(provenance, dict) and isinstance(provenance["recipe"], dict)):
                raise InputError("holds no recipe, expected what the store was made of")
            if not all(isinstance(stamp, str) for stamp in provenance["stamps"]):
                raise InputError(
                    "holds other things than names as stamps, expected what the store was made of"
                )
            return provenance

    def _text(self, name):
        """Read the bytes of a text at the top of the file."""
        dataset = self._item(name)
        if not (isinstance(dataset, h5py.Dataset) and dataset.dtype == np.uint8 and dataset.ndim == 1):
            raise InputError(f"dataset {name} is {dataset!r}, expected the bytes of a text")
        require_stored(dataset)
        return dataset[:].tobytes()

    def n_byte(self, band: str, name: str) -> int:
        """Return the size of an exposure's pixels on disk, in bytes."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            return self.dataset(band, name).id.get_storage_size()

    def window(
        self, band: str, name: str, x0: int, x1: int, y0: int, y1: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read image and inverse error in half-open pixel ranges, float32, shape (y1 - y0, x1 - x0).

        Only the super-pixels (HDF5 chunks, where the file has them) in these ranges are read.

        Raises
        ------
        InputError
            Chunks that cannot be read, values that are not finite.
        """
        s = self.super_pixel_size
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            blocks = self.dataset(band, name)[x0 // s : -(-x1 // s), y0 // s : -(-y1 // s)]
        if not np.isfinite(blocks).all():
            raise InputError(
                f"{self.path}: exposure {name!r} of band {band}: found {np.sum(~np.isfinite(blocks))} non-finite "
                "values, expected none in a pixel store"
            )
        left, bottom = x0 // s * s, y0 // s * s
        cut = np.s_[y0 - bottom : y1 - bottom, x0 - left : x1 - left]
        data, ierr = (image[cut].astype(np.float32, copy=False) for image in unpacked(blocks, s))
        return np.where(ierr > 0, data, np.float32(0)), ierr

    def _super_pixel_size(self):
        if "super_pixel_size" not in self.file().attrs:
            raise InputError("no attribute super_pixel_size, expected a pixel store")
        size = np.asarray(self.file().attrs["super_pixel_size"]).tolist()
        if type(size) is not int or not 0 < size <= _LARGEST_SUPER_PIXEL:
            raise InputError(f"super_pixel_size is {size!r:.60}, expected 1 to {_LARGEST_SUPER_PIXEL}")
        return size

    def _entries(self) -> Iterator[StoreEntry]:
        if INDEX in self.file():
            text = self._text(INDEX)
            if int(self.file()[INDEX].attrs.get(CRC, zlib.crc32(text))) != zlib.crc32(text):
                raise InputError(
                    f"dataset {INDEX} differs from its own checksum, expected it as it was written"
                )
            yield from self._indexed(text)
            return
        full = self._full()
        paths = []
        self.file().visit(lambda path: paths.append(path) if path.endswith("/data") else None)
        for path in paths:
            band, _, name = path.removesuffix("/data").partition("/")
            dataset = self.file()[path] if name else None
            if isinstance(dataset, h5py.Dataset):
                with blame(f"exposure {name!r} of band {band}"), _one_line():
                    yield self._entry(band, name, dataset, full)

    def _indexed(self, text):
        with decoding(f"dataset {INDEX}", "JSON"):
            index = json.loads(text)
        for band, exposures in _members(index, "the bands").items():
            for name, stated in _members(exposures, f"the exposures of band {band}").items():
                of_exposure = _members(stated, f"exposure {name!r} of band {band}")
                shape = of_exposure.get("image_shape")
                good = isinstance(shape, list) and [type(n) for n in shape] == [int, int] and min(shape) > 0
                if not (good and _is_circle(stated) and type(stated.get("header_crc32", 0)) is int):
                    raise InputError(
                        f"dataset {INDEX}: exposure {name!r} of band {band}: found {stated!r:.200}, expected "
                        "image_shape (two numbers), footprint (three) and header_crc32 (one)"
                    )
                yield StoreEntry(band, name, tuple(shape), stated)

    def _full(self):
        return tuple(int(n) for n in np.broadcast_to(self.file().attrs.get("nside_full", 0), 2))

    def _entry(self, band, name, dataset, full):
        s = self.super_pixel_size
        if dataset.dtype.kind != "f":
            raise InputError(f"data are {dataset.dtype}, expected float32")
        if dataset.ndim != 3 or dataset.shape[2] != 2 * s**2:
            raise InputError(
                f"data has shape {dataset.shape}, expected (nx / {s}, ny / {s}, {2 * s**2}) for super_pixel_size {s}"
            )
        stated = {key: np.asarray(dataset.attrs[key]).tolist() for key in STATED if key in dataset.attrs}
        if not _is_circle(stated):
            raise InputError(f"footprint is {stated['footprint']}, expected ra, dec and a radius")
        padded = dataset.shape[0] * s, dataset.shape[1] * s
        if max(padded) > _LARGEST_SIDE:
            raise InputError(f"image has {padded} pixels, expected at most {_LARGEST_SIDE} on a side")
        if "image_shape" in stated:
            ny, nx = (int(n) for n in stated["image_shape"])
        elif padded == full:
            nx, ny = padded
        else:
            raise InputError(f"image has {padded} pixels, expected nside_full = {full}")
        if not (0 < nx <= padded[0] and 0 < ny <= padded[1]):
            raise InputError(f"image_shape is {(ny, nx)}, expected at most {padded[::-1]}, the size of data")
        return StoreEntry(band, name, (ny, nx), stated)


def _members(value, what):
    """Check that a value of the index is a mapping, and return it."""
    if not isinstance(value, dict):
        raise InputError(f"dataset {INDEX}: {what}: found {kind_of(value)}, expected a mapping")
    return value


def _is_circle(stated):
    """Return whether a footprint, if there is one, is three numbers."""
    circle = stated.get("footprint", [0.0, 0.0, 0.0])
    return (
        isinstance(circle, list)
        and len(circle) == 3
        and all(type(number) in (int, float) and np.isfinite(number) for number in circle)
    )


def read_meta(path: str | Path) -> dict[tuple[str, str], str]:
    """Read the headers of a meta file, as strings, by (band, exposure).

    Raises
    ------
    InputError
        For a file that is missing or not a meta store.
    """
    path = Path(path)
    require_regular(path, "a meta store (JSON)")
    with decoding(path, "a meta store (JSON)"):
        content = json.loads(path.read_text(encoding="utf-8"))
    ok = isinstance(content, dict) and all(isinstance(group, dict) for group in content.values())
    if not ok or not all(isinstance(text, str) for group in content.values() for text in group.values()):
        raise InputError(f"{path}: not a meta store, expected headers as strings by band and exposure")
    return {(band, name): text for band, group in content.items() for name, text in group.items()}


class _one_line:
    """Context manager that turns whatever HDF5 says about a broken file into an InputError."""

    def __enter__(self) -> "_one_line":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if isinstance(error, Exception) and not isinstance(error, InputError):
            reason = " ".join(str(error).split())
            raise InputError(f"cannot be read as HDF5 ({reason}), expected a whole pixel store") from error
