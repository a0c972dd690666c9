"""Result of the fit of one patch: draws in catalogue units, and what is needed to judge and repeat it."""

import dataclasses
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import xarray as xr

from fphojax.errors import InputError
from fphojax.inference.covariance import parameter_covariance, places
from fphojax.inference.optimum import at_bound
from fphojax.inference.sampling import Chains
from fphojax.inference.sandwich import with_noise
from fphojax.inputs.astrometry import CircularRegion, sky_position
from fphojax.inputs.bounds import Bounds
from fphojax.inputs.composites import galaxies_of
from fphojax.inputs.scene import Scene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.file_checks import blame, decoding
from fphojax.system.hdf5_files import new_hdf5, read_hdf5
from fphojax.system.notebook_html import Shown
from fphojax.system.wording import counted

from .netcdf import read_groups, write_groups
from .own_pixels import own_pixels
from .storage import bounds_from_dataset, bounds_to_dataset, catalog_from_dataset, catalog_to_dataset

__all__ = ["NUISANCE_DIMS", "POSTERIOR_UNITS", "PatchResult", "centred_pa"]

POSTERIOR_UNITS = {
    "flux": "nJy",
    "ra": "deg",
    "dec": "deg",
    "q": "",
    "pa": "deg",
    "sersic": "",
    "rhalf": "arcsec",
}

NUISANCE_DIMS = {"sky": ("exposure", "term"), "scale": ("exposure",), "shift": ("exposure", "axis")}
_NUISANCE_UNITS = {"sky": "nJy", "scale": "", "shift": "arcsec"}
_TERMS = ("level", "columns", "rows")  # of the sky: level in the middle, and rise from there to the edges
_AXES = ("east", "north")

_LAYOUT = 1
_LIBRARIES = ("fphojax", "jax", "numpyro", "arviz")
_RUN = {
    "method": str,
    "fluxes": str,
    "seed": int,
    "n_warmup": int,
    "max_treedepth": int,
    "n_calls": int,
    "wall_time": float,
}
_OLDER = {"method": "nuts", "fluxes": "sampled"}  # for older files, which lack these
# Required; others are fixed, nuisance, own_pixels, prior_width, optimum_std, raw, noise, linear and flux_covariance.
_GROUPS = (
    "active",
    "bounds",
    "posterior",
    "sample_stats",
    "optimum",
    "at_bound",
    "exposures",
    "mass",
)


