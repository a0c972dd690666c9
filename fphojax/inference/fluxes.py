"""Fluxes and sky levels integrated out of the posterior and drawn afterwards (docs/mathematics/inference.md).

Given the shapes, the model is linear in the fluxes and the coefficients of the sky, f: with the normal equations N
and v of `core.linear`, a prior of precision P and mean m (P = 0 where it is flat), A = N + P and b = v + P m,

    ln integral = (b^T A^-1 b - d^T W d - m^T P m - ln det A) / 2 + constant,      f ~ Normal(A^-1 b, A^-1).

The derivative with f and A^-1 held constant is the full derivative, because f minimises the quadratic form.
"""

from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from numpyro.distributions import Normal, Uniform

from fphojax.core.model import SceneModel
from fphojax.core.segments import Segments

from .coordinates import plain_prior

__all__ = ["CLEAR", "LINEAR", "Integral", "LinearPart", "linear_part"]

LINEAR = ("flux", "sky")
REDRAWS = 20  # draws of the linear parameters, of which the first inside the box is taken
CLEAR = 2.5  # least distance of a flux at the optimum from the edges of its box, in standard deviations


class Integral(NamedTuple):
    """Integral over the linear parameters, given the others.

    Attributes
    ----------
    log_value : array ()
        Its logarithm, up to a constant of data and priors.
    mean : array (n,)
        Of the linear parameters' conditional.
    factor : array (n, n)
        Lower Cholesky factor of the conditional's precision.
    """

    log_value: jax.Array
    mean: jax.Array
    factor: jax.Array


class LinearPart(eqx.Module):
    """The n linear parameters of a model as one vector.

    Attributes
    ----------
    place : int array (E, S + K)
        Positions in the vector of the parameters of every exposure's normal equations.
    index : int array (n,)
        Positions of the vector's elements in the raveled fluxes followed by the raveled sky.
    precision, mean : array (n,)
        Of the prior; a flat one has precision 0.
    low, high : array (n,)
        Edges of the flat priors, infinite for the others.
    segments : tuple of two Segments
        Which Gaussians touch which tiles.
    """

    place: jax.Array
    index: jax.Array
    precision: jax.Array
    mean: jax.Array
    low: jax.Array
    high: jax.Array
    segments: tuple[Segments, Segments]

    def integral(self, model: SceneModel, values: Mapping[str, jax.Array]) -> Integral:
        """Integrate over the linear parameters; reverse-mode differentiable in ``values``."""
        return self._integral(model.normal_equations(values, self.segments))

    def _integral(self, equations):
        n = self.mean.size
        pairs = self.place[:, :, None], self.place[:, None, :]
        matrix = jnp.diag(self.precision).at[pairs].add(equations.matrix)
        vector = (self.precision * self.mean).at[self.place].add(equations.vector)
        fixed_matrix, fixed_vector = jax.lax.stop_gradient((matrix, vector))
        factor = jnp.linalg.cholesky(fixed_matrix)
        inverse = cho_solve((factor, True), jnp.eye(n))
        mean = inverse @ fixed_vector
        constant = 0.5 * mean @ fixed_vector - jnp.sum(jnp.log(jnp.diag(factor)))
        # a term of value 0 that carries the derivative of the integral
        change = mean @ (vector - fixed_vector)
        change -= 0.5 * jnp.sum((inverse + jnp.outer(mean, mean)) * (matrix - fixed_matrix))
        return Integral(constant + change - 0.5 * jnp.sum(equations.data2), mean, factor)

    def draw(
        self, key: jax.Array, model: SceneModel, values: Mapping[str, jax.Array]
    ) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
        """Draw the linear parameters from their conditional, again if any lies outside its box.

        Returns
        -------
        values : dict of array
            Those given, with ``flux`` and, where the model has it, ``sky``.
        outside : bool array ()
            Whether the first draw lay outside.
        chi2 : array ()
        """
        key, other = jax.random.split(key)
        equations = model.normal_equations(values, self.segments)
        integral = self._integral(equations)
        normal = jax.random.normal(key, (REDRAWS, self.mean.size))
        spread = solve_triangular(integral.factor, normal.T, lower=True, trans=1).T
        vectors = integral.mean + spread
        inside = ((vectors >= self.low) & (vectors <= self.high)).all(axis=1)
        vector = vectors[jnp.argmax(inside)]
        each = vector[self.place]
        chi2 = (
            jnp.sum(equations.data2)
            - 2 * jnp.sum(each * equations.vector)
            + jnp.einsum("ei,eij,ej->", each, equations.matrix, each)
        )
        return self.filled(other, model, values, vector), ~inside[0], chi2

    def filled(
        self, key: jax.Array, model: SceneModel, values: Mapping[str, jax.Array], vector: jax.Array
    ) -> dict[str, jax.Array]:
        """Insert linear parameters into values; fluxes that no exposure sees are drawn from their prior."""
        flux = model.priors["flux"].sample(key)
        n_flux = flux.size
        sky = jnp.zeros(model.priors["sky"].batch_shape) if "sky" in model.priors else jnp.zeros(0)
        flat = jnp.concatenate([flux.ravel(), sky.ravel()]).at[self.index].set(vector)
        full = {**values, "flux": flat[:n_flux].reshape(flux.shape)}
        if "sky" in model.priors:
            full["sky"] = flat[n_flux:].reshape(sky.shape)
        return model.effective(full)

    def fits(self, integral: Integral, clear: float = CLEAR) -> bool:
        """Return whether the conditional's mean lies inside the box, so many standard deviations from its edges."""
        covariance = cho_solve((integral.factor, True), np.eye(self.mean.size))
        margin = clear * np.sqrt(np.diag(np.asarray(covariance)))
        mean = np.asarray(integral.mean)
        inside = (mean - margin >= np.asarray(self.low)) & (mean + margin <= np.asarray(self.high))
        return bool(np.isfinite(mean).all() and inside.all())


