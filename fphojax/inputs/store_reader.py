"""Reading pixel and meta stores: what they hold, and the pixels of a window."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from .errors import InputError
from .fits_images import blame
from .store_layout import INDEX, MADE_OF, STATED, unpacked

__all__ = ["PixelStore", "StoreEntry", "read_meta"]


@dataclass(frozen=True)
class StoreEntry:
    """What must be known of an exposure to find it and to trust it; the rest stays in the file.

    Attributes
    ----------
    band, name : str
    shape : tuple of int
        (ny, nx) of the image, without padding.
    stated : dict
        Those of the attributes `STATED` (see `fphojax.inputs.store_layout`) that it has.
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

    def __init__(self, path):
        self.path = Path(path)
        self._file, self._process = None, None
        if not self.path.is_file():
            raise InputError(f"{self.path}: no such file, expected a pixel store (fphojax preprocess)")
        try:
            with blame(str(self.path)), _one_line():
                self.super_pixel_size = self._super_pixel_size()
                self.entries = {(entry.band, entry.name): entry for entry in self._entries()}
                if not self.entries:
                    raise InputError("found no exposure, expected datasets BAND/EXPOSURE/data")
        except InputError:
            self.close()
            raise

    def __getstate__(self):
        return self.__dict__ | {"_file": None, "_process": None}

    def file(self) -> h5py.File:
        """The HDF5 file, opened by this process."""
        if self._process != os.getpid():  # handles do not survive a fork
            self._file, self._process = h5py.File(self.path, "r"), os.getpid()
        return self._file

    def close(self) -> None:
        """Close the file; it is opened again when it is needed."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = self._process = None

    def dataset(self, band: str, name: str, what: str = "data"):
        """A dataset of an exposure; None if it does not have it.

        Raises
        ------
        InputError
            If these are its pixels.
        """
        found = self.file().get(f"{band}/{name}/{what}")
        if found is None and what == "data":
            raise InputError(f"no dataset {band}/{name}/data in the file, expected it as the index says")
        return found

    def entry_in_file(self, band: str, name: str) -> StoreEntry:
        """What the pixels themselves say of an exposure: the entry, unless the index is wrong."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            return self._entry(band, name, self.dataset(band, name), self._full())

    def attributes(self, band: str, name: str) -> dict:
        """All attributes of an exposure's pixels."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            return dict(self.dataset(band, name).attrs)

    def made_of(self) -> dict | None:
        """What the store was made with and of (see `store_layout`); None where it does not say: others made it."""
        if MADE_OF not in self.file():
            return None
        with blame(f"{self.path}: dataset {MADE_OF}"), _one_line():
            return json.loads(self.file()[MADE_OF][:].tobytes())

    def n_byte(self, band: str, name: str) -> int:
        """Bytes of an exposure's pixels on disk."""
        with blame(f"{self.path}: exposure {name!r} of band {band}"), _one_line():
            return self.dataset(band, name).id.get_storage_size()

    def window(self, band: str, name: str, x0: int, x1: int, y0: int, y1: int):
        """Image and inverse error in half-open pixel ranges, float32, shape (y1 - y0, x1 - x0).

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
        return int(self.file().attrs["super_pixel_size"])

    def _entries(self) -> Iterator[StoreEntry]:
        if INDEX in self.file():
            yield from self._indexed(self.file()[INDEX][:].tobytes())
            return
        full = self._full()
        paths = []
        self.file().visit(lambda path: paths.append(path) if path.endswith("/data") else None)
        for path in paths:
            band, _, name = path.removesuffix("/data").partition("/")
            dataset = self.file()[path] if name else None
            if isinstance(dataset, h5py.Dataset):
                with blame(f"exposure {name!r} of band {band}"):
                    yield self._entry(band, name, dataset, full)

    def _indexed(self, text):
        try:
            index = json.loads(text)
            for band, exposures in index.items():
                for name, stated in exposures.items():
                    ny, nx = stated["image_shape"]
                    yield StoreEntry(band, name, (ny, nx), stated)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"dataset {INDEX} cannot be understood ({error}), expected image_shape by band and exposure"
            ) from error

    def _full(self):
        return tuple(int(n) for n in np.broadcast_to(self.file().attrs.get("nside_full", 0), 2))

    def _entry(self, band, name, dataset, full):
        s = self.super_pixel_size
        if dataset.ndim != 3 or dataset.shape[2] != 2 * s**2:
            raise InputError(
                f"data has shape {dataset.shape}, expected (nx / {s}, ny / {s}, {2 * s**2}) for super_pixel_size {s}"
            )
        stated = {key: dataset.attrs[key].tolist() for key in STATED if key in dataset.attrs}
        padded = dataset.shape[0] * s, dataset.shape[1] * s
        if "image_shape" in stated:
            ny, nx = (int(n) for n in stated["image_shape"])
        elif padded == full:
            nx, ny = padded
        else:
            raise InputError(f"image has {padded} pixels, expected nside_full = {full}")
        if not (0 < nx <= padded[0] and 0 < ny <= padded[1]):
            raise InputError(f"image_shape is {(ny, nx)}, expected at most {padded[::-1]}, the size of data")
        return StoreEntry(band, name, (ny, nx), stated)


def read_meta(path) -> dict[tuple[str, str], str]:
    """Headers of a meta file, as strings, by (band, exposure).

    Raises
    ------
    InputError
        For a file that is missing or not a meta store.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror.lower()}, expected a meta store (JSON)") from error
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}), expected a meta store") from error
    ok = isinstance(content, dict) and all(isinstance(group, dict) for group in content.values())
    if not ok or not all(isinstance(text, str) for group in content.values() for text in group.values()):
        raise InputError(f"{path}: not a meta store, expected headers as strings by band and exposure")
    return {(band, name): text for band, group in content.items() for name, text in group.items()}


class _one_line:
    """Whatever HDF5 says about a broken file becomes an InputError."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, (OSError, RuntimeError, KeyError)):
            reason = " ".join(str(error).split())
            raise InputError(f"cannot be read as HDF5 ({reason}), expected a whole pixel store") from error
