"""The model of a scene: parameters, priors and likelihood, as one numpyro model."""

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, Uniform, biject_to
from numpyro.distributions.transforms import Transform
from numpyro.infer.util import potential_energy

from .culling import culled_pairs
from .design import Design, design, nearby_image
from .gaussians import Gaussians, Optics, ProfileTable, Sources, project
from .linear import NormalEquations, normal_equations, of_normal_equations
from .nuisance import NUISANCE, apply_nuisance, box_of_sources, derivative_rows
from .pairs import PairList
from .patch import Patch
from .pixels import PixelResponse, chi2, render
from .priors import Priors
from .segments import Segments, segments_of
from .sky import SkyBasis

__all__ = ["PARAMETERS", "SceneModel", "clip_to_support", "support_edges"]

PARAMETERS = Sources._fields
N_DRAW = 4000  # for the width of a prior without a formula
EDGE = 1e-3  # of the prior's width, by which a value on the edge of its support is moved inside


def support_edges(prior: Distribution) -> tuple[jax.Array | float, jax.Array | float]:
    """Return the lower and upper edge of a prior's support; infinite where it has none."""
    support = prior.support
    return getattr(support, "lower_bound", -np.inf), getattr(support, "upper_bound", np.inf)


def clip_to_support(
    values: Mapping[str, ArrayLike], priors: Mapping[str, Distribution]
) -> dict[str, np.ndarray]:
    """Move values at or beyond the edges of priors' supports a little inside, where transforms are finite.

    Parameters
    ----------
    values : dict of array
    priors : dict of numpyro Distribution

    Returns
    -------
    dict of ndarray
    """
    moved = {}
    for name, value in values.items():
        low, high = (np.broadcast_to(edge, np.shape(value)) for edge in support_edges(priors[name]))
        with np.errstate(invalid="ignore"):
            margin = np.where(np.isfinite(high - low), EDGE * (high - low), 0.0)
        one_sided = np.isfinite(low) != np.isfinite(high)
        if one_sided.any():
            width = np.asarray(_standard_deviation(priors[name]))
            margin = np.where(one_sided, EDGE * np.where(np.isfinite(width), width, 1.0), margin)
        moved[name] = np.clip(value, low + margin, high - margin)
    return moved


def _standard_deviation(prior):
    """Return a prior's standard deviation, from draws if without a formula, infinite if without either."""
    if isinstance(prior, Uniform):  # on the host, where nothing is compiled
        return (np.asarray(prior.high) - np.asarray(prior.low)) / 12**0.5
    try:
        return jnp.sqrt(prior.variance)
    except NotImplementedError:
        pass
    try:
        return jnp.std(prior.sample(jax.random.key(0), (N_DRAW,)), axis=0)
    except NotImplementedError:
        return jnp.inf


