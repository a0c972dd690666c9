"""The coordinates in which chains move: real numbers whose prior is, or nearly is, a unit normal.

* A parameter in a box: value = low + (high - low) Phi(u), with Phi the normal distribution function; sizes the same
  in their logarithm.  Under a uniform prior u is a unit normal, also where the data say nothing, and a posterior
  piled up at an edge has Gaussian tails.
* Axis ratio and position angle of a galaxy that may be round: a vector v in the direction of the position angle,
  with (q - low) / (1 - low) = exp(-|v|^2 / 2).  The ellipticity is the square of v as a complex number, so the image
  is smooth in v where the galaxy is round, and a prior uniform in q and the angle is a unit normal in v.
* Anything else: numpyro's transform of the prior's support.

v and -v are the same galaxy.  A position angle is defined modulo pi; where the prior's range holds it in more than
one turn, the turn has no part in the likelihood and is drawn from the prior.
"""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from numpyro.distributions import Distribution, Uniform, biject_to
from numpyro.distributions.distribution import ExpandedDistribution
from scipy.special import ndtri

from ..core.model import SceneModel, support_edges

__all__ = ["Coordinates", "plain_prior"]

EDGE = 1e-9  # of its box: no value is nearer to an edge when it is given a coordinate
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
SIZES = ("rhalf",)


def plain_prior(prior: Distribution) -> Distribution:
    """A prior without the wrapping that only gives it its shape."""
    while isinstance(prior, ExpandedDistribution):
        prior = prior.base_dist
    return prior


