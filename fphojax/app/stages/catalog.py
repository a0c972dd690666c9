"""The catalogue stage: where the fit starts, from a list of peaks or from detection on the images."""

from astropy.table import QTable

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.field.superscene import LinkedSuperScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.table_text import formatted
from fphojax.system.wording import counted

from .detect import detect
from .stage_report import Level, StageReport, timed

__all__ = ["catalog", "first_patches"]


@timed
def catalog(settings: Settings, *, progress: bool = False) -> StageReport:
    """Read the list of sources to start from; without one, find sources on the images.

    Parameters
    ----------
    settings : Settings
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``sources``. Files: ``catalog``.

    Raises
    ------
    InputError
        One line for each problem with the inputs.
    """
    if settings.raw_catalog is None:
        report = detect(settings, images=True, progress=progress)
        path, text = report.files["catalog"], report.verdict
    else:
        path = settings.raw_catalog
    sources = SourceCatalog.read(path, bands=settings.bandlist)
    if settings.raw_catalog is not None:
        text = f"{counted(len(sources), 'source')} in {path.name}."
    text += f" Radii of influence range from {sources.roi.min():.2g} to {sources.roi.max():.2g} arcsec."
    table = QTable({"id": sources.id, "ra": sources.ra, "dec": sources.dec, "roi": sources.roi})
    for band, flux in zip(sources.bands, sources.flux.T, strict=True):
        table[band] = flux
    formatted(table, {"ra": ".6f", "dec": ".6f"}, rest=".4g")
    level: Level = "pass" if len(sources) else "look at this"
    return StageReport("catalog", text, {"sources": table}, {"catalog": path}, level=level)


def first_patches(settings: Settings, sources: SourceCatalog, number: int = 6) -> list[tuple]:
    """Return the first patches that a run would take: (region, active, fixed) of each.

    Parameters
    ----------
    settings : Settings
    sources : SourceCatalog
    number : int
        Largest number of them.
    """
    scene = LinkedSuperScene(
        sources,
        settings.bandlist,
        target_niter=1,
        maxactive_per_patch=settings.maxactive_per_patch,
        maxradius=settings.patch_maxradius,
        strict=settings.strict,
        buffer=settings.buffer,
        bounds_kwargs=bounds_options(settings),
        seed=settings.seed,
    )
    patches: list[tuple] = []
    while scene.undone and len(patches) < number:
        region, active, fixed = scene.checkout_region()
        assert active is not None  # one patch at a time: nothing is in its way
        patches.append((region, active, fixed))
        scene.checkin_region(active, fixed, 1)
    return patches
