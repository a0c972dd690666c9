"""Calls from several threads, made together."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.inference.lockstep import Lockstep

traced = []


@jax.jit
def squared(x, key):
    """With what else programs of chains have: random numbers."""
    traced.append(x.shape)
    return {"square": x**2, "number": jax.random.uniform(key)}


def run(lockstep, number, n_call, program=squared, size=2):
    """Results of a thread that makes so many calls."""
    try:
        keys = jax.random.split(jax.random.key(number), n_call)
        return [lockstep(program, jnp.full(size, float(number + i)), keys[i]) for i in range(n_call)]
    finally:
        lockstep.leave()


def in_threads(lockstep, calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [thread.result() for thread in [pool.submit(run, lockstep, *call) for call in calls]]


def test_results_are_those_of_single_calls():
    """Of threads that make more calls than others, and of arguments of two sizes."""
    calls = [(0, 3), (10, 5), (20, 1), (30, 4, squared, 3)]
    found = in_threads(Lockstep(len(calls)), calls)
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
    in_threads(Lockstep(3), [(0, 3, squared, 5), (10, 2, squared, 5), (20, 1, squared, 5)])
    assert len(traced) <= 3


def test_a_failure_is_told_to_all_that_called():
    def failing(x, key):
        raise ValueError("no such number")

    lockstep = Lockstep(2)
    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(run, lockstep, number, 1, failing) for number in (0, 1)]
    for thread in threads:
        with pytest.raises(ValueError, match="no such number"):
            thread.result()


def test_interruption_ends_all_calls():
    lockstep = Lockstep(2)
    lockstep.interrupt()
    with ThreadPoolExecutor(2) as pool:
        threads = [pool.submit(run, lockstep, number, 2) for number in (0, 1)]
    for thread in threads:
        with pytest.raises(KeyboardInterrupt):
            thread.result()
