import os
import signal
import time

import pytest

from fphojax.errors import MachineError
from fphojax.system.processes import block_child_signals, process_pool

DEAF = {signal.SIGINT, signal.SIGTERM}


def blocked():
    """Signals that this process does not receive now."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_signals_wait_while_children_start():
    before = blocked()
    assert not before & DEAF
    with block_child_signals():
        assert blocked() >= DEAF
    assert blocked() == before
    with pytest.raises(ValueError, match="no start"), block_child_signals():
        raise ValueError("no start")
    assert blocked() == before


def test_work_is_done_in_another_process_that_hears_no_interrupt():
    with process_pool(1) as pool:
        first = pool.submit(os.getpid).result()
        assert first != os.getpid()
        os.kill(first, signal.SIGINT)
        assert pool.submit(os.getpid).result() == first


def test_death_of_a_process_is_said():
    said = "one of 1 processes died, perhaps for want of memory, expected it to work to the end"
    with pytest.raises(MachineError, match=said), process_pool(1) as pool:
        pool.submit(os._exit, 3).result()


def test_work_is_abandoned_when_the_body_raises():
    pids, start = [], time.monotonic()

    def work():
        with process_pool(1) as pool:
            pids.append(pool.submit(os.getpid).result())
            pool.submit(time.sleep, 60)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    while lives(pids[0]) and time.monotonic() - start < 30:
        time.sleep(0.01)
    assert not lives(pids[0])


def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
