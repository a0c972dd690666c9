"""`fphojax preprocess`: all images of a field into one pixel store and one meta file."""

import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial, wraps
from pathlib import Path

import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError, StorageError
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.fits_frames import FitsFrame, ReadingOptions, is_mosaic, read_frames
from fphojax.inputs.stores.writer import StoreWriter, refuse_other_store
from fphojax.system.locks import file_lock
from fphojax.system.portable import matching, stamp
from fphojax.system.progress import Progress

__all__ = ["PreprocessReport", "image_files", "input_files", "preprocess", "refuse_other_stores"]

logger = logging.getLogger(__name__)

_KINDS = ("a single exposure", "a mosaic")
_SINGLE = (
    "raw_catalog",
    "big_catalog",
    "psfstorefile",
    "noise_file",
    "splinedatafile",
    "pixelstorefile",
    "metastorefile",
)


def _alone(make: Callable) -> Callable:
    """Let stores be made only while no other process makes them."""

    @wraps(make)
    def alone(settings: Settings, **options):
        if settings.pixelstorefile is None:
            raise InputError(
                f"{settings.file}: found no pixelstorefile, expected the names of the stores to write"
            )
        _refuse_inputs(settings)
        with file_lock(settings.pixelstorefile):
            return make(settings, **options)

    return alone


def _refuse_inputs(settings: Settings) -> None:
    """Refuse stores that would replace an image, a catalogue or the settings, silently with --overwrite."""
    stores = {"pixelstorefile": settings.pixelstorefile, "metastorefile": settings.metastorefile}
    inputs = [settings.source, *settings.fitsfiles, *image_files(settings)]
    inputs += [getattr(settings, name) for name in _SINGLE if name not in stores]
    for key, store in stores.items():
        if (
            store is not None
            and store.exists()
            and any(path and path.exists() and store.samefile(path) for path in inputs)
        ):
            raise InputError(
                f"{settings.file}: {key}: found {store}, which is one of the inputs, expected another file"
            )


@dataclass
class PreprocessReport:
    """Summary of what `preprocess` did.

    Attributes
    ----------
    n_stored, n_reused : int
        Exposures stored now, and those that an earlier call had stored.
    n_byte : int
        Bytes of the pixels stored now, before compression.
    seconds, seconds_writing : float
        In total; of these, writing and waiting for the disk.
    lines : list of str
        One per exposure stored now: band, name, size, masked fraction, how it was read, calibration.
    """

    n_stored: int = 0
    n_reused: int = 0
    n_byte: int = 0
    seconds: float = 0.0
    seconds_writing: float = 0.0
    lines: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.n_byte / 1e6 / self.seconds if self.seconds > 0 else 0.0
        reused = f", {self.n_reused} were stored before" if self.n_reused else ""
        size = f"{self.n_byte / 1e6:.1f} MB in {self.seconds:.1f} s"
        return f"{self.n_stored} exposures, {size} ({rate:.0f} MB/s; {self.seconds_writing:.1f} s writing){reused}"


