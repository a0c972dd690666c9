"""Fits on the workers of a cluster: the same results, and what happens when a worker dies."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import yaml
from standard_error import problems
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.errors import InputError, MachineError
from fphojax.field.cluster import cluster_client, memory_limit, thread_limits
from fphojax.field.scheduler import PatchOutcome, schedule
from fphojax.field.superscene import LinkedSuperScene
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import write_exposure
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

BANDS = ("g", "r")


def make_scene():
    rng = np.random.default_rng(2)
    catalog = SourceCatalog.from_columns(
        ra=150 + rng.uniform(0, 20, 60) / 3600,
        dec=rng.uniform(0, 20, 60) / 3600,
        flux=rng.uniform(1, 10, (60, 2)),
        q=0.8,
        pa=17.0,
        sersic=2.0,
        rhalf=0.2,
        bands=BANDS,
    )
    return LinkedSuperScene(catalog, BANDS, target_niter=100, maxactive_per_patch=5, seed=4)


def make_fit(folder, *, fatal=(), lives=0, faulty=()):
    """A cheap fit; patches in `fatal` kill their worker, `lives` times at most, those in `faulty` raise."""

    def fit(tasks):
        (task,) = tasks
        rng = np.random.default_rng(task.seed)
        if task.number in fatal:
            deaths = len(list(folder.glob(f"death_{task.number}_*")))
            if deaths < lives:
                (folder / f"death_{task.number}_{deaths}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if task.number in faulty:
            raise RuntimeError("singular")
        time.sleep(rng.uniform(0, 0.02))
        near = task.fixed.flux.sum() if len(task.fixed) else 0.0
        flux = task.active.flux * rng.uniform(0.9, 1.1) + 1e-3 * near
        environment = {"pid": os.getpid(), "threads": os.environ.get("NPROC")}
        return [PatchOutcome(task.active.replace(flux=flux), 60, None, {"seed": task.seed} | environment)]

    return fit


@pytest.fixture
def client():
    with cluster_client(workers=2) as client:
        yield client


@pytest.mark.slow
def test_workers_give_what_one_process_gives(client, tmp_path):
    here, there = make_scene(), make_scene()
    schedule(here, make_fit(tmp_path), progress=False)
    report = schedule(there, make_fit(tmp_path), client=client, progress=False)
    np.testing.assert_array_equal(here.catalog.flux, there.catalog.flux)
    assert len({summary["pid"] for summary in report.summaries} - {os.getpid()}) == 2
    threads = {summary["threads"] for summary in report.summaries}
    assert threads == {str(max((os.cpu_count() or 1) // 2, 1))}


@pytest.mark.slow
def test_workers_of_a_cluster_that_is_there_already(tmp_path):
    """A scheduler and a worker as a batch system starts them; they outlive the run."""
    from distributed import Client

    address, commands = tmp_path / "scheduler.json", []
    for role in (
        ["scheduler", "--port", "0", "--dashboard-address", "127.0.0.1:0"],
        ["worker", "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    ):
        command = [sys.executable, "-m", "distributed.cli.dask_" + role[0], *role[1:]]
        commands.append(subprocess.Popen([*command, "--scheduler-file", address], stderr=subprocess.DEVNULL))
    try:
        with Client(scheduler_file=address) as client:
            client.wait_for_workers(2)
            location = client.scheduler.address
        here, there = make_scene(), make_scene()
        schedule(here, make_fit(tmp_path), progress=False)
        with cluster_client(scheduler=location) as client:
            report = schedule(there, make_fit(tmp_path), client=client, progress=False)
        np.testing.assert_array_equal(here.catalog.flux, there.catalog.flux)
        assert len({summary["pid"] for summary in report.summaries} - {os.getpid()}) == 2
        assert [command.poll() for command in commands] == [None, None]
    finally:
        for command in reversed(commands):
            command.terminate()
            command.wait()


@pytest.mark.slow
def test_a_scheduler_that_dies_stops_the_field_and_flags_nobody(tmp_path, capfd):
    """Without traces of how often it was tried to reach it."""
    address, scene = tmp_path / "scheduler.json", make_scene()
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    command += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(address)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not address.exists():
        time.sleep(0.1)
    timer = threading.Timer(3, process.kill)  # there is no worker: it dies while patches are waited for
    timer.start()
    location = json.loads(address.read_text())["address"]
    with cluster_client(scheduler=location) as client, pytest.raises(MachineError, match="cluster is gone"):
        schedule(scene, make_fit(tmp_path), client=client, progress=False)
    process.wait()
    assert not scene.flags
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_worker_that_dies_takes_its_patch_once(client, tmp_path):
    there = make_scene()
    report = schedule(there, make_fit(tmp_path, fatal=[3], lives=1), client=client, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["death_3_0"]
    assert not there.undone
    assert not there.flags
    assert report.patches == list(range(len(there.patchlog)))
    # all are as in one process, but for the patch that was fitted with another seed and what stands on it
    here = make_scene()
    untroubled = schedule(here, make_fit(tmp_path), progress=False)
    seeds, expected = ([s["seed"] for s in r.summaries] for r in (report, untroubled))
    again = [number for number, pair in enumerate(zip(seeds, expected, strict=True)) if len(set(pair)) == 2]
    print(f"fitted with another seed: {again}")
    assert 3 in again
    # dask may have given the worker another of the first four already, which died with it
    assert len(again) <= 2
    assert max(again) <= 3


@pytest.mark.slow
def test_a_patch_that_raises_is_told_once(tmp_path, capfd):
    """In the report, and not by traces of the workers among the progress bars."""
    scene = make_scene()
    with cluster_client(workers=1) as client:
        report = schedule(scene, make_fit(tmp_path, faulty=[2]), client=client, progress=False)
    assert report.failures == {2: "RuntimeError: singular"}
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_a_patch_that_kills_twice_is_given_up(client, tmp_path):
    scene = make_scene()
    report = schedule(scene, make_fit(tmp_path, fatal=[2, 7], lives=2), client=client, progress=False)
    assert list(report.failures) == [2, 7]
    assert all(reason.startswith("KilledWorker: ") for reason in report.failures.values())
    assert not scene.undone
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.slow
def test_memory_of_a_worker_is_its_share(client):
    of_worker = client.submit(memory_limit).result()
    assert memory_limit() == psutil.virtual_memory().total
    assert 0.4 * memory_limit() < of_worker <= 0.5 * memory_limit()


def test_no_cluster_is_asked_for():
    with cluster_client() as client:
        assert client is None


def test_refusals():
    with (
        pytest.raises(InputError, match="found both workers and a scheduler, expected one of them"),
        cluster_client(workers=2, scheduler="tcp://127.0.0.1:1"),
    ):
        pass


def test_nothing_is_written_without_a_cluster(tmp_path, monkeypatch):
    """Sampling and optimisation of a good field alike."""
    truth = mock_galaxies(x=0, y=0, flux={"F": [50.0]}, q=0.7, pa=30.0, sersic=1.5, rhalf=0.12)
    field = mock_field(truth, [MockCamera("F", noise=0.3)])
    write_exposure(field.exposures[0], tmp_path / "image.fits")
    field.psfs.write(tmp_path / "psfs.h5")
    field.peaks.write(tmp_path / "peaks.ecsv")
    paths = {"fitsfiles": "image.fits", "psfstorefile": "psfs.h5", "raw_catalog": "peaks.ecsv"}
    (tmp_path / "field.yml").write_text(yaml.safe_dump({"bandlist": ["F"]} | paths))
    monkeypatch.setattr("distributed.Client.__init__", unreachable)
    for command in ("sample", "optimize"):
        address = "tcp://127.0.0.1:1"
        done = CliRunner().invoke(app, [command, str(tmp_path / "field.yml"), "--scheduler", address])
        assert done.exit_code == 2
        assert problems(done.stderr) == [
            f"error: {address}: no scheduler answers (timed out), expected a dask scheduler"
        ]
    assert not (tmp_path / "output").exists()


def unreachable(*_, **__):
    raise OSError("timed out")


def test_environment_names_threads():
    assert set(thread_limits(3).values()) == {"3"}
    assert "OMP_NUM_THREADS" in thread_limits(1)


def test_script_that_asks_for_workers_whenever_it_is_imported(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from fphojax.field.cluster import cluster_client\nwith cluster_client(workers=1) as client:\n    pass\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"fphojax.errors.InputError: {script}: found a call with workers"
    )
