import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax.field.seeds import SeedPool

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 19), st.integers(0, 12)), max_size=80)


def one(number):
    return np.array([number])


def drained(pool):
    """All that is in a pool, in order."""
    rows = []
    while len(pool):
        rows.append(row := pool.draw())
        pool.discard(row)
    return rows


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_pool_behaves_as_a_set(steps):
    pool, expected = SeedPool(np.zeros(20, dtype=int), 10, 0), set(range(20))
    for add, row, n_iter in steps:
        if add:
            pool.add(one(row), one(n_iter))
            expected |= {row} if n_iter < 10 else set()
        else:
            pool.discard(row)
            expected.discard(row)
        assert len(pool) == len(expected)
        if expected:
            assert pool.draw() in expected
    assert set(drained(pool)) == expected


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, 2**40))
def test_order_does_not_depend_on_how_sources_came_into_the_pool(steps, seed):
    n_iter = np.zeros(20, dtype=int)
    pool, inside = SeedPool(n_iter, 10, seed), np.ones(20, dtype=bool)
    for add, row, made in steps:
        pool.discard(row)
        inside[row] = add
        if add:
            n_iter[row] += made
            pool.add(np.array([row, row]), np.full(2, n_iter[row]))
        if len(pool):
            pool.draw()
    anew = SeedPool(np.where(inside, n_iter, 10), 10, seed)
    assert drained(pool) == drained(anew)


def test_few_iterations_are_drawn_more_often():
    n_iter = np.repeat([0, 25, 50, 100], [100, 200, 300, 400])
    drawn = np.bincount(
        np.searchsorted([0, 25, 50], [n_iter[SeedPool(n_iter, 100, seed).draw()] for seed in range(4000)]),
        minlength=3,
    )
    expected = np.array([100, 200 / 4, 300 / 16])
    expected *= 4000 / expected.sum()
    print("drawn", drawn, "expected", expected.round())
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()


def test_all_of_a_level_are_drawn_alike():
    drawn = np.bincount([SeedPool(np.zeros(5, dtype=int), 10, seed).draw() for seed in range(5000)])
    assert (np.abs(drawn - 1000) < 5 * np.sqrt(1000)).all()


def test_empty_pool():
    with pytest.raises(IndexError, match="no source"):
        SeedPool(np.full(3, 10), 10, 0).draw()


def test_sources_with_an_order_are_drawn_in_it_those_with_few_iterations_first():
    pool = SeedPool(np.array([0, 0, 5, 0, 10]), 10, 0, order=[-1.0, -3.0, -9.0, -3.0, -4.0])
    assert drained(pool) == [1, 3, 0, 2]


def test_a_source_that_comes_back_with_more_iterations_waits_for_those_with_fewer():
    pool = SeedPool(np.zeros(3, dtype=int), 2, 0, order=[0, 1, 2])
    pool.discard(0)
    pool.add(one(0), one(1))
    assert drained(pool) == [1, 2, 0]
