"""Nuisance parameters of the exposures of a patch, and their priors."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from astropy import units as u
from numpyro.distributions import Normal

from fphojax.core.patch import Patch
from fphojax.core.sky import SkyBasis, sky_basis

from .units import convert_fields

__all__ = ["Nuisance"]

_TERMS = {"none": 0, "constant": 1, "plane": 3}


@dataclass(frozen=True)
class Nuisance:
    """Nuisance parameters of every exposure, each with a normal prior; by default there are none.

    Attributes
    ----------
    sky : {"none", "constant", "plane"}
        A sky level left in the pixels: a constant, or a plane (its value in the middle of the patch, and what it
        rises by from there to the edges, along columns and rows).
    sky_sigma : float
        Standard deviation of the prior around 0 of each coefficient, in units of the median noise of the exposure's
        pixels in the patch.
    scale_sigma : float
        That of the flux scale, around 1; 0 for no such parameter.
    shift_sigma : float
        That of the shift, around 0, arcsec (or a Quantity) in each direction; 0 for no such parameter.

    Notes
    -----
    The priors constrain what the data cannot: the mean of all scales from the fluxes, the mean of all shifts from
    the positions, a sky from the wings of a galaxy that fills the patch.
    """

    sky: Literal["none", "constant", "plane"] = "none"
    sky_sigma: float = 1.0
    scale_sigma: float = 0.0
    shift_sigma: float = 0.0

    def __post_init__(self) -> None:
        convert_fields(self, sky_sigma=u.one, scale_sigma=u.one, shift_sigma=u.arcsec)

    def build(
        self, patch: Patch, n_exposure: int
    ) -> tuple[dict[str, Normal], dict[str, np.ndarray], SkyBasis | None]:
        """Make priors, start values and the sky's basis for a patch.

        Parameters
        ----------
        patch : Patch
        n_exposure : int

        Returns
        -------
        priors : dict of Normal
            For ``sky`` (E, K), ``scale`` (E,) and ``shift`` (E, 2), those that are asked for.
        start : dict of ndarray
            Their means.
        basis : SkyBasis or None
        """
        means: dict[str, np.ndarray] = {}
        sigmas: dict[str, np.ndarray | float] = {}
        basis = None
        if n_term := _TERMS[self.sky]:
            basis = sky_basis(patch, n_exposure, n_term)
            means["sky"] = np.zeros((n_exposure, n_term))
            sigmas["sky"] = self.sky_sigma * _noise(patch, n_exposure)[:, None]
        if self.scale_sigma:
            means["scale"], sigmas["scale"] = np.ones(n_exposure), self.scale_sigma
        if self.shift_sigma:
            means["shift"], sigmas["shift"] = np.zeros((n_exposure, 2)), self.shift_sigma
        priors = {
            name: Normal(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(sigmas[name]), mean.shape))
            for name, mean in means.items()
        }
        return priors, means, basis


def _noise(patch, n_exposure):
    """Compute the median standard deviation of the used pixels of every exposure, (E,)."""
    ierr, exposure = np.asarray(patch.ierr, dtype=float), np.asarray(patch.exposure)
    by_exposure = [ierr[exposure == e] for e in range(n_exposure)]
    return np.array([1 / np.median(pixels[pixels > 0]) for pixels in by_exposure])
