"""PSF images in files become mixtures in a store: the work of `fphojax psf`."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy.io import fits

from fphojax.inputs.errors import InputError
from fphojax.inputs.fits_images import blame, opened
from fphojax.inputs.psf import PSFMixture, PSFStore
from fphojax.inputs.psfex import fit_psfex
from fphojax.mixtures.psf_fit import fit_psfs, plot_psf_fit
from fphojax.outputs.plots import save_figure

from .plain_table import PlainTable

__all__ = ["FittedFile", "fit_files", "verdicts_shown"]


class FittedFile(NamedTuple):
    """A PSF image and its mixture."""

    path: Path
    image: np.ndarray
    fit: object


def fit_files(
    paths: Sequence[Path],
    band: str,
    store: Path,
    *,
    location: tuple[float, float] | None = None,
    figures: Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    **options,
) -> list[FittedFile]:
    """Fit mixtures to PSF images and add them to a store.

    One image is the band's PSF; with a detector position it joins those at other positions that the store has.
    Several images are those of single exposures, named by EXPID or by the file. A PSFEx file (``.psf``) is evaluated
    on a grid of positions.

    Parameters
    ----------
    paths : sequence of Path
    band : str
    store : Path
        HDF5 file; made, or added to.
    location : tuple of float, optional
        Detector position (x, y) of the image.
    figures : Path, optional
        Folder for a figure of each fit.
    overwrite : bool
        Whether PSFs that the store has may be replaced.
    workers : int
        Processes.
    **options
        Those of `fit_psf`; ``includes_pixel`` of None is what the image's header says, else whether it is at the
        native scale.

    Returns
    -------
    list of FittedFile
        Empty for a PSFEx file.

    Raises
    ------
    InputError
        One line; nothing is written then.
    """
    if location is not None and len(paths) > 1:
        raise InputError(f"--location: found {len(paths)} images, expected a single one")
    made = PSFStore()
    if paths[0].suffix == ".psf":
        if len(paths) > 1:
            raise InputError(f"{paths[1]}: found {len(paths)} files, expected a single PSFEx file")
        options = {key: options[key] for key in ("n_gauss", "n_negative")}
        made.add(fit_psfex(paths[0], workers=workers, **options), band)
        made.add_to(store, overwrite=overwrite)
        return []

    images, names, pixel = zip(*(_read(path) for path in paths), strict=True)
    asked = options.pop("includes_pixel")
    includes = {p if asked is None else asked for p in (_default(p, options["oversample"]) for p in pixel)}
    if len(includes) > 1:
        raise InputError("PIXRESP: found both T and F in the images, expected one; or give --includes-pixel")
    fits_ = fit_psfs(
        images, names=[str(path) for path in paths], workers=workers, includes_pixel=includes.pop(), **options
    )
    mixtures = [PSFMixture.from_fit(fit, detector_location=location) for fit in fits_]
    if len(paths) == 1:
        others = _elsewhere(store, band, location, overwrite)
        made.add([*others, *mixtures], band)
        made.add_to(store, overwrite=overwrite or bool(others))
    else:
        for name, mixture in zip(names, mixtures, strict=True):
            made.add(mixture, band, exposure=name)
        made.add_to(store, overwrite=overwrite)
    found = [FittedFile(*row) for row in zip(paths, images, fits_, strict=True)]
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for path, image, fit in found:
            save_figure(plot_psf_fit(fit, image), figures / f"{path.stem}.png")
    return found


def _elsewhere(store: Path, band: str, location, overwrite) -> list[PSFMixture]:
    """A band's mixtures that a store has at other detector positions.

    None if one of them has no position, or this one may not be replaced.
    """
    if location is None or not store.exists():
        return []
    made = PSFStore.open(store)
    present = made.mixtures(band) if band in made.bands else []
    places = [mixture.detector_location for mixture in present]
    if None in places or (tuple(location) in places and not overwrite):
        return []
    return [mixture for mixture, place in zip(present, places, strict=True) if place != tuple(location)]


def verdicts_shown(found: Sequence[FittedFile]) -> PlainTable:
    """How good each mixture is: relative L2 residual, largest error of the encircled energy, complaints."""
    table = PlainTable("PSF mixtures")
    for name in ("image", "Gaussians", "L2", "EE error", "seconds", "verdict"):
        table.add_column(name, justify="left" if name in ("image", "verdict") else "right", overflow="fold")
    for path, _, fit in found:
        verdict = fit.verdict
        table.add_row(
            path.stem,
            str(len(fit.amplitudes)),
            f"{100 * verdict.relative_l2:.2f} %",
            f"{100 * verdict.ee_error:.2f} %",
            f"{fit.seconds:.1f}",
            "; ".join(verdict.complaints) or "good",
        )
    return table


def _read(path: Path):
    """Image, exposure name, and what the header says of the pixel response (None if nothing)."""
    with blame(str(path)), opened(path) as hdus:
        present = [
            hdu for hdu in hdus if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU)
        ]
        named = [hdu for hdu in present if hdu.name == "PSF"]
        flat = [hdu for hdu in present if hdu.data is not None and hdu.data.ndim == 2]
        if not (named or flat):
            raise InputError("no image, expected a PSF extension or an image of two dimensions")
        hdu = (named or flat)[0]
        name = hdu.header.get("EXPID", hdus[0].header.get("EXPID", path.stem))
        return np.asarray(hdu.data, dtype=np.float64), str(name), hdu.header.get("PIXRESP")


def _default(pixel_response, oversample):
    return bool(pixel_response) if pixel_response is not None else oversample == 1
