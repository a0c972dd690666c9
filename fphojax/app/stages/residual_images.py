"""Whole exposures less the model of a fit, for stages that look at what is left."""

from collections.abc import Iterator

import numpy as np

from fphojax.app.settings.schema import Settings
from fphojax.detection.matched_filter import ResidualImage
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.recipe import Recipe
from fphojax.results.products.frame_model import FrameModel
from fphojax.results.run_directory import RunDirectory
from fphojax.system.progress import Progress

from .input_checks import CheckReport
from .psf_fits import fitted_psfs

__all__ = ["residual_images"]


def residual_images(
    settings: Settings, checked: CheckReport, fit: RunDirectory | None, progress: bool, text: str = "detect"
) -> Iterator[ResidualImage]:
    """Yield each exposure less the model of all sources, in and out of the patches of a fit.

    Parameters
    ----------
    settings : Settings
    checked : CheckReport
        Of these settings.
    fit : RunDirectory, optional
        Without one, the images themselves.
    progress : bool
        Show a progress bar.
    text : str
        What it says.
    """
    psfs = _psfs(settings, checked, fit, progress)
    recipe = Recipe.from_config(settings.plain, psfs, checked.exposures)
    frames = None if fit is None else FrameModel.of_catalog(fit, recipe)
    for exposure in Progress(recipe.exposures, text=text, units="images", shown=progress):
        ny, nx = exposure.shape
        data, ierr = exposure.window(0, nx, 0, ny)
        model = None if frames is None else frames.image(exposure)
        residual = np.where(ierr > 0, data, np.nan).astype(np.float64) - (0 if model is None else model)
        psf = psfs.in_exposure(exposure)
        yield ResidualImage(residual, ierr, model, exposure.wcs, exposure.band, exposure.name, psf.stamp())


def _psfs(settings, checked, fit, progress):
    """Return the mixtures of the fit, those of the settings, or new ones."""
    if fit is not None and (fit.path / "psfs.h5").is_file():
        return PSFStore.open(fit.path / "psfs.h5")
    if checked.psfs is not None:
        return checked.psfs
    # a run that is in the folder keeps the mixtures that it was made with
    path = None if (settings.outbase / "config.json").is_file() else settings.fitted_psfs
    settings.outbase.mkdir(parents=True, exist_ok=True)
    options = {"existing": settings.fitted_psfs, "replace": True, "progress": progress}
    return fitted_psfs(checked.exposures, settings, path, **options)[0]