def linear_part(model: SceneModel) -> LinearPart | None:
    """Return the linear parameters of a model, or None if a prior does not allow integrating over them."""
    priors = [plain_prior(model.priors[name]) for name in LINEAR if name in model.priors]
    if not all(isinstance(prior, Uniform | Normal) for prior in priors) or "flux" in model.held:
        return None
    band = np.asarray(model.optics.band)
    n_source, n_band = model.priors["flux"].batch_shape
    source = np.asarray(model.tied.get("flux", np.arange(n_source)))
    observed = np.isin(np.arange(n_band), band)
    flux = np.zeros((n_source, n_band), dtype=bool)
    flux[np.unique(source)] = observed
    number = np.cumsum(flux.ravel()).reshape(flux.shape) - 1
    place = number[source][:, band].T
    index = np.flatnonzero(flux)
    sides = [_sides(model.priors["flux"])[:, index]]
    if "sky" in model.priors:
        n_exposure, n_term = model.priors["sky"].batch_shape
        place = np.concatenate(
            [place, flux.sum() + np.arange(n_exposure * n_term).reshape(-1, n_term)], axis=1
        )
        index = np.concatenate([index, flux.size + np.arange(n_exposure * n_term)])
        sides.append(_sides(model.priors["sky"]))
    precision, mean, low, high = np.concatenate(sides, axis=1)
    return LinearPart(
        place=jnp.asarray(place),
        index=jnp.asarray(index),
        precision=jnp.asarray(precision),
        mean=jnp.asarray(mean),
        low=jnp.asarray(low),
        high=jnp.asarray(high),
        segments=model.segments(),
    )


def _sides(prior):
    """Return precision, mean, lower and upper edge (4, n) of the elements of a prior."""
    shape, plain = prior.batch_shape, plain_prior(prior)
    if isinstance(plain, Uniform):
        parts = 0.0, 0.0, plain.low, plain.high
    else:
        parts = 1 / plain.scale**2, plain.loc, -np.inf, np.inf
    return np.stack([np.broadcast_to(np.asarray(part, float), shape).ravel() for part in parts])
