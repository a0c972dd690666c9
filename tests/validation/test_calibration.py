"""The study of calibration: scenes come from the prior, and its tables tell right posteriors from wrong ones."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

pytest.importorskip("galsim")


@pytest.fixture(scope="module")
def study():
    path = Path(__file__).with_name("validate_calibration.py")
    spec = importlib.util.spec_from_file_location("validate_calibration", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def made_rows(study, shift=0.0, n=3000):
    """Rows of a study in which every posterior is a unit normal, off by a shift."""
    rng = np.random.default_rng(5)
    tables = []
    for simulator in ("mixtures", "exact"):
        for method, names in (("nuts", ("flux", "x", "rhalf")), ("forced", ("flux",))):
            for name in names:
                mean = rng.normal(size=n)
                # the truth is a draw from the posterior of mean `mean - shift`
                draws = rng.normal(size=n)
                table = Table({"truth": mean + draws, "mean": mean + shift, "sd": np.ones(n)})
                table["rank"] = study.ndtr(draws - shift)
                table["simulator"], table["method"], table["parameter"] = simulator, method, name
                table["band"] = 0 if name == "flux" else -1
                table["scene"], table["source"] = np.arange(n), 0
                table["snr"], table["size"] = 10 ** rng.uniform(0, 2.5, (2, n))
                table["n_source"], table["n_band"], table["k_hat"], table["rhat"] = 1, 1, 0.5, 1.0
                tables.append(table)
    rows = study.vstack(tables)
    rows["pull"] = (rows["mean"] - rows["truth"]) / rows["sd"]
    return rows


def test_truths_lie_in_the_prior(study):
    scenes = [study.draw_scene(number) for number in range(60)]
    kinds = {(len(scene.truth), len(scene.truth.bands), scene.simulator) for scene in scenes}
    assert len(kinds) == 16
    for scene in scenes:
        assert not scene.bounds.violations(scene.truth, ("flux", "q", "pa", "sersic", "rhalf"))
        assert not scene.bounds.violations(scene.catalog)
        north = 3600 * np.abs(scene.truth.dec - scene.catalog.dec)
        assert (north <= study.SHIFT * (1 + 1e-6)).all()
    share = np.concatenate([(scene.truth.flux / scene.bounds.upper["flux"]).ravel() for scene in scenes])
    assert abs(share.mean() - 0.5) < 4 / np.sqrt(12 * share.size)


def test_a_scene_is_the_same_again(study):
    first, again = study.draw_scene(17), study.draw_scene(17)
    for name, value in first.values.items():
        np.testing.assert_array_equal(value, again.values[name])


def test_tables_of_scenes_are_collected_and_trusted_ones_of_laplace_named(study, tmp_path):
    for number, k_hat in enumerate((0.4, 0.9)):
        rows = {"method": ["nuts", "laplace"], "truth": [1.0, 1.0], "mean": [1.5, 2.0], "sd": [0.5, 0.5]}
        table = Table(rows | {"k_hat": [k_hat] * 2, "scene": [number] * 2})
        table.write(study._path(tmp_path, number), format="ascii.ecsv")
    rows = study.collected(tmp_path)
    assert sorted(rows["method"]) == ["laplace", "laplace", "laplace, k<0.7", "nuts", "nuts"]
    assert sorted(set(rows["pull"])) == [1.0, 2.0]


def test_right_posteriors_have_no_faults(study):
    rows = made_rows(study)
    table = study.coverage_table(rows)
    assert study.faults(table) == []
    assert (np.abs(table["c68"] - 0.68) < 4 * table["e68"]).all()
    assert set(table["sample"]) == {"all", "S/N > 10"}
    assert study.rank_figure(rows).axes


def test_biased_posteriors_are_found(study):
    rows = made_rows(study, shift=0.3)
    table = study.coverage_table(rows)
    found = study.faults(table)
    assert len(found) >= 8
    assert any("ranks are not uniform" in line for line in found)
    np.testing.assert_allclose(table["pull"], 0.3, atol=0.12)
    bias = study.bias_table(rows)
    assert set(bias["quantity"]) == {"snr", "size"}
    used = bias["n"] > 100
    assert (np.abs(bias["pull"] - 0.3) < 4.5 * bias["pull_error"])[used].all()
    assert study.bias_figure(bias).axes
