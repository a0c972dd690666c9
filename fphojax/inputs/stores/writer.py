"""Resumable build of a pixel store and its meta file, exposure by exposure."""

import json
import os
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

from fphojax.errors import InputError, StorageError
from fphojax.inputs.exposures import Exposure
from fphojax.system.files import remove_abandoned, storage_fault, to_disk
from fphojax.system.portable import relative_stamp

from .build_journal import BuildJournal
from .packing import PackedExposure, pack
from .pixel_layout import CHUNK, CRC, INDEX, PROVENANCE, STATED, super_shape
from .reader import PixelStore

__all__ = ["StoreWriter", "refuse_other_store"]

_OVERHEAD = 64 * 1024  # bytes of HDF5's own for an exposure, and
_PER_ENTRY = 512  # for a chunk of it, or a line of the index: both more than it takes
_PIECE = 1024 * 1024  # bytes that are written at once to take room
_COMPRESSIONS = {
    None: {},
    "lzf": {"compression": "lzf"},
    "gzip": {"compression": "gzip", "compression_opts": 4},
}


class StoreWriter:
    """Writer of a pixel store and its meta file.

    Until `finish`, the pixels are in ``PIXELFILE.building`` and the headers, a line for each complete exposure, in
    ``PIXELFILE.building.jsonl``. A new writer for the same files resumes from there. An exposure is synced to disk
    while the next one is added; a writer is a context manager, which waits for the disk on exit.

    Parameters
    ----------
    pixelfile, metafile : path-like
    super_pixel_size : int
        Pixels on a side of a super-pixel.
    nside_full : tuple of int, optional
        (nx, ny) to which all images are padded; by default each is padded to a whole number of super-pixels.
    compression : {None, "lzf", "gzip"}
        Lossless.
    recipe : mapping
        Settings that determine the pixels. A build is not resumed under another recipe.
    stamps : collection of str, optional
        Stamps of the exposures that the store is to hold; what an unfinished build has of others is dropped.
    overwrite : bool
        Whether existing files may be replaced, and an unfinished build dropped.

    Attributes
    ----------
    done : dict of str to list of (band, name)
        Exposures of source files that are complete, by the stamp they were added with.
    restarted : bool
        Whether an unfinished build was damaged and was dropped.

    Raises
    ------
    InputError
        Files that exist; a build that was begun with another recipe; a folder that does not exist.
    """

    def __init__(
        self,
        pixelfile: str | Path,
        metafile: str | Path,
        *,
        super_pixel_size: int = 8,
        nside_full: tuple[int, int] | None = None,
        compression: str | None = None,
        recipe: Mapping | None = None,
        stamps: Collection[str] | None = None,
        overwrite: bool = False,
    ):
        self.pixelfile, self.metafile = Path(pixelfile), Path(metafile)
        self.super_pixel_size, self.nside_full = super_pixel_size, nside_full
        self.compression = compression
        self.building = self.pixelfile.with_name(self.pixelfile.name + ".building")
        self.journal = BuildJournal(self.building.with_name(self.building.name + ".jsonl"))
        self._recipe = _whole_recipe(recipe, super_pixel_size, nside_full, compression)
        self._headers: dict[tuple[str, str], str] = {}
        self.stored: dict[str, list[tuple[str, str]]] = {}
        self.restarted = False
        self._check_paths(overwrite)
        self._resume(stamps)
        self._disk = ThreadPoolExecutor(1)
        self._pending: Future | None = None

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait()
        except StorageError:
            if kind is None:  # else the body has failed already, mostly for the same reason
                raise
        finally:
            self._disk.shutdown()

    def pack(
        self, exposure: Exposure, *, attributes: Mapping, extras: Mapping[str, bytes] | None = None
    ) -> PackedExposure:
        """Convert an exposure to the form of this store (see `fphojax.inputs.stores.packing.pack`).

        It touches no file: another thread may do it, while this one writes.

        Raises
        ------
        InputError
            An image larger than `nside_full`.
        """
        count = self._count(exposure)
        return pack(exposure, size=self.super_pixel_size, count=count, attributes=attributes, extras=extras)

    def add(self, exposure: PackedExposure, *, stamp: str, count: int = 1) -> None:
        """Add an exposure, whole or not at all.

        Parameters
        ----------
        exposure : PackedExposure
            What `pack` gave.
        stamp : str
            Identifies the present state of the source file (see `fphojax.system.portable.stamp`).
        count : int
            Number of exposures that the file holds. A build that was stopped between them starts on that file anew.

        Raises
        ------
        InputError
            A second exposure of the same name and band; a full disk, here or when the next one is added.
        """
        key = exposure.band, exposure.name
        if key in self._headers:
            raise InputError(
                f"{exposure.path}: exposure {exposure.name!r} of band {exposure.band} is in {self.building} already, "
                "expected names (EXPID, or else of files) to be unique within a band"
            )
        try:
            self._reserve(self._n_byte(exposure))
            with h5py.File(self.building, "r+") as file:
                group = file.create_group(f"{key[0]}/{key[1]}")
                self._write_blocks(group, exposure).attrs.update(exposure.attributes)
                for name, content in exposure.datasets.items():
                    group.create_dataset(name, data=content).attrs[CRC] = zlib.crc32(
                        np.ascontiguousarray(content)
                    )
                if "psf" in group:
                    group["psf"].attrs["includes_pixel"] = exposure.psf_includes_pixel
        except (OSError, RuntimeError) as error:
            raise StorageError(_no_room(self.building, error)) from error
        self._wait()
        line = {"band": key[0], "name": key[1], "stamp": stamp, "count": count, "header": exposure.header}
        self._pending = self._disk.submit(self._settle, line)
        self._headers[key] = exposure.header
        self.stored.setdefault(stamp, []).append(key)

    def finish(self) -> None:
        """Write the meta file, and give both files their final names.

        Raises
        ------
        InputError
            No exposure was added, or the disk is full.
        """
        if not self._headers:
            self.building.unlink(missing_ok=True)
            self.journal.rewrite([])
            raise InputError(f"{self.pixelfile}: found no exposure to store, expected at least one")
        self._wait()
        meta: dict[str, dict[str, str]] = {}
        for (band, name), text in sorted(self._headers.items()):
            meta.setdefault(band, {})[name] = text
        temporary = self.metafile.with_name(self.metafile.name + ".building")
        provenance = json.dumps({"recipe": self._recipe, "stamps": sorted(self.stored)}).encode()
        try:
            self._reserve(_OVERHEAD + _PER_ENTRY * len(self._headers) + len(provenance))
            with h5py.File(self.building, "r+") as file:
                sizes = set()
                index: dict[str, dict[str, dict]] = {}
                for band, name in sorted(self._headers):
                    dataset = file[f"{band}/{name}/data"]
                    sizes.add(self._padded(dataset))
                    stated = {key: dataset.attrs[key].tolist() for key in STATED}
                    index.setdefault(band, {})[name] = stated
                for name, text in ((INDEX, json.dumps(index).encode()), (PROVENANCE, provenance)):
                    file[name] = np.frombuffer(text, dtype=np.uint8)
                    file[name].attrs[CRC] = zlib.crc32(text)
                largest = np.max(list(sizes), axis=0)
                file.attrs["nside_full"] = largest[0] if largest[0] == largest[1] else largest
                file.attrs["several_sizes"] = len(sizes) > 1
            to_disk(self.building)
            temporary.write_text(json.dumps(meta), encoding="utf-8")
            to_disk(temporary)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(_no_room(temporary, error)) from error
        # A death between these leaves a meta file without pixels, and the journal: the next build ends at once.
        temporary.replace(self.metafile)
        self.building.replace(self.pixelfile)
        self.journal.rewrite([])
        remove_abandoned([self.journal.path])

    # ----------------------------------------------------------------------------------------------

    def _settle(self, line):
        """Sync an exposure to disk, then enter it in the journal: only then does it count."""
        try:
            to_disk(self.building)
            self.journal.append(line)
        except (OSError, StorageError) as error:
            raise StorageError(_no_room(self.building, error)) from error

    def _wait(self):
        """Wait until the exposure added last is on the disk."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _check_paths(self, overwrite):
        for path in (self.pixelfile, self.metafile):
            if not path.parent.is_dir():
                raise InputError(f"{path.parent}: no such folder, expected one to write {path.name} to")
        if overwrite:
            self.building.unlink(missing_ok=True)
            self.journal.rewrite([])
            return
        unfinished = self.journal.path.exists() and self.building.exists()
        for path in (self.pixelfile,) if unfinished else (self.pixelfile, self.metafile):
            if path.exists():
                raise InputError(f"{path}: exists already, expected a new file (or --overwrite)")

    def _resume(self, stamps):
        """Resume an unfinished build: what the journal names is complete, the rest is dropped."""
        lines = list(self.journal.records()) if self.building.exists() else []
        for line in lines[1:]:
            line["stamp"] = relative_stamp(line["stamp"], self.pixelfile.parent)
        if lines and lines[0].get("recipe") != self._recipe:
            changed = _difference(lines[0].get("recipe"), self._recipe)
            raise InputError(
                f"{self.building}: was begun with other settings ({changed}), expected the same (or --overwrite)"
            )
        if stamps is not None:
            lines = lines[:1] + [line for line in lines[1:] if line["stamp"] in stamps]
        lines = lines[:1] + _of_whole_files(lines[1:])
        if lines:
            try:
                self._drop_unfinished({(line["band"], line["name"]) for line in lines[1:]})
            except (OSError, RuntimeError, KeyError):
                self.restarted, lines = True, []
        if lines:
            self._headers = {(line["band"], line["name"]): line["header"] for line in lines[1:]}
            for line in lines[1:]:
                self.stored.setdefault(line["stamp"], []).append((line["band"], line["name"]))
        try:
            if not lines:
                with h5py.File(self.building, "w") as file:
                    file.attrs["super_pixel_size"] = self.super_pixel_size
            self.journal.rewrite(lines or [{"recipe": self._recipe}])
        except (OSError, RuntimeError, StorageError) as error:
            raise StorageError(_no_room(self.building, error)) from error

    def _drop_unfinished(self, whole):
        """Remove from the file what the journal does not name; raise KeyError if it lacks what is named."""
        with h5py.File(self.building, "r+") as file:
            for name in {INDEX, PROVENANCE} & file.keys():
                del file[name]
            stray = []
            file.visititems(lambda path, item: stray.append(path) if path.endswith("/data") else None)
            for path in stray:
                band, name = path.removesuffix("/data").split("/", 1)
                if (band, name) not in whole:
                    del file[f"{band}/{name}"]
            for band, name in whole:
                _ = file[f"{band}/{name}/data"].attrs["data_crc32"]
            for band, group in file.items():  # groups whose dataset was never made
                names = [name for name in group if not any(w == (band, name) for w in whole)]
                for name in names:
                    if not any(b == band and n.startswith(f"{name}/") for b, n in whole):
                        del group[name]

    def _count(self, exposure):
        if self.nside_full is None:
            return super_shape(exposure.shape, self.super_pixel_size)
        nx, ny = self.nside_full
        if exposure.shape[0] > ny or exposure.shape[1] > nx:
            raise InputError(
                f"{exposure.path}: image has {exposure.shape[1]} x {exposure.shape[0]} pixels, expected at most "
                f"nside_full = {nx} x {ny}"
            )
        return super_shape((ny, nx), self.super_pixel_size)

    def _write_blocks(self, group, exposure):
        """Write the chunks that are not empty; empty ones take no room on disk."""
        blocks, chunk = exposure.blocks, self._chunk(exposure)
        more = _COMPRESSIONS[self.compression]
        if more:
            more = more | {"shuffle": True}
        dataset = group.create_dataset(
            "data", blocks.shape, np.float32, chunks=chunk, fletcher32=True, **more
        )
        for x, y0, y1 in _spans(exposure.used, chunk):
            dataset[x : x + chunk[0], y0:y1] = blocks[x : x + chunk[0], y0:y1]
        return dataset

    def _chunk(self, exposure):
        """Return the shape of the HDF5 chunks of an exposure."""
        step = max(1, CHUNK // self.super_pixel_size)
        nx, ny, depth = exposure.blocks.shape
        return min(step, nx), min(step, ny), depth

    def _n_byte(self, exposure):
        """Return the most bytes that an exposure can take in the file."""
        chunk = self._chunk(exposure)
        n_chunk = sum(-(-(y1 - y0) // chunk[1]) for _, y0, y1 in _spans(exposure.used, chunk))
        beside = sum(content.nbytes for content in exposure.datasets.values())
        return n_chunk * (int(np.prod(chunk)) * exposure.blocks.itemsize + _PER_ENTRY) + beside + _OVERHEAD

    def _reserve(self, n_byte):
        """Reserve room at the end of the file for HDF5 to use, as it does not survive a full disk."""
        with self.building.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), end, n_byte)
                else:
                    _write_zeros(file, n_byte)
            except OSError:
                file.truncate(end)
                raise

    def _padded(self, dataset):
        return dataset.shape[0] * self.super_pixel_size, dataset.shape[1] * self.super_pixel_size


def refuse_other_store(
    pixelfile: str | Path,
    *,
    super_pixel_size: int,
    nside_full: tuple[int, int] | None,
    compression: str | None,
    recipe: Mapping,
    stamps: Collection[str],
) -> None:
    """Refuse a finished store that a `StoreWriter` with these options would not make now.

    Parameters
    ----------
    pixelfile : path-like
    super_pixel_size, nside_full, compression, recipe, stamps
        See `StoreWriter`.

    Raises
    ------
    InputError
        It was made with other settings, or of other files. What a store does not say is not compared.
    """
    store = PixelStore(pixelfile)
    provenance = store.provenance()
    store.close()
    if provenance is None:
        return
    now = _whole_recipe(recipe, super_pixel_size, nside_full, compression)
    anew = "`fphojax preprocess --overwrite`"
    if provenance["recipe"] != now:
        changed = _difference(provenance["recipe"], now)
        raise InputError(
            f"{pixelfile}: was made with other settings ({changed}), expected the same, or {anew}"
        )
    stored = {relative_stamp(stamp, Path(pixelfile).parent) for stamp in provenance["stamps"]}
    new, gone = set(stamps) - stored, stored.difference(stamps)
    if new or gone:
        first = min(new or gone).partition(" (")[0]
        raise InputError(
            f"{pixelfile}: was made of other images ({len(new)} are new or changed since, {len(gone)} gone or "
            f"changed, the first is {first}), expected the same, or {anew}"
        )


def _of_whole_files(lines):
    """Select a journal's lines of those source files all of whose exposures it names."""
    counts = Counter(line["stamp"] for line in lines)
    return [line for line in lines if counts[line["stamp"]] == line.get("count", 1)]


