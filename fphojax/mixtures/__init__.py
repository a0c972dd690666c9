"""Profiles and PSFs as mixtures of Gaussians."""
