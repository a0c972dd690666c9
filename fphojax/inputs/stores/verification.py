"""Verification of a pixel store: every value is checked."""

import zlib

import numpy as np

from fphojax.errors import InputError

from .stored_exposures import StoredExposure

__all__ = ["store_problem"]


def store_problem(exposure: StoredExposure) -> str | None:
    """Describe in one line what is wrong with an exposure of a store; None if nothing is.

    Its WCS must be usable, its values finite, inverse errors not negative and not all zero; the number of
    weighted pixels and the checksum must be those the store states, if it states them.
    """
    crc, n_weighted, s = 0, 0, exposure.store.super_pixel_size
    try:
        _ = exposure.wcs
        entry = exposure.store.entry_in_file(exposure.band, exposure.name)
        if entry != exposure.entry:
            return _line(
                exposure, f"{entry.stated} beside the pixels", f"{exposure.entry.stated} as in the index"
            )
        dataset = exposure.store.dataset(exposure.band, exposure.name)
        step = dataset.chunks[0] if dataset.chunks else 8
        for x in range(0, dataset.shape[0], step):
            blocks = dataset[x : x + step]
            ierr = blocks[..., s * s :]
            if not np.isfinite(blocks).all() or (ierr < 0).any():
                return _line(exposure, "values that are not finite or inverse errors below zero", "none")
            crc = zlib.crc32(np.ascontiguousarray(blocks), crc)
            n_weighted += int(np.count_nonzero(ierr))
    except InputError as error:
        return str(error)
    except (OSError, RuntimeError) as error:
        return _line(
            exposure, f"pixels that cannot be read ({' '.join(str(error).split())})", "a whole dataset"
        )
    attributes = exposure.attributes
    if int(attributes.get("data_crc32", crc)) != crc:
        return _line(exposure, f"checksum {crc}", f"{attributes['data_crc32']}: pixels have changed")
    if int(attributes.get("n_weighted", n_weighted)) != n_weighted:
        return _line(exposure, f"{n_weighted} pixels with weight", str(attributes["n_weighted"]))
    return None if n_weighted else _line(exposure, "no pixel with weight", "at least one")


def _line(exposure, actual, expected):
    return f"{exposure.path}: exposure {exposure.name!r} of band {exposure.band}: found {actual}, expected {expected}"
