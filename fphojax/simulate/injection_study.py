"""Fits of artificial sources in the images of a run, which show whether the errors can be believed there.

The sources are put into the pixels through the images of the PSFs, one at a time, and fitted with the known sources
around them: with their shape known, as in forced photometry, or free. Others are put in many at once, and searched
for as the stage detect does in images.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from astropy.table import Table, vstack

from fphojax.errors import InputError
from fphojax.field.scene_fit import fit
from fphojax.inference.methods import Method, Optimum
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.recipe import Recipe
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.fitted_patch import open_recipe
from fphojax.results.run_directory import RunDirectory
from fphojax.system.files import replacing
from fphojax.system.json_files import read_json, write_json
from fphojax.system.notebook_html import Shown
from fphojax.system.processes import process_pool
from fphojax.system.progress import Progress
from fphojax.system.wording import counted

from .injection_tables import completeness_table, error_floor, pull_table
from .injections import Injections, Place

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MODES", "InjectionStudy", "Mode", "injection_study"]

Mode = Literal["known", "free", "detect"]
MODES: tuple[Mode, ...] = ("known", "free", "detect")
type _Task = tuple[Mode, range]

FAINTEST = 2.0  # signal-to-noise ratio of the faintest source of a search
PER_IMAGE = 20  # sources of a search that are put into the images at once, at most
MATCH = 2.0  # finest pixels within which a source counts as found
_STUDY, _PARTS = "study.json", "parts"


@dataclass(frozen=True, eq=False, repr=False)
class InjectionStudy(Shown):
    """Artificial sources and what was measured of them.

    Attributes
    ----------
    sources : Table
        A row for each fitted source, mode and band: injection, place, mode, profile, band, snr; truth, flux, err
        (with the noise model) and err_alone (from the errors of the images), nJy; shift_x, shift_y (east, north, less
        the truth) and their errors, arcsec; rhalf, sersic, q, their errors and truths; at_bound; neighbours (known
        sources fitted with it). Errors are NaN for what is held.
    detections : Table
        A row for each source that was searched for: injection, place, snr, magnitudes (``mag_BAND``), found, confused
        (there was a detection before). Empty without such.
    folder : Path or None
        Where both are kept.
    """

    sources: Table
    detections: Table
    folder: Path | None = None

    @classmethod
    def read(cls, folder: str | Path) -> "InjectionStudy":
        """Read a study from its folder.

        Raises
        ------
        InputError
            There is none.
        """
        folder = Path(folder)
        sources, detections = (
            Table.read(path) if (path := folder / f"{name}.ecsv").is_file() else Table()
            for name in ("sources", "detections")
        )
        if not len(sources) and not len(detections):
            raise InputError(f"{folder}: found no finished study, expected sources.ecsv or detections.ecsv")
        return cls(sources, detections, folder)

    def _facts(self):
        facts = {"": counted(len(np.unique(self.sources["injection"])) if len(self.sources) else 0, "fit")}
        return facts | {"searched for": len(self.detections)}

    def pulls(self, **options: Any) -> Table:
        """Tabulate biases, pulls and coverage; see `pull_table`."""
        return pull_table(self.sources, **options)

    def completeness(self) -> Table:
        """Tabulate the fraction found against the signal-to-noise ratio; see `completeness_table`."""
        return completeness_table(self.detections)

    def floor(self) -> float:
        """Return an error to add to fluxes in quadrature, as a fraction of them; see `error_floor`."""
        return error_floor(self.sources)

    def plot_pulls(self) -> "Figure":
        """Plot flux pulls before and after the noise model, and against the signal-to-noise ratio."""
        from fphojax.figures.injection_plots import plot_pulls

        return plot_pulls(self.sources)

    def plot_completeness(self) -> "Figure":
        """Plot the fraction of sources found against the signal-to-noise ratio."""
        from fphojax.figures.injection_plots import plot_completeness

        return plot_completeness(self.completeness())


def injection_study(
    run: RunDirectory | str | Path,
    *,
    number: int = 60,
    modes: Sequence[Mode] = ("known", "free"),
    places: Sequence[Place] = ("empty",),
    snr: tuple[float, float] = (10.0, 50.0),
    stars: float = 0.0,
    models: SourceCatalog | None = None,
    gain: Mapping[str, float] | None = None,
    method: Method | None = None,
    noise_file: str | Path | None = None,
    bounds_kwargs: Mapping | None = None,
    buffer: float = 0.0,
    detection: Mapping | None = None,
    folder: str | Path | None = None,
    overwrite: bool = False,
    workers: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> InjectionStudy:
    """Put artificial sources into the images of a run, and measure them.

    Parameters
    ----------
    run : RunDirectory or path-like
        A fit of the field: its images, sky levels, PSFs, and known sources with their parameters.
    number : int
        Of sources in each mode.
    modes : sequence of {"known", "free", "detect"}
        Fits with known position and shape; free fits, whose start is off; search, by signal-to-noise ratios from 2.
    places, snr, stars, models, gain, bounds_kwargs, buffer
        See `fphojax.simulate.injections.Injections`.
    method : Method, optional
        Of free fits; `Optimum` by default.
    noise_file : path-like, optional
        What the stage noise wrote; by default that of the run, if it had one.
    detection : mapping, optional
        Options of `fphojax.detection.source_search.detect_on_images`.
    folder : path-like, optional
        Where results are kept, a file for each source: if the same study is started again, it goes on there.
    overwrite : bool
        Whether another study in the folder may be replaced.
    workers : int
        Processes that fit. A script must ask for several below ``if __name__ == "__main__":``.
    seed : int
    progress : bool

    Returns
    -------
    InjectionStudy

    Raises
    ------
    InputError
        Options that mean nothing; another study in the folder; no place for a source.
    KeyboardInterrupt
        After Ctrl-C: what was done is in the folder.
    """
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise InputError(f"modes: found {unknown[0]!r}, expected some of {', '.join(MODES)}")
    if number < 1:
        raise InputError(f"number is {number}, expected a positive one")
    job = _Job(
        run=RunDirectory.of(run),
        options={
            "models": models,
            "places": tuple(places),
            "snr": (float(snr[0]), float(snr[1])),
            "stars": stars,
            "gain": dict(gain or {}),
            "bounds_kwargs": dict(bounds_kwargs or {}),
            "buffer": buffer,
            "seed": seed,
        },
        method=Optimum() if method is None else method,
        noise_file=None if noise_file is None else Path(noise_file),
        detection=dict(detection or {}),
    )
    job.injections()  # refuses what means nothing, before there is a folder
    parts = _Parts(None if folder is None else Path(folder), job, overwrite)
    fitted: list[Mode] = [mode for mode in modes if mode != "detect"]
    tasks: list[_Task] = [(mode, range(i, i + 1)) for i in range(number) for mode in fitted]
    if "detect" in modes:
        tasks += [("detect", range(i, min(i + PER_IMAGE, number))) for i in range(0, number, PER_IMAGE)]
    missing = [task for task in tasks if not parts.has(task)]
    shown: Progress = Progress(
        total=len(tasks),
        initial=len(tasks) - len(missing),
        text="injections",
        units="tasks",
        shown=progress,
    )
    with shown:
        if workers == 1:
            for task in missing:
                parts.keep(task, job.done(task))
                shown.update()
        else:
            with process_pool(workers) as pool:
                running = [(task, pool.submit(_done, job, task)) for task in missing]
                for task, future in running:
                    parts.keep(task, future.result())
                    shown.update()
    return parts.study(tasks)


@dataclass(frozen=True, eq=False)
class _Job:
    """What all tasks of a study share."""

    run: RunDirectory
    options: dict[str, Any]
    method: Method
    noise_file: Path | None
    detection: dict[str, Any]

    def injections(self) -> Injections:
        return _injections(self)

    def described(self) -> dict:
        """Return what a study in a folder has to agree in to go on."""
        options = {key: value for key, value in self.options.items() if key != "models"}
        return json.loads(
            json.dumps(
                options
                | {
                    "method": repr(self.method),
                    "detection": self.detection,
                    "run": str(self.run.path.resolve()),
                }
                | {"noise_file": None if self.noise_file is None else str(self.noise_file.resolve())}
            )
        )

    def done(self, task: "_Task") -> Table:
        """Do a task: the fit of a source, or the search for several."""
        mode, numbers = task
        if mode == "detect":
            return self._searched(numbers)
        injections = self.injections()
        injection = injections.injection(numbers[0])
        method = Optimum(forced=True) if mode == "known" else self.method
        scene = injections.scene(injection, known=mode == "known", listed=method.needs_pairs)
        return _rows(injection, mode, fit(scene, method, seed=injection.number).result)

    def _searched(self, numbers):
        """Put several sources into the images, and search these."""
        injections = self.injections()
        snr = FAINTEST, max(self.options["snr"][1], 5 * FAINTEST)
        faint = dataclasses.replace(self, options=self.options | {"snr": snr})
        sources = [faint.injections().injection(number) for number in numbers]
        before = _search(injections, [], self.detection)
        after = _search(injections, sources, self.detection)
        radius, rows = MATCH * injections.finest, []
        for source in sources:
            truth = source.truth
            row = {"injection": source.number, "place": source.place, "snr": source.snr}
            row["profile"] = str(truth["profile"][0])
            with np.errstate(divide="ignore"):
                row |= {
                    f"mag_{band}": 31.4 - 2.5 * np.log10(max(flux, 0))
                    for band, flux in zip(truth.bands, truth.flux[0], strict=True)
                }
            row["confused"], row["found"] = (
                len(found) > 0
                and bool((np.hypot(*sky_offsets(found.ra, found.dec, *_position(truth)).T) < radius).any())
                for found in (before, after)
            )
            rows.append(row)
        return Table(rows)


@lru_cache(2)
def _injections(job: _Job) -> Injections:
    """Open the recipe of a study once in a process."""
    recipe = _recipe(job.run.path, job.noise_file)
    catalog = job.run.read_scene().select_bands(recipe.bands)
    return Injections(recipe, catalog, **job.options)


@lru_cache(1)
def _recipe(path: Path, noise_file: Path | None) -> Recipe:
    recipe = open_recipe(path)
    if noise_file is None:
        return recipe
    from fphojax.inputs.noise_model import NoiseModel

    return dataclasses.replace(recipe, noise=NoiseModel.read(noise_file))


def _done(job, task):
    """Do a task in another process, where the job is another object each time."""
    return _same(job).done(task)


_jobs: dict[str, _Job] = {}


def _same(job):
    return _jobs.setdefault(json.dumps(job.described(), sort_keys=True), job)


def _position(catalog: SourceCatalog) -> tuple[float, float]:
    return float(catalog.ra[0]), float(catalog.dec[0])


def _rows(injection, mode, result) -> Table:
    """Compare a fit with the truth: a row for each band."""
    truth, bands = injection.truth, result.bands
    point = bool(result.optimum_std)
    values = result.optimum if point else result.centred_draws.median(("chain", "draw"))
    errors = result.optimum_std if point else result.centred_draws.std(("chain", "draw"))
    value, error = (
        {name: np.asarray(table[name])[0] for name in ("flux", "ra", "dec", "q", "sersic", "rhalf")}
        for table in (values, errors)
    )
    scale = np.ones(len(bands)) if result.err_scale is None else np.asarray(result.err_scale)[0]
    east, north = sky_offsets(value["ra"], value["dec"], *_position(truth))
    common = {
        "injection": injection.number,
        "place": injection.place,
        "mode": mode,
        "profile": str(truth["profile"][0]),
        "snr": injection.snr,
        "neighbours": len(injection.neighbours),
        "ra": _position(truth)[0],
        "dec": _position(truth)[1],
        "shift_x": east,
        "shift_x_err": error["ra"] * 3600 * np.cos(np.deg2rad(truth.dec[0])),
        "shift_y": north,
        "shift_y_err": error["dec"] * 3600,
        "at_bound": max(float(np.asarray(result.at_bound[name])[0].max()) for name in ("flux", "q", "rhalf")),
    }
    for name in ("rhalf", "sersic", "q"):
        common |= {name: value[name], f"{name}_err": error[name], f"{name}_true": truth[name][0]}
    rows = []
    for b, band in enumerate(bands):
        flux = {"band": band, "truth": truth.flux[0, b], "flux": value["flux"][b], "err": error["flux"][b]}
        rows.append(common | flux | {"err_alone": error["flux"][b] / scale[b]})
    return Table(rows)


def _search(injections: Injections, sources, options) -> SourceCatalog:
    """Search the images with artificial sources in them."""
    from fphojax.detection.matched_filter import ResidualImage
    from fphojax.detection.source_search import detect_on_images

    images = []
    for exposure in injections.recipe.exposures:
        ny, nx = exposure.shape
        data, ierr = exposure.window(0, nx, 0, ny)
        data = np.where(ierr > 0, data, np.nan).astype(np.float64)
        for source in sources:
            names = [(e.band, e.name) for e in source.frame.exposures]
            if (exposure.band, exposure.name) in names:
                light = injections.image(source, names.index((exposure.band, exposure.name)))
                data = data + np.nan_to_num(light)
        psf = injections.recipe.psfs.in_exposure(exposure)
        images.append(
            ResidualImage(data, ierr, None, exposure.wcs, exposure.band, exposure.name, psf.stamp())
        )
    return detect_on_images(images, **options).catalog


class _Parts:
    """Results of tasks, in memory and in the files of a folder."""

    def __init__(self, folder: Path | None, job: _Job, overwrite: bool):
        self.folder = folder
        self._tables: dict[_Task, Table] = {}
        if folder is None:
            return
        stated, path = job.described(), folder / _STUDY
        if path.is_file() and read_json(path, "the options of a study") != stated:
            if not overwrite:
                raise InputError(
                    f"{path}: found another study, expected one with the same options (overwrite replaces it)"
                )
            for part in (folder / _PARTS).glob("*.ecsv"):
                part.unlink()
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        write_json(path, stated)

    def _path(self, task) -> Path:
        assert self.folder is not None  # asked for where there is one
        mode, numbers = task
        return self.folder / _PARTS / f"{mode}_{numbers[0]:05d}_{numbers[-1]:05d}.ecsv"

    def has(self, task) -> bool:
        """Return whether a task was done before."""
        return self.folder is not None and self._path(task).is_file()

    def keep(self, task, table: Table) -> None:
        """Keep the table of a task."""
        self._tables[task] = table
        if self.folder is not None:
            _write(table, self._path(task))

    def study(self, tasks) -> InjectionStudy:
        """Join the tables of all tasks."""
        tables = [
            self._tables[task] if task in self._tables else Table.read(self._path(task)) for task in tasks
        ]
        joined = []
        for is_search in (False, True):
            mine = [
                table for task, table in zip(tasks, tables, strict=True) if (task[0] == "detect") == is_search
            ]
            joined.append(vstack(mine, metadata_conflicts="silent") if mine else Table())
        if self.folder is not None:
            for name, table in zip(("sources", "detections"), joined, strict=True):
                if len(table):
                    _write(table, self.folder / f"{name}.ecsv")
        sources, detections = joined
        return InjectionStudy(sources, detections, self.folder)


def _write(table, path):
    with replacing(path) as temporary:
        table.write(temporary, format="ascii.ecsv")
