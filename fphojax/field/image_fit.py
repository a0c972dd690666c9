"""The front door: the sources of an image, or of a few exposures, found and fitted in one call."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.nddata import NDData
from astropy.wcs.wcsapi import BaseLowLevelWCS
from numpy.typing import ArrayLike

from fphojax.detection.matched_filter import ResidualImage
from fphojax.detection.source_search import detect_on_images
from fphojax.errors import InputError
from fphojax.inference.methods import NUTS, Method
from fphojax.inputs.bounds import POINT, default_bounds
from fphojax.inputs.composites import (
    COMPOSITES,
    components_inside,
    components_of,
    is_composite,
    profile_name,
    split_composites,
    with_profile,
)
from fphojax.inputs.exposure_nuisance import Nuisance
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.frame import cut
from fphojax.inputs.image_arguments import exposures_of_image, mixture_of
from fphojax.inputs.noise_model import NoiseModel
from fphojax.inputs.profiles import PROFILES
from fphojax.inputs.psf_mixture import PSFMixture
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.mixtures.psf_result import PSFFit
from fphojax.system.wording import counted

from .scene_fit import SceneFit, fit, scene_region

__all__ = ["fit_image"]

logger = logging.getLogger(__name__)

_MOST = 20  # sources that are sampled together
_LEVEL, _SURE = 0.1, 5.0  # least residual level to be told: over a pixel's noise, and in standard deviations

type _PSF = float | u.Quantity | ArrayLike | PSFMixture | PSFFit


def fit_image(
    image: ArrayLike | NDData | str | Path | Exposure | Sequence[Exposure],
    err: ArrayLike | None = None,
    *,
    psf: _PSF | PSFStore | Mapping[str, _PSF] | None = None,
    wcs: BaseLowLevelWCS | None = None,
    pixel_scale: float | u.Quantity | None = None,
    mask: ArrayLike | None = None,
    band: str | None = None,
    profile: str | Sequence[str] = "sersic",
    catalog: SourceCatalog | None = None,
    threshold: float = 5.0,
    nuisance: Nuisance | None = None,
    noise: NoiseModel | None = None,
    method: Method | None = None,
    seed: int = 0,
    progress: bool = False,
) -> SceneFit:
    """Find the sources of an image, and fit all of them at once.

    ::

        import fphojax as fp

        fit = fp.fit_image(image, err, psf=0.9, pixel_scale=0.262)  # arrays; psf: FWHM in arcsec, or image of a star
        print(fit.table())  # median and 68 % interval of every parameter
        fit.plot_residuals()  # data, model, residual
        fluxes = fit.to_pandas().query("parameter == 'flux'")

    Parameters
    ----------
    image : array_like, Quantity, NDData, path-like, Exposure or sequence of Exposure
        Flux of each pixel; plain numbers are nJy, what has a unit is converted. An NDData (CCDData) has unit,
        uncertainty, mask and WCS; a FITS file has them in its extensions (see `read_exposures`). Several images are
        a list of exposures, in any bands.
    err : array_like, Quantity or float, optional
        Standard deviation of each pixel, or of all.
    psf : optional
        FWHM (arcsec, or a Quantity such as ``2.3 * u.pix``), image of a star at the pixel scale, `PSFMixture`, what
        `fit_psf` returns; for several bands a mapping from bands to these, or a `PSFStore`. By default the PSFs that
        the exposures or the file have.
    wcs : APE-14 WCS, optional
    pixel_scale : float or Quantity, optional
        Side of a pixel, arcsec, for arrays without a WCS: north is then up, and the middle of the image at ra 180,
        dec 0.
    mask : array_like, optional
        Pixels where it is not zero are not used.
    band : str, optional
        Name of the image's band.
    profile : str or sequence of str
        Of all sources: "sersic", "exponential", "devaucouleurs", "point"; "bulge_disk" (de Vaucouleurs and
        exponential with one centre), "point_sersic" (a point in the centre of a galaxy), or a list of components, the
        most compact first, such as ["sersic", "exponential"].
    catalog : SourceCatalog, optional
        Sources, with start values; by default those that are found in the image.
    threshold : float
        Least significance of a source, standard deviations.
    nuisance : Nuisance, optional
        ``fp.Nuisance(sky="constant")`` fits a residual sky level of each exposure; by default the sky is zero.
    noise : NoiseModel, optional
        As for `fit_scene`.
    method : Method, optional
        `NUTS` (the default), `Laplace` or `Optimum` (fast), with their options.
    seed : int
    progress : bool
        Show a progress bar.

    Returns
    -------
    SceneFit

    Raises
    ------
    InputError
        One line: which argument, what was found, what was expected; no source, or more than can be sampled together.

    Warns
    -----
    A sky level that is evidently not zero is logged as a warning.
    """
    profile = profile_name(profile)
    if is_composite(profile):
        components_of(profile)
    elif profile not in PROFILES:
        expected = ", ".join([*PROFILES, *COMPOSITES])
        raise InputError(f"profile is {profile!r}, expected one of {expected}, or a list of components")
    exposures = _exposures(
        image, {"err": err, "wcs": wcs, "pixel_scale": pixel_scale, "mask": mask, "band": band}
    )
    psfs = _psfs(psf, exposures)
    finest = min(exposure.pixel_scale for exposure in exposures)
    searched = catalog is None
    if catalog is None:
        catalog = _found(
            exposures, psfs, threshold, finest, tells_sky=nuisance is None or nuisance.sky == "none"
        )
    catalog = catalog.select_bands(tuple(dict.fromkeys(exposure.band for exposure in exposures)))
    catalog = split_composites(with_profile(catalog, profile))
    method = NUTS() if method is None else method
    if method.needs_pairs and len(catalog) > _MOST:
        raise InputError(
            f"found {len(catalog)} sources, expected at most {_MOST} to sample together: take a cutout, raise the "
            "threshold, use method=fp.Optimum(), or fit them patch by patch with fp.fit_field"
        )
    logger.info("%s in %s", counted(len(catalog), "source"), counted(len(exposures), "exposure"))
    bounds = default_bounds(catalog, pixscale=finest)
    scene = Scene(
        cut(exposures, scene_region(catalog), bands=catalog.bands),
        psfs,
        active=bounds.clipped(catalog) if searched else components_inside(catalog, bounds),
        bounds=bounds,
        nuisance=nuisance,
        noise=noise,
        listed=method.needs_pairs,
    )
    return fit(scene, method, seed=seed, progress=progress)


def _exposures(image, arguments):
    """Return the exposures that the image is, or is made into."""
    single = isinstance(image, Exposure)
    several = isinstance(image, list | tuple) and any(isinstance(part, Exposure) for part in image)
    if not (single or several):
        return exposures_of_image(image, **arguments)
    exposures = [image] if single else list(image)
    for number, exposure in enumerate(exposures):
        if not isinstance(exposure, Exposure):
            raise InputError(
                f"image {number} is {type(exposure).__name__}, expected exposures alone (fp.Exposure)"
            )
    for name, value in arguments.items():
        if value is not None:
            raise InputError(f"{name}: found one beside exposures, which have their own, expected none")
    names = [(exposure.band, exposure.name) for exposure in exposures]
    for key in names:
        if names.count(key) > 1:
            raise InputError(f"exposure {key[1]!r} of band {key[0]} is there twice, expected different names")
    return exposures


def _psfs(psf, exposures):
    """Return the PSFs as a store."""
    if isinstance(psf, PSFStore):
        return psf
    if psf is None:
        for exposure in exposures:
            if exposure.psf is None and exposure.psf_image is None:
                raise InputError(
                    f"psf: found none, nor one in exposure {exposure.name!r} of band {exposure.band}, expected a "
                    "width (FWHM, arcsec), an image of a star, a PSFMixture or what fit_psf returns"
                )
        return PSFStore.of_exposures(exposures)
    store = PSFStore()
    by_band = isinstance(psf, Mapping)
    made: dict[tuple, PSFMixture] = {}
    for exposure in exposures:
        if by_band and exposure.band not in psf:
            raise InputError(f"psf: found none of band {exposure.band}, expected one of each band")
        key = (exposure.band if by_band else "", exposure.pixel_scale)
        if key not in made:
            name = f"psf of band {exposure.band}" if by_band else "psf"
            made[key] = mixture_of(psf[exposure.band] if by_band else psf, exposure.pixel_scale, name)
        store.add(made[key], exposure.band, exposure.name)
    return store


def _found(exposures, psfs, threshold, finest, *, tells_sky):
    """Find the sources of the images."""
    images = []
    for exposure in exposures:
        psf = psfs.in_exposure(exposure)
        data = np.where(exposure.ierr > 0, exposure.data, np.nan).astype(np.float64)
        images.append(
            ResidualImage(data, exposure.ierr, None, exposure.wcs, exposure.band, exposure.name, psf.stamp())
        )
    found = detect_on_images(images, threshold=threshold, rhalf_range=(POINT * finest, np.inf))
    if not len(found.catalog):
        raise InputError(
            f"found no source above {threshold:g} standard deviations, expected one: lower the threshold, or give a "
            "catalog"
        )
    for image in images if tells_sky else ():
        noise = found.noise[image.band][image.name]
        pixel = 1 / np.median(image.ierr[image.ierr > 0])
        if abs(noise.level) > max(_SURE * noise.level_error, _LEVEL * pixel):
            logger.warning(
                "exposure %s: the sky is %+.3g, %+.2f of a pixel's noise, expected 0: nuisance=fp.Nuisance("
                'sky="constant") fits it',
                image.name,
                noise.level,
                noise.level / pixel,
            )
    return found.catalog
