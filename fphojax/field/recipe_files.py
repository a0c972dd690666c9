"""A recipe made in memory, as files in the folder of a run, from which it can be made again."""

from pathlib import Path

import numpy as np
from astropy.wcs import WCS

from fphojax.errors import InputError
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.stores.stored_exposures import StoredExposure
from fphojax.inputs.stores.writer import StoreWriter
from fphojax.mixtures.sersic import load_sersic_table

__all__ = ["as_files", "describe"]

_PIXELS, _META, _NOISE = "exposures.h5", "exposures.json", "noise.json"


def as_files(recipe: Recipe, folder: Path) -> dict:
    """Describe a recipe by a ``config.json``, and put its exposures into a pixel store in a folder.

    Parameters
    ----------
    recipe : Recipe
    folder : Path

    Returns
    -------
    dict
        What `Recipe.from_config` takes. Exposures of one pixel store stay in it.

    Raises
    ------
    InputError
        A profile table other than the shipped one, or a prior that cannot be described by its name and numbers.
    """
    config = describe(recipe)
    pixels, meta = _stores(recipe.exposures) or _stored(recipe.exposures, Path(folder))
    if recipe.noise is not None:
        recipe.noise.write(Path(folder) / _NOISE)
        config["noise_file"] = str((Path(folder) / _NOISE).absolute())
    return config | {
        "pixelstorefile": str(Path(pixels).absolute()),
        "metastorefile": str(Path(meta).absolute()),
    }


def describe(recipe: Recipe) -> dict:
    """Describe all of a recipe but its pixels; refuse, before anything is written, what no file can describe.

    Raises
    ------
    InputError
        See `as_files`; or exposures in memory whose WCS no header holds, or cutouts whose PSF varies.
    """
    if recipe.table.order != load_sersic_table().order:
        raise InputError("table: found another than the shipped one, expected that for a field")
    if _stores(recipe.exposures) is None:
        for exposure in recipe.exposures:
            _require_header(exposure)
            _require_place(exposure, recipe.psfs)
    return {
        "bandlist": list(recipe.bands),
        "fitsfiles": [],
        "extensions": {},
        "splinedatafile": None,
        "pixel_response": recipe.pixel_response,
        "tolerance": recipe.tolerance,
        "max_snr": 0.0,
        "tweak_background": None,
        "tweakbg": {},
        "priors": {name: _described(name, prior) for name, prior in recipe.priors.items()},
        "ties": {name: dict(pairs) for name, pairs in recipe.ties.items()},
        "nuisance": vars(recipe.nuisance),
        "noise": {"scale": "none", "correlation": "none"}
        if recipe.noise is None
        else {"scale": recipe.noise.scale, "correlation": recipe.noise.correlation},
        "noise_file": None,
        "big_catalog": None,
        "scene_catalog": "scene.fits",
    }


def _stores(exposures):
    """Return the store that all exposures are in, unchanged; None if there is no such one."""
    if not all(isinstance(e, StoredExposure) and not e.sky and np.isinf(e.max_snr) for e in exposures):
        return None
    files = {(e.store.path, e.metafile) for e in exposures}
    return files.pop() if len(files) == 1 else None


def _stored(exposures, folder):
    """Write exposures into a new pixel store, or find them there when a run is resumed."""
    paths = folder / _PIXELS, folder / _META
    if all(path.is_file() for path in paths):
        return paths
    with StoreWriter(*paths) as writer:
        for exposure in exposures:
            attributes = {"counts_to_flux": 1.0, "flux_units": "nJy", "bitmask_applied": 0}
            packed = writer.pack(_in_njy(exposure), attributes=attributes)
            writer.add(packed, stamp=f"{exposure.band}/{exposure.name}")
        writer.finish()
    return paths


def _require_header(exposure):
    """Refuse an exposure in memory that no FITS header can describe."""
    wcs = exposure.wcs
    if not isinstance(wcs, WCS) or wcs.cpdis1 or wcs.cpdis2 or wcs.det2im1 or wcs.det2im2:
        raise InputError(
            f"exposure {exposure.name!r} of band {exposure.band}: found a WCS that no header holds, expected "
            "exposures of a pixel store (`fphojax preprocess`)"
        )


def _require_place(exposure, psfs):
    """Refuse a cutout whose PSF depends on the detector position, which a store does not keep."""
    if any(exposure.origin) and psfs.varies(exposure.band, exposure.name):
        raise InputError(
            f"exposure {exposure.name!r} of band {exposure.band}: found a cutout with a PSF that varies over the "
            "detector, expected the whole exposure"
        )


def _in_njy(exposure):
    """Return an exposure with its pixels in memory, in nJy."""
    ny, nx = exposure.shape
    data, ierr = exposure.window(0, nx, 0, ny)
    scale = exposure.flux_scale
    return Exposure(
        name=exposure.name,
        band=exposure.band,
        data=np.asarray(data) / scale,
        ierr=np.asarray(ierr) * scale,
        wcs=exposure.wcs,
        psf_image=exposure.psf_image,
        psf_includes_pixel=exposure.psf_includes_pixel,
        path=exposure.path,
        header=exposure.header,
    )


def _described(name, prior):
    """Return a prior's name and numbers."""
    arguments = {key: getattr(prior, key, None) for key in prior.arg_constraints}
    if prior.batch_shape or any(np.size(value) != 1 for value in arguments.values()):
        raise InputError(f"priors: {name}: found {prior}, expected a distribution of single numbers")
    return {"distribution": type(prior).__name__, **{k: float(v) for k, v in arguments.items()}}
