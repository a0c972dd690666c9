"""Products of a finished run: catalogues, written in one pass over its patches, region files and images."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from fphojax.errors import InputError
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import replacing
from fphojax.system.progress import Progress

from .chain_catalog import ChainCatalog
from .composite_rows import CompositeRows
from .final_catalog import ISOPHOTE, CatalogBuilder
from .frame_images import rows_of_ids, write_cutouts, write_images
from .multipatch import MultipatchReport
from .neighbours import NeighbourReport
from .patch_draws import RunDraws
from .region_files import write_isophotes, write_patch_regions, write_regions
from .scene_points import DrawKind
from .votable import write_votable

__all__ = ["FORMATS", "Catalogs", "postprocess", "write_catalogs", "write_table"]

FORMATS = {"fits": ".fits", "ecsv": ".ecsv", "parquet": ".parquet", "votable": ".vot"}  # suffixes of files


@dataclass(frozen=True, eq=False)
class Catalogs:
    """Products of `write_catalogs`.

    Attributes
    ----------
    final : Table
        See `final_catalog`; with one row for each composite source.
    components : Table
        The same with a row for each component.
    multipatch : Table
        Sources in several patches; see `MultipatchReport`.
    neighbours : Table
        Covariances of the fluxes of neighbours; see `NeighbourReport`.
    unfitted : SourceCatalog
        Sources of the scene without any draw.
    files : list of Path
    """

    final: Table
    components: Table
    multipatch: Table
    neighbours: Table
    unfitted: SourceCatalog
    files: list[Path]


def postprocess(
    run: RunDirectory,
    *,
    formats: Sequence[str] = ("fits",),
    chains: bool = True,
    isophote: float = ISOPHOTE,
    images: bool = True,
    kind: DrawKind = "median",
    cutouts: Sequence = (),
    workers: int = 1,
    progress: bool = False,
) -> Catalogs:
    """Write all products of a run into its folder.

    Parameters
    ----------
    run : RunDirectory
    formats, chains, isophote, workers
        See `write_catalogs`.
    images : bool
        Whether to write ``images`` (see `write_images`).
    kind : {"median", "last", "best", "mean"}
        Point of the posterior that images and cutouts show; see `scenes_at`.
    cutouts : sequence
        Ids of sources to write cutouts of (see `write_cutouts`).
    progress : bool

    Returns
    -------
    Catalogs
        With all files that were written, region files (``regions``: sources, patches, and the isophotes of
        each band) and images included.

    Raises
    ------
    InputError
        As `write_catalogs` and `write_cutouts`; nothing is written then.
    """
    if cutouts:
        rows_of_ids(run, RunDraws(run), cutouts)  # before anything is written
    catalogs = write_catalogs(
        run, formats=formats, chains=chains, isophote=isophote, workers=workers, progress=progress
    )
    draws = RunDraws(run)
    folder = run.path / "regions"
    folder.mkdir(exist_ok=True)
    regions = [
        folder / f"{name}.reg" for name in ("sources", "patches", *map("isophotes_{}".format, draws.bands))
    ]
    write_regions(regions[0], _source_catalog(catalogs.components, draws), catalogs.components["flags"])
    write_patch_regions(regions[1], draws.patches())
    for path, band in zip(regions[2:], draws.bands, strict=True):
        write_isophotes(path, catalogs.components, band)
    catalogs.files.extend(regions)
    if images or cutouts:
        recipe = open_recipe(run)
        if images:
            catalogs.files.extend(write_images(run, kind=kind, recipe=recipe, progress=progress))
        if cutouts:
            catalogs.files.extend(write_cutouts(run, cutouts, kind=kind, recipe=recipe))
    return catalogs


def write_catalogs(
    run: RunDirectory,
    *,
    formats: Sequence[str] = ("fits",),
    chains: bool = True,
    isophote: float = ISOPHOTE,
    workers: int = 1,
    progress: bool = False,
) -> Catalogs:
    """Write the catalogues of a run to its folder ``catalogs``, each atomically.

    ``final``, ``components`` (if there are composite sources), ``multipatch`` (if any source is in several patches)
    and ``neighbours`` (if any overlap) in the given formats; ``forcepho.fits``, medians and standard deviations of
    fluxes in forcepho's layout, from which another run can start; ``postsample.fits``, the chain catalogue.

    Parameters
    ----------
    run : RunDirectory
    formats : sequence of {"fits", "ecsv", "parquet", "votable"}
    chains : bool
        Whether to write the chain catalogue, which is as large as the chains themselves.
    isophote : float
        AB mag / arcsec^2.
    workers : int
        Processes that compute the columns; 1 uses the current one, more are worthwhile for hundreds of patches. New
        processes import the calling script, which must keep its work under ``if __name__ == "__main__"``.
    progress : bool

    Returns
    -------
    Catalogs

    Raises
    ------
    InputError
        As `final_catalog`; an unknown format; no pyarrow for Parquet.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise InputError(f"format {unknown[0]!r} of a catalogue, expected some of {', '.join(FORMATS)}")
    draws = RunDraws(run)
    builder = CatalogBuilder(draws, isophote=isophote)
    composites = CompositeRows(draws, builder.of_draws)
    multipatch, neighbours = MultipatchReport(draws.bands), NeighbourReport()
    folder = run.path / "catalogs"
    folder.mkdir(exist_ok=True)
    files = []
    with ExitStack() as stack:
        writer = None
        if chains:
            files.append(folder / "postsample.fits")
            temporary = stack.enter_context(replacing(files[-1]))
            writer = stack.enter_context(ChainCatalog(temporary, draws))

        def batches():
            for patch in Progress(
                draws.patches(), text="catalogues", units="patches", total=draws.n_patch, shown=progress
            ):
                neighbours.add(patch)
                yield from draws.sources(patch)

        for sources in builder.add_batches(batches(), workers=workers):
            multipatch.add(draws.ids[sources.rows], sources)
            composites.add(sources)
            if writer is not None:
                writer.add(sources)
    table = builder.table()
    catalogs = Catalogs(
        composites.joined(table), table, multipatch.table, neighbours.table, draws.unfitted, files
    )
    for name in ("final", "components", "multipatch", "neighbours"):
        table = getattr(catalogs, name)
        if len(table) and not (name == "components" and table is catalogs.final):
            files += [write_table(folder / f"{name}{FORMATS[kind]}", table) for kind in formats]
    files.append(folder / "forcepho.fits")
    _source_catalog(catalogs.components, draws).write_forcepho(files[-1])
    return catalogs


