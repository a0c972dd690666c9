"""Images of a whole scene in the full frames of its exposures: data, model, residual, chi; cutouts of sources."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from fphojax.errors import InputError
from fphojax.inputs.astrometry import CircularRegion
from fphojax.inputs.recipe import Recipe
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import replacing
from fphojax.system.progress import Progress

from .frame_model import FrameModel, model_image
from .patch_draws import RunDraws
from .scene_points import DrawKind

__all__ = ["write_cutouts", "write_images"]

# Keywords that describe the original pixels, not those that are written here.
_OF_THE_ORIGINAL = ("BSCALE", "BZERO", "BLANK", "BUNIT", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX")


def write_images(
    run: RunDirectory,
    folder: str | Path | None = None,
    *,
    kind: DrawKind = "median",
    n_draw: int = 16,
    recipe: Recipe | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write data, model, residual and chi of every exposure of a run.

    The model contains all sources in the whole frame: fitted ones at the point `kind` of the posterior, the others
    and those of ``big_catalog`` as in their catalogue. Fitted flux scales and shifts are those of the last patch of
    each source, sky levels those of the last patch of each pixel; there is no fitted sky outside the patches.

    Parameters
    ----------
    run : RunDirectory
    folder : path-like, optional
        Default: ``images`` in the run.
    kind, n_draw
        Point of the posterior; see `scenes_at`.
    recipe : Recipe, optional
        What `open_recipe` gives.
    progress : bool

    Returns
    -------
    list of Path
        ``BAND_EXPOSURE.fits`` with the extensions DATA (nJy, as fitted: with the sky of the settings subtracted;
        NaN where a pixel has no weight), MODEL, RESIDUAL (data - model) and CHI (residual over error), float32, each
        with the header of the exposure.
    """
    recipe = open_recipe(run) if recipe is None else recipe
    folder = Path(folder) if folder is not None else run.path / "images"
    folder.mkdir(exist_ok=True)
    draws = RunDraws(run)
    frames = FrameModel.of_draws(run, draws, recipe, kind, n_draw)
    exposures = [e for e in recipe.exposures if e.band in draws.bands]
    paths = []
    for exposure in Progress(exposures, text="images", units="exposures", shown=progress):
        model = frames.image(exposure)
        images = _images(exposure, model)
        path = folder / f"{_file_name(exposure.band)}_{_file_name(exposure.name)}.fits"
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["FILTER"], hdus[0].header["EXPID"] = exposure.band, exposure.name
        hdus[0].header["DRAW"] = (kind, "point of the posterior")
        hdus[0].header["NUISANCE"] = (",".join(frames.nuisance.names), "of the exposure, in the model")
        for name, image in images.items():
            hdus.append(fits.ImageHDU(image, _header(exposure, chi=name == "CHI"), name=name))
        hdus += _look_up_tables(exposure)
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary)
        paths.append(path)
    return paths


def rows_of_ids(run: RunDirectory, draws: RunDraws, ids: Sequence) -> dict[str, int]:
    """Return the row of every fitted source by its id, as text.

    Raises
    ------
    InputError
        One of `ids` is not among them.
    """
    row = {str(name): i for i, name in enumerate(draws.ids.tolist())}
    if missing := [str(name) for name in ids if str(name) not in row]:
        raise InputError(
            f"{run.path}: no patch has fitted source {missing[0]}, expected ids of fitted sources"
        )
    return row


