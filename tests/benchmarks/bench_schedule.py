"""Scheduling of a whole field without any fitting: check-outs per second, and memory; or with fits that sleep.

    python tests/benchmarks/bench_schedule.py --sources 1000000 --json
    python tests/benchmarks/bench_schedule.py --workers 1 8 64

Every source of a clustered mock catalogue is checked out and in until it is done, with several patches out at a
time, covariances, and the state on disk as in a real run. The density on the sky is the same for all sizes.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table

from fphojax.field.scheduler import PatchOutcome, schedule
from fphojax.field.superscene import LinkedSuperScene
from fphojax.inputs.source_catalog import SourceCatalog

BANDS = ("g", "r", "z")
DENSITY = 0.04  # sources per square arcsec, that of deep space-based images
PER_CLUSTER = 20
CLUSTER_SIGMA = 8.0  # arcsec


def clustered_catalog(size: int, seed: int) -> SourceCatalog:
    """Half of the sources in clusters, half anywhere, in a square that lies across ra = 0."""
    rng = np.random.default_rng(seed)
    side = np.sqrt(size / DENSITY)
    clusters = rng.uniform(-side / 2, side / 2, (max(size // 2 // PER_CLUSTER, 1), 2))
    member = clusters[rng.integers(len(clusters), size=size // 2)]
    position = np.concatenate(
        [
            member + rng.normal(0, CLUSTER_SIGMA, member.shape),
            rng.uniform(-side / 2, side / 2, (size - len(member), 2)),
        ]
    )
    x, y = position.T / 3600
    return SourceCatalog.from_columns(
        ra=x % 360,
        dec=y,
        flux=rng.lognormal(3, 1, (size, len(BANDS))),
        q=rng.uniform(0.3, 1, size),
        pa=np.rad2deg(rng.uniform(0, np.pi, size)),
        sersic=rng.uniform(1, 4, size),
        rhalf=np.clip(rng.lognormal(np.log(0.15), 0.5, size), 0.04, 0.9),
        bands=BANDS,
    )


def do_nothing(tasks):
    """A fit that leaves all sources as they are; a unit matrix stands for the covariances."""
    return [
        PatchOutcome(
            task.active, 100, np.broadcast_to(np.eye(task.covs.shape[-1]), task.covs.shape), {"n_calls": 0}
        )
        for task in tasks
    ]


def run(catalog: SourceCatalog, *, max_active_fraction: float, folder, seed: int) -> dict:
    """Schedule the whole field."""
    start = time.perf_counter()
    scene = LinkedSuperScene(
        catalog,
        BANDS,
        statefile=Path(folder, "scene.fits"),
        target_niter=100,
        maxactive_per_patch=15,
        seed=seed,
    )
    built = time.perf_counter()
    scene.writeout()
    written, written_cpu = time.perf_counter(), time.process_time()
    report = schedule(scene, do_nothing, max_active_fraction=max_active_fraction, progress=False)
    end, end_cpu = time.perf_counter(), time.process_time()
    scene.writeout()
    n_checkout = len(report.patches)
    return {
        "sources": len(scene),
        "checkouts_per_s": n_checkout / (end - written),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "checkouts_per_cpu_s": n_checkout / (end_cpu - written_cpu),
        "checkouts": n_checkout,
        "active_per_checkout": report.n_draw / 100 / n_checkout,
        "setup_s": built - start,
        "writeout_s": time.perf_counter() - end,
    }


def sleep(seconds: float, tasks):
    """A fit that takes about so many seconds for each source, and leaves all sources as they are."""
    rng = np.random.default_rng([task.seed for task in tasks])
    asleep = sum(seconds * len(task.active) for task in tasks) * rng.uniform(0.5, 1.5)
    time.sleep(asleep)
    outcomes = do_nothing(tasks)
    outcomes[0].summary["asleep"] = asleep
    return outcomes


def with_workers(n_worker: int, *, seconds: float, max_active_fraction: float, folder, seed: int) -> dict:
    """Schedule a field of 60 sources a worker with fits that sleep, in threads of one process beside this one.

    The scheduler of the cluster is in this process, as it is with `fphojax sample --workers`: its processor time is
    all that a field costs besides its fits.
    """
    from distributed import Client, LocalCluster

    catalog = clustered_catalog(60 * n_worker, seed)
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=n_worker, memory_limit=None, dashboard_address="127.0.0.1:0"
    )
    with cluster, Client(cluster) as client:
        scene = LinkedSuperScene(
            catalog,
            BANDS,
            statefile=Path(folder, f"scene_{n_worker}.fits"),
            target_niter=100,
            maxactive_per_patch=15,
            seed=seed,
        )
        scene.writeout()
        start, start_cpu = time.perf_counter(), time.process_time()
        report = schedule(
            scene,
            partial(sleep, seconds),
            client=client,
            max_active_fraction=max_active_fraction,
            progress=False,
        )
        wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    draws = sum(summary["asleep"] for summary in report.summaries)
    return {
        "workers": n_worker,
        "patches": len(report.patches),
        "fits_s": draws,
        "wall_s": wall,
        "cost_ms_per_patch": 1000 * cpu / len(report.patches),
        "cost_percent": 100 * cpu / draws,
        "busy_percent": 100 * draws / (n_worker * wall),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sources", type=int, default=10_000)
    parser.add_argument(
        "--max-active-fraction", type=float, default=0.1, help="of the sources, out at a time"
    )
    parser.add_argument("--workers", type=int, nargs="+", help="so many fits that sleep at a time")
    parser.add_argument("--seconds", type=float, default=1.0, help="that such a fit sleeps for each source")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures that are tracked, as JSON")
    arguments = parser.parse_args()
    if arguments.workers:
        with tempfile.TemporaryDirectory() as folder:
            options = {"folder": folder, "seed": arguments.seed, "seconds": arguments.seconds}
            options["max_active_fraction"] = arguments.max_active_fraction
            rows = [with_workers(n_worker, **options) for n_worker in arguments.workers]
        if arguments.json:
            print(json.dumps(rows))
        else:
            table = Table(rows)
            for name in table.colnames[2:]:
                table[name].info.format = ".1f"
            table.pprint(max_width=-1)
        return
    catalog = clustered_catalog(arguments.sources, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(
            catalog,
            max_active_fraction=arguments.max_active_fraction,
            folder=folder,
            seed=arguments.seed,
        )
    if arguments.json:
        print(json.dumps({name: figures[name] for name in ("sources", "checkouts_per_s", "peak_memory_gb")}))
    else:
        sys.stdout.writelines(f"{name:20s} {value:.4g}\n" for name, value in figures.items())


if __name__ == "__main__":
    main()
