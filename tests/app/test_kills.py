"""A run that is killed at random moments, and resumed each time, ends as one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import h5py
import numpy as np
import psutil
import pytest
import yaml
from standard_error import problems

from fphojax.errors import StorageError
from fphojax.field.patch_fit import PatchFit
from fphojax.field.superscene import SuperScene
from fphojax.inference.methods import NUTS, Optimum
from fphojax.inputs.stores.stored_exposures import open_stores
from fphojax.results.run_directory import RunDirectory
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies
from fphojax.system.locks import folder_lock, lock_token

N_SIDE, DRAWS, N_KILL = 8, 20, 20

# The run itself with everything but the search of the optimum and the chains, which take the time of a real fit.
KILLS = """
import os, signal, sys, time
import numpy as np
from jax.flatten_util import ravel_pytree
import fphojax.field.patch_fit as patch_fit
import fphojax.inference.methods as methods
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.sample import sample_field as run
from fphojax.inference.optimum import BestFit
from fphojax.inference.sampling import Chains
import fphojax.app.tables, distributed, scipy.cluster.hierarchy  # no import is left to the children


def optimize(model, start, **_):
    size = ravel_pytree(start)[0].size
    return BestFit(start, start, np.ones(1), np.eye(size), np.zeros(size), np.eye(size), 1, True, {})


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
    return Chains(model, values, statistics, best, best.hessian, warmup, draws, 0.1, seed, max_treedepth)


patch_fit.optimize, methods.sample = optimize, sample
settings, n_kill = Settings.from_yaml(sys.argv[1]), int(sys.argv[2])
log = settings.outbase / "scene_log.json"
rng, kills = np.random.default_rng(0), 0
while True:
    if not (child := os.fork()):
        run(settings, resume=True, progress=False)
        os._exit(0)
    if kills < n_kill:
        time.sleep(rng.uniform(0, 0.5) if kills % 4 == 0 else rng.uniform(0.5, 1.5))
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


# A command that signals end at random moments, begun again each time, in children that need not import anything.
COMMANDS = """
import os, shutil, signal, sys, time
from pathlib import Path
import numpy as np
import fphojax.app.tables, fphojax.app.stages.optimize
import fphojax.app.stages.product_summary, fphojax.app.stages.store_build
import fphojax.figures.html_report, scipy.cluster.hierarchy
from fphojax.app.cli import main

number, n_signal, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
rng = np.random.default_rng(number)


def started(words):
    if not (child := os.fork()):
        sys.argv = ["fphojax", *words]
        try:
            main()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)
        os._exit(0)
    return child


def placed():  # its files have their names, but it was ended before it could say so
    paths = [*map(Path, os.environ["FINISHED"].split())]
    return bool(paths) and all(path.is_file() for path in paths)


def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def remove(alone):
    for path in map(Path, os.environ["FINISHED"].split()):
        path = path.with_name(path.name.replace("AGAIN", "alone")) if alone else path
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


for _ in range(2):  # the first time programs are compiled
    remove(alone=True)
    began = time.monotonic()
    assert status(started([word.replace("AGAIN", "alone") for word in words])) == 0
seconds, found = time.monotonic() - began, []
for moment in rng.uniform(0, 0.7 * seconds, n_signal):
    child = started(words)
    time.sleep(moment)
    os.kill(child, number)
    found.append(status(child))
    if found[-1] == 0 or placed():
        remove(alone=False)
print(seconds, found, file=sys.stderr)
print(*found, status(started(words)))
"""


@pytest.fixture(scope="module")
def field(tiny, tmp_path_factory):
    """Settings of a field, and a run of it to postprocess."""
    folder = tmp_path_factory.mktemp("field")
    config = tiny.write_field(folder, n_source=4)
    assert tiny.run("sample", config, "--out", folder / "run") == (0, [])
    return config


