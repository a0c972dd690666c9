"""Products of a run: catalogues, images and region files."""
