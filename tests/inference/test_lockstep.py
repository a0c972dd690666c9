"""Tasks whose calls are made together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference import lockstep as module
from fphojax.inference.lockstep import lockstep

traced = []


@jax.jit
def squared(x, key):
    """With what else programs of chains have: random numbers."""
    traced.append(x.shape)
    return {"square": x**2, "number": jax.random.uniform(key)}


def task(number, n_call, program=squared, size=2):
    """Make so many calls, and return their results."""
    keys = jax.random.split(jax.random.key(number), n_call)
    results = []
    for i in range(n_call):
        result = yield program, (jnp.full(size, float(number + i)), keys[i])
        results.append(result)
    return results


def test_results_are_those_of_single_calls():
    """Of tasks that make more calls than others, or none, and of arguments of two sizes."""
    calls = [(0, 3), (10, 5), (20, 1), (30, 4, squared, 3), (40, 0)]
    found = lockstep([task(*call) for call in calls])
    for (number, n_call, *rest), results in zip(calls, found, strict=True):
        assert len(results) == n_call
        for i, result in enumerate(results):
            expected = squared(
                jnp.full(rest[1] if rest else 2, float(number + i)),
                jax.random.split(jax.random.key(number), n_call)[i],
            )
            np.testing.assert_array_equal(result["square"], expected["square"])
            np.testing.assert_array_equal(result["number"], expected["number"])


def test_few_programs_are_compiled():
    """Three, then two, then one of a size: programs of four, two and one."""
    traced.clear()
    lockstep([task(0, 3, squared, 5), task(10, 2, squared, 5), task(20, 1, squared, 5)])
    assert len(traced) <= 3


def test_a_failure_is_raised():
    def failing(x, key):
        raise ValueError("no such number")

    with pytest.raises(ValueError, match="no such number"):
        lockstep([task(number, 1, failing) for number in (0, 1)])


def test_an_interruption_is_raised_in_all_tasks(monkeypatch):
    """A task that has something to keep returns it; one that has not ends all."""
    asked = []

    def interrupted(calls):
        asked.append(len(calls))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return [1.0] * len(calls)

    def keeping(n_call):
        kept = []
        try:
            while len(kept) < n_call:
                value = yield squared, ()
                kept += [value]
        except KeyboardInterrupt:
            if not kept:
                raise
        return kept

    monkeypatch.setattr(module, "in_step", interrupted)
    assert lockstep([keeping(3), keeping(1), keeping(5)]) == [[1.0], [1.0], [1.0]]
    assert asked == [3, 2]
    asked[:] = [0]
    with pytest.raises(KeyboardInterrupt):
        lockstep([keeping(3)])