def disturbed(number, words, finished=""):
    """End a command ten times at random, then leave it alone.

    What it had finished, if it was faster, is removed (`finished`: files or folders), so that it begins anew.
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMMANDS, str(number), "10", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ | {"FINISHED": finished},
    )
    print(done.stderr)
    *found, last = map(int, done.stdout.split("\n")[-2].split())
    lines = problems(done.stderr)[:-1]
    assert last == 0
    if number == signal.SIGKILL:
        assert set(found) <= {-signal.SIGKILL, 0}
        assert not lines
    else:
        # it may come before Python can hear it; else one line says how it ended
        assert set(found) <= {143, -signal.SIGTERM, 0}
        assert len(lines) == found.count(143)
        assert all(line.startswith("error: interrupted") for line in lines)
    assert len([status for status in found if status]) >= 5


SIGNALS = pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])


@pytest.mark.slow
@SIGNALS
def test_optimisation_survives_signals(field, tmp_path, number):
    out = tmp_path / "AGAIN"
    disturbed(number, ["optimize", field, "--out", out, "--resume", "--quiet"], str(out))
    alone, again = (RunDirectory(tmp_path / name) for name in ("alone", "AGAIN"))
    scenes = [run.read_scene() for run in (alone, again)]
    for name in ("flux", "ra", "dec", "q", "sersic", "rhalf"):
        np.testing.assert_array_equal(*(getattr(scene, name) for scene in scenes), err_msg=name)
    assert all(scenes[1].extra["fit_flag"] == "")
    assert sorted(again.read_patch(n).active.id.item() for n in again.patches()) == [1, 2, 3, 4]
    assert not list(again.path.rglob(".*"))


@pytest.mark.slow
@SIGNALS
def test_postprocessing_survives_signals(field, tmp_path, number):
    for name in ("alone", "AGAIN"):
        shutil.copytree(field.parent / "run", tmp_path / name)
    disturbed(number, ["postprocess", tmp_path / "AGAIN", "--quiet"])
    alone, again = (
        {path.relative_to(folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "alone", tmp_path / "AGAIN")
    )
    assert alone == again


@pytest.mark.slow
@SIGNALS
def test_preprocessing_survives_signals(tiny, tmp_path, number):
    stores = {"pixelstorefile": "alone.h5", "metastorefile": "alone.json"}
    config = tiny.write_field(tmp_path, fitsfiles="image?.fits", **stores)
    for name in ("alone", "AGAIN"):
        (tmp_path / f"{name}.yml").write_text(config.read_text().replace("alone", name))
    tiny.write_copies(tmp_path, 6)
    finished = f"{tmp_path / 'AGAIN.h5'} {tmp_path / 'AGAIN.json'}"
    disturbed(number, ["preprocess", tmp_path / "AGAIN.yml", "--quiet"], finished)
    alone, again = (
        open_stores(tmp_path / f"{name}.h5", tmp_path / f"{name}.json") for name in ("alone", "AGAIN")
    )
    assert [exposure.name for exposure in alone] == [exposure.name for exposure in again]
    for one, other in zip(alone, again, strict=True):
        np.testing.assert_array_equal(one.window(0, 20, 0, 20)[0], other.window(0, 20, 0, 20)[0])
    assert not list(tmp_path.glob("*.building*"))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_workers_that_are_killed_three_times(tiny, field, tmp_path):
    """Their patches are fitted by others, with other seeds; no source is given up."""
    process = tiny.start("sample", field, "--out", tmp_path / "run", "--workers", 2)
    scene, killed = tmp_path / "run" / "scene.fits", 0
    while not scene.exists():
        time.sleep(0.1)
    while killed < 3 and process.poll() is None:
        time.sleep(2)
        busy = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if any("spawn_main" in word for word in child.cmdline())
        ]
        if len(busy) == 2:
            busy[killed % 2].kill()
            killed += 1
    status, lines = tiny.ended(process)
    print(lines)
    assert killed == 3
    run = RunDirectory(tmp_path / "run")
    catalog = run.read_scene()
    # a patch whose worker died twice is given up with the reason; three deaths can take no more than one
    lost = [reason for reason in catalog.extra["fit_flag"] if reason]
    assert len(lost) <= 1
    assert (status, len(lines)) == ((1, 1) if lost else (0, 0))
    if lost:
        status, lines = tiny.run("sample", field, "--out", run.path, "--resume", "--retry")
        assert (status, lines) == (0, [])
    assert sorted(run.read_patch(n).active.id.item() for n in run.patches()) == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_scheduler_that_dies_loses_nothing(tiny, field, tmp_path):
    """An existing cluster, whose workers may still be at patches when the run goes on without them."""
    address, commands, out = tmp_path / "scheduler.json", [], tmp_path / "run"
    for role in (
        ["scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0"],
        ["worker", "--nworkers", "1", "--nthreads", "1", "--no-dashboard"],
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_" + role[0], *role[1:]]
        commands.append(subprocess.Popen([*command, "--scheduler-file", address], stderr=subprocess.DEVNULL))
    try:
        while not address.exists():
            time.sleep(0.1)
        location = json.loads(address.read_text())["address"]
        process = tiny.start("sample", field, "--out", out, "--scheduler", location)
        while not list(out.glob("patches/*_samples.nc")):
            assert process.poll() is None
            time.sleep(0.1)
        commands[0].kill()
        status, lines = tiny.ended(process)
        assert status == 1
        (line,) = lines
        assert "the scheduler of the cluster is gone" in line
        assert "of 4 sources are done and kept in" in line
        assert line.endswith("; the same command with --resume continues")
    finally:
        for command in reversed(commands):
            command.kill()
            command.wait()
    assert tiny.run("sample", field, "--out", out, "--resume") == (0, [])
    run = RunDirectory(out)
    assert all(run.read_scene().extra["fit_flag"] == "")
    assert sorted(run.read_patch(n).active.id.item() for n in run.patches()) == [1, 2, 3, 4]


@pytest.mark.parametrize("method", [NUTS(draws=1), Optimum()])
def test_a_fit_that_ends_after_its_run_writes_nothing(tmp_path, monkeypatch, method):
    """Its number may be given to another patch by then; a cluster cannot stop what it is at."""
    result = Mock()
    monkeypatch.setattr("fphojax.field.patch_fit.PatchResult", result)
    with folder_lock(tmp_path):
        fit = PatchFit(method, tmp_path, lock=lock_token(tmp_path))
    statistics = {"diverging": np.zeros(2, dtype=bool)}
    chains = Mock(n_draw=1, statistics=statistics, is_point=isinstance(method, Optimum))
    with folder_lock(tmp_path), pytest.raises(StorageError, match="is gone or of another run"):
        fit._write(Mock(number=7), Mock(), chains)
    result.from_chains.assert_called_once()
    result.from_chains.return_value.write.assert_not_called()
