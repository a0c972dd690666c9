import os
import signal
import subprocess
import sys
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


UNGUARDED = """
from fphojax.system.processes import process_pool
with process_pool(1) as pool:
    print(pool.submit(int).result())
"""


def test_script_without_a_guard_is_told_to_have_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.splitlines()[-1] == (
        f"fphojax.errors.InputError: {script}: found a call with workers that is made whenever the script is "
        'imported, as each worker does, expected it below `if __name__ == "__main__":`'
    )
    script.write_text('if __name__ == "__main__":' + UNGUARDED.replace("\n", "\n    "))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


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