def _whole_recipe(recipe, super_pixel_size, nside_full, compression) -> dict:
    """Collect all that determines a store, except for the images."""
    return dict(recipe or {}) | {
        "super_pixel_size": super_pixel_size,
        "nside_full": None if nside_full is None else list(nside_full),
        "compression": compression,
    }


def _write_zeros(file, n_byte):
    """Reserve room by writing zeros, for systems without ``posix_fallocate`` (macOS, Windows)."""
    zeros = bytes(_PIECE)
    while n_byte:
        n_byte -= file.write(zeros[:n_byte])  # near the end of the disk it may be less than asked for


def _spans(used, chunk):
    """Yield, for the chunks at each first index x, the half-open range along y of all non-empty ones."""
    for x in range(0, used.shape[0], chunk[0]):
        columns = np.flatnonzero(used[x : x + chunk[0]].any(axis=0))
        if columns.size:
            y0 = columns[0] // chunk[1] * chunk[1]
            yield x, y0, min((columns[-1] // chunk[1] + 1) * chunk[1], used.shape[1])


def _no_room(path, error):
    reason = storage_fault(error, of_place=True) or " ".join(str(error).split())
    return f"{path}: cannot be written ({reason}), expected room on the disk"


def _difference(old, new):
    keys = sorted(key for key in {*(old or {}), *new} if (old or {}).get(key) != new.get(key))
    return ", ".join(f"{key}: {(old or {}).get(key)!r}, now {new.get(key)!r}" for key in keys)
