"""Ctrl-C and its like: heard once, remembered while held, never lost."""

import os
import signal
import threading
import time

import pytest

import fphojax.system.interrupts as module
from fphojax.system.interrupts import Interruptions


@pytest.fixture(autouse=True)
def handlers():
    """Python's own handlers, which a shell leaves out for what it starts in the background."""
    before = {number: signal.getsignal(number) for number in module._SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python hears it between two instructions


def test_many_are_one():
    with Interruptions() as interruptions:
        with pytest.raises(KeyboardInterrupt):
            send()
        for _ in range(5):
            send()
        assert interruptions.last_signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interruptions.raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt), Interruptions():  # as before
        send()


def test_what_comes_much_later_is_another_one(monkeypatch):
    monkeypatch.setattr(module, "REPEAT_WINDOW", 0.05)
    with Interruptions():
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                send()
            time.sleep(0.1)


def test_none_while_held_by_any():
    with Interruptions() as outer, Interruptions() as inner:
        with outer.hold():
            send()
        with inner.hold():
            send()
        assert outer.last_signal == inner.last_signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            send()
    with Interruptions() as settled:
        settled.hold_to_end()
        send()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminations_act_like_it_where_asked(number):
    signal.signal(number, signal.SIG_DFL)
    with Interruptions(terminations=True) as interruptions, Interruptions() as inner:
        with pytest.raises(KeyboardInterrupt):
            send(number)
        assert interruptions.last_signal == inner.last_signal == number
    assert signal.getsignal(number) is signal.SIG_DFL
    with Interruptions():
        assert signal.getsignal(number) is signal.SIG_DFL
    signal.signal(number, signal.SIG_IGN)  # nohup
    with Interruptions(terminations=True):
        send(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_gets_lost_comes_again(number, capsys):
    """Where Python drops exceptions: JAX has Python code that the garbage collector calls."""

    class Deaf:
        def __del__(self):
            send(number)

    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def interrupted():
        deaf = Deaf()
        del deaf
        time.sleep(5)

    with Interruptions(terminations=True), pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "Deaf" not in capsys.readouterr().err


def test_other_threads_change_nothing():
    def enter():
        with Interruptions(terminations=True):
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]
