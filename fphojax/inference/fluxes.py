"""Fluxes and sky levels integrated out of the posterior and drawn afterwards (docs/mathematics/inference.md).

Given the shapes, the model is linear in the fluxes and the coefficients of the sky, f: with the normal equations N
and v of `core.linear`, a prior of precision P and mean m (P = 0 where it is flat), A = N + P and b = v + P m,

    ln integral = (b^T A^-1 b - d^T W d - m^T P m - ln det A) / 2 + constant,      f ~ Normal(A^-1 b, A^-1).

The derivative with f and A^-1 held constant is the full derivative, because f minimises the quadratic form.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.typing import ArrayLike
from numpyro.distributions import Normal, Uniform

from fphojax.core.backend import on_device, shares_of_padded
from fphojax.core.linear import NormalEquations
from fphojax.core.model import SceneModel
from fphojax.core.segments import Segments

from .coordinates import plain_prior
from .covariance import places
from .optimum import BestFit

__all__ = ["CLEAR", "LINEAR", "Integral", "LinearPart", "linear_part"]

LINEAR = ("flux", "sky")
REDRAWS = 20  # draws of the linear parameters, of which the first inside the box is taken
UNIT = np.array([1.0, 0.0, -np.inf, np.inf])  # precision, mean and edges of a unit normal
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
        Positions in the vector of the parameters of every exposure's normal equations. The vector is that of the
        raveled fluxes, followed by that of the raveled sky.
    real : bool array (n,)
        Which elements are parameters of their own that some exposure sees; the others have unit normals.
    precision, mean : array (n,)
        Of the prior; a flat one has precision 0.
    low, high : array (n,)
        Edges of the flat priors, infinite for the others.
    flux_shape, sky_shape : tuple of int
        Shapes of the fluxes and the sky; that of the sky is None where the model has none.
    segments : tuple of two Segments, or None
        Which Gaussians touch which tiles.
    shares : tuple of int
        Sizes for which programs hold the work on pixels; see `normal_equations`.
    """

    place: jax.Array
    real: jax.Array
    precision: jax.Array
    mean: jax.Array
    low: jax.Array
    high: jax.Array
    flux_shape: tuple[int, int] = eqx.field(static=True)
    sky_shape: tuple[int, int] | None = eqx.field(static=True)
    segments: tuple[Segments, Segments] | None
    shares: tuple[int, ...] = eqx.field(static=True)

    def equations(self, model: SceneModel, values: Mapping[str, jax.Array]) -> NormalEquations:
        """Compute the normal equations of the linear parameters, given the others."""
        return model.normal_equations(values, self._listed(), self.shares)

    def log_integral(self, model: SceneModel, values: Mapping[str, jax.Array]) -> jax.Array:
        """Return the logarithm of `integral`; reverse-mode differentiable in ``values``."""
        without = dataclasses.replace(self, segments=None)
        return model.of_normal_equations(_log_value, without, values, self._listed(), self.shares)

    def _listed(self) -> tuple[Segments, Segments]:
        if self.segments is None:
            raise ValueError("segments: found none, expected those of the model")
        return self.segments

    def integral(self, equations: NormalEquations) -> Integral:
        """Integrate over the linear parameters."""
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
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw the linear parameters from their conditional, again if any lies outside its box.

        Returns
        -------
        vector : array (n,)
        outside : bool array ()
            Whether the first draw lay outside.
        chi2 : array ()
        """
        equations = self.equations(model, values)
        integral = self.integral(equations)
        normal = jax.random.normal(key, (REDRAWS, self.mean.size))
        spread = solve_triangular(integral.factor, normal.T, lower=True, trans=1).T
        vectors = integral.mean + spread
        inside = ((vectors >= self.low) & (vectors <= self.high)).all(axis=1)
        vector = vectors[jnp.argmax(inside)]
        return vector, ~inside[0], self.chi2(equations, vector)

    def chi2(self, equations: NormalEquations, vector: jax.Array) -> jax.Array:
        """Return chi-squared of linear parameters (n,)."""
        each = vector[self.place]
        return (
            jnp.sum(equations.data2)
            - 2 * jnp.sum(each * equations.vector)
            + jnp.einsum("ei,eij,ej->", each, equations.matrix, each)
        )

    def log_constant(self) -> float:
        """Return what `Integral.log_value` leaves out, of linear parameters that exposures see and of their priors.

        With it, the value is the logarithm of the integral of the likelihood, as `SceneModel.log_likelihood` has it,
        times the prior, without the edges of boxes.
        """
        real, precision, low, high = (
            np.asarray(array) for array in (self.real, self.precision, self.low, self.high)
        )
        boxed = real & (precision == 0)
        normal = real & (precision > 0)
        mean = np.asarray(self.mean)[normal]
        total = 0.5 * np.log(2 * np.pi) * boxed.sum() - np.log((high - low)[boxed]).sum()
        return float(total + 0.5 * np.log(precision[normal]).sum() - 0.5 * mean**2 @ precision[normal])

    def split(self, vector: jax.Array) -> dict[str, jax.Array]:
        """Return the linear parameters of a vector by name."""
        n_flux = math.prod(self.flux_shape)
        parts = {"flux": vector[:n_flux].reshape(self.flux_shape)}
        if self.sky_shape is not None:
            parts["sky"] = vector[n_flux:].reshape(self.sky_shape)
        return parts

    def joined(self, values: Mapping[str, ArrayLike]) -> np.ndarray:
        """Return the vector of the linear parameters among values."""
        return np.concatenate([np.ravel(values[name]) for name in LINEAR if name in values])

    def filled(
        self, key: jax.Array, model: SceneModel, values: Mapping[str, jax.Array], vector: jax.Array
    ) -> dict[str, jax.Array]:
        """Insert linear parameters into values; fluxes that no exposure sees are drawn from their prior."""
        full = {**values, **self.split(vector)}
        real = self.real[: math.prod(self.flux_shape)].reshape(self.flux_shape)
        full["flux"] = jnp.where(real, full["flux"], model.priors["flux"].sample(key))
        return model.effective(full)

    def fits(self, model: SceneModel, optimum: BestFit, clear: float = CLEAR) -> bool:
        """Return whether the conditional's mean at the optimum lies inside the box, so many widths from its edges.

        Parameters
        ----------
        model : SceneModel
            That of the optimum, without padding.
        optimum : BestFit
        clear : float
            In standard deviations.
        """
        at = places(optimum.values)
        rows = np.concatenate([at[name].ravel() for name in LINEAR if name in at])
        vector = np.concatenate([np.ravel(optimum.values[name]) for name in LINEAR if name in at])
        # sources of padding stand behind the real ones
        n_flux, n_sky = np.size(optimum.values["flux"]), np.size(optimum.values.get("sky", ()))
        mine = np.r_[:n_flux, self.real.size - n_sky : self.real.size]
        kept = np.asarray(self.real)[mine]
        rows, vector, mine = rows[kept], vector[kept], mine[kept]
        precision, mean, low, high = (
            np.asarray(array)[mine] for array in (self.precision, self.mean, self.low, self.high)
        )
        fisher = optimum.fisher[np.ix_(rows, rows)]
        matrix = fisher + np.diag(precision)
        if np.linalg.eigvalsh(matrix)[0] <= 0:
            return False
        covariance = np.linalg.inv(matrix)
        centre = covariance @ (fisher @ vector + optimum.pull[rows] + precision * mean)
        margin = clear * np.sqrt(np.diag(covariance))
        return bool(np.all((centre - margin >= low) & (centre + margin <= high)))


def _log_value(part, equations):
    return part.integral(equations).log_value


def linear_part(model: SceneModel, n_source: int | None = None) -> LinearPart | None:
    """Return the linear parameters of a model, or None if a prior does not allow integrating over them.

    Without its segments, which depend on where the light is; see `SceneModel.segments`.

    Parameters
    ----------
    model : SceneModel
    n_source : int, optional
        Sources that are not padding; all if not given.
    """
    priors = [plain_prior(model.priors[name]) for name in LINEAR if name in model.priors]
    if not all(isinstance(prior, Uniform | Normal) for prior in priors) or "flux" in model.held:
        return None
    band = np.asarray(model.optics.band)
    padded, n_band = model.priors["flux"].batch_shape
    source = np.asarray(model.tied.get("flux", np.arange(padded)))
    real = np.zeros((padded, n_band), dtype=bool)
    real[np.unique(source[:n_source])] = np.isin(np.arange(n_band), band)
    place = (n_band * source[:, None] + band).T
    sides = [np.where(real.ravel(), _sides(model.priors["flux"]), UNIT[:, None])]
    real = real.ravel()
    if "sky" in model.priors:
        n_exposure, n_term = model.priors["sky"].batch_shape
        place = np.concatenate(
            [place, real.size + np.arange(n_exposure * n_term).reshape(-1, n_term)], axis=1
        )
        real = np.concatenate([real, np.ones(n_exposure * n_term, dtype=bool)])
        sides.append(_sides(model.priors["sky"]))
    precision, mean, low, high = np.concatenate(sides, axis=1)
    return LinearPart(
        place=on_device(place),
        real=on_device(real),
        precision=on_device(precision),
        mean=on_device(mean),
        low=on_device(low),
        high=on_device(high),
        flux_shape=(padded, n_band),
        sky_shape=tuple(model.priors["sky"].batch_shape) if "sky" in model.priors else None,
        segments=None,
        shares=shares_of_padded(),
    )


def _sides(prior):
    """Return precision, mean, lower and upper edge (4, n) of the elements of a prior."""
    shape, plain = prior.batch_shape, plain_prior(prior)
    if isinstance(plain, Uniform):
        parts = 0.0, 0.0, plain.low, plain.high
    else:
        parts = 1 / plain.scale**2, plain.loc, -np.inf, np.inf
    return np.stack([np.broadcast_to(np.asarray(part, float), shape).ravel() for part in parts])
