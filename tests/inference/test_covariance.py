"""Covariances at an optimum."""

import numpy as np
import pytest

from fphojax.inference.covariance import parameter_covariance, places, source_covariances
from fphojax.inference.optimize import optimize


@pytest.fixture(scope="module")
def tied(make_patcher):
    """Two sources at one place, and the first of them alone."""
    patcher, catalog = make_patcher(n_source=2)
    ties = {"x": {1: 0}, "y": {1: 0}}
    model, start = patcher.prepare_model(active=catalog, ties=ties, listed=False)
    return model, optimize(model, start)


def test_a_tied_parameter_has_the_covariances_of_the_other(tied):
    model, optimum = tied
    covariance = parameter_covariance(model, optimum)
    place = places(optimum.values)
    for name in ("x", "y"):
        first, second = place[name]
        np.testing.assert_array_equal(covariance[first], covariance[second])
        assert 0 < covariance[first, first] < 0.1**2  # arcsec
    n_band = optimum.values["flux"].shape[1]
    positions = source_covariances(covariance, optimum.values)[:, n_band : n_band + 2, n_band : n_band + 2]
    np.testing.assert_array_equal(positions[0], positions[1])
    assert (np.linalg.eigvalsh(covariance) > -1e-9 * np.diag(covariance).max()).all()


def test_places_are_those_of_the_vector():
    values = {"y": np.zeros(2), "flux": np.zeros((2, 3)), "x": np.zeros(2)}
    found = places(values)
    assert found["flux"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found["x"].tolist(), found["y"].tolist()) == ([6, 7], [8, 9])
