"""What optimisation hands over to sampling: a catalogue with uncertainties, from which the chains start."""

import time
from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.field.columns import STATE
from fphojax.field.superscene import SuperScene
from fphojax.inputs.files import replacing
from fphojax.outputs.wording import counted

from ..config import Settings
from .folders import alone_in_outbase, run_at
from .report import StageReport

__all__ = ["postop"]

_N_SIG_FLUX = 5.0  # default of `default_bounds`


@alone_in_outbase
def postop(settings: Settings, *, run: Path | None = None) -> StageReport:
    """Write the optimised catalogue with flux uncertainties, and settings with which sampling starts from it.

    The uncertainties are those of each source with all others of its patch and all shapes free. The bounds of
    fluxes in sampling are ``n_sig_flux`` of them to either side.

    Parameters
    ----------
    settings : Settings
    run : Path, optional
        Folder of the fit; the latest one by default.

    Returns
    -------
    StageReport
        Table ``fluxes``: sources and median signal-to-noise ratio by band. Files, in ``outbase``: ``catalog``
        (``postop.fits``, in forcepho's columns, uncertainties in its second extension) and ``settings``
        (``postop.yml``).

    Raises
    ------
    InputError
        There is no fit.
    """
    start = time.perf_counter()
    fit = run_at(run, settings)
    scene = SuperScene.resume(fit.scene_path)
    catalog = scene.catalog
    bounds, covariances = scene.bounds_and_covs(np.arange(len(catalog)))
    n_band = len(catalog.bands)
    variance = np.diagonal(covariances, axis1=1, axis2=2)[:, :n_band]
    n_sig = settings.bounds_kwargs.n_sig_flux or _N_SIG_FLUX
    box = (bounds.upper["flux"] - bounds.lower["flux"]) / 2 / n_sig  # of a source whose fit failed
    known = np.isfinite(variance) & (variance > 0)
    flux_err = np.where(known, np.sqrt(np.where(known, variance, 1.0)), box)
    extra = catalog.extra.copy()
    extra.remove_columns([name for name in extra.colnames if name in STATE])
    catalog = catalog.replace(flux_err=flux_err, extra=extra)

    files = {"catalog": settings.outbase / "postop.fits", "settings": settings.outbase / "postop.yml"}
    settings.outbase.mkdir(parents=True, exist_ok=True)
    catalog.write_forcepho(files["catalog"])
    with replacing(files["settings"]) as temporary:
        start_here = settings.model_copy(update={"raw_catalog": files["catalog"]})
        temporary.write_text(start_here.dump_yaml(settings.outbase))
    unknown = int(np.count_nonzero(~known.all(axis=1)))
    verdict = f"{counted(len(catalog), 'source')} with flux uncertainties, the start of sampling." + (
        f" {unknown} of them were not fitted: their uncertainties are those of the bounds." if unknown else ""
    )
    table = Table({"band": catalog.bands, "median S/N": np.median(catalog.flux / flux_err, axis=0)})
    table["median S/N"].info.format = ".4g"
    return StageReport("postop", verdict, {"fluxes": table}, files, time.perf_counter() - start)
