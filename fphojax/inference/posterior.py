"""The posterior of a scene as chains see it: a density of a vector, and the map from it to a full draw."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.distributions import Distribution

from fphojax.core.backend import on_device
from fphojax.core.model import PARAMETERS, SceneModel
from fphojax.core.padding import padded_model, padded_values, raveled, real_rows, real_values
from fphojax.core.priors import Priors
from fphojax.core.programs import Program

from .coordinates import Coordinates
from .covariance import inverse, widths_by_data
from .fluxes import CLEAR, LINEAR, LinearPart, linear_part
from .optimum import BestFit

__all__ = ["Draw", "Posterior", "posterior_around"]

REACH = 7.0  # standard deviations around the optimum within which the pair lists are valid


class Draw(NamedTuple):
    """A draw of all parameters.

    Attributes
    ----------
    values : dict of array
        All parameters.
    lp : array ()
        Log posterior density of the parameters, up to a constant.
    outside : bool array ()
        Whether linear parameters were drawn again, as the first draw lay outside their box.
    """

    values: Mapping[str, jax.Array | np.ndarray]
    lp: jax.Array | np.ndarray
    outside: jax.Array | np.ndarray


class Posterior(eqx.Module):
    """Density of a vector u of all coordinates; the linear parameters are integrated out.

    It is padded: only some of the coordinates are `active`, and some sources may be padding.  What the host does
    concerns the active ones alone; see `expanded`.

    Attributes
    ----------
    model : SceneModel
    coordinates : Coordinates
    linear : LinearPart or None
        None where fluxes and sky are sampled with the rest.
    template : dict of array
        Coordinates whose structure and shapes `unravel` restores; those that are not active stay there.
    active : bool array (m,)
        Which of the coordinates move.
    n_source : int array ()
        Sources that are not padding.
    """

    model: SceneModel
    coordinates: Coordinates
    linear: LinearPart | None
    template: dict[str, jax.Array]
    active: jax.Array
    n_source: jax.Array

    def unravel(self, vector: jax.Array) -> dict[str, jax.Array]:
        """Convert a vector to a dict of coordinates."""
        return ravel_pytree(self.template)[1](vector)

    def potential(self, vector: jax.Array) -> jax.Array:
        """Return minus the log density, up to a constant."""
        coordinates = self.unravel(vector)
        values, density = self.coordinates.values_and_density(coordinates)
        if self.linear is None:
            likelihood = self.model.log_likelihood(values)
        else:
            likelihood = self.linear.log_integral(self.model, values)
        return -likelihood - density

    def potential_of(self, whitening: tuple[jax.Array, jax.Array]) -> Callable[[jax.Array], jax.Array]:
        """Return the potential as a function of v, with u = origin + factor @ v."""
        origin, factor = whitening
        return lambda v: self.potential(origin + factor @ v)

    def draw(self, key: jax.Array, vector: jax.Array) -> Draw:
        """Complete a point to all parameters: draw the linear ones and the half turns of position angles."""
        key, half_turns = jax.random.split(key)
        values = self.coordinates.values(self.unravel(vector))
        if self.linear is None:
            linear, outside, chi2 = jnp.zeros(0), jnp.asarray(False), jnp.sum(self.model.chi2(values))
        else:
            key, other = jax.random.split(key)
            linear, outside, chi2 = self.linear.draw(key, self.model, values)
            key = other
        return self._full(values, key, half_turns, linear, outside, chi2)

    def completed(
        self, key: jax.Array, vector: jax.Array, linear: jax.Array, outside: jax.Array, chi2: jax.Array
    ) -> Draw:
        """Complete a point, and linear parameters (n,) drawn for it, to all parameters; no work on pixels.

        Parameters
        ----------
        key : jax.Array
        vector : array (m,)
        linear : array (n,)
        outside : bool array ()
            See `Draw`.
        chi2 : array ()
        """
        key, half_turns = jax.random.split(key)
        values = self.coordinates.values(self.unravel(vector))
        return self._full(values, key, half_turns, linear, outside, chi2)

    def _full(self, values, key, half_turns, linear, outside, chi2):
        if self.linear is not None:
            values = self.linear.filled(key, self.model, values, linear)
        values = self.coordinates.turned(half_turns, values)
        return Draw(values, -0.5 * chi2 + self._log_prior(values), outside)

    def _log_prior(self, values):
        """Sum the log densities of the priors of all but the padding."""
        total = jnp.zeros(())
        for name, prior in self.model.priors.items():
            density = prior.log_prob(values[name])
            if name in PARAMETERS:
                real = jnp.arange(len(density)) < self.n_source
                density = jnp.where(real[:, None] if density.ndim == 2 else real, density, 0.0)
            total += jnp.sum(density)
        return total

    def of_one_size(self) -> "Posterior":
        """Return the same, in programs that hold the work for padded arrays alone: slower, and compiled sooner."""
        if self.linear is None:
            return self
        return dataclasses.replace(self, linear=dataclasses.replace(self.linear, shares=(100,)))

    def expanded(self, vectors: np.ndarray) -> np.ndarray:
        """Add to active coordinates (..., n) those that stay where they are, array (..., m)."""
        full = np.empty((*np.shape(vectors)[:-1], self.active.size))
        full[...] = raveled(self.template)
        full[..., np.asarray(self.active)] = vectors
        return full

    def real(self, draws: Draw) -> Draw:
        """Return draws (m, ...) in host memory, without the sources that are padding."""
        n_source = int(self.n_source)
        values = {
            name: np.asarray(value)[:, :n_source] if name in PARAMETERS else np.asarray(value)
            for name, value in draws.values.items()
        }
        return Draw(values, np.asarray(draws.lp), np.asarray(draws.outside))


class _Map(eqx.Module):
    """The map from coordinates and linear parameters to values: all of a posterior but the pixels."""

    coordinates: Coordinates
    linear: LinearPart | None
    template: dict[str, jax.Array]
    priors: dict[str, Distribution] = eqx.field(converter=Priors)
    tied: jax.Array | None

    def evaluate(self, both: jax.Array) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        """Evaluate the map at coordinates followed by linear parameters (n + m,).

        Returns
        -------
        values : dict of array
        slopes : array (N, n + m)
            Derivatives of the raveled values.
        curvature : array (n + m,)
            Of minus the log prior density.
        """
        start, unravel = ravel_pytree(self.template)

        def values_of(both):
            values = self.coordinates.values(unravel(both[: start.size]))
            if self.linear is not None:
                values |= self.linear.split(both[start.size :])
                if self.tied is not None:
                    values["flux"] = values["flux"][self.tied]
            return values

        slopes = jax.jacfwd(lambda both: ravel_pytree(values_of(both))[0])(both)
        coordinates = both[: start.size]
        hessian = jax.hessian(lambda u: -self.coordinates.log_density(unravel(u)))(coordinates)
        curvature = jnp.maximum(jnp.diag(hessian), 0.25)  # a unit normal has 1
        if self.linear is not None:
            curvature = jnp.concatenate([curvature, self.linear.precision])
        return values_of(both), slopes, curvature


_evaluate = Program(_Map.evaluate)


def posterior_around(
    model: SceneModel,
    optimum: BestFit,
    *,
    integrate_fluxes: bool = True,
    ellipticity: bool = True,
    clear: float = CLEAR,
) -> tuple[Posterior, np.ndarray, np.ndarray, np.ndarray]:
    """Build the posterior of a model around its optimum, ready for sampling.

    Its pair lists are culled to those needed wherever the chains can be expected to go.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit
    integrate_fluxes : bool
        Integrate over fluxes and sky where the priors allow it and leave them room around the optimum.
    ellipticity : bool
        As for `Coordinates.of`.
    clear : float
        Room that fluxes need on either side, in standard deviations.

    Returns
    -------
    posterior : Posterior
    origin : array (n,)
        Active coordinates of the optimum.
    covariance : array (n, n)
        Of these, by the Fisher matrix J^T W J of the parameters: by their derivatives it becomes that of coordinates
        and linear parameters, to which the priors add their curvature.
    slopes : array (N, n)
        Derivatives of the raveled parameters by them.

    Notes
    -----
    Chains move beyond 7 standard deviations too rarely to matter; there, the likelihood lacks faint tails.
    """
    n_source = model.optics.n_source
    padded = padded_model(dataclasses.replace(model, pairs=None))
    linear = linear_part(padded, n_source) if integrate_fluxes else None
    if linear is not None and not linear.fits(model, optimum, clear):
        linear = None
    if linear is None:  # the pair lists of all parameters are those of the model
        padded = model
    names = [name for name in model.priors if linear is None or name not in LINEAR]
    values = padded_values(optimum.values, padded)
    widths = padded_values(widths_by_data(model, optimum), padded)
    coordinates = Coordinates.of(padded, names, values, widths, ellipticity=ellipticity, n_source=n_source)
    template = coordinates.of_values(values)
    active = raveled({name: coordinates.active[name] for name in template})
    flat = raveled(template)

    n_linear = 0 if linear is None else linear.mean.size
    chosen = np.flatnonzero(np.r_[active, np.zeros(0, bool) if linear is None else np.asarray(linear.real)])
    n, size = int(active.sum()), len(active)
    both = np.r_[flat, np.zeros(n_linear)]
    if linear is not None:
        both[size:] = linear.joined(values)
    template = {name: on_device(value) for name, value in template.items()}
    mapping = _Map(coordinates, linear, template, padded.priors, padded.tied.get("flux"))
    _, slopes, curvature = _evaluate(mapping, both)
    rows = real_rows(values, n_source)
    slopes = np.asarray(slopes)[np.ix_(rows, chosen)]
    precision = slopes.T @ optimum.fisher @ slopes + np.diag(np.asarray(curvature)[chosen])
    covariance = inverse(precision)

    culled = model
    if model.tolerance > 0:
        sd, ends = np.zeros(len(both)), []
        sd[chosen] = np.sqrt(np.diag(covariance))
        # a longer shape vector means a flatter galaxy
        outward = {name: np.sign(t) if name == "shape" else np.ones(t.shape) for name, t in template.items()}
        outward = np.r_[raveled(outward), np.ones(n_linear)]
        for sign in (-1, 1):
            end = both + sign * REACH * outward * sd
            if linear is not None:
                end[size:] = np.clip(end[size:], linear.low, linear.high)
            found, _, _ = _evaluate(mapping, end)
            found = real_values({name: np.asarray(value) for name, value in found.items()}, n_source)
            ends.append({name: found[name] for name in optimum.values})
        lower, upper = (
            {name: pick(ends[0][name], ends[1][name]) for name in ends[0]}
            for pick in (np.minimum, np.maximum)
        )
        culled = model.culled(lower, upper)
    if linear is None:
        final = culled
    else:
        final = padded_model(dataclasses.replace(culled, pairs=None))
        linear = dataclasses.replace(linear, segments=_segments(culled, final))
    posterior = Posterior(final, coordinates, linear, template, on_device(active), on_device(n_source))
    return posterior, flat[active], covariance[:n, :n], slopes[:, :n]


def _segments(model, padded):
    """Return the segments of a model's pair lists, as those of the padded model."""
    n_tile, (plain, corrected) = padded.patch.n_tile, model.segments()
    own, others = model.merged_optics.n_source, padded.merged_optics.n_source
    n_exposure = model.optics.n_exposure
    each = model.segment_shape()[2] * model.segment_shape()[3]

    def moved(part):
        members = np.asarray(part.members)
        exposure, rest = np.divmod(members, own * each)
        members = np.where(
            members < n_exposure * own * each, exposure * others * each + rest, n_exposure * others * each
        )
        empty = np.asarray(part.tile) == model.patch.n_tile - 1
        tile = np.where(empty, n_tile - 1, part.tile)
        return part._replace(tile=on_device(tile, np.int32), members=on_device(members, np.int32))

    return moved(plain), moved(corrected)
