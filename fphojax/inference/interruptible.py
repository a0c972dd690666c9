"""Programs that Ctrl-C need not wait for."""

import contextvars
import threading
from concurrent.futures import Future

import jax

__all__ = ["THREADS", "interruptible", "programs_running"]

THREADS = "fphojax-program"  # how the names of threads begin that execute programs


def interruptible(function, *arguments, **options):
    """What a function returns, with all arrays computed; it works in a thread while this one listens for Ctrl-C.

    Signals reach Python between two of its instructions, and the compilation or the execution of a program is one.
    After Ctrl-C nobody waits for the thread, which ends with the program that it is at. In other threads than the
    main one, which signals do not reach, the function is called as it is.

    Parameters
    ----------
    function : callable
    *arguments, **options
        Its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments, **options)
    result = Future()

    def work():
        try:
            result.set_result(jax.block_until_ready(function(*arguments, **options)))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name=THREADS, daemon=True).start()
    return result.result()


def programs_running() -> bool:
    """Whether a program still works for which nobody waits."""
    return any(thread.name.startswith(THREADS) for thread in threading.enumerate())
