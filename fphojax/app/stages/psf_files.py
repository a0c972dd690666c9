"""Fits of mixtures to PSF images in files, and their store: the work of `fphojax psf`."""

import math
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from astropy.table import Table

from fphojax.errors import InputError
from fphojax.figures.fit_plots import save_figure
from fphojax.inputs.psf_store import PSFStore, check_name
from fphojax.inputs.psfex import fit_psfex
from fphojax.mixtures.psf_fit import TARGET_L2, plot_psf_fit
from fphojax.results.psf_words import psf_words
from fphojax.results.table_text import formatted
from fphojax.system.wording import grouped

from .psf_fits import FittedPSF, PSFJob, fit_into, gaussian_options, offset_shown
from .psf_images import PSFImage, read_psf_image

__all__ = ["FittedFile", "fit_files", "meaning_shown", "notes_shown", "readings_shown", "verdicts_shown"]


class FittedFile(NamedTuple):
    """A PSF image and its mixture."""

    image: PSFImage
    fitted: FittedPSF


def fit_files(
    paths: Sequence[Path],
    band: str,
    store: Path,
    *,
    extension: str | int | None = None,
    oversample: float | None = None,
    pixel_scale: float | None = None,
    includes_pixel: bool | None = None,
    recentre: bool = False,
    n_gauss: int | None = None,
    residual: float = TARGET_L2,
    n_negative: int = 0,
    location: tuple[float, float] | None = None,
    figures: Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> list[FittedFile]:
    """Fit mixtures to PSF images and add each to a store as it is fitted.

    One image is the band's PSF; with a detector position it joins those at other positions that the store has.
    Several images are those of single exposures, named by EXPID or by the file. A PSFEx file (``.psf``) is evaluated
    on a grid of positions, which is written whole. Mixtures that the store has of the same images, fitted with the
    same options, are kept: after Ctrl-C, the same call continues.

    Parameters
    ----------
    paths : sequence of Path
    band : str
    store : Path
        HDF5 file; made, or added to.
    extension, oversample, pixel_scale, includes_pixel
        See `read_psf_image`.
    recentre, n_gauss, n_negative
        See `fit_psf`.
    residual : float
        Relative L2 residual that decides on the number of Gaussians where that is not given.
    location : tuple of float, optional
        Detector position (x, y) of the image.
    figures : Path, optional
        Folder for a figure of each fit.
    overwrite : bool
        Whether PSFs that the store has of other images, or fitted with other options, may be replaced.
    workers : int
        Processes.
    progress : bool
        Show a progress bar.

    Returns
    -------
    list of FittedFile
        Empty for a PSFEx file.

    Raises
    ------
    InputError
        One line; nothing is written then.
    KeyboardInterrupt
        After Ctrl-C: what had been fitted is kept, and the message says so.
    """
    if location is not None and len(paths) > 1:
        raise InputError(f"--location: found {len(paths)} images, expected a single one")
    if location is not None and not all(map(math.isfinite, location)):
        raise InputError(f"--location: found {location[0]} {location[1]}, expected finite pixels")
    if oversample is not None and pixel_scale is not None:
        raise InputError(f"--pixel-scale: found --oversample {oversample:g} beside it, expected one of them")
    if pixel_scale is not None and not 0 < pixel_scale < math.inf:
        raise InputError(f"--pixel-scale: found {pixel_scale}, expected arcsec")
    gaussians = gaussian_options(n_gauss, residual)
    if paths[0].suffix == ".psf":
        of_images = {
            "--extension": extension,
            "--oversample": oversample,
            "--pixel-scale": pixel_scale,
            "--includes-pixel": includes_pixel,
            "--recentre": recentre or None,
            "--location": location,
            "--figures": figures,
        }
        superfluous = [option for option, value in of_images.items() if value is not None]
        if superfluous:
            raise InputError(
                f"{superfluous[0]}: found with {paths[0]}, expected none: a PSFEx file contains this information"
            )
        if len(paths) > 1:
            raise InputError(f"{paths[1]}: found {len(paths)} files, expected a single PSFEx file")
        check_name(band)
        new, present = PSFStore(), PSFStore.open(store) if store.exists() else PSFStore()
        if (band, None) in present and not overwrite:  # before minutes of fits
            raise InputError(f"{store}: has a PSF for band {band} already, expected none (or --overwrite)")
        new.add(fit_psfex(paths[0], workers=workers, n_negative=n_negative, **gaussians), band)
        new.add_to(store, overwrite=overwrite)
        return []

    if figures is not None:
        nearest = next((path for path in (figures, *figures.parents) if path.exists()), Path())
        if not nearest.is_dir():
            raise InputError(f"--figures: {nearest} is a file, expected a folder")
    images = [
        read_psf_image(
            path,
            band=band,
            extension=extension,
            oversample=oversample,
            pixel_scale=pixel_scale,
            includes_pixel=includes_pixel,
        )
        for path in paths
    ]
    jobs = [
        PSFJob(
            str(image.path),
            image.values,
            band,
            image.name if len(paths) > 1 else None,
            location,
            gaussians
            | {
                "n_negative": n_negative,
                "oversample": image.oversample,
                "includes_pixel": image.includes_pixel,
                "recentre": recentre,
            },
        )
        for image in images
    ]
    fitted = fit_into(store, jobs, replace=overwrite, workers=workers, progress=progress)
    fitted_files = [FittedFile(*row) for row in zip(images, fitted, strict=True)]
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for image, psf in fitted_files:
            save_figure(plot_psf_fit(psf.fit, image.values), figures / f"{image.path.stem}.png")
    return fitted_files


def readings_shown(fitted_files: Sequence[FittedFile]) -> Table:
    """Tabulate how each image was read, and where that information comes from.

    Pixels of the image per pixel of the exposures; whether the pixel response is included; offset of the core
    from the centre of the image, in pixels of the exposures.
    """
    return Table(
        [
            {
                "image": image.path.stem,
                "extension": image.extension,
                "sampling": f"{image.oversample:.4g}, {image.sampling_by}",
                "includes pixel": f"{'yes' if image.includes_pixel else 'no'}, {image.pixel_by}",
                "core off centre [pixel]": offset_shown(fitted.fit),
            }
            for image, fitted in fitted_files
        ]
    )


def verdicts_shown(fitted_files: Sequence[FittedFile]) -> Table:
    """Tabulate how good each mixture is.

    Width of the core (sigma of a round Gaussian) in pixels of the exposures; relative L2 residual; largest error of
    the encircled energy; largest error of a bright point source's flux; complaints.
    """
    rows = []
    for image, (_, fit, reused) in fitted_files:
        verdict = fit.verdict
        rows.append(
            {
                "image": image.path.stem,
                "Gaussians": len(fit.amplitudes),
                "width [pixel]": verdict.size_model,
                "L2": 100 * verdict.relative_l2,
                "EE error": 100 * verdict.ee_error,
                "point flux": 100 * verdict.point_flux_error,
                "seconds": "in store" if reused else f"{fit.seconds:.1f}",
                "verdict": "; ".join(verdict.complaints) or "good",
            }
        )
    formats = {"width [pixel]": ".2f", "L2": "{:.2f} %", "EE error": "{:.2f} %", "point flux": "{:+.2f} %"}
    return formatted(Table(rows), formats | {"seconds": ">"})


def meaning_shown(fitted_files: Sequence[FittedFile]) -> str:
    """Describe the effect of the mixtures' residuals on the flux of a bright point source."""
    return psf_words({image.path.stem: fitted.fit.verdict.point_flux_error for image, fitted in fitted_files})


def notes_shown(fitted_files: Sequence[FittedFile]) -> list[str]:
    """List, in one line each, whatever was assumed of images, or contradicts their headers."""
    return grouped(
        ((image.path, note) for image, _ in fitted_files for note in image.notes), attrgetter("name")
    )
