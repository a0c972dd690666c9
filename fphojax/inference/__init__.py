"""Optimisation and sampling: each takes a scene and returns a result."""

import fphojax.core  # noqa: F401  sets up JAX

__all__ = []