@_alone
def preprocess(
    settings: Settings,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> PreprocessReport:
    """Read, calibrate and store all images that the settings name.

    A build that was stopped is resumed. Images with problems are left out, and the build stays unfinished
    until they are fixed.

    Parameters
    ----------
    settings : Settings
    overwrite : bool
        Whether existing stores may be replaced, and an unfinished build dropped.
    progress : bool
        Show a progress bar.

    Returns
    -------
    PreprocessReport

    Raises
    ------
    InputError
        One line for each image that cannot be stored.
    """
    recipe = _recipe(settings)
    frames = _frames(settings)
    mosaics = _of_mosaics(frames)
    assert settings.pixelstorefile is not None
    assert settings.metastorefile is not None
    writer = StoreWriter(
        settings.pixelstorefile,
        settings.metastorefile,
        **_store_options(settings, frames, mosaics),
        overwrite=overwrite,
    )
    if writer.restarted:
        logger.warning("%s: was damaged and is rebuilt", writer.building)
    report, problems, start = PreprocessReport(), [], time.perf_counter()
    todo = [frame for frame in frames if _stamp(settings, *frame) not in writer.stored]
    report.n_reused = sum(map(len, writer.stored.values()))
    bar = Progress[None](text="exposures", units="files", total=len(todo), shown=progress)
    with writer, bar:
        pack = partial(_packed_exposures, settings=settings, mosaics=mosaics, writer=writer)
        for path, files, making in _packed_ahead(todo, partial(read_frames, reading=recipe), pack):
            try:
                exposures = making.result()
                began = time.perf_counter()
                for packed, _ in exposures:
                    writer.add(packed, stamp=_stamp(settings, path, files), count=len(exposures))
            except StorageError:
                raise
            except InputError as error:
                problems.append(str(error))
                continue
            finally:
                bar.update()
            report.seconds_writing += time.perf_counter() - began
            for packed, line in exposures:
                report.n_stored += 1
                report.n_byte += packed.blocks.nbytes
                report.lines.append(line)
                logger.info(line)
        if problems:
            raise InputError("\n".join(problems))
        began = time.perf_counter()
        writer.finish()
    report.seconds_writing += time.perf_counter() - began
    report.seconds = time.perf_counter() - start
    return report


def image_files(settings: Settings) -> list[Path]:
    """List the existing files of the images to store, and of those that belong to them."""
    options = settings.preprocess
    beside = (options.error_pattern, options.mask_pattern, options.background_pattern)
    return _science_files(settings) + _matching(pattern for pattern in beside if pattern is not None)


def input_files(settings: Settings) -> list[Path]:
    """List all files that the settings name, the file of settings and the images to store included."""
    names = ("fitsfiles", *_SINGLE)
    values = [getattr(settings, name) for name in names]
    paths = [path for value in values for path in (value if isinstance(value, list) else [value])]
    return [path for path in (*paths, settings.source, *image_files(settings)) if path is not None]


def refuse_other_stores(settings: Settings) -> bool:
    """Refuse finished stores that differ from what `preprocess` would make now.

    Parameters
    ----------
    settings : Settings

    Returns
    -------
    bool
        Whether there were images to compare them with.

    Raises
    ------
    InputError
        They were made with other settings, or of other images.
    """
    if not _science_files(settings):
        return False
    frames = _frames(settings)
    assert settings.pixelstorefile is not None
    refuse_other_store(settings.pixelstorefile, **_store_options(settings, frames, _of_mosaics(frames)))
    return True


def _science_files(settings):
    paths = _matching(_patterns(settings))
    return paths if _patterns(settings) else [path for path in settings.fitsfiles if path.exists()]


def _matching(patterns):
    return [Path(path) for pattern in patterns for path in matching(pattern)]


def _store_options(settings: Settings, frames, mosaics: bool) -> dict:
    """Return the options of the store's writer, which define the store."""
    reading = asdict(_recipe(settings))
    for key in (
        "band",
        "band_keyword",
        "band_patterns",
    ):  # older stores do not mention these
        if not reading[key]:
            del reading[key]
    recipe = json.loads(json.dumps(reading)) | {
        "edge": settings.preprocess.edge,
        "max_snr": settings.max_snr,
        "sky": settings.sky if settings.max_snr > 0 else {},  # nothing else depends on it
        "mosaics": mosaics,
    }
    return {
        "super_pixel_size": settings.super_pixel_size,
        "nside_full": settings.nside_full,
        "compression": settings.preprocess.compression,
        "recipe": recipe,
        "stamps": {_stamp(settings, *frame) for frame in frames},
    }


def _recipe(settings: Settings) -> ReadingOptions:
    options = settings.preprocess
    return ReadingOptions(
        **settings.reading,
        background=options.background,
        error_kind=options.error_kind,
        calibration=options.calibration,
        split_by=options.split_by,
        wcs=options.wcs,
    )


def _of_mosaics(frames) -> bool:
    """Return whether the first image that can be read is a mosaic."""
    for path, _ in frames:
        try:
            return is_mosaic(path)
        except InputError:  # it is reported when it is read again
            continue
    return False


def _frames(settings: Settings) -> list[tuple[Path, dict[str, Path]]]:
    """List science images, each with the files that belong to it."""
    patterns = _patterns(settings)
    options = settings.preprocess
    companions = {
        kind: pattern
        for kind, pattern in (
            ("err", options.error_pattern),
            ("mask", options.mask_pattern),
            ("background", options.background_pattern),
        )
        if pattern is not None
    }
    if companions and len(patterns) != 1:
        raise InputError(
            f"{settings.file}: frame_search_pattern: found {len(patterns)} patterns, expected one where there are "
            f"patterns for other images ({', '.join(companions)})"
        )
    frames = []
    for pattern in patterns:
        paths = matching(pattern)
        if not paths:
            raise InputError(
                f"{settings.file}: frame_search_pattern: found no file that matches {pattern!r}, "
                "expected at least one"
            )
        frames += [
            (Path(path), {kind: _counterpart(path, pattern, other) for kind, other in companions.items()})
            for path in paths
        ]
    return frames or [(path, {}) for path in settings.fitsfiles]


def _patterns(settings: Settings) -> list[str]:
    patterns = settings.frame_search_pattern
    return [patterns] if isinstance(patterns, str) else patterns


def _counterpart(path: str, pattern: str, other: str) -> Path:
    """Return the file of another pattern for which the wildcards stand for the same text."""
    stars = re.fullmatch("([^/]*)".join(re.escape(part) for part in pattern.split("*")), path)
    if stars is None or other.count("*") != pattern.count("*"):
        raise InputError(
            f"{other}: found {other.count('*')} * in the pattern, expected {pattern.count('*')} as in "
            f"frame_search_pattern ({pattern}), and no other wildcard"
        )
    for text in stars.groups():
        other = other.replace("*", text, 1)
    return Path(other)


def _stamp(settings: Settings, path: Path, files: dict[str, Path]) -> str:
    """Identify the files of a frame in their present state, even if they are moved together with the store."""
    assert settings.pixelstorefile is not None
    return stamp((path, *files.values()), settings.pixelstorefile.parent)


def _packed_ahead(frames, read, make) -> Iterator[tuple[Path, dict[str, Path], Future]]:
    """Yield frames in preparation, two ahead of the writer: one thread reads, another packs."""
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as packer:
        ahead: deque[tuple[Path, dict[str, Path], Future]] = deque()
        for path, files in frames:
            reading = reader.submit(read, path, files=files)
            ahead.append((path, files, packer.submit(make, path, reading)))
            if len(ahead) > 2:
                yield ahead.popleft()
        yield from ahead


def _packed_exposures(
    path: Path, reading: Future[list[FitsFrame]], *, settings: Settings, mosaics: bool, writer: StoreWriter
):
    """Pack the frames of a file that was read, each with its line for the report."""
    packed_exposures = []
    for frame in reading.result():
        if frame.is_mosaic != mosaics:
            raise InputError(
                f"{path}: found {_KINDS[frame.is_mosaic]}, expected {_KINDS[mosaics]} as the first image is: "
                "they go into separate stores"
            )
        exposure = _brought_to_size(_capped(Exposure.from_frame(frame), settings), settings)
        packed = writer.pack(exposure, attributes=_attributes(frame, settings), extras=frame.extras)
        packed_exposures.append((packed, _line(exposure, frame)))
    return packed_exposures


def _capped(exposure: Exposure, settings: Settings) -> Exposure:
    """Raise errors to the cap on the S/N of what a run will see: the pixels less the sky of the settings."""
    if not settings.max_snr > 0:
        return exposure
    sky = settings.sky.get(exposure.band, 0.0)
    return replace(exposure, ierr=exposure.less(sky).capped(settings.max_snr).ierr)


def _brought_to_size(exposure: Exposure, settings: Settings) -> Exposure:
    """Cut an exposure to whole super-pixels, and to nside_full; the store pads."""
    if settings.preprocess.edge == "pad":
        return exposure
    size = settings.super_pixel_size
    most = settings.nside_full or exposure.shape[::-1]
    nx, ny = (min(n // size * size, m) for n, m in zip(exposure.shape[::-1], most, strict=True))
    data, ierr = exposure.window(0, nx, 0, ny)
    if not np.any(ierr > 0):
        raise InputError(
            f"{exposure.path}: no valid pixel is left of {exposure.shape} after the cut, expected one"
        )
    return replace(exposure, data=np.ascontiguousarray(data), ierr=np.ascontiguousarray(ierr))


def _attributes(frame: FitsFrame, settings: Settings) -> dict:
    attributes = {
        "counts_to_flux": frame.calibration.factor,
        "flux_units": frame.calibration.units,
        "bitmask_applied": frame.bad.bits,
        "source": str(frame.path),
        "calibration": frame.calibration.how,
        "read_as": frame.read_as,
    }
    return attributes | ({"max_snr_applied": settings.max_snr} if settings.max_snr > 0 else {})


def _line(exposure: Exposure, frame: FitsFrame) -> str:
    ny, nx = exposure.shape
    return (
        f"{exposure.band} {exposure.name}: {nx} x {ny}, {100 * exposure.masked_fraction:.1f} % masked "
        f"({frame.bad.how}), {frame.calibration}"
    )
