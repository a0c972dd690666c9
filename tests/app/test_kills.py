"""A run that is killed at random moments, and resumed each time, ends as one that was left alone."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml

from fphojax.field.mocks import MockCamera, mock_field, mock_galaxies
from fphojax.field.superscene import SuperScene
from fphojax.outputs.run_directory import RunDirectory
from fphojax.simulate import write_exposure

N_SIDE, DRAWS, N_KILL = 8, 20, 20

# The run itself with everything but the search of the optimum and the chains, which take the time of a real fit.
KILLS = """
import os, signal, sys, time
import numpy as np
from jax.flatten_util import ravel_pytree
import fphojax.app.workers as workers
from fphojax.app.config import Settings
from fphojax.app.pipeline import run
from fphojax.inference.optimize import Optimum
from fphojax.inference.sample import Chains
import fphojax.app.tables, distributed, scipy.cluster.hierarchy  # no import is left to the children


def optimize(model, start, **_):
    size = ravel_pytree(start)[0].size
    return Optimum(start, start, np.ones(1), np.eye(size), np.eye(size), 1, True, {})


def sample(model, start, *, draws, warmup, chains, max_treedepth, full_cov, covariance, seed, progress):
    rng = np.random.default_rng(seed)
    time.sleep(rng.uniform(0.02, 0.1))
    shape = (chains, draws)
    values = {
        name: value + 1e-3 * np.abs(value) * rng.uniform(-1, 1, shape + np.shape(value))
        for name, value in start.items()
    }
    statistics = {name: np.ones(shape) for name in ("lp", "energy", "acceptance_rate", "step_size")}
    statistics |= {name: np.ones(shape, int) for name in ("n_steps", "tree_depth")}
    statistics |= {name: np.zeros(shape, bool) for name in ("diverging", "at_max_depth")}
    best = optimize(model, start)
    return Chains(values, statistics, best, best.hessian, warmup, draws, 0.1, seed, max_treedepth)


workers.optimize, workers.sample = optimize, sample
settings, n_kill = Settings.from_yaml(sys.argv[1]), int(sys.argv[2])
log = settings.outbase / "scene_log.json"
rng, kills = np.random.default_rng(0), 0
while True:
    if not (child := os.fork()):
        run(settings, resume=True, progress=False)
        os._exit(0)
    if kills < n_kill:
        time.sleep(rng.uniform(0, 0.5) if kills % 4 == 0 else rng.uniform(1.0, 3.5))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status != signal.SIGKILL:
        break
    kills += 1
assert status == 0, status
print(kills)
"""


@pytest.fixture
def config(tmp_path):
    """A square of isolated sources, and the settings of a run."""
    x, y = (axis.ravel() for axis in np.meshgrid(*2 * [2.0 * np.arange(N_SIDE)]))
    truth = mock_galaxies(
        x=x - x.mean(), y=y - y.mean(), flux={"F": 50 + x}, q=0.7, pa=30.0, sersic=1.5, rhalf=0.12
    )
    camera = MockCamera("F", pixel_scale=0.1, fwhm=0.2, noise=0.3, width=2.0 * N_SIDE)
    field = mock_field(truth, [camera], seed=1)
    (tmp_path / "cut").mkdir()
    write_exposure(field.exposures[0], tmp_path / "cut" / "image.fits")
    field.psfs.write(tmp_path / "cut" / "psfs.h5")
    field.peaks.write(tmp_path / "cut" / "peaks.ecsv")
    settings = {
        "bandlist": ["F"],
        "fitsfiles": "image.fits",
        "psfstorefile": "psfs.h5",
        "raw_catalog": "peaks.ecsv",
        "bounds_kwargs": {"n_pix": 3, "pixscale": 0.1},
        "chains": 2,
        "warmup": 10,
        "sampling_draws": DRAWS,
        "write_residuals": False,
        "seed": 2,
    }
    path = tmp_path / "cut" / "field.yml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.slow
def test_a_run_survives_kills(config, tmp_path):
    """And ends as one that was not killed, to the last bit."""
    command = [sys.executable, "-W", "ignore", "-c", KILLS, str(config), str(N_KILL)]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    kills = int(process.stdout.split()[-1])

    run = RunDirectory(config.parent / "output")
    scene = SuperScene.resume(run.scene_path)
    entries = [json.loads(entry) for entry in scene.patchlog]
    print(f"{kills} kills, {len(entries)} patches, numbers up to {entries[-1]['taskID']}")
    assert kills >= 15
    assert not scene.undone
    assert not scene.flags
    assert (scene.n_iter == DRAWS).all()  # once, and not twice
    assert (scene.n_patch == 1).all()
    assert sorted(row for entry in entries for row in entry["sources"]) == list(range(N_SIDE**2))
    assert run.patches() == sorted(entry["taskID"] for entry in entries)
    catalog, by_number = run.read_scene(), {entry["taskID"]: entry for entry in entries}
    for number in run.patches():
        result = run.read_patch(number)
        rows = by_number[number]["sources"]
        assert result.active["source_index"].tolist() == rows
        np.testing.assert_allclose(catalog.flux[rows], result.final_catalog().flux, rtol=1e-12)
    assert not list(run.path.rglob(".*"))

    shutil.copytree(config.parent, tmp_path / "whole", ignore=shutil.ignore_patterns("output"))
    command[-2:] = [str(tmp_path / "whole" / "field.yml"), "0"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    whole = RunDirectory(tmp_path / "whole" / "output")
    assert_same_to_the_last_bit(whole, run)


def assert_same_to_the_last_bit(one: RunDirectory, two: RunDirectory):
    assert one.read_log()["patchlog"] == two.read_log()["patchlog"]  # sources, order, seeds
    with h5py.File(one.path / "scene.covs.h5") as a, h5py.File(two.path / "scene.covs.h5") as b:
        for name in ("source_index", "upper_triangle", "values"):
            np.testing.assert_array_equal(a[name][:], b[name][:])
    assert one.patches() == two.patches()
    for number in one.patches():
        assert one.read_patch(number).draws.equals(two.read_patch(number).draws)
