"""Images of a whole scene in the full frames of its exposures: data, model, residual, chi; cutouts of sources."""

from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from tqdm.auto import tqdm

from ..core.patch import TILE, Patch, padded_length
from ..inputs.astrometry import CircularRegion, local_affine
from ..inputs.catalog import SourceCatalog
from ..inputs.errors import InputError
from ..inputs.exposures import Exposure
from ..inputs.files import replacing
from ..inputs.patcher import Patcher, PatchFrame, as_profiled
from ..inputs.stores import StoredExposure
from .fitted_patch import open_patcher
from .frame_nuisance import FrameNuisance
from .patch_draws import RunDraws
from .photometry import isophotal_radius
from .run_directory import RunDirectory
from .scene_points import DrawKind, scenes_at

__all__ = ["model_image", "write_cutouts", "write_images"]

_CELL = 31  # tiles on a side of the parts in which frames are drawn; with a spare row they fill a bucket
_FAINT = 1e-3  # sources are drawn as far as their profile exceeds this fraction of the noise of a pixel
_PSF_REACH = 6.0  # standard deviations of the widest Gaussian of the PSF
# What an original header says of its own pixels, and not of those that are written here.
_OF_THE_ORIGINAL = ("BSCALE", "BZERO", "BLANK", "BUNIT", "CHECKSUM", "DATASUM", "DATAMIN", "DATAMAX")


def write_images(
    run: RunDirectory,
    folder=None,
    *,
    kind: DrawKind = "median",
    n_draw: int = 16,
    patcher: Patcher | None = None,
    progress: bool = False,
) -> list[Path]:
    """Write data, model, residual and chi of every exposure of a run.

    The model is that of all sources as they are in the end, in the whole frame: those that were fitted at the
    point `kind`, the others and those of ``big_catalog`` as in their catalogue. Flux scales and shifts that were
    fitted are those of the last patch of each source, sky levels those of the last patch of each pixel: a sky ends
    where the patches do.

    Parameters
    ----------
    run : RunDirectory
    folder : path-like, optional
        Default: ``images`` in the run.
    kind, n_draw
        Point of the posterior; see `scenes_at`.
    patcher : Patcher, optional
        What `open_patcher` gives.
    progress : bool

    Returns
    -------
    list of Path
        ``BAND_EXPOSURE.fits`` with the extensions DATA (nJy, as it was fitted: less the sky of the settings;
        NaN where a pixel has no weight), MODEL, RESIDUAL (data - model) and CHI (residual over error), float32, each
        with the header of the exposure.
    """
    patcher = open_patcher(run) if patcher is None else patcher
    folder = Path(folder) if folder is not None else run.path / "images"
    folder.mkdir(exist_ok=True)
    draws = RunDraws(run)
    scenes = scenes_at(draws, kind, n_draw=n_draw)
    nuisance = FrameNuisance(draws, patcher, kind, n_draw=n_draw)
    still = _never_fitted(run, draws)
    exposures = [e for e in patcher.exposures if e.band in draws.bands]
    written = []
    for exposure in tqdm(exposures, "images", unit="image", disable=not progress):
        model = sum(model_image(patcher, exposure, catalog) for catalog in still)
        for i, scene in enumerate(scenes):
            image = model_image(patcher, exposure, nuisance.seen(exposure, scene, i))
            model = model + (image + nuisance.sky(exposure, i)) / len(scenes)
        images = _images(exposure, model)
        path = folder / f"{_file_name(exposure.band)}_{_file_name(exposure.name)}.fits"
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["FILTER"], hdus[0].header["EXPID"] = exposure.band, exposure.name
        hdus[0].header["DRAW"] = (kind, "point of the posterior")
        hdus[0].header["NUISANCE"] = (",".join(nuisance.names), "of the exposure, in the model")
        for name, image in images.items():
            hdus.append(fits.ImageHDU(image, _header(exposure, chi=name == "CHI"), name=name))
        hdus += _look_up_tables(exposure)
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary)
        written.append(path)
    return written


