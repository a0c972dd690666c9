"""Words on compilation, for which people wait: lines in the log when programs are compiled, and for what."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import jax

__all__ = ["compiling_for"]

logger = logging.getLogger(__name__)

_TRACE = "/jax/core/compile/jaxpr_trace_duration"  # what JAX calls the first step towards a program
_LONG = 0.1  # seconds of it, by which a program is large enough to be waited for

_patches: list["_Compilation"] = []  # those that are fitted now, the last one innermost


class _Compilation:
    """Compilation for one purpose: announced when it begins."""

    def __init__(self, what: str) -> None:
        self.what, self.begun = what, False

    def begin(self) -> None:
        if not self.begun:
            self.begun = True
            logger.info("compiling programs for %s", self.what)


@cache
def _listen() -> None:
    """Hear from JAX, once in each process, how long it traces functions."""

    def heard(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _TRACE and duration_secs > _LONG and _patches:
            _patches[-1].begin()

    jax.monitoring.register_event_duration_secs_listener(heard)


@contextmanager
def compiling_for(what: str) -> Iterator[None]:
    """Log what programs are compiled for, if any large one is compiled in this context.

    Parameters
    ----------
    what : str
        Such as "3 sources in 4 exposures".
    """
    if not logger.isEnabledFor(logging.INFO):
        yield
        return
    _listen()
    _patches.append(_Compilation(what))
    try:
        yield
    finally:
        _patches.pop()
