"""Device side, pure JAX, in double precision: from source parameters to pixels, likelihood and gradient."""

from .backend import set_up_jax

__all__ = ["set_up_jax"]

set_up_jax()