class SceneModel(eqx.Module):
    """The active sources of a patch, its pixels, and the priors: a numpyro model.

    Calling the model runs it under numpyro; its sample sites are the `PARAMETERS`, with the shapes of
    `Sources`, and those of the exposures' nuisance parameters that are asked for:

    * ``sky`` (E, K): coefficients of a constant or a plane, in the units of the images;
    * ``scale`` (E,): a factor of all fluxes in the exposure;
    * ``shift`` (E, 2): by how much (arcsec east, north) sources appear displaced in the exposure.

    The other methods evaluate the model directly, for values (the parameters themselves, a dict of
    arrays) or for unconstrained values (what numpyro's transforms map the priors' supports to).

    Attributes
    ----------
    patch : Patch
        Pixels, the fixed sources already subtracted.
    optics : Optics
        How the exposures see the active sources.
    merged_optics : Optics
        The same with merged PSFs and profiles, where `pairs` lists their Gaussians.
    pairs : PairList or None
        Which Gaussians touch which tiles. A model without these can only be optimised and rendered.
    table : callable
        Profile table.
    priors : dict of numpyro Distribution
        One per parameter, independent for every source (and band) or exposure; its batch shape is the parameter's
        shape. Their names are those of the parameters that the model has.
    response : {"variance", "quartic", "second_order"}
        Pixel response.
    tolerance : float
        What culling and merging may change in a pixel, as a fraction of its noise; 0 for nothing.
    tied : dict of int array (S,)
        For some parameters: from which source each source takes its value.
    held : dict of array (S,)
        For some parameters: the value at which a source's is held, NaN where it is free.
    basis : SkyBasis or None
        Basis of which ``sky`` holds the coefficients.
    """

    patch: Patch
    optics: Optics
    merged_optics: Optics
    pairs: PairList | None
    table: ProfileTable
    priors: dict[str, Distribution] = eqx.field(converter=Priors)
    response: PixelResponse = eqx.field(static=True)
    tolerance: float = eqx.field(static=True)
    tied: dict[str, jax.Array] = eqx.field(default_factory=dict)
    held: dict[str, jax.Array] = eqx.field(default_factory=dict)
    basis: SkyBasis | None = None

    def __call__(self) -> None:
        """Declare the model to numpyro."""
        values = {name: numpyro.sample(name, prior) for name, prior in self.priors.items()}
        numpyro.factor("log_likelihood", self.log_likelihood(values))

    def effective(self, values: Mapping[str, ArrayLike]) -> dict[str, jax.Array]:
        """Apply ties and held values to the parameters.

        A value that a tie or a held value replaces has no part in the likelihood; its posterior is its prior.
        """
        applied: dict[str, Any] = dict(values)
        for name, source in self.tied.items():
            applied[name] = applied[name][..., source, :] if name == "flux" else applied[name][..., source]
        for name, fixed in self.held.items():
            applied[name] = jnp.where(jnp.isnan(fixed), applied[name], fixed)
        return applied

    def is_free(self, name: str) -> np.ndarray:
        """Return which elements of a parameter are neither tied to another nor held, bool in its shape."""
        free = np.ones(self.priors[name].batch_shape, dtype=bool)
        if name in self.tied:
            untied = np.asarray(self.tied[name]) == np.arange(len(free))
            free &= untied[:, None] if name == "flux" else untied
        if name in self.held:
            free &= np.isnan(np.asarray(self.held[name]))
        return free

    def gaussians(self, values: Mapping[str, jax.Array | np.ndarray]) -> Gaussians:
        """Project the active sources to Gaussians on all exposures."""
        return project(self.sources(values), apply_nuisance(self.merged_optics, values), self.table)

    def sources(self, values: Mapping[str, ArrayLike]) -> Sources:
        """Apply ties and held values to the parameters, and return them as `Sources`."""
        applied = self.effective(values)
        return Sources(*(applied[name] for name in PARAMETERS))

    def chi2(self, values: Mapping[str, jax.Array]) -> jax.Array:
        """Compute chi-squared of every exposure, array (E,)."""
        gaussians, pairs = self.gaussians(values), self._listed_pairs()
        return chi2(gaussians, self.patch, pairs, self.response, values.get("sky"), self.basis)

    def _listed_pairs(self):
        if self.pairs is None:
            raise ValueError("pairs: found none, expected those of a model made with listed=True")
        return self.pairs

    def log_likelihood(self, values: Mapping[str, jax.Array]) -> jax.Array:
        """Compute -chi2 / 2, which is the log likelihood up to a constant of the data."""
        return -0.5 * jnp.sum(self.chi2(values))

    def normal_equations(
        self,
        values: Mapping[str, jax.Array],
        segments: tuple[Segments, Segments],
        shares: tuple[int, ...] = (100,),
    ) -> NormalEquations:
        """Compute normal equations of the fluxes and the sky, given the other parameters; see `core.linear`.

        ``segments`` are those of `segments`; they are made on the host.

        A template is a source's image at unit flux, the exposure's photometric factor included. The fluxes and the
        sky in ``values`` are ignored, and where fluxes are tied every source still has a template of its own.
        """
        return normal_equations(*self._of_templates(values, segments), shares)

    def of_normal_equations(
        self,
        function: Callable[[Any, NormalEquations], jax.Array],
        parameters: Any,
        values: Mapping[str, jax.Array],
        segments: tuple[Segments, Segments],
        shares: tuple[int, ...] = (100,),
    ) -> jax.Array:
        """Compute a number from `normal_equations`, differentiable by the values; see `core.linear`."""
        return of_normal_equations(function, parameters, *self._of_templates(values, segments), shares)

    def _of_templates(
        self, values: Mapping[str, jax.Array], segments: tuple[Segments, Segments]
    ) -> tuple[Gaussians, Patch, tuple[Segments, Segments], PixelResponse, jax.Array | None]:
        """Return what the normal equations are computed from."""
        columns = None if self.basis is None else self.basis.columns(self.patch)
        unit = {**values, "flux": jnp.ones(self.priors["flux"].batch_shape)}
        return self.gaussians(unit), self.patch, segments, self.response, columns

    def segments(self) -> tuple[Segments, Segments]:
        """Sort the pairs by tile and source; see `core.segments`."""
        return segments_of(self._listed_pairs(), self.patch.n_tile, self.segment_shape())

    def segment_shape(self) -> tuple[int, int, int, int]:
        """Return the shape (E, S, K, M) of the Gaussians that pairs and segments list."""
        n_profile = self.table.order + (self.merged_optics.inner is not None)
        n_psf = self.merged_optics.psf_amplitude.shape[-1]
        return self.optics.n_exposure, self.optics.n_source, n_profile, n_psf

    def log_prior(self, values: Mapping[str, jax.Array]) -> jax.Array:
        """Sum the log densities of the priors."""
        return reduce(
            operator.add, (jnp.sum(prior.log_prob(values[name])) for name, prior in self.priors.items())
        )

    def prior_widths(self) -> dict[str, np.ndarray]:
        """Return standard deviations of the priors by name: NaN if held, the other parameter's if tied."""
        widths = {
            name: np.broadcast_to(_standard_deviation(prior), prior.batch_shape)
            for name, prior in self.priors.items()
        }
        for name, source in self.tied.items():
            widths[name] = widths[name][np.asarray(source)]
        masks = {name: np.where(np.isnan(fixed), 0.0, np.nan) for name, fixed in self.held.items()}
        return {name: width + masks.get(name, 0.0) for name, width in widths.items()}

    def images(self, values: Mapping[str, jax.Array | np.ndarray]) -> jax.Array:
        """Render the model on every tile, sky included, array (T, TILE * TILE)."""
        if self.pairs is None:
            optics = apply_nuisance(self.optics, values)
            sources = nearby_image(self.sources(values), optics, self.table, self.patch, self.response)
        else:
            sources = render(self.gaussians(values), self.patch, self.pairs, self.response)
        if self.basis is None:
            return sources
        return sources + self.basis.image(jnp.asarray(values["sky"]), self.patch)

    def design(self, values: Mapping[str, jax.Array]) -> Design:
        """Compute what least squares needs to know about the pixels at these shapes; see `core.design`."""
        optics = apply_nuisance(self.optics, values)
        sky = values.get("sky")
        return design(self.sources(values), optics, self.table, self.patch, self.response, self.basis, sky)

    def equations(
        self, evaluated: Design, values: Mapping[str, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Compute chi-squared, J^T W r and J^T W J of the pixels, by the parameters.

        Parameters
        ----------
        evaluated : Design
            Evaluated at the same parameters, except for the fluxes and the sky.
        values : dict of array

        Returns
        -------
        chi2 : array (E,)
        rhs : array (N,)
            Minus half the gradient of chi-squared, in the order of `ravel_pytree`.
        fisher : array (N, N)
        """
        sources = self.sources(values)
        sky = values.get("sky", jnp.zeros((self.optics.n_exposure, 0)))
        chi2, rhs, fisher = evaluated.equations(sources.flux.T[self.optics.band], sky)
        return chi2, self.sums_by_parameters(rhs, values), self.by_parameters(fisher, values)

    def sums_by_parameters(self, sums: jax.Array, values: Mapping[str, jax.Array]) -> jax.Array:
        """Turn sums over pixels (E, S * 7 + K), by each column of the designs, into those (N,) by the parameters.

        See `by_parameters`.
        """
        n_term = 0 if self.basis is None else self.basis.n_term
        if "scale" in values or "shift" in values:
            rows = derivative_rows(self.sources(values), self.optics.band, values, n_term)
            sums = jnp.einsum("eij,ej->ei", rows, sums)
        size = sum(jnp.size(value) for value in values.values())
        return jnp.zeros(size).at[self._parameter_index()].add(sums, mode="drop")

    def by_parameters(self, products: jax.Array, values: Mapping[str, jax.Array]) -> jax.Array:
        """Turn products of the columns of every exposure's design into their sum by the parameters.

        Parameters
        ----------
        products : array (E, S * 7 + K, S * 7 + K)
            By each source's seven parameters, and the terms of the sky, as `Design.equations` orders them.
        values : dict of array

        Returns
        -------
        array (N, N)
            In the order of `ravel_pytree`.
        """
        n_term = 0 if self.basis is None else self.basis.n_term
        if "scale" in values or "shift" in values:
            rows = derivative_rows(self.sources(values), self.optics.band, values, n_term)
            products = rows @ products @ jnp.swapaxes(rows, 1, 2)
        index = self._parameter_index()
        size = sum(jnp.size(value) for value in values.values())
        place = index[:, :, None], index[:, None, :]
        return jnp.zeros((size, size)).at[place].add(products, mode="drop")

    def fisher(self, values: Mapping[str, jax.Array]) -> jax.Array:
        """Compute J^T W J of the pixels by the parameters, array (N, N) in the order of `ravel_pytree`."""
        return self.equations(self.design(values), values)[2]

    def culled(self, lower: Mapping[str, ArrayLike], upper: Mapping[str, ArrayLike]) -> "SceneModel":
        """Return the model with new pair lists, valid for parameters in a box; see `culled_pairs`."""
        lower, upper = box_of_sources(self.effective(lower), self.effective(upper))
        merged, pairs = culled_pairs(
            self.patch,
            self.optics,
            self.table,
            lower,
            upper,
            corrected=np.asarray(self.optics.pixel_free) & (self.response != "variance"),
            only_narrow=self.response == "quartic",
            tolerance=self.tolerance,
        )
        return dataclasses.replace(self, merged_optics=merged, pairs=pairs)

    # ----------------------------------------------------------------------------------------------
    # Unconstrained space

    @property
    def transforms(self) -> dict[str, Transform]:
        """Transforms (of numpyro) from the whole real line to the support of each prior."""
        return {name: biject_to(prior.support) for name, prior in self.priors.items()}

    def constrain(self, unconstrained: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Transform unconstrained values to parameters."""
        return {name: t(unconstrained[name]) for name, t in self.transforms.items()}

    def unconstrain(self, values: Mapping[str, ArrayLike]) -> dict[str, jax.Array]:
        """Transform parameters, moved inside their supports (`clip_to_support`), to unconstrained values."""
        return self.unconstrain_inside(clip_to_support(values, self.priors))

    def unconstrain_inside(self, values: Mapping[str, ArrayLike]) -> dict[str, jax.Array]:
        """Transform parameters inside their supports to unconstrained values.

        A held parameter may have any value: its unconstrained one is zero, the middle of a box.
        """
        free = {name: t.inv(jnp.asarray(values[name])) for name, t in self.transforms.items()}
        shifts = {name: jnp.where(jnp.isnan(fixed), free[name], 0.0) for name, fixed in self.held.items()}
        return free | shifts

    def potential(self, unconstrained: Mapping[str, jax.Array]) -> jax.Array:
        """Compute minus the log posterior density in unconstrained space, up to a constant."""
        return potential_energy(self, (), {}, unconstrained)

    def _parameter_index(self):
        """Return the positions of every exposure's parameters in a flat vector.

        Returns
        -------
        int array (E, S * 7 + ...)
            For each exposure the positions, in the flat vector of `jax.flatten_util.ravel_pytree`, of the
            sources' parameters in the order of `Design.equations`, and then of its nuisance parameters: those that a
            tied one follows; past the end for held ones.
        """
        n_exposure, n_source = self.optics.n_exposure, self.optics.n_source
        start, position = 0, {}
        for name in sorted(self.priors):  # the order in which JAX flattens a dict
            shape = self.priors[name].batch_shape
            position[name] = start + jnp.arange(math.prod(shape)).reshape(shape)
            start += math.prod(shape)
        for name, source in self.tied.items():
            position[name] = position[name][source]
        position |= {
            name: jnp.where(jnp.isnan(fixed), position[name], start) for name, fixed in self.held.items()
        }
        rows = []
        for name in PARAMETERS:
            if name == "flux":
                rows.append(position[name].T[self.optics.band])
            else:
                rows.append(jnp.broadcast_to(position[name], (n_exposure, n_source)))
        sources = jnp.stack(rows, axis=-1).reshape(n_exposure, -1)
        nuisance = [position[name].reshape(n_exposure, -1) for name in NUISANCE if name in position]
        return jnp.concatenate([sources, *nuisance], axis=1)
