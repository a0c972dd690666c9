"""The model of a scene: parameters, priors and likelihood, as one numpyro model."""

import equinox as eqx
import jax.numpy as jnp
import numpyro
from numpyro.distributions import Distribution, biject_to
from numpyro.infer.util import potential_energy

from .gaussians import Optics, Sources, project
from .normal import normal_equations
from .patch import PairList, Patch
from .pixels import PixelResponse, chi2, render

__all__ = ["PARAMETERS", "SceneModel"]

PARAMETERS = Sources._fields


class SceneModel(eqx.Module):
    """The active sources of a patch, its pixels, and the priors: a numpyro model.

    Calling the model runs it under numpyro; its sample sites are the `PARAMETERS`, with the shapes of
    `Sources`.  The other methods evaluate it directly, for values (the parameters themselves, a dict of
    arrays) or for unconstrained values (what numpyro's transforms map the priors' supports to).

    Attributes
    ----------
    patch : Patch
        Pixels, the fixed sources already subtracted.
    optics : Optics
        How the exposures see the active sources.
    pairs : tuple of PairList
        Which Gaussians touch which tiles.
    table : callable
        Profile table.
    priors : dict of numpyro Distribution
        One per parameter, independent for every source (and band); batch shape as in `Sources`.
    response : {"variance", "quartic", "second_order"}
        Pixel response.
    """

    patch: Patch
    optics: Optics
    pairs: tuple[PairList, ...]
    table: eqx.Module
    priors: dict[str, Distribution]
    response: PixelResponse = eqx.field(static=True)

    def __call__(self):
        """Declare the model to numpyro."""
        values = {name: numpyro.sample(name, self.priors[name]) for name in PARAMETERS}
        numpyro.factor("log_likelihood", self.log_likelihood(values))

    def gaussians(self, values):
        """Gaussians of the active sources on all exposures."""
        return project(Sources(**values), self.optics, self.table)

    def chi2(self, values):
        """Chi-squared of every exposure, array (E,)."""
        return chi2(self.gaussians(values), self.patch, self.pairs, self.response)

    def log_likelihood(self, values):
        """-chi2 / 2, up to a constant of the data."""
        return -0.5 * jnp.sum(self.chi2(values))

    def log_prior(self, values):
        """Sum of the log densities of the priors."""
        return sum(jnp.sum(self.priors[name].log_prob(values[name])) for name in PARAMETERS)

    def images(self, values):
        """Model image on every tile, array (T, TILE * TILE)."""
        return render(self.gaussians(values), self.patch, self.pairs, self.response)

    def normal_equations(self, values):
        """Normal equations of the likelihood, exposure by exposure; see `normal_equations`."""
        response = None if self.response == "variance" else self.response
        return normal_equations(Sources(**values), self.optics, self.table, self.patch, response)

    # ----------------------------------------------------------------------------------------------
    # Unconstrained space

    @property
    def transforms(self):
        """numpyro transforms from the whole real line to the support of each prior."""
        return {name: biject_to(self.priors[name].support) for name in PARAMETERS}

    def constrain(self, unconstrained):
        """Parameters of unconstrained values."""
        return {name: t(unconstrained[name]) for name, t in self.transforms.items()}

    def unconstrain(self, values):
        """Unconstrained values of parameters inside the supports of the priors."""
        return {name: t.inv(jnp.asarray(values[name])) for name, t in self.transforms.items()}

    def potential(self, unconstrained):
        """Minus the log posterior density in unconstrained space, up to a constant."""
        return potential_energy(self, (), {}, unconstrained)

    def parameter_index(self):
        """Where the sources' parameters stand in a flat vector, for every exposure.

        Returns
        -------
        int array (E, S * 7)
            For each exposure the positions, in the flat vector of `jax.flatten_util.ravel_pytree`, of the
            parameters in the order of `NormalEquations`.
        """
        n_source = self.optics.n_source
        shapes = {name: self.priors[name].batch_shape for name in PARAMETERS}
        start, position = 0, {}
        for name in sorted(PARAMETERS):  # the order in which JAX flattens a dict
            size = shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)
            position[name] = jnp.arange(start, start + size).reshape(shapes[name])
            start += size
        rows = []
        for name in PARAMETERS:
            if name == "flux":
                rows.append(position[name].T[self.optics.band])
            else:
                rows.append(jnp.broadcast_to(position[name], (self.optics.n_exposure, n_source)))
        return jnp.stack(rows, axis=-1).reshape(self.optics.n_exposure, -1)
