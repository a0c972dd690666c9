"""Misfit of own pixels: sums over exposures, errors scaled, and when a source is limited by its model."""

import numpy as np

from fphojax.results.misfit import error_scale, is_model_limited, per_band


def test_exposures_of_a_band_count_together():
    values = np.array([[1, 2, 4], [8, 16, 32]])
    assert per_band(values, ["g", "r", "g"], ["r", "g", "z"]).tolist() == [[2, 5, 0], [16, 40, 0]]


def test_errors_grow_with_the_root_of_chi2_and_never_shrink():
    found = error_scale([400.0, 50.0, 0.0, np.nan], [100, 100, 0, 0])
    np.testing.assert_array_equal(found, [2.0, 1.0, 1.0, np.nan])


def test_a_misfit_is_one_if_it_is_large_and_sure():
    """Five standard deviations of chi-squared of 200 pixels are 100, of 8 pixels 20."""
    chi2, n = np.array([301.0, 299.0, 28.1, 27.9, np.nan, 0.0]), np.array([200, 200, 8, 8, 0, 0])
    assert is_model_limited(chi2, n).tolist() == [True, False, True, False, False, False]
    many = np.array([14_000.0, 16_000.0])  # sure, but 1.4 a pixel
    assert is_model_limited(many, 10_000).tolist() == [False, True]
