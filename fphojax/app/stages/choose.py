"""The stage that compares profiles of each source of a fit, and hands on the simplest that will do."""

from collections import Counter
from pathlib import Path

import numpy as np

from fphojax.app.settings.boxes import bounds_options
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError
from fphojax.field.columns import STATE
from fphojax.field.profile_choice import choose_profiles, chosen_catalog
from fphojax.inputs.composites import galaxies_of
from fphojax.results.fitted_patch import open_recipe
from fphojax.system.wording import counted

from .folders import alone_in_outbase, next_path, run_at
from .input_checks import check_inputs
from .stage_report import StageReport, timed

__all__ = ["choose"]


@alone_in_outbase
@timed
def choose(
    settings: Settings, *, run: Path | None = None, workers: int | None = None, progress: bool = False
) -> StageReport:
    """Compare profiles of all sources of a fit by their evidence, each with the others subtracted.

    Parameters
    ----------
    settings : Settings
        Block ``choose``.
    run : Path, optional
        Folder of the fit; the latest one by default.
    workers : int, optional
        Processes.
    progress : bool
        Show a progress bar.

    Returns
    -------
    StageReport
        Table ``profiles`` (`fphojax.field.profile_choice.choose_profiles`). ``files["catalog"]``: the sources of the
        fit with their profiles, in a new folder ``choose_N`` of ``outbase``; sources of several components stay as
        they are.

    Raises
    ------
    InputError
        One line for each problem with the inputs; there is no fit, or only composite sources in it.
    """
    checked = check_inputs(settings, needs_catalog=False, progress=progress)
    if checked.problems:
        raise InputError("\n".join(checked.problems))
    fit = run_at(run, settings)
    catalog = _fitted(fit.read_scene().select_bands(settings.bandlist), checked.catalog)
    components = {row for rows in galaxies_of(catalog).values() for row in rows}
    rows = [row for row in range(len(catalog)) if row not in components]
    if not rows:
        raise InputError(f"{fit.path}: contains composite sources alone, expected some with a single profile")
    options = settings.choose
    table = choose_profiles(
        open_recipe(fit),
        catalog,
        profiles=options.profiles,
        odds={str(name): value for name, value in options.odds.items()},
        margin=options.margin,
        bounds_kwargs=bounds_options(settings, checked.exposures),
        buffer=settings.buffer,
        rows=rows,
        workers=workers or 1,
        seed=settings.seed,
        progress=progress,
    )
    folder = next_path(settings.outbase, "choose")
    folder.mkdir(parents=True)
    path = folder / "sources.fits"
    chosen_catalog(catalog, table).write_forcepho(path)
    return StageReport("choose", _words(table), {"profiles": table}, {"catalog": path})


def _fitted(scene, given):
    """Return the sources of a fit without its state, with the errors of fluxes that the settings' catalogue has."""
    extra = scene.extra.copy()
    extra.remove_columns([name for name in extra.colnames if name in STATE])
    errors = scene.flux_err
    if given is not None and given.flux_err is not None and given.id.tolist() == scene.id.tolist():
        errors = given.flux_err
    return scene.replace(flux_err=errors, extra=extra)


def _words(table) -> str:
    numbers = Counter(np.asarray(table["profile"]).tolist()).most_common()
    text = f"Of {counted(len(table), 'source')}: " + ", ".join(f"{n} {name}" for name, n in numbers) + "."
    doubtful = int(np.count_nonzero(~np.asarray(table["trusted"], bool)))
    if doubtful:
        text += f" {counted(doubtful, 'source')} with an evidence that is not to be trusted (column trusted)."
    return text