def write_cutouts(
    run: RunDirectory,
    ids: Sequence,
    folder: str | Path | None = None,
    *,
    kind: DrawKind = "median",
    n_draw: int = 16,
    recipe: Recipe | None = None,
) -> list[Path]:
    """Write cutouts of single sources: data less all else in the model, and the model of the source alone.

    Parameters
    ----------
    run : RunDirectory
    ids : sequence
        Of fitted sources.
    folder : path-like, optional
        Default: ``cutouts`` in the run.
    kind, n_draw, recipe
        As in `write_images`.

    Returns
    -------
    list of Path
        ``ID.fits`` with three extensions for each exposure that the source's radius of influence touches:
        ``BAND_EXPOSURE_DATA`` (deblended), ``_MODEL`` and ``_ERR``, nJy; their headers hold the WCS.

    Raises
    ------
    InputError
        An id that no patch has fitted.
    """
    recipe = open_recipe(run) if recipe is None else recipe
    folder = Path(folder) if folder is not None else run.path / "cutouts"
    draws = RunDraws(run)
    row = rows_of_ids(run, draws, ids)
    folder.mkdir(exist_ok=True)
    frames = FrameModel.of_draws(run, draws, recipe, kind, n_draw)
    scenes, nuisance = frames.scenes, frames.nuisance
    paths = []
    for name in map(str, ids):
        is_source = np.arange(len(draws.ids)) == row[name]
        source = scenes[0][is_source]
        region = CircularRegion(source.ra[0], source.dec[0], float(source.roi[0]))
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["ID"], hdus[0].header["DRAW"] = name, (kind, "point of the posterior")
        for exposure in recipe.exposures:
            box = region.bounding_box(exposure.wcs, exposure.shape)
            if box is None or exposure.band not in draws.bands:
                continue
            catalogs = [nuisance.apply(exposure, scene, i) for i, scene in enumerate(scenes)]
            model, rest = (
                np.mean([model_image(recipe, exposure, scene[rows], box) for scene in catalogs], axis=0)
                for rows in (is_source, ~is_source)
            )
            rest = rest + np.mean([nuisance.sky(exposure, i, box) for i in range(len(catalogs))], axis=0)
            rest = rest + sum(model_image(recipe, exposure, catalog, box) for catalog in frames.still)
            hdus += _cutout(exposure, box, model, rest)
        path = folder / f"{_file_name(name)}.fits"
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary)
        paths.append(path)
    return paths


def _images(exposure, model):
    """Make data, model, residual and chi as float32; the residual is exactly data - model."""
    ny, nx = exposure.shape
    data, ierr = exposure.window(0, nx, 0, ny)
    data = np.where(ierr > 0, data, np.nan).astype(np.float32)
    model = model.astype(np.float32)
    residual = data - model
    return {"DATA": data, "MODEL": model, "RESIDUAL": residual, "CHI": residual * ierr}


def _cutout(exposure, box, model, rest):
    corner = {1: box[0], 2: box[2]}
    data, ierr = exposure.window(*box)
    used = ierr > 0
    error = np.divide(1, ierr, out=np.full(ierr.shape, np.nan, dtype=np.float32), where=used)
    images = {"DATA": np.where(used, data - rest, np.nan), "MODEL": model, "ERR": error}
    hdus = []
    for name, image in images.items():
        header = _header(exposure)
        for axis, start in corner.items():
            header[f"CRPIX{axis}"] = header.get(f"CRPIX{axis}", 0.0) - int(start)
        label = f"{exposure.band}_{exposure.name}_{name}"
        hdus.append(fits.ImageHDU(image.astype(np.float32), header, name=label))
    return hdus


def _header(exposure, *, chi=False):
    """Make the header of an exposure for other images on the same pixels."""
    header = exposure.header.copy() if len(exposure.header) else exposure.wcs.to_header(relax=True)
    for key in (*_OF_THE_ORIGINAL, "EXTNAME", "EXTVER"):
        header.remove(key, ignore_missing=True, remove_all=True)
    if not chi:
        header["BUNIT"] = "nJy"
    return header


def _look_up_tables(exposure):
    """Return the extensions to which the header's distortion refers, if there are any."""
    wcs = exposure.wcs
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    if not isinstance(wcs, WCS) or all(getattr(wcs, name) is None for name in tables):
        return []
    return wcs.to_fits(relax=True)[1:]


def _file_name(name):
    return str(name).replace("/", "_")
