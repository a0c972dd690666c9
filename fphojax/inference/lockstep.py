"""Several patches computed in lockstep by one program, for accelerators that one small patch cannot fill."""

import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Lockstep", "in_step"]


class Lockstep:
    """Batches program calls from several threads.

    Each thread calls and waits.  When all that take part wait, their calls are made `in_step`.

    Parameters
    ----------
    n_member : int
        Threads that take part.  Each must `leave` at its end.
    """

    def __init__(self, n_member: int):
        self._n_member, self._condition = n_member, threading.Condition()
        self._asked: dict[int, tuple[Callable, tuple]] = {}
        self._found: dict[int, Any] = {}
        self._interrupted = False

    def __call__[R](self, program: Callable[..., R], *arguments: Any) -> R:
        """Return the result of a program, called in one batch with those of the other threads.

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

    def leave(self) -> None:
        """Stop taking part."""
        with self._condition:
            self._n_member -= 1
            self._serve()

    def interrupt(self) -> None:
        """Make all calls from now on raise KeyboardInterrupt."""
        with self._condition:
            self._interrupted = True

    def _serve(self):
        """Run the calls if all threads are waiting."""
        if not self._asked or len(self._asked) < self._n_member:
            return
        try:
            if self._interrupted:
                raise KeyboardInterrupt
            found = in_step(list(self._asked.values()))
        except BaseException as error:  # every thread must be told, or it waits for ever
            found = [error] * len(self._asked)
        self._found.update(zip(self._asked, found, strict=True))
        self._asked.clear()
        self._condition.notify_all()


def in_step(calls: Sequence[tuple]) -> list:
    """Batch calls of equal shape with `vmap`.

    A batch ends when the last of its calls does.  Their number is filled up to a power of two with the last one, so
    that few programs are compiled.

    Parameters
    ----------
    calls : sequence of (program, arguments)
        Arguments that are not arrays are the same for all calls of a batch.

    Returns
    -------
    list
        In the order of the calls.
    """
    alike = defaultdict(list)
    for number, (program, arguments) in enumerate(calls):
        leaves, structure = jax.tree.flatten(arguments)
        sizes = tuple((jnp.shape(leaf), leaf.dtype) if _is_array(leaf) else leaf for leaf in leaves)
        alike[program, structure, sizes].append(number)
    found = [None] * len(calls)
    for (program, _, _), numbers in alike.items():
        arguments = [calls[number][1] for number in numbers]
        if len(numbers) == 1:
            found[numbers[0]] = program(*arguments[0])
            continue
        arguments += arguments[-1:] * ((1 << (len(numbers) - 1).bit_length()) - len(numbers))
        arrays, others = zip(*(eqx.partition(each, _is_array) for each in arguments), strict=True)
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *arrays)
        for number, result in zip(numbers, _vmapped(program, stacked, others[0]), strict=False):
            found[number] = result
    return found


@eqx.filter_jit
def _vmapped(program, arrays, others):
    """Evaluate a program for every entry of the arrays."""
    stacked = jax.vmap(lambda one: program(*eqx.combine(one, others)))(arrays)
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(jax.tree.leaves(arrays)[0]))]


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)
