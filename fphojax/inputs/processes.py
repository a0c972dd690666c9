"""Processes that work for this one, hear nothing of Ctrl-C, and end with it."""

import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

from .errors import MachineError

__all__ = ["deaf_children", "process_pool"]


@contextmanager
def deaf_children() -> Iterator[None]:
    """What is started meanwhile ignores Ctrl-C and SIGTERM, which reach all processes of a command or of a job.

    The process that started them says when they end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
