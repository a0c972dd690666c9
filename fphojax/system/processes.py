"""Worker processes, which do not receive Ctrl-C and end with this process."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker

from fphojax.errors import MachineError

__all__ = ["block_child_signals", "process_pool"]


@contextmanager
def block_child_signals() -> Iterator[None]:
    """Block Ctrl-C and SIGTERM in processes started meanwhile, and in those of threads started now.

    These signals reach all processes of a command or a job, but the parent process decides when its children end.
    They are blocked in the parent, too, while children start, because children inherit the block.
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
    """Yield a pool of processes, whose work is abandoned when the body raises.

    They import the calling script, which must keep its work under ``if __name__ == "__main__"``.

    Parameters
    ----------
    workers : int

    Raises
    ------
    MachineError
        One of them died.
    """
    earlier = set(multiprocessing.active_children())
    # fresh interpreters: forking a process in which JAX has threads can hang
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with block_child_signals():
            pool.submit(int)  # all are started with the first task
        yield pool
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - earlier:
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise MachineError(
                f"one of {workers} processes died, perhaps for want of memory, expected it to work to the end"
            ) from error
        raise
    pool.shutdown()
