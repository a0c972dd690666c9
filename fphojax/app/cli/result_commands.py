"""Commands that write what a finished run holds: catalogues, images, a report."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from fphojax.errors import InputError

from .completions import one_of
from .option_types import Quiet
from .progress_words import bars

__all__ = ["postprocess", "report"]

logger = logging.getLogger(__name__)


def postprocess(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="fits, ecsv, parquet or votable; repeatable.",
            autocompletion=one_of("fits", "ecsv", "parquet", "votable"),
        ),
    ] = None,
    chains: Annotated[
        bool, typer.Option(help="Write the catalogue of all draws, which is as large as the chains.")
    ] = True,
    images: Annotated[
        bool, typer.Option(help="Write data, model, residual and chi of all exposures.")
    ] = True,
    draw: Annotated[
        str,
        typer.Option(
            help="Draw that the images show: median, last, best or mean.",
            autocompletion=one_of("median", "last", "best", "mean"),
        ),
    ] = "median",
    cutout: Annotated[
        list[str] | None, typer.Option(help="Id of a source to write cutouts of; repeatable.")
    ] = None,
    isophote: Annotated[
        float,
        typer.Option(
            help="Surface brightness that defines isophotal radii, AB mag / arcsec^2.", min=-100, max=100
        ),
    ] = 25.0,
    workers: Annotated[
        int,
        typer.Option(
            help="Processes that compute the catalogues, useful for hundreds of patches.", min=1, max=1024
        ),
    ] = 1,
    quiet: Quiet = False,
) -> None:
    """Write the catalogues, region files and images of a run into its folder."""
    from fphojax.app.stages.product_summary import postprocess as write_products

    logger.info("postprocess: %s", run)
    lines = write_products(
        run,
        formats=formats or ["fits"],
        chains=chains,
        images=images,
        kind=draw,
        cutouts=cutout or [],
        isophote=isophote,
        workers=workers,
        progress=bars(quiet),
    )
    typer.echo("\n".join(lines))


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="HTML file, instead of report.html in the folder.")] = None,
    patches: Annotated[
        int, typer.Option(help="Number of patches to show in detail, the worst first.", min=0)
    ] = 3,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="Also write figures/chains.pdf and residuals.pdf.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write the main tables and figures of a run as one HTML page."""
    from fphojax.app.settings.defaults import default_settings
    from fphojax.figures.field_plots import chain_pdf, residual_pdf
    from fphojax.figures.html_report import write_report
    from fphojax.results.run_directory import RunDirectory

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out: found {out}, expected a name that ends in .html")
    logger.info("report: %s", run)
    directory, progress = RunDirectory.open(run), bars(quiet)
    path = write_report(directory, out, n_patch=patches, defaults=default_settings(), progress=progress)
    typer.echo(f"wrote {path}")
    if pdf:
        for write in (chain_pdf, residual_pdf):
            typer.echo(f"wrote {write(directory, progress=progress)}")
