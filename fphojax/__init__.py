"""Fluxes, positions and shapes of galaxies, with uncertainties, from many images at once."""

import jax

jax.config.update("jax_enable_x64", True)

__version__ = "0.1.0"
