"""Noise, sky and sources of images, measured or found without a fit: in residuals, or in images alone."""
