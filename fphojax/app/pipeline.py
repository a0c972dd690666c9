"""The stages of a run: check, PSFs, patch, optimum, samples, results."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from fphojax.inference.optimize import Optimum, optimize
from fphojax.inference.sample import sample
from fphojax.inputs.astrometry import CircularRegion, sky_offsets
from fphojax.inputs.catalog import SourceCatalog
from fphojax.inputs.errors import InputError
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.patcher import Patcher
from fphojax.inputs.psf import PSFMixture, PSFStore
from fphojax.mixtures.psf_fit import fit_psf
from fphojax.mixtures.sersic import load_sersic_table
from fphojax.outputs.plots import plot_residuals, save_figure
from fphojax.outputs.residuals import write_residuals
from fphojax.outputs.results import PatchResult
from fphojax.outputs.run_directory import RunDirectory

from .check import check_inputs
from .config import Settings

__all__ = ["FinishedRun", "run"]


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What `run` leaves: the folder, and what it shows to the person who started it.

    Attributes
    ----------
    directory : RunDirectory
    result : PatchResult
    optimum : Optimum
        Most probable parameters of the patch.
    figures : list of Path
    """

    directory: RunDirectory
    result: PatchResult
    optimum: Optimum
    figures: list[Path]


def run(settings: Settings, *, overwrite: bool = False, progress: bool = True) -> FinishedRun:
    """Fit a field that fits into one patch, and write the results to ``settings.outbase``.

    Parameters
    ----------
    settings : Settings
    overwrite : bool
        Whether the folder of an earlier run may be replaced.
    progress : bool
        Show progress bars.

    Returns
    -------
    FinishedRun

    Raises
    ------
    InputError
        One line for every problem with the inputs; nothing is written then.
    """
    _refuse_unsupported(settings)
    if not overwrite:
        _refuse_earlier_run(settings.outbase)
    report = check_inputs(settings, progress=progress)
    if report.problems:
        raise InputError("\n".join(report.problems))
    region = _single_patch(report.catalog, settings)

    exposures = [_prepared(exposure, settings) for exposure in report.exposures]
    psfs = report.psfs or _fitted_psfs(exposures, settings.n_gauss_psf, progress)
    patcher = Patcher(
        exposures,
        psfs,
        table=load_sersic_table(settings.splinedatafile),
        pixel_response=settings.pixel_response,
    )
    patcher.build_patch(region, allbands=settings.bandlist)
    priors = {name: prior.build() for name, prior in settings.priors.items()}
    active, fixed = report.catalog, report.big_catalog
    model, start = patcher.prepare_model(
        active=active,
        fixed=fixed,
        bounds=report.bounds,
        priors=priors,
        profiles=active.extra["profile"] if "profile" in active.extra.colnames else None,
        ties=_ties_by_row(active, settings),
        tolerance=settings.tolerance,
        nuisance=settings.nuisance.build(),
    )

    # all that can be wrong with the inputs is known by now
    directory = RunDirectory.create(
        settings.outbase, scene_catalog=settings.scene_catalog, overwrite=overwrite
    )
    directory.write_config(settings.to_json(), settings.source)
    psfs.write(directory.path / "psfs.h5", overwrite=overwrite)
    with tqdm(total=1, desc="optimum", unit="patch", disable=not progress) as bar:
        optimum = optimize(model, start, tolerance=settings.gtol)
        bar.update()
    chains = sample(
        model,
        optimum.values,
        draws=settings.sampling_draws,
        warmup=settings.warmup,
        chains=settings.chains,
        max_treedepth=settings.max_treedepth,
        full_cov=settings.full_cov,
        seed=settings.seed,
        progress=progress,
    )
    result = PatchResult.from_chains(
        chains, patcher.frame, model, active=active, fixed=fixed, bounds=report.bounds
    )

    directory.write_patch(0, result)
    if settings.write_residuals:
        write_residuals(directory.residuals_path(0), patcher.frame, model, chains.optimum.values)
    log = {"patches": 1, "n_calls": result.n_calls, "wall_time": result.wall_time, "seed": settings.seed}
    directory.write_scene(result.final_catalog("median"), log)
    figure = directory.figure_path("patch0_residuals")
    save_figure(plot_residuals(patcher.frame, model, chains.optimum.values, ids=active.id), figure)
    return FinishedRun(directory, result, optimum, [figure])


def _refuse_unsupported(settings: Settings) -> None:
    """Settings of forcepho's files that a run of one patch does not act on must not be silently ignored."""
    for key in ("add_barriers", "linear_optimize"):
        if getattr(settings, key):
            raise InputError(
                f"{settings.file}: {key} is true, expected false: the optimisation stage is not there yet"
            )


def _refuse_earlier_run(folder: Path) -> None:
    """Before the work rather than after: what is in the folder is not to be replaced."""
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"{folder}: folder is not empty, expected a new or empty one (--overwrite replaces an earlier run)"
        )


def _single_patch(catalog: SourceCatalog, settings: Settings) -> CircularRegion:
    """The circle that holds all sources with their radii of influence."""
    ra0, dec0 = catalog.ra[0], catalog.dec[0]
    x, y = sky_offsets(catalog.ra, catalog.dec, ra0, dec0).T
    centre = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    reach = float(np.max(np.hypot(x - centre[0], y - centre[1]) + catalog.roi)) + settings.buffer
    if reach > settings.patch_maxradius or len(catalog) > settings.maxactive_per_patch:
        raise InputError(
            f"{settings.raw_catalog}: {len(catalog)} sources that reach {reach:.1f} arcsec, expected at most "
            f"maxactive_per_patch = {settings.maxactive_per_patch} sources within patch_maxradius = "
            f"{settings.patch_maxradius:g} arcsec: raise these, or fit fewer sources"
        )
    ra = ra0 + centre[0] / 3600 / np.cos(np.deg2rad(dec0))
    return CircularRegion(ra, dec0 + centre[1] / 3600, reach)


def _ties_by_row(catalog: SourceCatalog, settings: Settings) -> dict[str, dict[int, int]]:
    """The settings' ties, with rows of the catalogue in the place of ids."""
    row = {str(identifier): i for i, identifier in enumerate(catalog.id)}
    for name, pairs in settings.ties.items():
        for identifier in (*pairs, *pairs.values()):
            if identifier not in row:
                raise InputError(
                    f"{settings.file}: ties: {name}: found id {identifier}, expected one in {settings.raw_catalog}"
                )
    return {name: {row[a]: row[b] for a, b in pairs.items()} for name, pairs in settings.ties.items()}


def _prepared(exposure: Exposure, settings: Settings) -> Exposure:
    """An exposure less its sky level, the errors of very bright pixels raised to the cap on their S/N."""
    if settings.tweak_background == "tweakbg":
        exposure = exposure.less(settings.tweakbg.get(exposure.band, 0.0))
    if settings.max_snr > 0:
        exposure = exposure.capped(settings.max_snr)
    return exposure


def _fitted_psfs(exposures, n_gauss: int, progress: bool) -> PSFStore:
    """Mixtures of the PSF images that the exposures carry."""
    store = PSFStore()
    for exposure in tqdm(exposures, desc="PSFs", unit="image", disable=not progress):
        fit = fit_psf(exposure.psf_image, n_gauss=n_gauss, includes_pixel=exposure.psf_includes_pixel)
        store.add(PSFMixture.from_fit(fit), exposure.band, exposure=exposure.name)
    return store