def rows_of_ids(run: RunDirectory, draws: RunDraws, ids: Sequence) -> dict[str, int]:
    """Row of every fitted source by its id, as text.

    Raises
    ------
    InputError
        One of `ids` is not among them.
    """
    row = {str(name): i for i, name in enumerate(draws.ids.tolist())}
    if lost := [str(name) for name in ids if str(name) not in row]:
        raise InputError(f"{run.path}: no patch has fitted source {lost[0]}, expected ids of fitted sources")
    return row


def write_cutouts(
    run: RunDirectory,
    ids: Sequence,
    folder=None,
    *,
    kind: DrawKind = "median",
    n_draw: int = 16,
    patcher: Patcher | None = None,
) -> list[Path]:
    """Write, for single sources, the data less all else that is in the model, and the model of the source alone.

    Parameters
    ----------
    run : RunDirectory
    ids : sequence
        Of fitted sources.
    folder : path-like, optional
        Default: ``cutouts`` in the run.
    kind, n_draw, patcher
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
    patcher = open_patcher(run) if patcher is None else patcher
    folder = Path(folder) if folder is not None else run.path / "cutouts"
    draws = RunDraws(run)
    row = rows_of_ids(run, draws, ids)
    folder.mkdir(exist_ok=True)
    scenes = scenes_at(draws, kind, n_draw=n_draw)
    nuisance = FrameNuisance(draws, patcher, kind, n_draw=n_draw)
    still = _never_fitted(run, draws)
    written = []
    for name in map(str, ids):
        chosen = np.arange(len(draws.ids)) == row[name]
        source = scenes[0][chosen]
        region = CircularRegion(source.ra[0], source.dec[0], float(source.roi[0]))
        hdus = [fits.PrimaryHDU()]
        hdus[0].header["ID"], hdus[0].header["DRAW"] = name, (kind, "point of the posterior")
        for exposure in patcher.exposures:
            box = region.bounding_box(exposure.wcs, exposure.shape)
            if box is None or exposure.band not in draws.bands:
                continue
            seen = [nuisance.seen(exposure, scene, i) for i, scene in enumerate(scenes)]
            model, rest = (
                np.mean([model_image(patcher, exposure, scene[rows], box) for scene in seen], axis=0)
                for rows in (chosen, ~chosen)
            )
            rest = rest + np.mean([nuisance.sky(exposure, i, box) for i in range(len(seen))], axis=0)
            rest = rest + sum(model_image(patcher, exposure, catalog, box) for catalog in still)
            hdus += _cutout(exposure, box, model, rest)
        path = folder / f"{_file_name(name)}.fits"
        with replacing(path) as temporary:
            fits.HDUList(hdus).writeto(temporary)
        written.append(path)
    return written


def model_image(
    patcher: Patcher,
    exposure: Exposure | StoredExposure,
    catalog: SourceCatalog,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Image of sources in an exposure.

    Parameters
    ----------
    patcher : Patcher
        Its PSFs and its profile table are used.
    exposure : Exposure or StoredExposure
    catalog : SourceCatalog
        With fluxes in the exposure's band. Sources with ``profile`` in `extra` are drawn as that says.
    box : tuple of int, optional
        Half-open pixel ranges (x0, x1, y0, y1); by default the whole frame.

    Returns
    -------
    ndarray of float32, shape (y1 - y0, x1 - x0)
    """
    ny, nx = exposure.shape
    x0, x1, y0, y1 = (0, nx, 0, ny) if box is None else box
    image = np.zeros((y1 - y0, x1 - x0), dtype=np.float32)
    catalog = as_profiled(catalog.select_bands([exposure.band]))
    view = Patcher(
        [exposure],
        patcher.psfs,
        table=patcher.table,
        pixel_response=patcher.pixel_response,
        dtype=patcher.dtype,
    )
    if not len(catalog):
        return image
    centre = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=catalog.dec[0]).pixel
    reach = _reach(view, exposure, catalog)
    step = _CELL * TILE
    for left in range(x0, x1, step):
        for bottom in range(y0, y1, step):
            right, top = min(left + step, x1), min(bottom + step, y1)
            apart = np.maximum(np.maximum((left, bottom) - centre, centre - (right - 1, top - 1)), 0)
            near = np.hypot(*apart.T) <= reach  # False where the WCS has no position
            if not near.any():
                continue
            view.frame = _cell(exposure, left, bottom, catalog[near], patcher.dtype)
            tiles = np.asarray(view.render(_padded(catalog[near])))[: _CELL**2]
            cell = tiles.reshape(_CELL, _CELL, TILE, TILE).swapaxes(1, 2).reshape(step, step)
            image[bottom - y0 : top - y0, left - x0 : right - x0] = cell[: top - bottom, : right - left]
    return image


