"""Handling of Ctrl-C and termination signals: prompt, but never during critical operations."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import ClassVar

__all__ = ["Interruptions"]

REPEAT_WINDOW = 5.0  # seconds within which further signals count as the first one
RESEND_DELAY = 0.1  # seconds after which a lost signal is sent again

# SLURM sends SIGTERM to a job before it kills it; SIGHUP means that the terminal is gone, unless under nohup
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruptions:
    """A context in which Ctrl-C, SIGTERM and SIGHUP are recorded, and raise KeyboardInterrupt once.

    Signals that follow within five seconds have no effect, so that repeated ones do not interrupt the clean-up after
    the first; nor do signals while one of the open contexts holds them back. In threads other than the main one,
    which signals do not reach, the context does nothing.

    Parameters
    ----------
    terminations : bool
        Whether SIGTERM and SIGHUP act like Ctrl-C where they would end the process at once. Ignored
        signals stay ignored.

    Attributes
    ----------
    last_signal : int or None
        The last signal.
    """

    _open: ClassVar[list["Interruptions"]] = []  # the outermost first
    _previous: ClassVar[dict] = {}  # handlers of the signals outside of all of them
    _quiet_until: ClassVar[float] = 0.0

    def __init__(self, *, terminations: bool = False):
        self.last_signal: int | None = None
        self._terminations, self._n_hold = terminations, 0
        self._installed: list[signal.Signals] = []

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is not threading.main_thread():
            return self
        if not self._open:
            Interruptions._quiet_until, self._hook = 0.0, sys.unraisablehook
            sys.unraisablehook = self._resend
        self._open.append(self)
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if number in self._previous or not (
                callable(handler) or (handler is signal.SIG_DFL and self._terminations)
            ):
                continue
            self._previous[number] = handler
            self._installed.append(number)
            signal.signal(number, _on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._installed:
            signal.signal(number, self._previous.pop(number))
        if self in self._open:
            self._open.remove(self)
            if not self._open:
                sys.unraisablehook = self._hook

    def _note(self, number, frame):
        """Act on a signal, in the innermost context."""
        now = time.monotonic()
        if any(context._n_hold for context in self._open) or now < self._quiet_until:
            return
        Interruptions._quiet_until = now + REPEAT_WINDOW
        handler = self._previous[number]
        if callable(handler):
            handler(number, frame)
        else:
            raise KeyboardInterrupt

    def _resend(self, unraisable):
        """Send a signal again whose KeyboardInterrupt was raised where nothing can catch it (inside JAX)."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
            return
        Interruptions._quiet_until = 0.0
        timer = threading.Timer(RESEND_DELAY, os.kill, (os.getpid(), self.last_signal or signal.SIGINT))
        timer.daemon = True
        timer.start()

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold signals while the context is open: they are recorded, but have no other effect."""
        self._n_hold += 1
        try:
            yield
        finally:
            self._n_hold -= 1

    def hold_to_end(self) -> None:
        """Hold all signals until the context ends."""
        self._n_hold += 1

    def raise_if_interrupted(self) -> None:
        """Raise KeyboardInterrupt if there was a signal: work may have ended early without raising."""
        if self.last_signal is not None:
            raise KeyboardInterrupt


def _on_signal(number, frame):
    """Handle a signal while a context is open."""
    for context in Interruptions._open:
        context.last_signal = number
    Interruptions._open[-1]._note(number, frame)
