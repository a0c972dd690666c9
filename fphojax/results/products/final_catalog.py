"""Final catalogue of a run: one row per source, with all statistics of its draws."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from astropy.table import Column, Table

from fphojax.results.misfit import error_scale, is_model_limited
from fphojax.results.run_directory import RunDirectory
from fphojax.system.processes import process_pool
from fphojax.system.progress import Progress

from .catalog_columns import FLAGS, PARAMETER_UNIT, ColumnName
from .column_ucds import ucd_of
from .draw_columns import DrawColumns
from .multipatch import DISAGREES, largest_shift, parameter_names, parameters_first
from .patch_draws import RunDraws, SourceDraws

__all__ = ["CatalogBuilder", "final_catalog"]

ISOPHOTE = 25.0  # AB mag / arcsec^2
_R_HAT, _ESS, _AT_BOUND, _PRIOR = 1.05, 100.0, 0.05, 0.7  # limits of the flags
_UNITS = {"mag (AB)": "mag", "mag (AB) arcsec-2": "mag arcsec-2"}


def final_catalog(
    run: RunDirectory | str | Path, *, isophote: float = ISOPHOTE, progress: bool = False
) -> Table:
    """Make the catalogue of all sources that the patches of a run have fitted.

    Parameters
    ----------
    run : RunDirectory or path-like
    isophote : float
        Surface brightness at which isophotal radii are taken, AB mag / arcsec^2.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Table
        One row per source, and per component of a composite one, in the order of the run's scene; every column has
        its unit, a description and its UCD (``meta["ucd"]``), and all are defined in
        `results.products.catalog_columns.COLUMNS` (docs/catalog_columns.md). Columns without a suffix are medians
        and keep the layout of `SourceCatalog`, which reads the table when it is written as FITS or ECSV.
        ``table.meta["FILTERS"]`` are the bands.

    Raises
    ------
    InputError
        There is no patch with a result, or patches and scene do not belong together.
    """
    draws = RunDraws(RunDirectory.of(run))
    builder = CatalogBuilder(draws, isophote=isophote)
    patches = Progress(
        draws.patches(), text="catalogue", units="patches", total=draws.n_patch, shown=progress
    )
    for _ in builder.add_batches(sources for patch in patches for sources in draws.sources(patch)):
        pass
    return builder.table()


class CatalogBuilder:
    """Builder of the final catalogue from batches of sources, which may come in any order.

    Parameters
    ----------
    draws : RunDraws
    isophote : float
        AB mag / arcsec^2.

    Attributes
    ----------
    of_draws : DrawColumns
    """

    def __init__(self, draws: RunDraws, *, isophote: float = ISOPHOTE):
        self._ids, self._bands = draws.ids, draws.bands
        self._profiles, self._ties = _profiles(draws), _ties(draws)
        self._units = parameter_names(draws.bands)
        self.of_draws = DrawColumns(draws.bands, tuple(self._units), isophote)
        self._columns: dict[ColumnName, np.ndarray] = {}

    def add_batches(self, batches: Iterable[SourceDraws], *, workers: int = 1) -> Iterator[SourceDraws]:
        """Add batches of sources, yielding each when its rows are done.

        Parameters
        ----------
        batches : iterable of SourceDraws
        workers : int
            Processes that make the rows, a few batches ahead; with one, they are made here.
        """
        if workers == 1:
            for sources in batches:
                draws = parameters_first(sources.values)
                self._store(sources, draws, self.of_draws(draws))
                yield sources
            return
        with process_pool(workers) as pool:
            queue: deque[tuple[SourceDraws, np.ndarray, Future]] = deque()
            for sources in batches:
                draws = parameters_first(sources.values)
                queue.append((sources, draws, pool.submit(self.of_draws, draws)))
                if len(queue) > 2 * workers:
                    yield self._finish(*queue.popleft())
            while queue:
                yield self._finish(*queue.popleft())

    def _finish(self, sources, draws, future):
        self._store(sources, draws, future.result())
        return sources

    def _store(self, sources, draws, of_draws):
        """Enter a batch into the columns of the run."""
        columns = self._with_errors(_limited(of_draws, sources), sources) | self._bookkeeping(sources)
        columns |= {ColumnName("flags"): self._flags(columns, sources, draws)}
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = np.zeros(len(self._ids), dtype=values.dtype)
            elif values.dtype.kind == "U":
                self._columns[name] = self._columns[name].astype(
                    np.promote_types(values.dtype, self._columns[name].dtype), copy=False
                )
            self._columns[name][sources.rows] = values

    def table(self) -> Table:
        """Return the catalogue."""
        columns = {"id": self._ids} | {str(name): values for name, values in self._columns.items()}
        names = {"id": ColumnName("id")} | {str(name): name for name in self._columns}
        if not any(np.isfinite(columns[f"{band}_err"]).any() for band in self._bands):
            for band in self._bands:
                for name in ("err", "err_scaled", "err_scale"):  # single points of older versions
                    del columns[f"{band}_{name}"]
        table = Table(
            meta={"FPHOJAX": 1, "FILTERS": ",".join(self._bands), "ISOPHOTE": self.of_draws.isophote}
        )
        for name, values in columns.items():
            text, parts = names[name].text, names[name].parts
            unit = self._units[parts[0]] if text.unit == PARAMETER_UNIT else text.unit
            if name in ("ra", "ra_16", "ra_84", "ra_mean"):
                values = values % 360
            table[name] = Column(
                values,
                unit=_UNITS.get(unit, unit) or None,
                description=text.text,
                meta={"ucd": ucd_of(names[name])},
            )
        return table

    def _with_errors(self, of_draws, sources):
        """Replace flux errors of draws by those of optima where known, and add errors scaled by the misfit."""
        last, place = self._last(sources)
        scale = error_scale(last.chi2[place], last.n_pixel[place])
        columns = {}
        for name, values in of_draws.items():
            columns[name] = values
            if name.pattern == "BAND_err":
                b = self._bands.index(name.parts[0])
                optimum_err = last.flux_err[place, b]
                columns[name] = np.where(np.isfinite(optimum_err), optimum_err, values)
                columns[ColumnName("BAND_err_scaled", name.parts)] = columns[name] * scale[:, b]
                columns[ColumnName("BAND_err_scale", name.parts)] = last.err_scale[place, b]
        return columns

    def _last(self, sources):
        """Return the last patch of a batch of sources, and their rows in it."""
        last = sources.parts[0][-1]  # the same for all
        return last, np.flatnonzero(np.isin(last.ids, self._ids[sources.rows]))

    def _bookkeeping(self, sources):
        """Make the columns that come from the patches: priors, own pixels, numbers of draws, methods."""
        last, place = self._last(sources)
        size = len(place)
        at_bound = last.at_bound[place]
        columns = {
            ColumnName("PARAMETER_at_bound", (name,)): at_bound[:, p] for p, name in enumerate(self._units)
        }
        columns |= {
            ColumnName("PARAMETER_prior_std", (name,)): last.prior_width[place, p]
            for p, name in enumerate(self._units)
        }
        n_chain, n_draw = sources.values["ra"].shape[1:]
        single = {
            "profile": self._profiles[sources.rows],
            "tied": self._ties[sources.rows],
            "at_bound": at_bound.max(axis=1),
            "roi": last.roi[place],
            "chi2": last.chi2[place].sum(axis=1),
            "n_pixel": last.n_pixel[place].sum(axis=1),
            "n_patch": np.array([len(parts) for parts in sources.parts]),
            "n_draw": np.full(size, n_chain * n_draw),
            "n_divergent": np.array([sum(part.n_divergent for part in parts) for parts in sources.parts]),
            "patch_id": np.full(size, last.patch),
            "method": np.full(size, last.method),
            "pareto_k": np.full(size, last.pareto_k),
            "effective_size": np.full(size, last.effective_size),
            "efficiency": np.full(size, last.efficiency),
        }
        return columns | {ColumnName(name): values for name, values in single.items()}

    def _flags(self, columns, sources, draws):
        r_hat, size, at_bound, divergent, method = (
            columns[ColumnName(name)] for name in ("rhat_max", "ess_min", "at_bound", "n_divergent", "method")
        )
        shifts = [
            largest_shift(draws[s], len(parts)) if len(parts) > 1 else 0.0
            for s, parts in enumerate(sources.parts)
        ]
        last, place = self._last(sources)
        sampled = (method == "nuts") | ((method == "importance") & last.trusted)
        prior_ratios = [
            columns[ColumnName("BAND_err" if name in self._bands else "PARAMETER_std", (name,))]
            / columns[ColumnName("PARAMETER_prior_std", (name,))]
            for name in self._units
            if name != "pa"  # a round galaxy has none
        ]
        raised = (
            sampled & (r_hat > _R_HAT),
            sampled & ~(size >= _ESS),
            at_bound > _AT_BOUND,
            divergent > 0,
            np.array(shifts) > DISAGREES,
            ~sampled,
            (np.stack(prior_ratios) > _PRIOR).any(axis=0),
            is_model_limited(last.chi2[place], last.n_pixel[place]).any(axis=1),
        )
        return sum(bit * flag.astype(np.int32) for bit, flag in zip(FLAGS, raised, strict=True))


def _limited(of_draws, sources):
    """Limit effective numbers of draws to those of the weighted points from which these were taken."""
    limit = np.array([sum(part.effective_size for part in parts) for parts in sources.parts])
    return {
        name: np.fmin(values, limit) if "_ess_" in name.pattern or name.pattern == "ess_min" else values
        for name, values in of_draws.items()
    }


def _profiles(draws):
    """Return the profile of each source, named as in `fphojax.inputs.profiles.PROFILES`."""
    scene = draws.scene
    if "profile" not in scene.extra.colnames:
        return np.full(len(draws.ids), "sersic")
    of_source = dict(zip(scene.id.tolist(), map(str, scene["profile"]), strict=True))
    return np.array([of_source[name] for name in draws.ids.tolist()])


def _ties(draws):
    """Return for each source the parameters that it takes from others, like ``ra=7 dec=7``."""
    run = draws.run
    ties = run.read_config().get("ties", {}) if run.config_path.is_file() else {}  # none in runs made by hand
    sky_names = {"x": "ra", "y": "dec"}
    texts = [
        " ".join(
            f"{sky_names.get(parameter, parameter)}={pairs[str(name)]}"
            for parameter, pairs in ties.items()
            if str(name) in pairs
        )
        for name in draws.ids.tolist()
    ]
    return np.array(texts)
