"""Processes that work for this one, hear nothing of Ctrl-C, and end with it."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker

from .errors import MachineError

__all__ = ["deaf_children", "process_pool"]


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started meanwhile hear nothing of Ctrl-C and SIGTERM, nor do those of threads started now.

    These reach all processes of a command or of a job; the process that started the others says when they end. Until
    this is over it does not hear them either: they are blocked, which children inherit.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else it is started meanwhile, and unblocks them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for a piece of work; whatever they are at is given up when the body raises.

    They import the script that called, which must keep its work under ``if __name__ == "__main__"``.

    Parameters
    ----------
    workers : int

    Raises
    ------
    MachineError
        One of them died.
    """
    others = set(multiprocessing.active_children())
    # fresh interpreters: forking a process in which JAX has threads can hang
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with deaf_children():
            pool.submit(int)  # all are started with the first task
        yield pool
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise MachineError(
                f"one of {workers} processes died, perhaps for want of memory, expected it to work to the end"
            ) from error
        raise
    pool.shutdown()
