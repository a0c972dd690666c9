"""Catalogues made of files of GALFIT and SExtractor, as starts of a fit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fphojax.errors import InputError
from fphojax.system.file_checks import require_regular
from fphojax.system.wording import counted

from .fits_images import blame, opened
from .galfit import is_galfit_header, read_galfit
from .other_programs import program_of_text
from .pixel_sources import PixelSources, image_wcs, on_sky
from .sextractor import read_sextractor
from .source_catalog import SourceCatalog

__all__ = ["convert_catalog"]

_EXPECTED = "a file of GALFIT (input, result or block of images) or of SExtractor (ASCII_HEAD, FITS_LDAC)"
_MOST_NAMED = 5
_MOST_BYTES = 2e9


def convert_catalog(
    files: str | Path | Sequence[str | Path],
    bands: str | Sequence[str],
    *,
    image: str | Path | None = None,
    zero_points: float | Sequence[float] | None = None,
) -> tuple[SourceCatalog, tuple[str, ...]]:
    """Make a catalogue of the results or the input of GALFIT or SExtractor.

    Parameters
    ----------
    files : path-like, or a sequence
        One file for each band, with the same sources: those of GALFIT in the same order, SExtractor's with the same
        ``NUMBER`` (of its dual-image mode). Positions and shapes are those of the first.
    bands : str, or a sequence of as many
    image : path-like, optional
        Image whose pixels and WCS the first file refers to; by default the one that GALFIT's file names (``A)``), or
        the header in FITS_LDAC.
    zero_points : float, or a sequence of as many, optional
        AB zero points. By default GALFIT's and SExtractor's magnitudes are AB magnitudes as they are.

    Returns
    -------
    catalog : SourceCatalog
        A column ``profile`` in `extra` names profiles that hold their Sersic index. There are no errors of fluxes:
        those of either program are too small to limit a prior.
    notes : tuple of str
        What could not be taken over: components, rows, values that were held.

    Raises
    ------
    InputError
        Unknown files, missing columns or values, files that do not belong together, no image with a WCS.
    """
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    bands = (bands,) if isinstance(bands, str) else tuple(bands)
    points = np.atleast_1d(zero_points).tolist() if zero_points is not None else [None] * len(paths)
    for name, given in {"band": bands, "zero point": points}.items():
        if len(given) != len(paths):
            raise InputError(
                f"found {counted(len(paths), 'file')} and {counted(len(given), name)}, expected as many"
            )
    parts = [_read(path, point) for path, point in zip(paths, points, strict=True)]
    first = parts[0]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        if not np.array_equal(part.id, first.id):
            raise InputError(f"{path}: found other sources than in {paths[0]}, expected the same, in order")
    keep, notes = np.ones(len(first.id), dtype=bool), []
    for path, part in zip(paths, parts, strict=True):
        notes += [f"{path}: {note}" for note in part.notes]
        for what, bad in part.unusable().items():
            keep &= ~bad
            notes.append(f"{path}: {_left_out(part.id[bad])} left out, with no usable {what}")
    if not keep.any():
        raise InputError(f"{paths[0]}: no source is left ({notes[-1]}), expected one")
    flux = np.stack([part.flux[keep] for part in parts], axis=1)
    return on_sky(_kept(first, keep), _wcs(paths[0], first, image), flux, bands), tuple(notes)


def _read(path: Path, zero_point: float | None) -> PixelSources:
    require_regular(path, _EXPECTED, most_bytes=int(_MOST_BYTES))
    with path.open("rb") as file:
        in_fits = file.read(6) == b"SIMPLE"
    if in_fits:
        with blame(path), opened(path) as hdus:
            program = "GALFIT" if any(is_galfit_header(hdu.header) for hdu in hdus) else "SExtractor"
    else:
        program = program_of_text(path)
    if program is None:
        raise InputError(f"{path}: found neither '0) sersic' nor '# 1 NUMBER', expected {_EXPECTED}")
    return (read_galfit if program == "GALFIT" else read_sextractor)(path, zero_point=zero_point)


def _wcs(file, sources, image):
    if image is not None:
        return image_wcs(image)
    if sources.wcs is not None:
        return sources.wcs
    if sources.image is None:
        raise InputError(f"{file}: names no image, expected the image whose pixels it refers to")
    try:
        return image_wcs(sources.image)
    except InputError as error:
        raise InputError(f"{error} (the image that {file} names; another one can be given)") from error


def _kept(sources, keep):
    columns = {
        name: getattr(sources, name)[keep]
        for name in ("id", "x", "y", "major", "q", "theta", "sersic", "flux")
    }
    profile = [name for name, kept in zip(sources.profile, keep, strict=True) if kept]
    return PixelSources(**columns, profile=profile)


def _left_out(ids):
    more = ", ..." if len(ids) > _MOST_NAMED else ""
    return f"{counted(len(ids), 'source')} (id {', '.join(map(str, ids[:_MOST_NAMED]))}{more})"
