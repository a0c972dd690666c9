"""The study of importance sampling: its tables count what was accepted, and tell right moments from wrong ones."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table, vstack

pytest.importorskip("galsim")


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).with_name("validate_auto.py")
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("validate_auto", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_moments_and_their_errors(study):
    draws = 2 + 3 * np.random.default_rng(0).normal(size=(4, 500))
    for size in (None, 2000.0):
        mean, sd, error, sd_error = study._moments(draws, size)
        assert (mean, sd) == (draws.mean(), draws.std())
        assert error == pytest.approx(3 / np.sqrt(2000), rel=0.2)
        assert sd_error == pytest.approx(1 / np.sqrt(2 * 2000), rel=0.2)


def test_angles_are_on_the_same_half_turn(study):
    angles = np.array([[1.5, -1.6, 1.6, -1.5]])
    ours, theirs = study._unwrapped(angles + np.pi, angles)
    np.testing.assert_allclose(ours, theirs)
    assert np.ptp(theirs) < 0.2


def test_summary_counts_and_compares(study):
    """Twenty isolated galaxies of which one is refused, and one that is faint; means half an error off."""
    parts = []
    for case in range(20):
        rows = Table({"parameter": ["x"] * 4, "place": ["(0,)"] * 4})
        rows["shift"], rows["shift_error"] = [0.02, 0.2, 0.02, 0.02], 0.04
        rows["ratio"], rows["ratio_error"] = 0.03, 0.03
        about = {"case": str(case), "simulator": "exact", "n_source": 1, "n_band": 2, "fluxes": "integrated"}
        about |= {"snr": 5.0 if case == 3 else 50.0, "trusted": case != 7, "pareto_k": 0.2}
        about |= {"effective_size": 1e3, "efficiency": 0.5, "evaluations": 2000, "nuts_calls": 20000}
        for name, value in about.items():
            rows[name] = value
        parts.append(rows)
    rows = vstack(parts)
    found = {row["kind"]: row for row in study.summary(rows)}
    assert (found["isolated"]["cases"], found["isolated"]["accepted"]) == (20, 19)
    assert (found["isolated, S/N > 10"]["cases"], found["isolated, S/N > 10"]["accepted"]) == (19, 18)
    assert set(found) == {"isolated", "isolated, S/N > 10"}
    assert found["isolated"]["shift within 0.1"] == pytest.approx(0.75)
    assert found["isolated"]["ratio within 0.05"] == 1
    assert found["isolated"]["ratio, by chance"] == pytest.approx(0.904, abs=0.02)
    assert found["isolated"]["ratio, rms in errors"] == pytest.approx(1)
    table = study.by_case(rows)
    assert len(table) == 20
    assert table["largest_shift"].tolist() == [0.2] * 20
