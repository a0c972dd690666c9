"""Worker processes, which do not receive Ctrl-C and end with this process."""

import multiprocessing
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker

from fphojax.errors import InputError, MachineError

__all__ = ["block_child_signals", "leave_if_importing", "process_pool", "require_guard"]

_UNGUARDED = 113  # exit status of a new process that would start processes itself


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


def leave_if_importing() -> None:
    """End a new process in which the script that started it is imported, and would start processes again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself tells
        raise SystemExit(_UNGUARDED)


def require_guard() -> None:
    """Refuse a script that starts processes wherever it is imported, after they could not be started.

    Raises
    ------
    InputError
        The script is named.
    """
    probe = multiprocessing.get_context("spawn").Process(target=int)
    probe.start()
    probe.join()
    _refuse_unguarded([probe])


def _refuse_unguarded(processes):
    """Refuse to go on where new processes were about to start processes."""
    if any(process.exitcode == _UNGUARDED for process in processes):
        script = getattr(sys.modules["__main__"], "__file__", "the script")
        raise InputError(
            f"{script}: found a call with workers that is made whenever the script is imported, as each worker does, "
            'expected it below `if __name__ == "__main__":`'
        ) from None


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
    InputError
        The script does not keep its work there.
    """
    leave_if_importing()
    earlier = set(multiprocessing.active_children())
    # fresh interpreters: forking a process in which JAX has threads can hang
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        with block_child_signals():
            pool.submit(int)  # all are started with the first task
        started = set(multiprocessing.active_children()) - earlier
        yield pool
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - earlier:
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            _refuse_unguarded(started)
            raise MachineError(
                f"one of {workers} processes died, perhaps for want of memory, expected it to work to the end"
            ) from error
        raise
    pool.shutdown()
