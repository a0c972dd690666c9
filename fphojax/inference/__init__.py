"""Optimisation and sampling: each takes a scene and returns a result."""
