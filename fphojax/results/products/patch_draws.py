"""Draws of all sources of a run, patch by patch; a source that several patches fitted has all their chains."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from fphojax.errors import InputError
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.results.misfit import per_band
from fphojax.results.patch_result import NUISANCE_DIMS, POSTERIOR_UNITS
from fphojax.results.run_directory import RunDirectory
from fphojax.system.hdf5_files import read_hdf5

_EXPECTED = "the result of a patch (netCDF)"
__all__ = ["PatchDraws", "RunDraws", "SourceDraws", "read_patch_draws"]

# What draws by weights say of these, the same for all draws, and what holds without.
_OF_WEIGHTS = {"pareto_k": np.nan, "effective_size": np.nan, "efficiency": np.nan, "trusted": True}
_CACHE_SIZE = 64  # patches kept in memory, for sources that several patches have


@dataclass(frozen=True, eq=False)
class PatchDraws:
    """The part of a patch's file that catalogues need, read much faster than a `PatchResult`.

    Attributes
    ----------
    patch : int
    ids : ndarray (S,)
    bands : tuple of str
    region : tuple of float
        (ra, dec, radius): degrees and arcsec.
    method : str
        How the draws were made: "nuts", "importance", "laplace", "optimum", "forced".
    roi : ndarray (S,)
        Radii of influence, arcsec.
    values : dict of ndarray
        Parameters as in `PatchResult.posterior`, shape (S, chain, draw) and for flux (S, chain, draw, band); ra on
        one turn, pa within 90 degrees of its mean.
    at_bound : ndarray (S, P)
        Fraction of draws at an edge of the prior: fluxes in the order of the bands, then the other parameters.
    prior_width : ndarray (S, P)
        Standard deviations of the priors, in the same order; NaN in files without.
    flux_err : ndarray (S, B)
        Standard deviations of the fluxes of an optimum; NaN for draws, from which they follow, and in files without.
    err_scale : ndarray (S, B)
        Standard deviations of fluxes over those without the noise model; NaN without one.
    flux_covariance : ndarray (B, S, S) or None
        Of the fluxes of each band, of an optimum with composite sources.
    pareto_k, effective_size, efficiency : float
        Of weights (see `fphojax.inference.importance` and `fphojax.inference.laplace`); NaN for other draws.
    trusted : bool
        Whether the weights say that the draws can stand for the posterior; True for draws without weights.
    log_posterior : ndarray (chain, draw)
    n_divergent : int
    chi2, n_pixel : ndarray (S, B)
        Of the pixels dominated by the source in each band at the optimum; NaN and 0 in files without.
    exposures : list of tuple of str
        Band and name of each exposure, if there are nuisance parameters.
    nuisance : dict of ndarray (chain, draw, exposure, ...)
        Draws of ``sky``, ``scale`` and ``shift``, those that the patch has; as in `PatchResult.nuisance`.
    """

    patch: int
    ids: np.ndarray
    bands: tuple[str, ...]
    region: tuple[float, float, float]
    method: str
    roi: np.ndarray
    values: dict[str, np.ndarray]
    at_bound: np.ndarray
    prior_width: np.ndarray
    flux_err: np.ndarray
    err_scale: np.ndarray
    flux_covariance: np.ndarray | None
    pareto_k: float
    effective_size: float
    efficiency: float
    trusted: bool
    log_posterior: np.ndarray
    n_divergent: int
    chi2: np.ndarray
    n_pixel: np.ndarray
    exposures: list[tuple[str, str]]
    nuisance: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class SourceDraws:
    """All draws of S sources with equally many chains and the same last patch.

    Attributes
    ----------
    rows : ndarray (S,)
        Rows in the catalogue of the run, in the order of the last patch.
    parts : list of list of PatchDraws
        For each source the patches that fitted it, in their order.
    values : dict of ndarray
        As in `PatchDraws`; the chains of all patches side by side, each cut to the last draws of the shortest.
    """

    rows: np.ndarray
    parts: list[list[PatchDraws]]
    values: dict[str, np.ndarray]


class RunDraws:
    """The draws of a run, streamed.

    Parameters
    ----------
    run : RunDirectory

    Attributes
    ----------
    run : RunDirectory
    scene : SourceCatalog
        The catalogue of the run.
    ids : ndarray (N,)
        Sources that a patch has fitted, in the order of the scene.
    bands : tuple of str
    patches_of : dict
        For each id the numbers of its patches.
    n_draw : int
        Largest number of draws (all chains) of a patch.

    Raises
    ------
    InputError
        No patch has a result, patches in different bands, sources that are not in the scene.
    """

    def __init__(self, run: RunDirectory):
        self.run, self.scene = run, run.read_scene()
        self.patches_of, self.n_draw = defaultdict(list), 0
        bands: dict[tuple[str, ...], Path] = {}
        for patch in run.patches():
            path = run.samples_path(patch)
            with read_hdf5(path, _EXPECTED) as file:
                posterior = file["posterior"]
                for identifier in _strings(posterior["source"][()]).tolist():
                    self.patches_of[identifier].append(patch)
                self.n_draw = max(self.n_draw, int(np.prod(posterior["ra"].shape[:2])))
                bands.setdefault(tuple(_strings(posterior["band"][()]).tolist()), path)
        if not bands:
            raise InputError(f"{run.path}: no patch has a result, expected a run that has fitted some")
        if len(bands) > 1:
            (first, _), (other, path) = list(bands.items())[:2]
            raise InputError(
                f"{path}: bands {', '.join(other)}, expected {', '.join(first)} as in other patches"
            )
        self.bands = next(iter(bands))
        scene_ids = self.scene.id.tolist()
        strange = set(self.patches_of) - set(scene_ids)
        if strange:
            raise InputError(
                f"{run.scene_path}: no source {min(map(str, strange))}, expected all that patches fitted"
            )
        self.ids = self.scene.id[[i for i, name in enumerate(scene_ids) if name in self.patches_of]]
        self._row = {name: row for row, name in enumerate(self.ids.tolist())}
        self._read = lru_cache(_CACHE_SIZE)(lambda patch: read_patch_draws(run.samples_path(patch), patch))

    @property
    def n_patch(self) -> int:
        """Number of patches with a result."""
        return len({patch for patches in self.patches_of.values() for patch in patches})

    @property
    def unfitted(self) -> SourceCatalog:
        """Sources of the scene that no patch has fitted."""
        return self.scene[np.array([name not in self._row for name in self.scene.id.tolist()], dtype=bool)]

    def patches(self) -> Iterator[PatchDraws]:
        """Yield every patch."""
        for patch in sorted({patch for patches in self.patches_of.values() for patch in patches}):
            yield self._read(patch)

    def sources(self, patch: PatchDraws) -> Iterator[SourceDraws]:
        """Yield the sources whose last patch this is, so that each comes once in a run."""
        groups = defaultdict(list)
        for s, identifier in enumerate(patch.ids.tolist()):
            patches = self.patches_of[identifier]
            if patches[-1] == patch.patch:
                groups[len(patches)].append(s)
        for n_patch, members in groups.items():
            ids = patch.ids[members].tolist()
            rows = np.array([self._row[name] for name in ids])
            if n_patch == 1:
                values = {name: array[members] for name, array in patch.values.items()}
                yield SourceDraws(rows, [[patch]] * len(rows), values)
                continue
            for row, name in zip(rows, ids, strict=True):
                parts = [self._read(number) for number in self.patches_of[name]]
                yield SourceDraws(np.array([row]), [parts], _join_chains(parts, name))


def read_patch_draws(path: str | Path, patch: int) -> PatchDraws:
    """Read the draws of a patch.

    Parameters
    ----------
    path : path-like
    patch : int
        Its number.

    Raises
    ------
    InputError
        The file is missing or is not a result of a patch.
    """
    with read_hdf5(path, _EXPECTED) as file:
        return _patch_draws(file, patch)


def _patch_draws(file, patch):
    region = tuple(float(np.ravel(file.attrs[f"region_{name}"])[0]) for name in ("ra", "dec", "radius"))
    values = {name: np.moveaxis(file["posterior"][name][()], 2, 0) for name in POSTERIOR_UNITS}
    values["ra"] = values["ra"] - 360 * np.round((values["ra"] - region[0]) / 360)
    values["pa"] = _unwrap(values["pa"])
    at_bound = _by_parameter(file["at_bound"])
    widths = _by_parameter(file["prior_width"]) if "prior_width" in file else np.full_like(at_bound, np.nan)
    nuisance = {name: file["nuisance"][name][()] for name in NUISANCE_DIMS if f"nuisance/{name}" in file}
    names = (
        [_strings(file["exposures"][key][()]).tolist() for key in ("band", "exposure")] if nuisance else []
    )
    bands = tuple(_strings(file["posterior/band"][()]).tolist())
    shape = len(values["ra"]), len(bands)
    exposure_bands = _strings(file["exposures/band"][()])
    statistics = {
        name: per_band(file["own_pixels"][name][()], exposure_bands, bands)
        for name in ("chi2", "n_pixel")
        if "own_pixels" in file
    }
    divergent = file["sample_stats"].get("diverging")
    log_posterior = file["sample_stats"].get("lp")
    weights = {name: file["sample_stats"].get(name) for name in _OF_WEIGHTS}
    return PatchDraws(
        patch=patch,
        ids=_strings(file["posterior/source"][()]),
        bands=bands,
        region=region,
        method=_text(file.attrs.get("method", "nuts")),
        roi=file["active/roi"][()],
        values=values,
        at_bound=at_bound,
        prior_width=widths,
        flux_err=file["optimum_std/flux"][()] if "optimum_std" in file else np.full(shape, np.nan),
        err_scale=file["noise/err_scale"][()] if "noise" in file else np.full(shape, np.nan),
        flux_covariance=(file["flux_covariance/flux_covariance"][()] if "flux_covariance" in file else None),
        **{
            name: default if weights[name] is None else type(default)(weights[name][0, 0])
            for name, default in _OF_WEIGHTS.items()
        },
        log_posterior=np.zeros(values["ra"].shape[1:]) if log_posterior is None else log_posterior[()],
        n_divergent=0 if divergent is None else int(divergent[()].sum()),
        chi2=statistics.get("chi2", np.full(shape, np.nan)),
        n_pixel=statistics.get("n_pixel", np.zeros(shape, dtype=int)),
        exposures=list(zip(*names, strict=True)),
        nuisance=nuisance,
    )


def _by_parameter(group):
    """Join the values (S, P) of all parameters: fluxes in the order of the bands, then the others."""
    return np.concatenate(
        [np.asarray(group[name][()], float).reshape(len(group["ra"]), -1) for name in POSTERIOR_UNITS], axis=1
    )


def _join_chains(parts, name):
    """Join the chains of one source from several patches, on the same turn as in the first."""
    chains = [
        {key: array[part.ids.tolist().index(name)] for key, array in part.values.items()} for part in parts
    ]
    shortest = min(values["ra"].shape[1] for values in chains)
    joined = {
        key: np.concatenate([values[key][:, -shortest:] for values in chains])[None] for key in chains[0]
    }
    joined["ra"] = joined["ra"] - 360 * np.round((joined["ra"] - joined["ra"][:, :1, :1]) / 360)
    return joined | {"pa": _unwrap(joined["pa"])}


def _unwrap(pa):
    """Move position angles (S, chain, draw) to within 90 degrees of their mean (see `centred_pa`)."""
    double = np.deg2rad(2 * pa)
    sin, cos = np.sin(double).mean(axis=(1, 2)), np.cos(double).mean(axis=(1, 2))
    mean = np.rad2deg(np.arctan2(sin, cos) / 2)[:, None, None]
    return mean + (pa - mean + 90) % 180 - 90


def _strings(array):
    """Convert names to numpy strings, and leave numbers as they are."""
    return np.array([_text(value) for value in array]) if array.dtype.kind in "OS" else array


def _text(value):
    value = np.ravel(value)[0] if isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else str(value)
