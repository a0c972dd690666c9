"""Profiles and PSFs as mixtures of Gaussians."""

import fphojax.core  # noqa: F401  sets up JAX

__all__ = []
