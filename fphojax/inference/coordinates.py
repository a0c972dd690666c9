"""Coordinates in which chains move: real numbers whose prior is, at least nearly, a unit normal.

* A parameter in a box: Phi(u) = (Phi(z) - Phi(a)) / (Phi(b) - Phi(a)), with Phi the normal distribution function and
  z = (value - centre) / width; a and b are z at the edges.  Sizes the same in their logarithm.  Centre and width are
  what the data say by themselves, near the optimum: u is a unit normal where the posterior is that normal cut off by
  the box, at an edge or far from any, and where the data say nothing (an infinite width) under a uniform prior.
* Axis ratio and position angle of a galaxy that may be round: a vector v in the direction of the position angle,
  with (q - low) / (1 - low) = exp(-|v|^2 / 2).  The ellipticity is the square of v as a complex number, so the image
  is smooth in v where the galaxy is round, and a prior uniform in q and the angle is a unit normal in v.  Where the
  range of angles is no whole number of half turns, its prior holds some directions once more than others; v turns
  faster in these, so that its density jumps nowhere: a step across a jump loses energy, however short it is.
* Anything else: numpyro's transform of the prior's support.

v and -v are the same galaxy.  A position angle is defined modulo pi; where the prior's range is wider than that, the
multiple of pi does not affect the likelihood and is drawn from the prior.
"""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike
from numpyro.distributions import Distribution, Uniform, biject_to
from numpyro.distributions.distribution import ExpandedDistribution
from scipy import special

from fphojax.core.backend import on_device
from fphojax.core.gaussians import Sources
from fphojax.core.model import SceneModel, support_edges
from fphojax.core.priors import Priors

__all__ = ["LEAST", "Coordinates", "TruncatedNormals", "plain_prior"]

EDGE = 1e-9  # of the width of the box: values are moved at least so far from its edges before they are mapped
WIDEST = 10.0  # widths of the box, to which the width of a normal is limited: wider ones are practically flat
LEAST = 1e-300  # smallest probability of a tail; 37 standard deviations
ROUNDING = 1e-9  # of a half turn: the range of a position angle counts as a whole number of half turns
SIZES = ("rhalf",)


def plain_prior(prior: Distribution) -> Distribution:
    """Strip a prior of wrappers that only expand its shape."""
    while isinstance(prior, ExpandedDistribution):
        prior = prior.base_dist
    return prior


