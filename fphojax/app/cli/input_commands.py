"""Commands that prepare what a fit reads: mixtures of Gaussians, catalogues of other programs, stores of images."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from fphojax.errors import InputError

from .option_types import Changes, Config, Quiet, read_settings
from .printing import plain_console
from .progress_words import bars

__all__ = ["convert", "mixtures", "preprocess", "psf"]

logger = logging.getLogger(__name__)

mixtures = typer.Typer(no_args_is_help=True, help="Make mixtures of Gaussians.")


def psf(
    images: Annotated[
        list[Path], typer.Argument(help="PSF images (FITS), or one PSFEx file.", show_default=False)
    ],
    band: Annotated[str, typer.Option(help="Band of the PSF.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Store (HDF5) to create or add to.", show_default=False)],
    ngauss: Annotated[
        int | None,
        typer.Option(help="Number of Gaussians; by default the fewest that reach --residual, at most 8."),
    ] = None,
    residual: Annotated[
        float,
        typer.Option(
            help="Largest norm of the residual, relative to the norm of the image.",
            min=1e-6,
            max=0.999,
        ),
    ] = 0.01,
    negative: Annotated[int, typer.Option(help="Number of Gaussians that may be negative.", min=0)] = 0,
    extension: Annotated[
        str | None,
        typer.Option(
            help="Name or number of the extension; by default PSF, else the first image.", show_default=False
        ),
    ] = None,
    oversample: Annotated[
        float | None,
        typer.Option(
            help="Pixels of the image per pixel of the exposures; by default OVERSAMP of the header, else 1.",
            show_default=False,
            min=1,
        ),
    ] = None,
    pixel_scale: Annotated[
        float | None,
        typer.Option(
            help="Pixel scale of the exposures [arcsec], to be compared with that of the image (PIXELSCL or WCS).",
            show_default=False,
            min=1e-6,
        ),
    ] = None,
    includes_pixel: Annotated[
        bool | None,
        typer.Option(
            help="Whether the image includes the pixel response; by default PIXRESP of the header, else true only "
            "for an image at the scale of the exposures.",
            show_default=False,
        ),
    ] = None,
    recentre: Annotated[
        bool,
        typer.Option(
            "--recentre/--as-it-is",
            help="If the core is less than half a pixel from the central pixel: remove the offset, or keep it.",
        ),
    ] = False,
    location: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Detector position X Y of the image; added to those in the store.", show_default=False
        ),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for a figure of each fit.")] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace PSFs in the store that were made from other images or with other options.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Fit mixtures of Gaussians to PSF images, and report how these were read and how good the fits are.

    Each mixture is stored as soon as it is fitted: after Ctrl-C, the same command fits those that are missing.
    """
    from fphojax.app.stages.psf_files import (
        fit_files,
        meaning_shown,
        notes_shown,
        readings_shown,
        verdicts_shown,
    )
    from fphojax.app.terminal_table import table_shown
    from fphojax.system.locks import file_lock
    from fphojax.system.wording import counted

    logger.info("psf: %s of band %s, mixtures in %s", counted(len(images), "file"), band, out)
    with file_lock(out):
        fitted_files = fit_files(
            images,
            band,
            out,
            extension=int(extension) if extension is not None and extension.isdecimal() else extension,
            oversample=oversample,
            pixel_scale=pixel_scale,
            includes_pixel=includes_pixel,
            recentre=recentre,
            n_gauss=ngauss,
            residual=residual,
            n_negative=negative,
            location=location,
            figures=figures,
            overwrite=overwrite,
            workers=workers,
            progress=bars(quiet),
        )
    if fitted_files:
        console = plain_console()
        for title, table in (
            ("PSF images, as they were read", readings_shown(fitted_files)),
            ("PSF mixtures", verdicts_shown(fitted_files)),
        ):
            console.print(table_shown(title, table, fold=True))
            console.print()
        typer.echo(meaning_shown(fitted_files))
    for note in notes_shown(fitted_files):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {out}")


def convert(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files of GALFIT (input, galfit.01, block of images) or SExtractor (ASCII_HEAD, FITS_LDAC), one "
            "for each band.",
            show_default=False,
        ),
    ],
    band: Annotated[
        list[str], typer.Option(help="Band of a file; once for each of them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Catalogue to write, .ecsv or .fits.", show_default=False)],
    image: Annotated[
        Path | None,
        typer.Option(
            help="Image whose pixels and WCS the files refer to, as image.fits or image.fits[EXTENSION]; by default "
            "the one that they name.",
            show_default=False,
        ),
    ] = None,
    zero_point: Annotated[
        list[float] | None,
        typer.Option(
            help="AB zero point of a file's image, once for each of them; without it, magnitudes are AB.",
            show_default=False,
            min=-100,
            max=100,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Make a catalogue, to start a fit from, of files of GALFIT or SExtractor.

    Pixels, radii, angles and magnitudes are converted to this package's conventions; what cannot be taken over is
    listed.
    """
    from fphojax.inputs.catalog_conversion import convert_catalog
    from fphojax.system.wording import counted

    if out.exists() and not overwrite:
        raise InputError(f"{out}: exists already, expected a new file (or --overwrite)")
    catalog, notes = convert_catalog(files, band, image=image, zero_points=zero_point or None)
    catalog.write(out)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"wrote {out}: {counted(len(catalog), 'source')}, bands {', '.join(catalog.bands)}")


def preprocess(
    config: Config,
    changes: Changes = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing stores, and discard an unfinished build.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write all images into one pixel store and their headers into one meta file; resumes an interrupted build."""
    from fphojax.app.stages.store_build import preprocess as make_stores

    settings = read_settings("preprocess", config, changes)
    report = make_stores(settings, overwrite=overwrite, progress=bars(quiet))
    typer.echo(str(report))
    typer.echo(f"wrote {settings.pixelstorefile} and {settings.metastorefile}")


@mixtures.command(epilog="Example: `fphojax mixtures sersic --out table.h5 --order 12`")
def sersic(
    out: Annotated[Path, typer.Option(help="HDF5 file to write.", show_default=False)],
    order: Annotated[int, typer.Option(help="Number of Gaussians.", min=2, max=16)] = 10,
    quiet: Quiet = False,
) -> None:
    """Fit the table of Gaussian mixtures for Sersic profiles."""
    from fphojax.mixtures.sersic import load_sersic_table
    from fphojax.mixtures.sersic_fit import fit_sersic_table
    from fphojax.system.locks import file_lock

    logger.info("mixtures sersic: %d Gaussians, table in %s", order, out)
    with file_lock(out):  # an unusable path is refused before the fit
        if out.exists():
            load_sersic_table(out)  # nothing but such a table may be replaced
        fit_sersic_table(order=order, progress=bars(quiet)).write(out)
    typer.echo(f"wrote {out}")
