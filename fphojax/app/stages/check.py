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
    found = check_inputs(settings, progress=progress, verify=True, needs_catalog=False)
    if found.problems:
        raise InputError("\n".join(found.problems))
    tables = {"exposures": exposures_shown(found)}
    if found.catalog is not None:
        tables["catalog"] = catalog_shown(found)
    text = f"{counted(len(found.exposures), 'exposure')} in {', '.join(settings.bandlist)}"
    text += (
        f", {counted(len(found.catalog), 'source')}." if found.catalog is not None else "; no catalogue yet."
    )
    text += f" {found.psf_meaning()}"
    masked = [exposure.name for exposure in found.exposures if exposure.masked_fraction > 0.5]
    if masked:
        text += f" More than half of the pixels are masked in {', '.join(masked)}."
    if found.notes:
        tables["notes"] = Table({"note": found.notes})
        others = len(found.notes) - _MOST_NOTES
        more = [f"and {counted(others, 'more note')}"] if others > 0 else []
        text += f" Note: {'; '.join([*found.notes[:_MOST_NOTES], *more])}."
    level: Level = "look at this" if masked else "pass"
    return StageReport("check", text, tables, {}, level=level)


def exposures_shown(found: CheckReport) -> QTable:
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
        for exposure in found.exposures
    ]
    return formatted(QTable(rows), {"pixel scale": ".4f", "masked": ".1f"})


def catalog_shown(found: CheckReport) -> Table:
    """Tabulate smallest, median and largest value of each parameter of the catalogue."""
    catalog = found.catalog
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
