"""Draws of several patches made by one program, in step: for accelerators, which a small patch leaves idle."""

import threading
from collections import defaultdict

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["Lockstep"]


class Lockstep:
    """Lets calls of programs from several threads be made together.

    Each thread calls and waits.  When all that take part wait, calls of one program with arguments of one size are
    made by one program (vmap); it ends when the last of them does.  Their number is filled up to a power of two with
    the last one, so that few programs are compiled.

    Parameters
    ----------
    n_member : int
        Threads that take part.  Each must `leave` at its end.
    """

    def __init__(self, n_member: int):
        self._n_member, self._condition = n_member, threading.Condition()
        self._asked, self._found, self._interrupted = {}, {}, False

    def __call__(self, program, *arguments):
        """What the program gives for these arguments.

        Raises
        ------
        KeyboardInterrupt
            After `interrupt`.
        """
        me = threading.get_ident()
        with self._condition:
            self._asked[me] = program, arguments
            self._serve()
            self._condition.wait_for(lambda: me in self._found)
            found = self._found.pop(me)
        if isinstance(found, BaseException):
            raise found
        return found

    def leave(self):
        """Take part no longer."""
        with self._condition:
            self._n_member -= 1
            self._serve()

    def interrupt(self):
        """Let all calls from now on end as if by Ctrl-C."""
        with self._condition:
            self._interrupted = True

    def _serve(self):
        """Make the calls if all wait."""
        if not self._asked or len(self._asked) < self._n_member:
            return
        alike = defaultdict(list)
        for thread, call in self._asked.items():
            leaves, structure = jax.tree.flatten(call[1])
            sizes = tuple((jnp.shape(a), a.dtype) if eqx.is_array(a) else a for a in leaves)
            alike[call[0], structure, sizes].append(thread)
        for (program, _, _), threads in alike.items():
            try:
                found = _together(program, [self._asked[thread][1] for thread in threads], self._interrupted)
            except BaseException as error:  # every thread must hear of it, or it waits for ever
                found = [error] * len(threads)
            self._found.update(zip(threads, found, strict=True))
        self._asked.clear()
        self._condition.notify_all()


def _together(program, calls, interrupted):
    """Results of a program for several lists of arguments of one size."""
    if interrupted:
        raise KeyboardInterrupt
    if len(calls) == 1:
        return [program(*calls[0])]
    filled = calls + calls[-1:] * ((1 << (len(calls) - 1).bit_length()) - len(calls))
    arrays, others = zip(*(eqx.partition(arguments, eqx.is_array) for arguments in filled), strict=True)
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *arrays)
    found = _vmapped(program, stacked, others[0])
    return [jax.tree.map(lambda a, i=i: a[i], found) for i in range(len(calls))]


@eqx.filter_jit
def _vmapped(program, arrays, others):
    return jax.vmap(lambda one: program(*eqx.combine(one, others)))(arrays)
