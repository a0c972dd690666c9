"""Ctrl-C and its like: heard at once, never in the middle of what must not be broken off."""

import contextlib
import signal
import threading
import time

__all__ = ["Interruptions"]

SAME = 5.0  # seconds within which further signals are taken for the first one

# SIGTERM is how SLURM ends a job before it kills it; SIGHUP tells that the terminal is gone, unless under nohup
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interruptions:
    """A context in which Ctrl-C, SIGTERM and SIGHUP are remembered, and raise KeyboardInterrupt once.

    Those that follow within five seconds do nothing, so that what the first one has to leave in order is not broken
    off by impatience; neither does any while they are held. In threads other than the main one, which signals do not
    reach, nothing is changed.

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

    def __init__(self, *, terminations: bool = False):
        self.seen = None
        self._terminations, self._before = terminations, {}
        self._held, self._quiet_until = 0, -1.0

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if callable(before) or (before is signal.SIG_DFL and self._terminations):
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _note(self, number, frame):
        self.seen = number
        now = time.monotonic()
        if self._held or now < self._quiet_until:
            return
        self._quiet_until = now + SAME
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            raise KeyboardInterrupt

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