class Coordinates(eqx.Module):
    """Coordinates of the free parameters of a model, and the way to their values.

    They are a dict of arrays: ``shape`` (n, 2), the vectors of galaxies that may turn freely, and for each parameter
    the numbers of its other free elements.

    Attributes
    ----------
    priors : dict of numpyro Distribution
        Of the parameters that have coordinates.
    free : dict of int array
        For each, which of its elements (flat) have a coordinate of one number.
    turning : int array (n,)
        Sources whose shape is a vector.
    low, high : dict of array
        Edges of the boxes, by element; absent where the support is no box.
    held : dict of array
        Values of the elements that are held; NaN elsewhere.
    tied : dict of int array
        As in `SceneModel`.
    logarithmic : tuple of str
        Parameters whose logarithm fills the box.
    """

    priors: dict[str, Distribution]
    free: dict[str, jax.Array]
    turning: jax.Array
    low: dict[str, jax.Array]
    high: dict[str, jax.Array]
    held: dict[str, jax.Array]
    tied: dict[str, jax.Array]
    logarithmic: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, model: SceneModel, names: Sequence[str], *, ellipticity: bool = True) -> "Coordinates":
        """Coordinates of some parameters of a model.

        Parameters
        ----------
        model : SceneModel
        names : sequence of str
        ellipticity : bool
            Use the vector for the shapes of galaxies that may turn freely (a uniform prior of the position angle, pi
            wide or wider) and may be round (q up to 1).
        """
        priors = {name: model.priors[name] for name in sorted(names)}
        free = {name: np.flatnonzero(_is_free(model, name)) for name in priors}
        edges = {name: _edges(prior) for name, prior in priors.items()}
        turning = np.zeros(0, dtype=int)
        if ellipticity and {"q", "pa"} <= set(priors) and isinstance(plain_prior(priors["pa"]), Uniform):
            low, high = edges["pa"]
            q_low, q_high = edges["q"]
            may = (high - low > np.pi - 1e-9) & (q_high == 1) & np.isfinite(q_low)
            both = np.intersect1d(free["q"], free["pa"])
            turning = both[may[both]]
            free |= {name: np.setdiff1d(free[name], turning) for name in ("q", "pa")}
        boxed = {name for name, (low, high) in edges.items() if np.isfinite(high - low).all()}
        return cls(
            priors=priors,
            free={name: jnp.asarray(index) for name, index in free.items()},
            turning=jnp.asarray(turning),
            low={name: jnp.asarray(edges[name][0]) for name in boxed},
            high={name: jnp.asarray(edges[name][1]) for name in boxed},
            held={name: value for name, value in model.held.items() if name in priors},
            tied={name: source for name, source in model.tied.items() if name in priors},
            logarithmic=tuple(
                name for name in SIZES if name in boxed and (edges[name][0][free[name]] > 0).all()
            ),
        )

    def values(self, coordinates) -> dict[str, jax.Array]:
        """Parameters of coordinates, with which the sources are drawn: tied and held ones included."""
        flat = {name: jnp.zeros(math.prod(prior.batch_shape)) for name, prior in self.priors.items()}
        for name, index in self.free.items():
            if index.size:
                flat[name] = flat[name].at[index].set(self._of_numbers(name, coordinates[name])[0])
        if self.turning.size:
            for name, value in self._of_vectors(coordinates["shape"]).items():
                flat[name] = flat[name].at[self.turning].set(value)
        return self._full(flat)

    def log_density(self, coordinates) -> jax.Array:
        """Log prior density of the coordinates: that of the values plus the logarithm of the Jacobian."""
        values = self.values(coordinates)
        total = 0.0
        for name, index in self.free.items():
            if index.size:
                total += jnp.sum(self.priors[name].log_prob(values[name]).ravel()[index])
                total += jnp.sum(self._of_numbers(name, coordinates[name])[1])
        if self.turning.size:
            square = jnp.sum(coordinates["shape"] ** 2, axis=1)
            for name in ("q", "pa"):
                total += jnp.sum(self.priors[name].log_prob(values[name])[self.turning])
            low = self.low["q"][self.turning]
            total += jnp.sum(jnp.log1p(-low) - square / 2 + jnp.log(self._turns(values["pa"][self.turning])))
        return total

    def of_values(self, values) -> dict[str, np.ndarray]:
        """Coordinates of parameters; those at an edge of their box are moved inside by 1e-9 of it."""
        found = {}
        flat = {name: np.asarray(values[name], dtype=float).ravel() for name in self.priors}
        for name, index in self.free.items():
            index = np.asarray(index)
            if not index.size:
                continue
            if name in self.low:
                low, high, value = (
                    self._measure(name, np.asarray(a)[index], np)
                    for a in (self.low[name], self.high[name], flat[name])
                )
                found[name] = ndtri(np.clip((value - low) / (high - low), EDGE, 1 - EDGE))
            else:
                transform = biject_to(self.priors[name].support)
                found[name] = np.asarray(transform.inv(jnp.asarray(values[name]))).ravel()[index]
        turning = np.asarray(self.turning)
        if turning.size:
            low = np.asarray(self.low["q"])[turning]
            share = np.clip((flat["q"][turning] - low) / (1 - low), EDGE, 1 - EDGE)
            length = np.sqrt(-2 * np.log(share))
            pa = flat["pa"][turning]
            found["shape"] = length[:, None] * np.stack([np.cos(pa), np.sin(pa)], axis=1)
        return found

    def turned(self, key, values) -> dict[str, jax.Array]:
        """The same galaxies, each position angle in a turn drawn from the prior."""
        if not self.turning.size:
            return values
        pa = values["pa"][self.turning]
        turn = jnp.floor(jax.random.uniform(key, pa.shape) * self._turns(pa))
        flat = values["pa"].at[self.turning].set(pa + jnp.pi * turn)
        return {**values, "pa": flat[self.tied["pa"]] if "pa" in self.tied else flat}

    # ----------------------------------------------------------------------------------------------

    def _of_numbers(self, name, numbers):
        """Values of coordinates of one number, and the logarithms of their derivatives."""
        index = self.free[name]
        if name in self.low:
            low, high = (self._measure(name, edge[index], jnp) for edge in (self.low[name], self.high[name]))
            value = low + (high - low) * ndtr(numbers)
            slope = jnp.log(high - low) - numbers**2 / 2 - HALF_LOG_2PI
            return (jnp.exp(value), slope + value) if name in self.logarithmic else (value, slope)
        transform = biject_to(self.priors[name].support)
        shape = self.priors[name].batch_shape
        full = jnp.zeros(math.prod(shape)).at[index].set(numbers).reshape(shape)
        value = transform(full)
        slope = transform.log_abs_det_jacobian(full, value)
        return value.ravel()[index], jnp.broadcast_to(slope, shape).ravel()[index]

    def _of_vectors(self, vectors):
        """q and pa, the latter in the lowest turn inside the prior's range."""
        low = self.low["q"][self.turning]
        first = self.low["pa"][self.turning]
        q = low + (1 - low) * jnp.exp(-jnp.sum(vectors**2, axis=1) / 2)
        pa = jnp.arctan2(vectors[:, 1], vectors[:, 0])
        return {"q": q, "pa": first + jnp.mod(pa - first, jnp.pi)}

    def _turns(self, pa):
        """In how many turns of pi a position angle in the lowest one lies inside the prior's range."""
        return 1 + jnp.floor((self.high["pa"][self.turning] - pa) / jnp.pi)

    def _full(self, flat):
        """Arrays in the shapes of the model, held values and ties filled in."""
        values = {name: value.reshape(self.priors[name].batch_shape) for name, value in flat.items()}
        for name, source in self.tied.items():
            values[name] = values[name][..., source, :] if name == "flux" else values[name][..., source]
        for name, held in self.held.items():
            values[name] = jnp.where(jnp.isnan(held), values[name], held)
        return values

    def _measure(self, name, value, module):
        return module.log(value) if name in self.logarithmic else value


def _edges(prior):
    """Edges of the support by element, flat."""
    shape = prior.batch_shape
    return tuple(np.broadcast_to(np.asarray(edge, float), shape).ravel() for edge in support_edges(prior))


def _is_free(model, name):
    """Which elements of a parameter (flat) are neither tied to another nor held."""
    shape = model.priors[name].batch_shape
    free = np.ones(shape, dtype=bool)
    if name in model.tied:
        source = np.asarray(model.tied[name])
        own = source == np.arange(source.size)
        free &= own[:, None] if name == "flux" else own
    if name in model.held:
        free &= np.isnan(np.asarray(model.held[name]))
    return free.ravel()
