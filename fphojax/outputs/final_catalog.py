"""The final catalogue of a run: one row per source, with everything that its draws say."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise

import numpy as np
from astropy.table import Column, Table
from tqdm.auto import tqdm

from .catalog_columns import FLAGS, PARAMETER_UNIT, ColumnName
from .convergence import convergence, quantiles
from .multipatch import DISAGREES, largest_shift, parameter_names, parameters_first
from .patch_draws import RunDraws, SourceDraws
from .photometry import (
    ZERO_POINT,
    ab_magnitude,
    central_brightness,
    effective_brightness,
    isophotal_radius,
    kron_radius,
)
from .run_directory import RunDirectory

__all__ = ["CatalogBuilder", "final_catalog"]

ISOPHOTE = 25.0  # AB mag / arcsec^2
_PROBABILITIES = (0.16, 0.5, 0.84)
_R_HAT, _ESS, _AT_BOUND, _PRIOR = 1.05, 100.0, 0.05, 0.7  # limits of the flags
_UNITS = {"mag (AB)": "mag", "mag (AB) arcsec-2": "mag arcsec-2"}


def final_catalog(run: RunDirectory, *, isophote: float = ISOPHOTE, progress: bool = False) -> Table:
    """Catalogue of all sources that the patches of a run have fitted.

    Parameters
    ----------
    run : RunDirectory
    isophote : float
        Surface brightness at which isophotal radii are taken, AB mag / arcsec^2.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Table
        One row per source, in the order of the run's scene; every column has its unit and a description, and
        all are defined in `fphojax.outputs.catalog_columns.COLUMNS` (docs/catalog_columns.md). Columns without a
        suffix are medians and keep the layout of `SourceCatalog`, which reads the table when it is written as
        FITS or ECSV. ``table.meta["FILTERS"]`` are the bands.

    Raises
    ------
    InputError
        There is no patch with a result, or patches and scene do not belong together.
    """
    draws = RunDraws(run)
    builder = CatalogBuilder(draws, isophote=isophote)
    patches = tqdm(draws.patches(), "patches", draws.n_patch, disable=not progress)
    for _ in builder.taken(sources for patch in patches for sources in draws.sources(patch)):
        pass
    return builder.table()


class CatalogBuilder:
    """Makes the final catalogue from batches of sources, which may come in any order.

    Parameters
    ----------
    draws : RunDraws
    isophote : float
        AB mag / arcsec^2.
    """

    def __init__(self, draws: RunDraws, *, isophote: float = ISOPHOTE):
        self._ids, self._bands = draws.ids, draws.bands
        self._profiles, self._ties = _profiles(draws), _ties(draws)
        self._parameters = parameter_names(draws.bands)
        self._isophote = isophote
        self._columns: dict[ColumnName, np.ndarray] = {}

    def taken(self, batches: Iterable[SourceDraws]) -> Iterator[SourceDraws]:
        """Take in batches of sources, and give each back when its rows are made.

        Rows are made in threads, a few batches ahead; batches are asked for and given back in the caller's.
        """
        n_thread = os.cpu_count() or 1
        with ThreadPoolExecutor(n_thread, "catalog") as pool:
            queue = deque()
            for sources in batches:
                queue.append((sources, pool.submit(self._made, sources)))
                if len(queue) > 2 * n_thread:
                    yield self._put(*queue.popleft())
            while queue:
                yield self._put(*queue.popleft())

    def _made(self, sources):
        """Columns of a batch."""
        draws = parameters_first(sources.values)
        found = self._statistics(draws) | self._derived(sources, draws) | self._bookkeeping(sources)
        return found | {ColumnName("flags"): self._flags(found, sources, draws)}

    def _put(self, sources, future):
        """Enter a batch into the columns of the run."""
        found = future.result()
        for name, values in found.items():
            if name not in self._columns:
                self._columns[name] = np.zeros(len(self._ids), dtype=values.dtype)
            elif values.dtype.kind == "U":
                self._columns[name] = self._columns[name].astype(
                    np.promote_types(values.dtype, self._columns[name].dtype), copy=False
                )
            self._columns[name][sources.rows] = values
        return sources

    def table(self) -> Table:
        """The catalogue."""
        columns = {"id": self._ids} | {str(name): values for name, values in self._columns.items()}
        names = {"id": ColumnName("id")} | {str(name): name for name in self._columns}
        if not any(np.isfinite(columns[f"{band}_err"]).any() for band in self._bands):
            for band in self._bands:
                del columns[f"{band}_err"]  # single draws have no scatter
        table = Table(meta={"FPHOJAX": 1, "FILTERS": ",".join(self._bands), "ISOPHOTE": self._isophote})
        for name, values in columns.items():
            text, parts = names[name].text, names[name].parts
            unit = self._parameters[parts[0]] if text.unit == PARAMETER_UNIT else text.unit
            if name in ("ra", "ra_16", "ra_84", "ra_mean"):
                values = values % 360
            table[name] = Column(values, unit=_UNITS.get(unit, unit) or None, description=text.text)
        return table

    def _statistics(self, draws):
        """Percentiles, moments and convergence of every parameter."""
        shape = draws.shape[:2]
        flat = draws.reshape(-1, *draws.shape[2:])
        whole = flat.reshape(len(flat), -1)
        ordered = np.sort(whole, axis=1)
        low, middle, high = quantiles(ordered, _PROBABILITIES)
        found = {"16": low, "84": high, "mean": whole.mean(axis=1), "std": whole.std(axis=1)}
        quality, held = convergence(flat), ordered[:, 0] == ordered[:, -1]
        for key, values in {
            "ess_bulk": quality.ess_bulk,
            "ess_tail": quality.ess_tail,
            "rhat": quality.r_hat,
        }.items():
            found[key] = np.where(held, np.nan, values)
        found = {key: values.reshape(shape) for key, values in found.items()}
        middle = middle.reshape(shape)

        first, more = {}, {}
        n_band = len(self._bands)
        for p, name in enumerate(self._parameters):
            more |= {
                ColumnName(f"PARAMETER_{key}", (name,)): values[:, p]
                for key, values in found.items()
                if p >= n_band or key != "std"
            }
            if p >= n_band:
                first[ColumnName(name)] = middle[:, p]
        for b, band in enumerate(self._bands):
            first[ColumnName("BAND", (band,))] = middle[:, b]
            scatter = found["std"][:, b]
            first[ColumnName("BAND_err", (band,))] = np.where(scatter > 0, scatter, np.nan)
        # of the parameters that vary
        smaller = np.fmin(found["ess_bulk"], found["ess_tail"])
        more[ColumnName("ess_min")] = np.fmin.reduce(smaller, axis=1)
        more[ColumnName("rhat_max")] = np.fmax.reduce(found["rhat"], axis=1)
        return first | more

    def _derived(self, sources, draws):
        """Magnitudes, colours, radii, surface brightnesses, and covariances of fluxes and colours."""
        flux = draws[:, : len(self._bands)].reshape(len(draws), len(self._bands), -1)
        q, sersic, rhalf = (sources.values[name].reshape(len(draws), -1) for name in ("q", "sersic", "rhalf"))
        stretch = 1 / np.sqrt(q)
        columns = self._fluxes(flux) | self._colours(flux)
        columns |= _intervals("rhalf_major", (), rhalf * stretch)
        columns |= _intervals("r_kron", (), kron_radius(rhalf, sersic) * stretch)
        level = 10 ** (0.4 * (ZERO_POINT - self._isophote))
        extended = np.where(rhalf > 0, rhalf, np.nan)[:, None]  # a point has no surface brightness
        shape = extended, sersic[:, None]
        radii = isophotal_radius(level, flux, *shape) * stretch[:, None]
        brightness = {
            "mu0_BAND": flux * central_brightness(1.0, *shape),
            "mue_BAND": flux * effective_brightness(1.0, *shape),
        }
        for b, band in enumerate(self._bands):
            columns |= _intervals("r_iso_BAND", (band,), radii[:, b])
            for key, values in brightness.items():
                columns |= _magnitude_intervals(key, (band,), values[:, b])
        return columns

    def _fluxes(self, flux):
        """Covariances and magnitudes of fluxes (S, band, n)."""
        bands = self._bands
        columns = {
            ColumnName("cov_BAND_BAND2", (bands[a], bands[b])): _covariance(flux[:, a], flux[:, b])
            for a, b in combinations(range(len(bands)), 2)
        }
        low, middle, high = quantiles(np.sort(flux, axis=-1), _PROBABILITIES)
        for ending, values in (("", middle.T), ("_16", high.T), ("_84", low.T)):
            magnitudes = ab_magnitude(values)
            for b, band in enumerate(bands):
                columns[ColumnName(f"mag_BAND{ending}", (band,))] = magnitudes[:, b]
        return columns

    def _colours(self, flux):
        """Colours of bands that follow each other, from fluxes (S, band, n)."""
        bands = self._bands
        colours = -np.diff(ab_magnitude(flux), axis=1)
        columns = {}
        for c, pair in enumerate(pairwise(bands)):
            columns |= _intervals("colour_BAND_BAND2", pair, colours[:, c])
            columns[ColumnName("colour_BAND_BAND2_std", pair)] = colours[:, c].std(axis=-1)
        for c in range(len(bands) - 2):
            name = ColumnName("colour_cov_BAND_BAND2_BAND3", tuple(bands[c : c + 3]))
            columns[name] = _covariance(colours[:, c], colours[:, c + 1])
        return columns

    def _bookkeeping(self, sources):
        """What the patches say about their sources."""
        last = sources.parts[0][-1]  # the same for all
        place = np.flatnonzero(np.isin(last.ids, self._ids[sources.rows]))
        size = len(place)
        near = last.at_bound[place]
        columns = {
            ColumnName("PARAMETER_at_bound", (name,)): near[:, p] for p, name in enumerate(self._parameters)
        }
        columns |= {
            ColumnName("PARAMETER_prior_std", (name,)): last.prior_width[place, p]
            for p, name in enumerate(self._parameters)
        }
        n_chain, n_draw = sources.values["ra"].shape[1:]
        single = {
            "profile": self._profiles[sources.rows],
            "tied": self._ties[sources.rows],
            "at_bound": near.max(axis=1),
            "roi": last.roi[place],
            "chi2": last.chi2[place],
            "n_pixel": last.n_pixel[place],
            "n_patch": np.array([len(parts) for parts in sources.parts]),
            "n_draw": np.full(size, n_chain * n_draw),
            "n_divergent": np.array([sum(part.n_divergent for part in parts) for parts in sources.parts]),
            "patch_id": np.full(size, last.patch),
            "method": np.full(size, last.method),
            "pareto_k": np.full(size, last.pareto_k),
        }
        return columns | {ColumnName(name): values for name, values in single.items()}

    def _flags(self, found, sources, draws):
        r_hat, size, near, divergent, method = (
            found[ColumnName(name)] for name in ("rhat_max", "ess_min", "at_bound", "n_divergent", "method")
        )
        shifts = [
            largest_shift(draws[s], len(parts)) if len(parts) > 1 else 0.0
            for s, parts in enumerate(sources.parts)
        ]
        sampled = method == "nuts"
        told = [
            found[ColumnName("BAND_err" if name in self._bands else "PARAMETER_std", (name,))]
            / found[ColumnName("PARAMETER_prior_std", (name,))]
            for name in self._parameters
            if name != "pa"  # a round galaxy has none
        ]
        raised = (
            sampled & (r_hat > _R_HAT),
            sampled & ~(size >= _ESS),
            near > _AT_BOUND,
            divergent > 0,
            np.array(shifts) > DISAGREES,
            ~sampled,
            (np.stack(told) > _PRIOR).any(axis=0),
        )
        return sum(bit * flag.astype(np.int32) for bit, flag in zip(FLAGS, raised, strict=True))


def _intervals(pattern, parts, draws):
    """Columns of the median, the 16th and the 84th percentile of draws (S, n); NaN where one of them is."""
    ordered = np.sort(draws, axis=1)
    ordered[np.isnan(ordered[:, -1])] = np.nan
    low, middle, high = quantiles(ordered, _PROBABILITIES)
    return {ColumnName(pattern + end, parts): v for end, v in (("", middle), ("_16", low), ("_84", high))}


def _magnitude_intervals(pattern, parts, brightness):
    """The same of magnitudes, from what they are of (S, n); NaN where some is not positive."""
    ordered = np.sort(brightness, axis=1)
    ordered[~(ordered[:, 0] > 0)] = np.nan
    high, middle, low = ab_magnitude(quantiles(ordered, _PROBABILITIES))
    return {ColumnName(pattern + end, parts): v for end, v in (("", middle), ("_16", low), ("_84", high))}


def _profiles(draws):
    """Profile of each source, as `fphojax.inputs.patcher.PROFILES` names them."""
    scene = draws.scene
    if "profile" not in scene.extra.colnames:
        return np.full(len(draws.ids), "sersic")
    of_source = dict(zip(scene.id.tolist(), map(str, scene["profile"]), strict=True))
    return np.array([of_source[name] for name in draws.ids.tolist()])


def _ties(draws):
    """For each source the parameters that it takes from others: ``ra=7 dec=7``."""
    run = draws.run
    ties = run.read_config().get("ties", {}) if run.config_path.is_file() else {}  # made by hand, it has none
    called = {"x": "ra", "y": "dec"}
    found = [
        " ".join(
            f"{called.get(parameter, parameter)}={pairs[str(name)]}"
            for parameter, pairs in ties.items()
            if str(name) in pairs
        )
        for name in draws.ids.tolist()
    ]
    return np.array(found)


def _covariance(one, other):
    """Covariance of draws (S, n)."""
    centred = one - one.mean(axis=-1, keepdims=True), other - other.mean(axis=-1, keepdims=True)
    return (centred[0] * centred[1]).mean(axis=-1)
