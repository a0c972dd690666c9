import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax.field.seeds import SeedPool


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 19), st.integers(0, 12)), max_size=80))
def test_pool_behaves_as_a_set(steps):
    pool, expected, rng = SeedPool(np.zeros(20, dtype=int), 10), set(range(20)), np.random.default_rng(0)
    for add, row, n_iter in steps:
        if add:
            pool.add(row, n_iter)
            expected |= {row} if n_iter < 10 else set()
        else:
            pool.discard(row)
            expected.discard(row)
        assert len(pool) == len(expected)
        if expected:
            assert pool.draw(rng) in expected
    drained = set()
    while len(pool):
        drained.add(row := pool.draw(rng))
        pool.discard(row)
    assert drained == expected


def test_few_iterations_are_drawn_more_often():
    n_iter = np.repeat([0, 25, 50, 100], [100, 200, 300, 400])
    pool, rng = SeedPool(n_iter, 100), np.random.default_rng(1)
    drawn = np.bincount(
        np.searchsorted([0, 25, 50], [n_iter[pool.draw(rng)] for _ in range(20000)]), minlength=3
    )
    expected = np.array([100, 200 / 4, 300 / 16])
    expected *= 20000 / expected.sum()
    print("drawn", drawn, "expected", expected.round())
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()


def test_all_of_a_level_are_drawn_alike():
    pool, rng = SeedPool(np.zeros(5, dtype=int), 10), np.random.default_rng(2)
    drawn = np.bincount([pool.draw(rng) for _ in range(5000)], minlength=5)
    assert (np.abs(drawn - 1000) < 5 * np.sqrt(1000)).all()


def test_empty_pool():
    with pytest.raises(IndexError, match="no source"):
        SeedPool(np.full(3, 10), 10).draw(np.random.default_rng(0))