def _reach(view, exposure, catalog):
    """How far from its centre each source is drawn, pixels."""
    ny, nx = exposure.shape
    _, ierr = exposure.window(*_middle(nx), *_middle(ny))
    noise = 1 / np.median(ierr[ierr > 0]) if (ierr > 0).any() else 1.0
    psf = view.psfs.lookup(exposure.band, exposure=exposure.name, location=((nx - 1) / 2, (ny - 1) / 2))
    widest = np.sqrt(np.max(np.asarray(psf.covariances)[:, :2]))
    scale = exposure.pixel_scale
    rhalf = np.maximum(catalog.rhalf, 0.01 * scale)  # points have none
    level = _FAINT * noise / (exposure.flux_scale * scale**2)
    radius = isophotal_radius(level, np.abs(catalog.flux[:, 0]), rhalf, catalog.sersic)
    return radius / np.sqrt(catalog.q) / scale + _PSF_REACH * widest + np.abs(psf.means).max()


def _middle(size, width=512):
    """The middle of an axis, where the noise is looked up."""
    return max(0, (size - width) // 2), min(size, (size + width) // 2)


def _cell(exposure, left, bottom, catalog, dtype):
    """A frame whose tiles fill a square, all with weight."""
    n = _CELL**2
    row, column = np.divmod(np.arange(n), _CELL)
    spare = padded_length(n + 1, smallest=16) - n
    ones = np.pad(np.ones((n, TILE**2)), ((0, spare), (0, 0)))
    origin = np.stack([left + column * TILE, bottom + row * TILE], axis=1)
    patch = Patch(
        data=jnp.zeros_like(ones, dtype=dtype),
        ierr=jnp.asarray(ones, dtype=dtype),
        origin=jnp.asarray(np.pad(origin, ((0, spare), (0, 0))), dtype=np.int32),
        exposure=jnp.zeros(n + spare, dtype=np.int32),
        count=jnp.asarray(n, dtype=np.int32),
    )
    region = CircularRegion(float(catalog.ra[0]), float(catalog.dec[0]), float(catalog.roi[0]))
    return PatchFrame(region=region, bands=(exposure.band,), exposures=(exposure,), patch=patch)


def _padded(catalog):
    """With sources of no flux up to a length of the series, so that few programs are compiled."""
    size = padded_length(len(catalog))
    rows = np.concatenate([np.arange(len(catalog)), np.zeros(size - len(catalog), dtype=int)])
    flux = catalog.flux[rows]
    flux[len(catalog) :] = 0
    return catalog[rows].replace(flux=flux)


def _never_fitted(run, draws):
    """Catalogues of the sources that are in the images and were not fitted."""
    found = [draws.unfitted.select_bands(draws.bands)]
    big = run.read_config().get("big_catalog")
    if big is not None:
        found.append(SourceCatalog.read(big, bands=draws.bands))
    return [catalog for catalog in found if len(catalog)]


def _images(exposure, model):
    """Data, model, residual and chi, float32; data - model is the residual as it stands there."""
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
    """The header of an exposure, for other pixels of the same place."""
    header = exposure.header.copy() if len(exposure.header) else exposure.wcs.to_header(relax=True)
    for key in (*_OF_THE_ORIGINAL, "EXTNAME", "EXTVER"):
        header.remove(key, ignore_missing=True, remove_all=True)
    if not chi:
        header["BUNIT"] = "nJy"
    return header


def _look_up_tables(exposure):
    """Extensions to which the header's distortion refers, if it does."""
    wcs = exposure.wcs
    tables = ("cpdis1", "cpdis2", "det2im1", "det2im2")
    if not isinstance(wcs, WCS) or all(getattr(wcs, name) is None for name in tables):
        return []
    return wcs.to_fits(relax=True)[1:]


def _file_name(name):
    return str(name).replace("/", "_")
