"""Calls of compiled programs that Ctrl-C can interrupt."""

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future

import jax

__all__ = ["THREADS", "interruptible", "programs_running"]

THREADS = "fphojax-program"  # prefix of the names of threads that execute programs


def interruptible[**P, R](function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function in a thread while the main thread listens for Ctrl-C; return its result, computed.

    Python handles signals between two of its instructions, and compiling or executing a program is a single one.
    After Ctrl-C nobody waits for the thread, which ends when its present program does. In threads other than the main
    one, which signals do not reach, the function is called directly.

    Parameters
    ----------
    function : callable
    *arguments, **options
        Passed to the function.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments, **options)
    result: Future[R] = Future()

    def work():
        try:
            result.set_result(jax.block_until_ready(function(*arguments, **options)))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name=THREADS, daemon=True).start()
    return result.result()


def programs_running() -> bool:
    """Return whether a program is still running for which nobody waits."""
    return any(thread.name.startswith(THREADS) for thread in threading.enumerate())
