"""Device side, pure JAX: from source parameters to pixels, likelihood and gradient."""
