"""Pixel and meta stores: all exposures of a field in one HDF5 and one JSON file."""
