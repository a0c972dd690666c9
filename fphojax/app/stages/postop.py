"""Hand-over from optimisation to sampling: a catalogue with uncertainties, from which the chains start."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.app.settings.schema import Settings
from fphojax.field.columns import STATE
from fphojax.field.superscene import SuperScene
from fphojax.inference.optimum import AT_BOUND
from fphojax.results.table_text import formatted
from fphojax.system.files import write_text
from fphojax.system.wording import counted

from .folders import alone_in_outbase, run_at
from .stage_report import StageReport, timed

__all__ = ["N_SIG_FLUX", "postop", "sampling_settings"]

# Default half-width of the boxes of fluxes in sampling, in uncertainties of the fluxes. These are those of a normal
# distribution; the total flux of a faint galaxy, whose index and size the pixels hardly constrain, has a long tail,
# and fluxes are integrated out where the box holds all but 1 % of it.
N_SIG_FLUX = 25.0


@alone_in_outbase
@timed
def postop(settings: Settings, *, run: Path | None = None) -> StageReport:
    """Write the optimised catalogue with flux uncertainties, and settings with which sampling starts from it.

    The uncertainties are those of each source with all others of its patch and all shapes free. The bounds of fluxes
    in sampling are ``n_sig_flux`` of them to either side, 25 by default. A flux that ended at an edge of its box is
    not where the pixels want it, and no box should be made around it: its uncertainty is NaN, so that it gets the
    bounds of a guessed flux (``flux_factor``), and the column ``flux_at_bound`` names its band.

    Parameters
    ----------
    settings : Settings
    run : Path, optional
        Folder of the fit; the latest one by default.

    Returns
    -------
    StageReport
        Table ``fluxes``: median signal-to-noise ratio, and how many ended at an edge, by band. Files, in
        ``outbase``: ``catalog`` (``postop.fits``, in forcepho's columns, uncertainties in its second extension) and
        ``settings`` (``postop.yml``).

    Raises
    ------
    InputError
        There is no fit.
    """
    fit = run_at(run, settings)
    scene = SuperScene.resume(fit.scene_path)
    catalog = scene.catalog
    bounds, covariances = scene.bounds_and_covs(np.arange(len(catalog)))
    unknown = int(np.count_nonzero(np.isnan(covariances).all(axis=(1, 2))))
    errors = np.full(catalog.flux.shape, np.nan) if catalog.flux_err is None else catalog.flux_err
    lower, upper = bounds.lower["flux"], bounds.upper["flux"]
    at_bound = np.minimum(catalog.flux - lower, upper - catalog.flux) < AT_BOUND * (upper - lower)
    if "flux" in settings.priors:
        at_bound[:] = False  # there is no box
    bands = np.array(catalog.bands)
    extra = catalog.extra.copy()
    extra.remove_columns([name for name in extra.colnames if name in STATE])
    extra["flux_at_bound"] = [",".join(bands[row]) for row in at_bound]
    catalog = catalog.replace(flux_err=np.where(at_bound, np.nan, errors), extra=extra)

    files = {"catalog": settings.outbase / "postop.fits", "settings": settings.outbase / "postop.yml"}
    settings.outbase.mkdir(parents=True, exist_ok=True)
    catalog.write_forcepho(files["catalog"])
    write_text(files["settings"], sampling_settings(settings, files["catalog"]).dump_yaml(settings.outbase))
    verdict = f"Wrote {counted(len(catalog), 'source')} with flux uncertainties, from which sampling starts."
    if unknown:
        verdict += (
            f" Not fitted: {counted(unknown, 'source')}; uncertainties are those of the catalogue, if any."
        )
    if at_bound.any():
        n_flux = int(np.count_nonzero(at_bound))
        n_source = int(np.count_nonzero(at_bound.any(axis=1)))
        verdict += (
            f" {counted(n_flux, 'flux')} of {counted(n_source, 'source')} ended at an edge of the "
            "box (column flux_at_bound): without an uncertainty, their range in sampling is that of an initial guess."
        )
    ratio = np.ma.masked_invalid(catalog.flux / errors)
    table = Table(
        {
            "band": bands,
            "median S/N": np.ma.median(ratio, axis=0).filled(np.nan),
            "at a bound": np.count_nonzero(at_bound, axis=0),
        }
    )
    formatted(table, {}, rest=".4g")
    return StageReport("postop", verdict, {"fluxes": table}, files)


def sampling_settings(settings: Settings, catalog: Path) -> Settings:
    """Return settings with which sampling starts from a catalogue that `postop` wrote."""
    bounds = settings.bounds_kwargs
    if bounds.n_sig_flux is None:
        bounds = bounds.model_copy(update={"n_sig_flux": N_SIG_FLUX})
    return settings.model_copy(update={"raw_catalog": catalog, "bounds_kwargs": bounds})