@dataclass(frozen=True, eq=False, repr=False)
class PatchResult(Shown):
    """The fit of one patch, in catalogue units.

    Attributes
    ----------
    active : SourceCatalog
        The fitted sources as they were checked out.
    fixed : SourceCatalog
        Sources that were subtracted and not fitted; may be empty.
    bounds : Bounds
    region : CircularRegion
    bands : tuple of str
    posterior : xarray.DataTree
        Groups ``posterior`` and ``sample_stats``, as ArviZ takes it. Variables of the first: flux (chain, draw,
        source, band), ra, dec, q, pa (degrees east of north), sersic, rhalf (chain, draw, source), each with the
        attribute ``units``; the coordinate ``source`` holds the catalogue's id. Where the scene has a noise model
        or PSFs in doubt, the draws have that spread too (`fphojax.inference.sandwich`).
    raw : xarray.Dataset
        Where the scene has a noise model: the draws as they were made, with the errors of the images alone. Else
        empty.
    optimum : xarray.Dataset
        The same variables (source, band) where the chains were started; the attributes ``n_step`` and
        ``converged`` describe the search for it.
    at_bound : xarray.Dataset
        The same variables: fraction of draws within a thousandth of an edge of the prior.
    prior_width : xarray.Dataset
        The same variables: standard deviation of the prior; NaN for parameters that are held.
    optimum_std : xarray.Dataset
        The same variables, where the optimum is all that there is: its standard deviations, as
        `fphojax.inference.covariance.parameter_covariance` has them; NaN for parameters that are held. Else empty.
    err_scale : xarray.DataArray or None
        Where the scene has a noise model, (source, band): standard deviations of the fluxes over those that they
        have with the errors of the images alone.
    exposures : xarray.Dataset
        Dimension exposure (its name): band, n_pixel (used), chi2 (at the optimum).
    own_pixels : xarray.Dataset
        Variables n_pixel and chi2 (source, exposure): number and chi-squared of each source's own pixels at the
        optimum; see `fphojax.results.own_pixels`.
    nuisance : xarray.Dataset
        Draws of the exposures' nuisance parameters, those that the model had: sky (chain, draw, exposure, term),
        scale (chain, draw, exposure), shift (chain, draw, exposure, axis), and their values at the optimum, named
        ``sky_optimum`` and so on.
    mass_matrix : xarray.DataArray, dimensions ``parameter``, ``parameter_``
        First inverse mass matrix: covariance of the unconstrained parameters at the optimum.
    method : {"nuts", "laplace", "importance", "optimum", "forced"}
        Where the draws come from.
    fluxes : {"sampled", "integrated"}
        Whether fluxes were sampled with the other parameters, or integrated out and drawn afterwards.
    seed, n_warmup, max_treedepth : int
    n_calls : int
        Evaluations of likelihood and gradient.
    wall_time : float
        Seconds.
    versions : dict of str
        Of fphojax, jax, numpyro and arviz.
    flux_precision : xarray.DataArray, dimensions ``band``, ``source``, ``source_``, or None
        Precision matrices of all fluxes of each band at the optimum's shapes; those of a fit with the setting
        ``linear_optimize``.
    flux_covariance : xarray.DataArray, dimensions ``band``, ``source``, ``source_``, or None
        Of the fluxes of each band, where the optimum is all that there is and some sources are components.
    """

    active: SourceCatalog
    fixed: SourceCatalog
    bounds: Bounds
    region: CircularRegion
    bands: tuple[str, ...]
    posterior: xr.DataTree
    optimum: xr.Dataset
    at_bound: xr.Dataset
    prior_width: xr.Dataset
    optimum_std: xr.Dataset
    exposures: xr.Dataset
    own_pixels: xr.Dataset
    nuisance: xr.Dataset
    mass_matrix: xr.DataArray
    method: str
    fluxes: str
    seed: int
    n_warmup: int
    max_treedepth: int
    n_calls: int
    wall_time: float
    versions: dict[str, str]
    flux_precision: xr.DataArray | None = None
    flux_covariance: xr.DataArray | None = None
    raw: xr.Dataset = dataclasses.field(default_factory=xr.Dataset)
    err_scale: xr.DataArray | None = None

    def _facts(self):
        sizes, chi2 = self.draws.sizes, self.exposures["chi2"].to_numpy()
        return {
            "": counted(len(self.active), "source"),
            "bands": ", ".join(self.bands),
            "method": f"{self.method}, {sizes['chain']} chains of {sizes['draw']} draws",
            "chi2": f"{chi2.sum():.0f} of {int(self.exposures['n_pixel'].sum())} pixels",
            "time": f"{self.wall_time:.1f} s",
        }

    def _below(self):
        return self.final_catalog()._below()

    @classmethod
    def from_chains(
        cls,
        chains: Chains,
        scene: Scene,
    ) -> "PatchResult":
        """Gather the result of a fit.

        Parameters
        ----------
        chains : Chains
        scene : Scene
            The scene that was fitted.

        Returns
        -------
        PatchResult

        Raises
        ------
        ValueError
            The chains are of the model of another scene.
        """
        if not scene.owns(chains.model):
            raise ValueError("the chains are of the model of another scene, expected those of this one")
        frame, model, active = scene.frame, chains.model, scene.active
        raw = xr.Dataset()
        coords = {"source": active.id, "band": np.array(frame.bands)}
        sampled = coords | {"chain": np.arange(chains.n_chain), "draw": np.arange(chains.n_draw)}
        if chains.noise is not None and not chains.is_point:
            raw = _catalogue_units(chains.values, frame.region, sampled)
            chains = with_noise(chains)
        fractions = {name: flags.mean(axis=(0, 1)) for name, flags in at_bound(model, chains.values).items()}
        fractions |= {"ra": fractions.pop("x"), "dec": fractions.pop("y")}
        statistics = {name: (("chain", "draw"), values) for name, values in chains.statistics.items()}
        posterior = _catalogue_units(chains.values, frame.region, sampled)
        optimum_std = _optimum_std(chains, model, frame.region, coords, chains.noise)
        err_scale = None
        if chains.noise is not None:
            before = _optimum_std(chains, model, frame.region, coords, None) if chains.is_point else raw
            after = optimum_std if chains.is_point else posterior
            err_scale = _err_scale(before, after)
        optimum = _catalogue_units(chains.optimum.values, frame.region, coords)
        optimum.attrs.update(n_step=chains.optimum.n_step, converged=int(chains.optimum.converged))
        names = _parameter_names(chains.optimum.values, active.id, frame)
        exposures = {
            "band": ("exposure", np.array([e.band for e in frame.exposures])),
            "n_pixel": ("exposure", [len(frame.pixels(i)[2]) for i in range(len(frame.exposures))]),
            "chi2": ("exposure", chains.optimum.chi2),
        }
        exposure_names = np.array([e.name for e in frame.exposures])
        return cls(
            active=active,
            fixed=scene.fixed,
            bounds=scene.bounds,
            region=frame.region,
            bands=frame.bands,
            posterior=xr.DataTree.from_dict(
                {
                    "posterior": posterior,
                    "sample_stats": xr.Dataset(statistics, {k: sampled[k] for k in ("chain", "draw")}),
                }
            ),
            optimum=optimum,
            at_bound=xr.Dataset({name: (_dims(name), fractions[name]) for name in POSTERIOR_UNITS}, coords),
            prior_width=_widths(model.prior_widths(), frame.region, coords),
            optimum_std=optimum_std,
            raw=raw,
            err_scale=err_scale,
            exposures=xr.Dataset(exposures, {"exposure": exposure_names}),
            own_pixels=own_pixels(scene, chains.optimum.values),
            nuisance=_nuisance(chains, exposure_names),
            flux_covariance=_flux_covariance(chains, model, active, frame.bands),
            mass_matrix=xr.DataArray(
                chains.covariance,
                coords={"parameter": names, "parameter_": names},
                dims=("parameter", "parameter_"),
                name="inverse_mass_matrix",
            ),
            versions=dict(_versions()),
            **{name: kind(getattr(chains, name)) for name, kind in _RUN.items()},
        )

    @property
    def effective_size(self) -> float:
        """Effective number of the weighted points from which the draws were taken; NaN where there were none."""
        statistics = self.posterior["sample_stats"]
        if "effective_size" not in statistics:
            return np.nan
        return float(np.asarray(statistics["effective_size"])[0, 0])

    def with_flux_precision(self, precision: np.ndarray) -> "PatchResult":
        """Return the result with the precision matrices of its fluxes added.

        Parameters
        ----------
        precision : array (B, S, S)
            See `fphojax.inference.linear_fit.flux_precision`.
        """
        coords = {"band": np.array(self.bands), "source": self.active.id, "source_": self.active.id}
        matrix = xr.DataArray(precision, coords=coords, dims=tuple(coords), name="flux_precision")
        return dataclasses.replace(self, flux_precision=matrix)

    @property
    def draws(self) -> xr.Dataset:
        """The posterior's dataset."""
        return self.posterior["posterior"].dataset

    @property
    def centred_draws(self) -> xr.Dataset:
        """`draws` prepared for averages: ra within 180 degrees of the region's centre, pa as in `centred_pa`."""
        ra, pa = self.draws["ra"], self.draws["pa"]
        turns = np.round((ra - self.region.ra) / 360)
        return self.draws.assign(ra=(ra - 360 * turns).assign_attrs(ra.attrs), pa=centred_pa(pa))

    def to_datatree(self) -> xr.DataTree:
        """Return everything as a data tree, for ArviZ and xarray: the groups and attributes of a file of `write`.

        ``posterior`` and ``sample_stats`` are those of the attribute `posterior`; the other groups (``active``,
        ``bounds``, ``optimum``, ...) are what `from_datatree` makes a result of again.
        """
        groups, attrs = self._groups()
        return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})

    @classmethod
    def from_datatree(cls, tree: xr.DataTree) -> "PatchResult":
        """Make a result of a data tree, such as one of `to_datatree` whose draws were thinned or replaced.

        Parameters
        ----------
        tree : xarray.DataTree
            Groups and attributes as those of `to_datatree`; further groups are left aside.

        Raises
        ------
        InputError
            A group or an attribute is missing.
        """
        groups = {name: node.to_dataset(inherit=False) for name, node in tree.children.items()}
        with decoding("data tree", "the groups of PatchResult.to_datatree"), blame("data tree"):
            return cls._of_groups(groups, tree.attrs)

    def write(self, path: str | Path) -> None:
        """Write netCDF (HDF5), atomically.

        Parameters
        ----------
        path : path-like
        """
        groups, attrs = self._groups()
        with new_hdf5(path, track_order=True) as file:
            write_groups(file, groups, attrs)

    def _groups(self):
        """Return all datasets by group, and the attributes that belong to all of them."""
        ids = self.active.id
        groups = {
            "active": catalog_to_dataset(self.active),
            "bounds": bounds_to_dataset(self.bounds, ids),
            "posterior": self.draws,
            "sample_stats": self.posterior["sample_stats"].dataset,
            "optimum": self.optimum,
            "at_bound": self.at_bound,
            "exposures": self.exposures,
            "nuisance": self.nuisance,
            "mass": self.mass_matrix.to_dataset(),
        }
        for name in ("own_pixels", "prior_width", "optimum_std"):
            if getattr(self, name):
                groups[name] = getattr(self, name)
        if len(self.fixed):
            groups["fixed"] = catalog_to_dataset(self.fixed)
        if self.raw:
            groups["raw"] = self.raw
        if self.err_scale is not None:
            groups["noise"] = self.err_scale.to_dataset()
        if self.flux_precision is not None:
            groups["linear"] = self.flux_precision.to_dataset()
        if self.flux_covariance is not None:
            groups["flux_covariance"] = self.flux_covariance.to_dataset()
        attrs = {"fphojax_layout": _LAYOUT} | {name: getattr(self, name) for name in _RUN}
        attrs |= {f"region_{name}": value for name, value in dataclasses.asdict(self.region).items()}
        return groups, attrs | {f"version_{name}": text for name, text in self.versions.items()}

    @classmethod
    def read(cls, path: str | Path) -> "PatchResult":
        """Read a file that `write` wrote.

        Parameters
        ----------
        path : path-like

        Raises
        ------
        InputError
            The file is missing, or is not a result of a patch.
        """
        expected = "the result of a patch (netCDF)"
        with read_hdf5(path, expected) as file, blame(path):
            return cls._of_groups(read_groups(file), file.attrs)

    @classmethod
    def _of_groups(cls, groups, attrs) -> "PatchResult":
        """Make a result of datasets by group, and of the attributes of all."""
        attrs = _OLDER | dict(attrs)
        missing = sorted(set(_GROUPS) - set(groups))
        if attrs.get("fphojax_layout") != _LAYOUT or missing:
            raise InputError(
                f"layout {attrs.get('fphojax_layout')}, groups {', '.join(sorted(groups)) or 'none'}, "
                f"expected layout {_LAYOUT} of the result of a patch"
            )
        active = catalog_from_dataset(groups["active"])
        return cls(
            active=active,
            fixed=catalog_from_dataset(groups["fixed"]) if "fixed" in groups else active[:0],
            bounds=bounds_from_dataset(groups["bounds"]),
            region=CircularRegion(*(float(attrs[f"region_{name}"]) for name in ("ra", "dec", "radius"))),
            bands=tuple(map(str, groups["posterior"]["band"].to_numpy())),
            posterior=xr.DataTree.from_dict({name: groups[name] for name in ("posterior", "sample_stats")}),
            own_pixels=groups.get("own_pixels", xr.Dataset()),
            prior_width=groups.get("prior_width", xr.Dataset()),
            optimum_std=groups.get("optimum_std", xr.Dataset()),
            raw=groups.get("raw", xr.Dataset()),
            err_scale=groups["noise"]["err_scale"] if "noise" in groups else None,
            nuisance=groups.get("nuisance", xr.Dataset()),
            mass_matrix=groups["mass"]["inverse_mass_matrix"],
            versions={name: attrs[f"version_{name}"] for name in _LIBRARIES},
            flux_precision=groups["linear"]["flux_precision"] if "linear" in groups else None,
            flux_covariance=groups.get("flux_covariance", {}).get("flux_covariance"),
            optimum=groups["optimum"],
            at_bound=groups["at_bound"],
            exposures=groups["exposures"],
            **{name: kind(attrs[name]) for name, kind in _RUN.items()},
        )

    def final_catalog(self, kind: Literal["median", "mean", "last", "optimum"] = "median") -> SourceCatalog:
        """Return the fitted sources with their parameters after the fit.

        Parameters
        ----------
        kind : {"median", "mean", "last", "optimum"}
            Median or mean of the draws of each parameter, the last draw of the last chain (one point of the
            posterior, with all its correlations), or the point where the chains were started.

        Returns
        -------
        SourceCatalog
            In the bands of the patch; ``flux_err`` is the standard deviation of the draws (NaN where they do
            not differ, None if none do), or that of an optimum. Everything else is as in `active`.
        """
        draws = self.draws if kind == "optimum" else self.centred_draws
        match kind:
            case "median" | "mean":
                point = getattr(draws, kind)(("chain", "draw"))
            case "last":
                point = draws.isel(chain=-1, draw=-1)
            case "optimum":
                point = self.optimum
            case _:
                raise ValueError(f"kind is {kind!r}, expected 'median', 'mean', 'last' or 'optimum'")
        values = {name: point[name].to_numpy() for name in POSTERIOR_UNITS}
        outside = (values["ra"] < 0) | (values["ra"] >= 360)
        values["ra"] = np.where(outside, values["ra"] % 360, values["ra"])
        scatter = (self.optimum_std or draws.std(("chain", "draw")))["flux"].to_numpy()
        flux_err = np.where(scatter > 0, scatter, np.nan) if (scatter > 0).any() else None
        return self.active.select_bands(self.bands).replace(**values, flux_err=flux_err)

    def block_covs(self) -> np.ndarray:
        """Compute the covariance matrix of each source's draws, array (n_source, n_band + 6, n_band + 6).

        In the order fluxes, x, y, q, pa, sersic, rhalf, and in the units of the model (x and y: arcsec, pa: radians).
        """
        draws = self.centred_draws.stack(sample=("chain", "draw")).transpose("source", ..., "sample")
        per_degree = {"ra": 3600 * np.cos(np.deg2rad(self.region.dec)), "dec": 3600.0, "pa": np.pi / 180}
        columns = [draws["flux"].sel(band=list(self.bands)).transpose("source", "band", "sample").to_numpy()]
        columns += [
            draws[name].to_numpy()[:, None] * per_degree.get(name, 1.0)
            for name in ("ra", "dec", "q", "pa", "sersic", "rhalf")
        ]
        values = np.concatenate(columns, axis=1)
        values = values - values.mean(axis=-1, keepdims=True)  # squares of RA in degrees would lose digits
        return np.einsum("spn,sqn->spq", values, values) / values.shape[-1]


