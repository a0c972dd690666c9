"""Several patches computed in lockstep by one program, for accelerators that one small patch cannot fill."""

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .interruptible import interruptible

__all__ = ["Task", "in_step", "lockstep"]

type Task[Result] = Generator[tuple[Callable, tuple], Any, Result]


def lockstep[Result](tasks: Sequence[Task[Result]]) -> list[Result]:
    """Run tasks side by side, and make the calls of all that wait for one `in_step`.

    Parameters
    ----------
    tasks : sequence of Task
        Each yields calls, (program, arguments), and is sent what they return. After Ctrl-C during a call,
        KeyboardInterrupt is raised in all tasks that wait.

    Returns
    -------
    list
        What the tasks return.
    """
    results: list = [None] * len(tasks)
    waiting: dict[int, tuple[Callable, tuple]] = {}

    def resume(number, act):
        try:
            waiting[number] = act()
        except StopIteration as end:
            results[number] = end.value

    for number, task in enumerate(tasks):
        resume(number, partial(next, task))
    while waiting:
        numbers, calls = list(waiting), list(waiting.values())
        waiting.clear()
        try:
            values = interruptible(in_step, calls)
        except KeyboardInterrupt:
            for number in numbers:
                resume(number, partial(tasks[number].throw, KeyboardInterrupt))
        else:
            for number, value in zip(numbers, values, strict=True):
                resume(number, partial(tasks[number].send, value))
    return results


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
    results = [None] * len(calls)
    for (program, _, _), numbers in alike.items():
        arguments = [calls[number][1] for number in numbers]
        if len(numbers) == 1:
            results[numbers[0]] = program(*arguments[0])
            continue
        arguments += arguments[-1:] * ((1 << (len(numbers) - 1).bit_length()) - len(numbers))
        arrays, others = zip(*(eqx.partition(each, _is_array) for each in arguments), strict=True)
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *arrays)
        for number, result in zip(numbers, _vmapped(program, stacked, others[0]), strict=False):
            results[number] = result
    return results


@eqx.filter_jit
def _vmapped(program, arrays, others):
    """Evaluate a program for every entry of the arrays."""
    stacked = jax.vmap(lambda one: program(*eqx.combine(one, others)))(arrays)
    return [jax.tree.map(lambda a, i=i: a[i], stacked) for i in range(len(jax.tree.leaves(arrays)[0]))]


def _is_array(leaf):
    return isinstance(leaf, jax.Array | np.ndarray)
