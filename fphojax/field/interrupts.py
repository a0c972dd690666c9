"""Ctrl-C and its like: heard at once, never in the middle of what must not be broken off."""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import ClassVar

__all__ = ["Interruptions"]

SAME = 5.0  # seconds within which further signals are taken for the first one
AGAIN = 0.1  # seconds after which a signal is sent again that got lost

# SIGTERM is how SLURM ends a job before it kills it; SIGHUP tells that the terminal is gone, unless under nohup
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruptions:
    """A context in which Ctrl-C, SIGTERM and SIGHUP are remembered, and raise KeyboardInterrupt once.

    Those that follow within five seconds do nothing, so that what the first one has to leave in order is not broken
    off by impatience; neither does any while one of the contexts that are open holds them. In threads other than the
    main one, which signals do not reach, nothing is changed.

    Parameters
    ----------
    terminations : bool
        Whether SIGTERM and SIGHUP act like Ctrl-C where they would end the process at once. Signals that are
        ignored stay so.

    Attributes
    ----------
    seen : int or None
        The last signal.
    """

    _open: ClassVar[list["Interruptions"]] = []  # the outermost first
    _before: ClassVar[dict] = {}  # what was done about a signal outside of all of them
    _quiet_until: ClassVar[float] = 0.0

    def __init__(self, *, terminations: bool = False):
        self.seen = None
        self._terminations, self._held, self._mine = terminations, 0, []

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self
        if not self._open:
            Interruptions._quiet_until, self._hook = 0.0, sys.unraisablehook
            sys.unraisablehook = self._lost
        self._open.append(self)
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if number in self._before or not (
                callable(before) or (before is signal.SIG_DFL and self._terminations)
            ):
                continue
            self._before[number] = before
            self._mine.append(number)
            signal.signal(number, _heard)
        return self

    def __exit__(self, *_):
        for number in self._mine:
            signal.signal(number, self._before.pop(number))
        if self in self._open:
            self._open.remove(self)
            if not self._open:
                sys.unraisablehook = self._hook

    def _note(self, number, frame):
        """Do what a signal asks for, in the innermost context."""
        now = time.monotonic()
        if any(context._held for context in self._open) or now < self._quiet_until:
            return
        Interruptions._quiet_until = now + SAME
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt

    def _lost(self, unraisable):
        """An exception that Python drops, as it was raised where nothing can catch it: JAX has Python code there."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
            return
        Interruptions._quiet_until = 0.0
        timer = threading.Timer(AGAIN, os.kill, (os.getpid(), self.seen or signal.SIGINT))
        timer.daemon = True
        timer.start()

    @contextlib.contextmanager
    def held(self):
        """While this lasts, signals are remembered and do nothing else."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1

    def settle(self):
        """Hold all signals until the context ends."""
        self._held += 1

    def raise_if_seen(self):
        """What was at work may have ended early after Ctrl-C, instead of raising."""
        if self.seen is not None:
            raise KeyboardInterrupt


def _heard(number, frame):
    """Handler of signals while a context is open."""
    for context in Interruptions._open:
        context.seen = number
    Interruptions._open[-1]._note(number, frame)