class Coordinates(eqx.Module):
    """Coordinates of the parameters of a model, and the map to parameter values.

    They are a dict of arrays: for each parameter a scalar coordinate of every element, raveled, and ``shape`` (S, 2),
    the shape vectors of galaxies. Every source has all of them, so that sources of any kind share a program; those
    that are not `active` stay where they are.

    Attributes
    ----------
    priors : dict of numpyro Distribution
        Of the parameters that have coordinates.
    active : dict of bool array
        Which coordinates move: not those of tied or held elements or of padding, and of a galaxy that may turn freely
        only the shape vector.
    turning : bool array (S,)
        Sources whose shape is described by a vector.
    low, high : dict of array
        Edges of the boxes, by element; absent where the support is no box.
    normals : TruncatedNormals
        In these boxes; for sizes, in their logarithm.  The elements of all parameters, concatenated.
    held : dict of array
        Values of the elements that are held; NaN elsewhere.
    tied : dict of int array
        As in `SceneModel`.
    logarithmic : tuple of str
        Parameters whose logarithm is used in the box.
    """

    priors: dict[str, Distribution] = eqx.field(converter=Priors)
    active: dict[str, jax.Array]
    turning: jax.Array
    low: dict[str, jax.Array]
    high: dict[str, jax.Array]
    normals: "TruncatedNormals"
    held: dict[str, jax.Array]
    tied: dict[str, jax.Array]
    logarithmic: tuple[str, ...] = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        model: SceneModel,
        names: Sequence[str],
        values: Mapping[str, ArrayLike] | None = None,
        widths: Mapping[str, ArrayLike] | None = None,
        *,
        ellipticity: bool = True,
        n_source: int | None = None,
    ) -> "Coordinates":
        """Build the coordinates of some parameters of a model.

        Parameters
        ----------
        model : SceneModel
        names : sequence of str
        values, widths : dict of array, optional
            Centres and standard deviations of the parameters from the data alone, without the priors; widths are
            infinite where the data do not constrain a parameter.
        ellipticity : bool
            Use the vector for the shapes of galaxies that may turn freely (a uniform prior of the position angle, pi
            wide or wider) and may be round (q up to 1).
        n_source : int, optional
            Sources that are not padding; all if not given.
        """
        priors = {name: model.priors[name] for name in sorted(names)}
        n_source = model.optics.n_source if n_source is None else n_source
        free = {name: model.is_free(name) for name in priors}
        for name in free:
            if name in Sources._fields:
                free[name][n_source:] = False
        free = {name: np.ravel(mask) for name, mask in free.items()}
        edges = {name: _edges(prior) for name, prior in priors.items()}
        turning = np.zeros(model.optics.n_source, dtype=bool)
        if ellipticity and {"q", "pa"} <= set(priors) and isinstance(plain_prior(priors["pa"]), Uniform):
            low, high = edges["pa"]
            q_low, q_high = edges["q"]
            may = (high - low > np.pi * (1 - ROUNDING)) & (q_high == 1) & np.isfinite(q_low)
            turning = may & free["q"] & free["pa"]
            free |= {name: free[name] & ~turning for name in ("q", "pa")}
        boxed = {name for name, (low, high) in edges.items() if np.isfinite(high - low).all()}
        logarithmic = tuple(name for name in SIZES if name in boxed and (edges[name][0] > 0).all())
        parts = [np.zeros((4, 0))]
        for name in priors:
            if name in boxed:
                low, high = edges[name]
                centre = (low + high) / 2 if values is None else np.ravel(values[name])
                width = np.full(centre.shape, np.inf) if widths is None else np.ravel(widths[name])
                centre = np.clip(centre, low, high)
                if name in logarithmic:
                    low, high, centre, width = np.log(low), np.log(high), np.log(centre), width / centre
                parts.append(np.stack([low, high, centre, np.minimum(width, WIDEST * (high - low))]))
        if {"q", "pa"} <= set(priors):
            free["shape"] = np.repeat(turning[:, None], 2, axis=1)
        return cls(
            priors=priors,
            active={name: on_device(mask) for name, mask in free.items()},
            turning=on_device(turning),
            low={name: on_device(edges[name][0]) for name in sorted(boxed)},
            high={name: on_device(edges[name][1]) for name in sorted(boxed)},
            normals=TruncatedNormals.of(*np.concatenate(parts, axis=1)),
            held={name: value for name, value in model.held.items() if name in priors},
            tied={name: source for name, source in model.tied.items() if name in priors},
            logarithmic=logarithmic,
        )

    def values(self, coordinates: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Map coordinates to parameter values, with ties and held values applied."""
        return self._full(self._flat(coordinates, self._of_numbers(coordinates)))

    def log_density(self, coordinates: Mapping[str, jax.Array]) -> jax.Array:
        """Return the log prior density of the active coordinates: that of the values plus the log Jacobian."""
        return self.values_and_density(coordinates)[1]

    def values_and_density(
        self, coordinates: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], jax.Array]:
        """Return `values` and `log_density` from a single evaluation."""
        numbers = self._of_numbers(coordinates)
        flat, total = self._flat(coordinates, numbers), jnp.zeros(())
        density = {
            name: prior.log_prob(flat[name].reshape(prior.batch_shape)).ravel()
            for name, prior in self.priors.items()
        }
        for name, (_, slope) in numbers.items():
            total += jnp.sum(jnp.where(self.active[name], density[name] + slope, 0.0))
        if "shape" in self.active and "pa" in self.low:
            square = jnp.sum(coordinates["shape"] ** 2, axis=1)
            # derivative of the angle times the half turns in which it is the same galaxy: W / pi in every direction
            low, every = self.low["q"], (self.high["pa"] - self.low["pa"]) / jnp.pi
            vectors = jnp.log1p(-low) - square / 2 + jnp.log(every) + density["q"] + density["pa"]
            total += jnp.sum(jnp.where(self.turning, vectors, 0.0))
        return self._full(flat), total

    def of_values(self, values: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """Map parameter values to coordinates; values at an edge of their box are moved slightly inside.

        The parameters may have leading axes, all the same, for instance of draws.
        """
        arrays = {name: np.asarray(values[name], dtype=float) for name in self.priors}
        lead = next(
            (
                array.shape[: array.ndim - len(self.priors[name].batch_shape)]
                for name, array in arrays.items()
            ),
            (),
        )
        flat = {name: array.reshape(*lead, -1) for name, array in arrays.items()}
        # held values, such as the half-light radius of a point, may lie outside the box
        edges = {name: (np.asarray(self.low[name]), np.asarray(self.high[name])) for name in self.low}
        inside = {name: np.clip(flat[name], *edges[name]) for name in edges}
        boxed = [self._measure(name, inside[name], np) for name in self.low]
        numbers = self.normals.numbers(np.concatenate([np.zeros((*lead, 0)), *boxed], axis=-1))
        coordinates = self._split(numbers)
        for name, prior in self.priors.items():
            if name not in coordinates:
                transform = biject_to(prior.support)
                coordinates[name] = np.asarray(transform.inv(jnp.asarray(arrays[name]))).reshape(*lead, -1)
        if "shape" in self.active:
            coordinates["shape"] = np.zeros((*lead, *self.active["shape"].shape))
        turning = np.flatnonzero(np.asarray(self.turning))
        if turning.size:
            low = np.asarray(self.low["q"])[turning]
            share = np.clip((flat["q"][..., turning] - low) / (1 - low), EDGE, 1 - EDGE)
            length = np.sqrt(-2 * np.log(share))
            angle = self._angle(flat["pa"])[..., turning]
            vectors = length[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
            coordinates["shape"][..., turning, :] = vectors
            for name in ("q", "pa"):
                coordinates[name][..., turning] = 0.0
        return coordinates

    def turned(self, key: jax.Array, values: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Add to each position angle a multiple of pi drawn from the prior; the galaxies stay the same."""
        if "shape" not in self.active or "pa" not in self.low:
            return dict(values)
        pa = values["pa"]
        turn = jnp.floor(jax.random.uniform(key, pa.shape) * self._turns(pa))
        pa = jnp.where(self.turning, pa + jnp.pi * turn, pa)
        return {**values, "pa": pa[self.tied["pa"]] if "pa" in self.tied else pa}

    # ----------------------------------------------------------------------------------------------

    def _flat(self, coordinates, numbers):
        """Return the values of all elements, raveled, before ties and held values."""
        flat = {name: value for name, (value, _) in numbers.items()}
        if "shape" in self.active and "pa" in self.low:
            for name, value in self._of_vectors(coordinates["shape"]).items():
                flat[name] = jnp.where(self.turning, value, flat[name])
        return flat

    def _of_numbers(self, coordinates):
        """Return values and log derivatives, by parameter, for the scalar coordinates."""
        boxed = jnp.concatenate([jnp.zeros(0), *(coordinates[name] for name in self.low)])
        values, slopes = map(self._split, self.normals.values(boxed))
        pairs = {name: (values[name], slopes[name]) for name in values}
        for name in pairs:
            if name in self.logarithmic:
                value, slope = pairs[name]
                pairs[name] = jnp.exp(value), slope + value
        for name, prior in self.priors.items():
            if name not in pairs:
                transform, shape = biject_to(prior.support), prior.batch_shape
                full = coordinates[name].reshape(shape)
                value = transform(full)
                slope = jnp.broadcast_to(transform.log_abs_det_jacobian(full, value), shape)
                pairs[name] = value.ravel(), slope.ravel()
        return pairs

    def _split(self, array):
        """Split an array, whose last axis is that of `normals`, by parameter."""
        parts, at = {}, 0
        for name in self.low:
            parts[name] = array[..., at : at + self.low[name].size]
            at += self.low[name].size
        return parts

    def _of_vectors(self, vectors):
        """Convert shape vectors to q and pa, with pa in the lowest half turn of the prior's range."""
        low = self.low["q"]
        first, rest, few, many = self._directions(jnp)
        # a source without a vector has one of length zero, where the angle has no derivative
        vectors = jnp.where(self.turning[:, None], vectors, 1.0)
        q = low + (1 - low) * jnp.exp(-jnp.sum(vectors**2, axis=1) / 2)
        angle = jnp.mod(jnp.arctan2(vectors[:, 1], vectors[:, 0]) - first, jnp.pi)
        return {
            "q": q,
            "pa": first + jnp.where(angle < many * rest, angle / many, rest + (angle - many * rest) / few),
        }

    def _angle(self, pa):
        """Return the direction of the vector of a galaxy at a position angle, on the host."""
        first, rest, few, many = self._directions(np)
        pa = np.mod(pa - first, np.pi)
        return first + np.where(pa < rest, many * pa, many * rest + few * (pa - rest))

    def _directions(self, module):
        """Describe how often the range of the position angle's prior, W wide, holds a galaxy's direction.

        Returns
        -------
        first, rest : array (S,)
            The range begins at `first`; directions up to `rest` behind it are held once more than the others.
        few, many : array (S,)
            How densely the prior has these others, and those, relative to one that is uniform in direction.
        """
        low, high = (module.asarray(edge["pa"]) for edge in (self.low, self.high))
        width = module.maximum(high - low, module.pi)  # narrower only where there is no vector
        whole = module.floor(width / module.pi + ROUNDING)
        few, many = (n * module.pi / width for n in (whole, whole + 1))
        return low, module.maximum(width - whole * module.pi, 0.0), few, many

    def _turns(self, pa):
        """Count the multiples of pi that keep a position angle in the lowest half turn within the prior."""
        return 1 + jnp.floor((self.high["pa"] - pa) / jnp.pi)

    def _full(self, flat):
        """Reshape flat arrays to the shapes of the model, and apply ties and held values."""
        values = {name: value.reshape(self.priors[name].batch_shape) for name, value in flat.items()}
        for name, source in self.tied.items():
            values[name] = values[name][..., source, :] if name == "flux" else values[name][..., source]
        for name, fixed in self.held.items():
            values[name] = jnp.where(jnp.isnan(fixed), values[name], fixed)
        return values

    def _measure(self, name, value, module):
        return module.log(value) if name in self.logarithmic else value


class TruncatedNormals(eqx.Module):
    """Normal distributions truncated to boxes, mapped to unit normals.

    Attributes
    ----------
    low, high : array (n,)
        Edges of the boxes.
    centre, width : array (n,)
        Of the normals.
    below, above, share : array (n,)
        Probability of each normal below the box, above it, and in it.
    """

    low: jax.Array
    high: jax.Array
    centre: jax.Array
    width: jax.Array
    below: jax.Array
    above: jax.Array
    share: jax.Array

    @classmethod
    def of(
        cls, low: np.ndarray, high: np.ndarray, centre: np.ndarray, width: np.ndarray
    ) -> "TruncatedNormals":
        """Build truncated normals with given edges, centres and widths."""
        a, b = (low - centre) / width, (high - centre) / width
        shares = special.ndtr(a), special.ndtr(-b), special.ndtr(b) - special.ndtr(a)
        return cls(*map(on_device, (low, high, centre, width, *shares)))

    def values(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map unit normals u to values; also return the log derivatives."""
        # both tails, because the smaller one is more accurate
        below, above = self.below + self.share * ndtr(u), self.above + self.share * ndtr(-u)
        z = ndtri(jnp.maximum(jnp.where(below < above, below, above), LEAST))
        z = jnp.where(below < above, z, -z)
        value = jnp.clip(self.centre + self.width * z, self.low, self.high)  # rounding may leave the box
        return value, jnp.log(self.width * self.share) + (z**2 - u**2) / 2

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """Map values back to unit normals, on the host; values at an edge are moved slightly inside."""
        low, high, centre, width, below, above, share = map(np.asarray, jax.tree.leaves(self))
        margin = EDGE * (high - low)
        z = (np.clip(values, low + margin, high - margin) - centre) / width
        lower, upper = (special.ndtr(z) - below) / share, (special.ndtr(-z) - above) / share
        u = special.ndtri(np.maximum(np.minimum(lower, upper), LEAST))
        return np.where(lower < upper, u, -u)


def _edges(prior):
    """Return the edges of the support of each element, flattened."""
    shape = prior.batch_shape
    return tuple(np.broadcast_to(np.asarray(edge, float), shape).ravel() for edge in support_edges(prior))
