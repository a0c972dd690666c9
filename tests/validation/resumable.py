"""Tasks of a study, numbered, in several processes; a rerun does those that are missing."""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context


def do_missing(task: Callable[[int], str], missing: Iterable[int], *, jobs: int, until: float) -> None:
    """Do tasks, and print what each has to say; none is begun after a time (of `time.monotonic`)."""
    numbers, running = iter(missing), set()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while True:
            while (
                len(running) < jobs and time.monotonic() < until and (one := next(numbers, None)) is not None
            ):
                running.add(pool.submit(task, one))
            if not running:
                return
            done = next(as_completed(running))
            running.remove(done)
            print(done.result(), flush=True)
