"""Ctrl-C is heard while a program works that Python cannot look into."""

import os
import signal
import threading
import time

import jax.numpy as jnp
import pytest

from fphojax.inference.interruptible import interruptible, programs_running


@pytest.fixture
def interrupt():
    """Function that sends Ctrl-C after some seconds, to the handler that shells leave out in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timers = []

    def after(seconds):
        timers.append(threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()

    yield after
    for timer in timers:
        timer.cancel()
    signal.signal(signal.SIGINT, before)


class Program:
    """Works until it is let go, deaf to signals, as one of XLA."""

    def __init__(self):
        self.let_go = threading.Event()

    def __call__(self, *_):
        assert threading.current_thread() is not threading.main_thread()
        self.let_go.wait(60)


def test_results_and_errors_are_those_of_the_function():
    assert interruptible(lambda a, *, b: a + b, jnp.ones(2), b=1).tolist() == [2, 2]
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 / 0)
    assert not programs_running()


def test_nobody_waits_for_a_program_after_ctrl_c(interrupt):
    program, began = Program(), time.monotonic()
    interrupt(0.2)
    with pytest.raises(KeyboardInterrupt):
        interruptible(program)
    assert time.monotonic() - began < 2
    assert programs_running()
    program.let_go.set()
    while programs_running():
        time.sleep(0.01)
