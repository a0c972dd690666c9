"""The last stage: the final catalogue of a run."""

import time

import numpy as np
from astropy.table import Table

from fphojax.inputs.files import replacing
from fphojax.outputs.final_catalog import final_catalog
from fphojax.outputs.run_directory import RunDirectory

from ..config import Settings
from .report import StageReport

__all__ = ["postprocess"]

_LARGEST_RHAT = 1.05


def postprocess(settings: Settings, *, progress: bool = False) -> StageReport:
    """Write the final catalogue of the sampling run in ``outbase``.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``catalog``: position, fluxes and convergence of every source. Files: ``final``, all columns as FITS
        (see docs/catalog_columns.md), and ``ecsv``, the same as text.

    Raises
    ------
    InputError
        There is no run, or it has no patch.
    """
    start = time.perf_counter()
    run = RunDirectory(settings.outbase, scene_catalog=settings.scene_catalog)
    table = final_catalog(run, progress=progress)
    folder = run.path / "catalogs"
    folder.mkdir(exist_ok=True)
    files = {"final": folder / "final.fits", "ecsv": folder / "final.ecsv"}
    for path, kind in zip(files.values(), ("fits", "ascii.ecsv"), strict=True):
        with replacing(path) as temporary:
            table.write(temporary, format=kind, overwrite=True)
    rhat = np.asarray(table["rhat_max"])
    poor = int(np.count_nonzero(rhat > _LARGEST_RHAT))
    text = f"{len(table)} sources in the final catalogue; the largest r_hat is {np.nanmax(rhat):.3f}"
    text += f", above {_LARGEST_RHAT} for {poor} sources." if poor else "."
    shown = _shown(table, settings.bandlist)
    seconds = time.perf_counter() - start
    return StageReport(
        "postprocess", text, {"catalog": shown}, files, seconds, "look at this" if poor else "pass"
    )


def _shown(table: Table, bands) -> Table:
    """The columns that a person reads first."""
    fluxes = [name for band in bands for name in (band, f"{band}_err")]
    shown = table[
        "id", "ra", "dec", *fluxes, "q", "sersic", "rhalf", "rhat_max", "ess_min", "chi2", "n_pixel", "flags"
    ]
    for name in shown.colnames[1:]:
        if np.asarray(shown[name]).dtype.kind == "f":
            shown[name].info.format = {"ra": ".6f", "dec": ".6f", "rhat_max": ".3f", "ess_min": ".0f"}.get(
                name, ".4g"
            )
    return shown
