"""The stage that checks all inputs of a run."""

import numpy as np
from astropy import units as u
from astropy.table import QTable, Table

from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .input_checks import CheckReport, check_inputs
from .stage_report import Level, StageReport, timed

__all__ = ["catalog_shown", "check", "exposures_shown"]

_MOST_NOTES = 3  # in the verdict; the table has all


@timed
def check(settings: Settings, *, progress: bool = False) -> StageReport:
    """Read exposures, PSFs and catalogue, and stop at any problem with them; nothing is written.

    Parameters
    ----------
    settings : Settings
        ``raw_catalog`` may be absent; the stage ``catalog`` then makes one.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Tables ``exposures``; ``catalog``, if there is one; and ``notes``, what to know of the inputs, if anything.

    Raises
    ------
    InputError
        One line for each problem.
    """
    report = check_inputs(settings, progress=progress, verify=True, needs_catalog=False)
    if report.problems:
        raise InputError("\n".join(report.problems))
    tables = {"exposures": exposures_shown(report)}
    if report.catalog is not None:
        tables["catalog"] = catalog_shown(report)
    text = f"{counted(len(report.exposures), 'exposure')} in {', '.join(settings.bandlist)}"
    text += (
        f", {counted(len(report.catalog), 'source')}."
        if report.catalog is not None
        else "; no catalogue yet."
    )
    text += f" {report.psf_meaning()}"
    masked = [exposure.name for exposure in report.exposures if exposure.masked_fraction > 0.5]
    if masked:
        text += f" More than half of the pixels are masked in {', '.join(masked)}."
    if report.notes:
        tables["notes"] = Table({"note": report.notes})
        others = len(report.notes) - _MOST_NOTES
        more = [f"and {counted(others, 'more note')}"] if others > 0 else []
        text += f" Note: {'; '.join([*report.notes[:_MOST_NOTES], *more])}."
    level: Level = "look at this" if masked else "pass"
    return StageReport("check", text, tables, {}, level=level)


def exposures_shown(report: CheckReport) -> QTable:
    """Tabulate the fitted exposures: band, size, pixel scale, masked fraction, and how they were read."""
    rows = [
        {
            "exposure": exposure.name,
            "band": exposure.band,
            "columns": exposure.shape[1],
            "rows": exposure.shape[0],
            "pixel scale": exposure.pixel_scale * u.arcsec,
            "masked": 100 * exposure.masked_fraction * u.percent,
            "read as": exposure.read_as,
        }
        for exposure in report.exposures
    ]
    return formatted(QTable(rows), {"pixel scale": ".4f", "masked": ".1f"})


def catalog_shown(report: CheckReport) -> Table:
    """Tabulate smallest, median and largest value of each parameter of the catalogue."""
    catalog = report.catalog
    assert catalog is not None
    columns = {
        "ra [deg]": catalog.ra,
        "dec [deg]": catalog.dec,
        "q": catalog.q,
        "pa [deg]": catalog.pa,
    }
    columns |= {"sersic": catalog.sersic, "rhalf [arcsec]": catalog.rhalf, "roi [arcsec]": catalog.roi}
    columns |= {f"{band} [nJy]": flux for band, flux in zip(catalog.bands, catalog.flux.T, strict=True)}
    table = Table({"parameter": list(columns)})
    for name, function in (("smallest", np.min), ("median", np.median), ("largest", np.max)):
        table[name] = [float(function(values)) for values in columns.values()]
    return formatted(table, {}, rest=".8g")
