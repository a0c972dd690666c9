"""Real fields in several patches: two workers give what one process gives, to the last bit.

    python -m pytest -q -s -o python_files='validate_*.py' tests/validation/validate_workers.py

The chains are short, which changes nothing about the question. About 20 minutes of a core for both fields.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from fphojax.results.run_directory import RunDirectory

CONFIGS = Path(__file__).resolve().parents[1] / "data_configs"
SHORT = {"chains": 2, "warmup": 100, "sampling_draws": 60, "maxactive_per_patch": 5, "write_residuals": False}


def sampled(config, out, *options):
    """A run by the command line; its folder and exit status."""
    command = [sys.executable, "-m", "fphojax", "sample", config, "--out", out, "--quiet", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    print(
        f"\n{' '.join(options) or 'serial'}: exit status {done.returncode}", done.stderr, sep="\n", flush=True
    )
    return RunDirectory(out, scene_catalog="scene.fits"), done.returncode


def log_of(run):
    """Entries of the log without the times that fits took."""
    entries = run.read_log()["patchlog"]
    for entry in entries:
        entry.get("summary", {}).pop("wall_time", None)
    return entries


@pytest.mark.parametrize("name", ["decals_coadd", "euclid_q1"])
def test_workers_give_the_same_posterior(data_dir, tmp_path, name):
    settings = yaml.safe_load((CONFIGS / f"{name}.yml").read_text()) | SHORT
    for key in ("fitsfiles", "raw_catalog"):
        settings[key] = settings[key].replace("../../../shared/data", str(data_dir))
    config = tmp_path / f"{name}.yml"
    config.write_text(yaml.safe_dump(settings))

    (one, status), (two, other) = (
        sampled(config, tmp_path / "one"),
        sampled(config, tmp_path / "two", "--workers", "2"),
    )
    log, scene = log_of(one), one.read_scene()
    sizes = [len(entry["sources"]) for entry in log]
    divergent = [entry["summary"]["n_divergent"] for entry in log if "flag" not in entry]
    print(f"{name}: {len(scene)} sources in {len(log)} patches of {min(sizes)} to {max(sizes)}")
    print(f"divergent draws by patch: {divergent}")
    print(*(json.dumps(entry) for entry in log if "flag" in entry), sep="\n")
    assert len(log) > 3
    assert log == log_of(two)
    assert status == other
    assert one.patches() == two.patches()
    for number in one.patches():
        here, there = one.read_patch(number), two.read_patch(number)
        for group in ("posterior", "sample_stats"):
            assert here.posterior[group].to_dataset().identical(there.posterior[group].to_dataset()), number
    for column in ("flux", "ra", "dec", "q", "pa", "sersic", "rhalf"):
        np.testing.assert_array_equal(getattr(scene, column), getattr(two.read_scene(), column))
    assert not any("flag" in entry for entry in log)
    assert max(divergent) < 0.5 * SHORT["chains"] * SHORT["sampling_draws"]
