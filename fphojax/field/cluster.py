"""Processes that fit patches, on this machine or on an existing cluster."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from fphojax.errors import InputError
from fphojax.system.processes import block_child_signals, leave_if_importing, require_guard

__all__ = ["cluster_client", "memory_limit", "thread_limits"]


def thread_limits(n: int) -> dict[str, str]:
    """Return the environment of a process whose numerical libraries shall use n threads.

    It must be set before JAX and numpy are imported.
    """
    names = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHON_CPU_COUNT")
    return dict.fromkeys(names, str(n))  # NPROC is XLA's; the last one is what os.cpu_count() returns


def memory_limit() -> int:
    """Return the bytes that this process may hold: the limit of its dask worker, else the machine's memory."""
    if "distributed" in sys.modules:
        from distributed import get_worker

        try:
            limit = get_worker().memory_manager.memory_limit
        except ValueError:  # no worker
            limit = None
        if limit:
            return limit
    return psutil.virtual_memory().total


@contextmanager
def cluster_client(*, workers: int | None = None, scheduler: str | None = None) -> Iterator:
    """Open a client of `dask.distributed`; None if no cluster is asked for.

    Parameters
    ----------
    workers : int, optional
        Processes to start on this machine. Each fits a patch at a time, and they divide the processor's threads and
        the memory among them. They ignore Ctrl-C and SIGTERM.
    scheduler : str, optional
        Address of the scheduler of an existing cluster, such as ``tcp://10.0.0.5:8786``.

    Yields
    ------
    distributed.Client or None

    Raises
    ------
    InputError
        Both are given; dask.distributed is not installed; there is no scheduler at the address; workers of a script
        that asks for them whenever it is imported.
    """
    if workers is None and scheduler is None:
        yield None
        return
    leave_if_importing()
    if workers is not None and scheduler is not None:
        raise InputError("found both workers and a scheduler, expected one of them")
    try:
        import dask
        from distributed import Client, LocalCluster
        from distributed.system import MEMORY_LIMIT
    except ImportError as error:
        raise InputError(
            "dask.distributed is not installed, expected it: pip install 'fphojax[cluster]'"
        ) from error
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=20)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{scheduler}: no scheduler answers ({error}), expected a dask scheduler"
            ) from error
        for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
            logging.getLogger(name).setLevel(logging.CRITICAL)  # as for workers of our own
        with client:
            yield client
        return
    assert workers is not None  # one of them is given
    environment = thread_limits(max((os.cpu_count() or 1) // workers, 1))
    settings = {
        "distributed.nanny.pre-spawn-environ": environment,
        # retries and their seeds are not for the cluster to decide; and waiting patches stay with the scheduler (all
        # but the first two per worker), so that a worker that dies takes no other patch with it
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-saturation": 1.0,
    }
    before = dict(os.environ)
    with dask.config.set(settings), block_child_signals():
        try:
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=MEMORY_LIMIT // workers,
                dashboard_address="127.0.0.1:0",  # any free port: there may be other runs here
                silence_logs=logging.CRITICAL,  # the run itself reports which fits have failed, and why
            )
        except RuntimeError:
            require_guard()
            raise
    for name in environment:  # nannies put it into this process, too
        os.environ.pop(name) if name not in before else os.environ.update({name: before[name]})
    with cluster, Client(cluster) as client:
        yield client