def centred_pa(pa: xr.DataArray) -> xr.DataArray:
    """Move position angles by multiples of 180 degrees to within 90 degrees of their mean.

    Parameters
    ----------
    pa : xarray.DataArray
        Degrees, with the dimensions chain and draw.

    Returns
    -------
    xarray.DataArray
        Degrees. The mean, that of the doubled angles (Mardia & Jupp 2000), lies in (-90, 90].
    """
    double = xr.ufuncs.deg2rad(2 * pa)
    sin, cos = (function(double).mean(("chain", "draw")) for function in (xr.ufuncs.sin, xr.ufuncs.cos))
    mean = xr.ufuncs.rad2deg(xr.ufuncs.arctan2(sin, cos) / 2)
    centred = mean + (pa - mean + 90) % 180 - 90
    return centred.assign_attrs(pa.attrs)


@cache
def _versions():
    """Look up the versions of the libraries, which takes milliseconds."""
    return {name: version(name) for name in _LIBRARIES}


def _dims(name):
    return ("source", "band") if name == "flux" else ("source",)


def _catalogue_units(values, region, coords):
    """Convert parameters of the model to a dataset in the units of the catalogue."""
    ra, dec = sky_position(values["x"], values["y"], region.ra, region.dec)
    converted = {name: values[name] for name in ("flux", "q", "sersic", "rhalf")}
    converted |= {"ra": ra, "dec": dec, "pa": np.rad2deg(values["pa"])}
    leading = ("chain", "draw") if "chain" in coords else ()
    data = {
        name: ((*leading, *_dims(name)), converted[name], {"units": unit})
        for name, unit in POSTERIOR_UNITS.items()
    }
    return xr.Dataset(data, coords)


