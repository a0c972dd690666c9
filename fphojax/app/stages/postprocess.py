"""The last stage: catalogues, region files and images of a run, and its report."""

import numpy as np
from astropy.table import Table

from fphojax.app.settings.defaults import default_settings
from fphojax.app.settings.schema import Settings
from fphojax.figures.html_report import write_report
from fphojax.results.products.run_products import postprocess as write_products
from fphojax.results.run_directory import RunDirectory
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .folders import alone_in_outbase
from .stage_report import StageReport, timed

__all__ = ["postprocess"]

_LARGEST_RHAT = 1.05


@alone_in_outbase
@timed
def postprocess(settings: Settings, *, workers: int | None = None, progress: bool = False) -> StageReport:
    """Write the products of the sampling run in ``outbase``, and its report.

    Parameters
    ----------
    settings : Settings
    workers : int, optional
        Processes that compute the catalogue; one by default.
    progress : bool
        Show progress bars.

    Returns
    -------
    StageReport
        Table ``catalog``: position, fluxes and convergence of every source. Files: ``report``, the page; ``catalog``,
        with all columns (see docs/catalog_columns.md); the folders ``regions`` and ``images``.

    Raises
    ------
    InputError
        There is no run, or it has no patch.
    """
    run = RunDirectory(settings.outbase, scene_catalog=settings.scene_catalog)
    catalogs = write_products(run, formats=("fits", "ecsv"), workers=workers or 1, progress=progress)
    table = catalogs.final
    files = {
        "report": write_report(run, defaults=default_settings(), progress=progress),
        "catalog": run.path / "catalogs" / "final.fits",
    }
    files |= {name: run.path / name for name in ("regions", "images")}
    rhat = np.asarray(table["rhat_max"])
    poor = int(np.count_nonzero(rhat > _LARGEST_RHAT))
    text = f"{counted(len(table), 'source')} in the final catalogue; "
    if np.isfinite(rhat).any():
        text += f"the largest r_hat is {np.nanmax(rhat):.3f}"
        text += f", above {_LARGEST_RHAT} for {counted(poor, 'source')}." if poor else "."
    else:
        text += "r_hat is not known: it needs at least two chains of four draws."
    shown = _shown(table, settings.bandlist)
    return StageReport(
        "postprocess", text, {"catalog": shown}, files, level="look at this" if poor else "pass"
    )


def _shown(table: Table, bands) -> Table:
    """Select the columns that a person reads first."""
    # single points of older versions have no errors
    fluxes = [
        name
        for band in bands
        for name in (band, f"{band}_err", f"{band}_err_scaled")
        if name in table.colnames
    ]
    shown = table[
        "id", "ra", "dec", *fluxes, "q", "sersic", "rhalf", "rhat_max", "ess_min", "chi2", "n_pixel", "flags"
    ]
    return formatted(shown, {"ra": ".6f", "dec": ".6f", "rhat_max": ".3f", "ess_min": ".0f"}, rest=".4g")