def write_table(path: str | Path, table: Table) -> Path:
    """Write a table in the format of its suffix, one of `FORMATS`."""
    path = Path(path)
    with replacing(path) as temporary:
        match path.suffix:
            case ".fits":
                _write_fits(temporary, table)
            case ".vot":
                write_votable(temporary, table)
            case ".parquet":
                try:
                    table.write(temporary, format="parquet")
                except ImportError as error:
                    raise InputError(
                        f"{path}: package {error.name} is not installed, expected it for Parquet: "
                        f"pip install {error.name}"
                    ) from error
            case _:
                table.write(temporary, format="ascii.ecsv")
    return path


def _write_fits(path, table):
    """Write a table as FITS; definitions of columns become TCOMM cards."""
    plain = table.copy(copy_data=False)
    for column in plain.columns.values():
        column.description, column.meta = None, None
    hdu = fits.table_to_hdu(plain)
    for i, column in enumerate(table.columns.values(), start=1):
        if column.description:
            hdu.header.set(f"TCOMM{i}", column.description, after=f"TFORM{i}")
    hdu.writeto(path)


def _source_catalog(final, draws):
    """Make a catalogue of medians and flux uncertainties, with the other columns of the scene."""
    scene = draws.scene.select_bands(draws.bands)
    row = {name: i for i, name in enumerate(scene.id.tolist())}
    fitted = scene[[row[name] for name in final["id"].tolist()]]
    values = {name: np.asarray(final[name]) for name in ("ra", "dec", "q", "pa", "sersic", "rhalf")}
    values["flux"] = np.stack([final[band] for band in draws.bands], axis=1)
    has_errors = f"{draws.bands[0]}_err" in final.colnames
    errors = np.stack([final[f"{band}_err"] for band in draws.bands], axis=1) if has_errors else None
    return fitted.replace(**values, flux_err=errors)