def _err_scale(before, after):
    """Return the ratio of the standard deviations of fluxes after and before a correction of the errors."""
    before, after = (
        data["flux"].std(("chain", "draw")) if "draw" in data.dims else data["flux"]
        for data in (before, after)
    )
    return (after / before.where(before > 0)).rename("err_scale")


def _optimum_std(chains, model, region, coords, noise):
    """Compute standard deviations of an optimum, in the units of the catalogue; empty for chains."""
    if not chains.is_point:
        return xr.Dataset()
    variance = np.diag(parameter_covariance(model, chains.optimum, noise))
    std = np.sqrt(np.where(variance > 0, variance, np.nan))
    return _widths(
        {name: std[place] for name, place in places(chains.optimum.values).items()}, region, coords
    )


def _flux_covariance(chains, model, active, bands):
    """Return the covariance of an optimum's fluxes, which the totals of components need; None without such."""
    if not (chains.is_point and galaxies_of(active)):
        return None
    covariance, place = (
        parameter_covariance(model, chains.optimum, chains.noise),
        places(chains.optimum.values),
    )
    matrices = np.stack([covariance[np.ix_(rows, rows)] for rows in place["flux"].T])
    coords = {"band": np.array(bands), "source": active.id, "source_": active.id}
    return xr.DataArray(matrices, coords=coords, dims=tuple(coords), name="flux_covariance")


