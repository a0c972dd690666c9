"""The posterior of a scene as chains see it: a density of a vector, and the map from it to a full draw."""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from fphojax.core.model import SceneModel

from .coordinates import Coordinates
from .covariance import widths_by_data
from .fluxes import CLEAR, LINEAR, LinearPart, linear_part
from .optimum import BestFit

__all__ = ["Draw", "Posterior", "culled_around", "posterior_at"]

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

    values: dict[str, jax.Array]
    lp: jax.Array
    outside: jax.Array


class Posterior(eqx.Module):
    """Density of a vector u of the sampled parameters; the linear ones are integrated out.

    Attributes
    ----------
    model : SceneModel
    coordinates : Coordinates
    linear : LinearPart or None
        None where fluxes and sky are sampled with the rest.
    template : dict of array
        Coordinates whose structure and shapes `unravel` restores.
    """

    model: SceneModel
    coordinates: Coordinates
    linear: LinearPart | None
    template: dict[str, jax.Array]

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
            likelihood = self.linear.integral(self.model, values).log_value
        return -likelihood - density

    def draw(self, key: jax.Array, vector: jax.Array) -> Draw:
        """Complete a point to all parameters: draw the linear ones and the half turns of position angles."""
        key, other = jax.random.split(key)
        values = self.coordinates.values(self.unravel(vector))
        if self.linear is None:
            outside, chi2 = jnp.asarray(False), jnp.sum(self.model.chi2(values))
        else:
            values, outside, chi2 = self.linear.draw(key, self.model, values)
        values = self.coordinates.turned(other, values)
        return Draw(values, -0.5 * chi2 + self.model.log_prior(values), outside)


def posterior_at(
    model: SceneModel,
    optimum: BestFit,
    *,
    integrate_fluxes: bool = True,
    ellipticity: bool = True,
    clear: float = CLEAR,
) -> tuple[Posterior, np.ndarray]:
    """Build the posterior of a model; also return the vector of its optimum.

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
    """
    linear = linear_part(model) if integrate_fluxes else None
    values = {name: jnp.asarray(value) for name, value in optimum.values.items()}
    if linear is not None and not linear.fits(_integral(linear, model, values), clear):
        linear = None
    names = [name for name in model.priors if linear is None or name not in LINEAR]
    widths = widths_by_data(model, optimum)
    coordinates = Coordinates.of(model, names, optimum.values, widths, ellipticity=ellipticity)
    template = jax.tree.map(jnp.asarray, coordinates.of_values(optimum.values))
    return Posterior(model, coordinates, linear, template), np.asarray(ravel_pytree(template)[0])


def culled_around(posterior: Posterior, optimum: BestFit, origin: np.ndarray, sd: np.ndarray) -> Posterior:
    """Cull the pair lists of a posterior to those needed wherever the chains can be expected to go.

    Parameters
    ----------
    posterior : Posterior
    optimum : BestFit
    origin : array (n,)
        Coordinates of the optimum.
    sd : array (n + m,)
        Standard deviations of the coordinates and, behind them, of the linear parameters.

    Notes
    -----
    Chains move beyond 7 standard deviations too rarely to matter; there, the likelihood lacks faint tails.
    """
    model, coordinates = posterior.model, posterior.coordinates
    if model.tolerance == 0:
        return posterior
    n = len(origin)
    ends = []
    for sign in (-1, 1):
        # a longer shape vector means a flatter galaxy
        outward = {
            "shape": sign * np.sign(np.asarray(posterior.template.get("shape", 0.0))),
        }
        step = posterior.unravel(jnp.asarray(REACH * sd[:n]))
        point = {
            name: posterior.template[name] + step[name] * outward.get(name, sign)
            for name in posterior.template
        }
        values = coordinates.values(point)
        if posterior.linear is not None:
            linear = posterior.linear
            mean = np.concatenate(
                [np.ravel(optimum.values[name]) for name in LINEAR if name in optimum.values]
            )
            edge = mean[np.asarray(linear.index)] + sign * REACH * sd[n:]
            edge = np.clip(edge, np.asarray(linear.low), np.asarray(linear.high))
            values = linear.filled(jax.random.key(0), model, values, jnp.asarray(edge))
        ends.append({name: np.asarray(value) for name, value in values.items()})
    names = ends[0]
    lower, upper = (
        {name: pick(ends[0][name], ends[1][name]) for name in names} for pick in (np.minimum, np.maximum)
    )
    culled = model.culled(lower, upper)
    linear = None if posterior.linear is None else linear_part(culled)
    return dataclasses.replace(posterior, model=culled, linear=linear)


@eqx.filter_jit
def _integral(linear, model, values):
    return linear.integral(model, values)
