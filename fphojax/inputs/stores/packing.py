"""Conversion of an exposure to the form of a pixel store: super-pixels, checksums, attributes, header."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fphojax.inputs.exposures import Exposure

from .pixel_layout import packed

__all__ = ["PackedExposure", "pack"]


@dataclass(frozen=True, eq=False)
class PackedExposure:
    """All that a pixel store and a meta file keep of one exposure.

    Attributes
    ----------
    band, name : str
    path : Path or None
        The file it came from.
    blocks : ndarray of float32, shape (nx / s, ny / s, 2 s^2)
        Pixels in super-pixel order.
    used : ndarray of bool, shape (nx / s, ny / s)
        Super-pixels that are not all zero.
    header : str
    attributes : dict
        Attributes of the dataset.
    datasets : dict of str to ndarray
        What stands beside the pixels: ``psf``, ``wcs_tables``, ``gwcs``.
    psf_includes_pixel : bool
    """

    band: str
    name: str
    path: Path | None
    blocks: np.ndarray = field(repr=False)
    used: np.ndarray = field(repr=False)
    header: str = field(repr=False)
    attributes: dict
    datasets: dict[str, np.ndarray] = field(repr=False)
    psf_includes_pixel: bool


def pack(
    exposure: Exposure,
    *,
    size: int,
    count: tuple[int, int],
    attributes: Mapping,
    extras: Mapping[str, bytes] | None = None,
) -> PackedExposure:
    """Convert an exposure to the form of a store.

    Parameters
    ----------
    exposure : Exposure
        Calibrated, in nJy.
    size : int
        Pixels on a side of a super-pixel.
    count : tuple of int
        Number of super-pixels along x and y.
    attributes : mapping
        Attributes of its dataset: ``counts_to_flux``, ``flux_units``, ``bitmask_applied`` and others.
    extras : mapping of str to bytes, optional
        ``wcs_tables`` and ``gwcs``.

    Returns
    -------
    PackedExposure
    """
    blocks = packed(exposure.data, exposure.ierr, size, count)
    # a gwcs is kept whole, and may have no form that fits a header
    header = exposure.header if "gwcs" in (extras or {}) else exposure.celestial_header
    text = header.tostring()
    computed = {
        "image_shape": exposure.shape,
        "footprint": exposure.footprint,
        "n_weighted": int(np.count_nonzero(exposure.ierr)),
        "data_crc32": zlib.crc32(blocks),
        "header_crc32": zlib.crc32(text.encode()),
    }
    datasets = {name: np.frombuffer(content, dtype=np.uint8) for name, content in (extras or {}).items()}
    if exposure.psf_image is not None:
        datasets["psf"] = exposure.psf_image
    return PackedExposure(
        band=exposure.band,
        name=exposure.name,
        path=exposure.path,
        blocks=blocks,
        used=blocks.any(axis=2),
        header=text,
        attributes={**attributes, **computed},
        datasets=datasets,
        psf_includes_pixel=exposure.psf_includes_pixel,
    )