def _widths(widths, region, coords):
    """Convert widths of the model's parameters, such as those of priors, to the units of the catalogue."""
    widths = {name: np.asarray(width) for name, width in widths.items()}
    converted = {name: widths[name] for name in ("flux", "q", "sersic", "rhalf")}
    converted["ra"] = widths["x"] / 3600 / np.cos(np.deg2rad(region.dec))
    converted |= {"dec": widths["y"] / 3600, "pa": np.rad2deg(widths["pa"])}
    return xr.Dataset({name: (_dims(name), converted[name]) for name in POSTERIOR_UNITS}, coords)


def _nuisance(chains, exposures):
    """Collect draws and optimum of the exposures' nuisance parameters."""
    data = {}
    for name, dims in NUISANCE_DIMS.items():
        if name in chains.values:
            units = {"units": _NUISANCE_UNITS[name]}
            data[name] = (("chain", "draw", *dims), chains.values[name], units)
            data[f"{name}_optimum"] = (dims, chains.optimum.values[name], units)
    if not data:
        return xr.Dataset()
    coords = {"chain": np.arange(chains.n_chain), "draw": np.arange(chains.n_draw), "exposure": exposures}
    if "sky" in data:
        coords["term"] = np.array(_TERMS[: chains.values["sky"].shape[-1]])
    if "shift" in data:
        coords["axis"] = np.array(_AXES)
    return xr.Dataset(data, coords)


def _parameter_names(values, ids, frame):
    """Return the names of the rows of the mass matrix, in the order in which JAX flattens the parameters.

    They are ``parameter[source]``, ``flux[source,band]``, ``scale[exposure]``, ``sky[exposure,term]``,
    ``shift[exposure,axis]``.
    """
    exposures = [exposure.name for exposure in frame.exposures]
    labels = {"flux": (ids, frame.bands), "sky": (exposures, _TERMS), "shift": (exposures, _AXES)}
    labels |= {"scale": (exposures,)}
    names = []
    for name in sorted(values):
        axes = labels.get(name, (ids,))
        for index in np.ndindex(np.shape(values[name])):
            place = (str(axis[i]) for axis, i in zip(axes, index, strict=True))
            names.append(f"{name}[{','.join(place)}]")
    return np.array(names)
