import numpy as np
import pytest

from fphojax.field.reservations import Reservations
from fphojax.inputs import InputError


def rows(*numbers):
    return np.array(numbers, dtype=int)


@pytest.fixture
def two_out():
    """Ten sources; 0 and 1 active with 2 and 3 fixed, 4 and 5 active with 3 fixed."""
    out = Reservations(10)
    numbers = out.take(rows(0, 1), rows(2, 3)), out.take(rows(4, 5), rows(3))
    return out, numbers


def test_what_is_out(two_out):
    out, (first, second) = two_out
    assert first != second
    assert len(out) == 2
    assert out.n_active == 4
    assert np.flatnonzero(out.is_active).tolist() == [0, 1, 4, 5]
    assert np.flatnonzero(out.is_fixed).tolist() == [2, 3]
    assert out.is_reserved(np.arange(7)).tolist() == [True] * 6 + [False]
    assert [out.active_in(row) for row in (0, 1, 4, 2, 9)] == [first, first, second, -1, -1]
    assert out.active_of(second) == 4


def test_who_is_in_the_way(two_out):
    out, (first, second) = two_out
    assert out.in_the_way(rows(6), rows(2, 3, 7)) is None  # fixed in several patches
    assert out.in_the_way(rows(6, 5), rows()) == second  # active in one only
    assert out.in_the_way(rows(6), rows(7, 1)) == first  # active there, fixed here
    assert out.in_the_way(rows(2), rows()) == first  # fixed there, active here
    assert out.in_the_way(rows(3), rows()) == first  # the first of those in which it is fixed


def test_return_frees_what_no_other_patch_has(two_out):
    out, (first, second) = two_out
    assert sorted(out.bring_back(first)) == [0, 1, 2, 3]
    assert np.flatnonzero(out.is_fixed).tolist() == [3]
    assert out.in_the_way(rows(3), rows()) == second
    assert out.in_the_way(rows(0, 1, 2), rows(3)) is None
    out.bring_back(second)
    assert len(out) == out.n_active == 0
    assert not out.is_reserved(np.arange(10)).any()
    assert out.take(rows(0), rows()) not in (first, second)


def test_seeds_wait_for_the_return(two_out):
    out, (first, second) = two_out
    out.wait(7, first)
    out.wait(8, second)
    assert out.is_waiting(rows(6, 7, 8)).tolist() == [False, True, True]
    assert out.waiting(first) == [7]
    assert sorted(out.bring_back(first)) == [0, 1, 2, 3, 7]
    assert out.is_waiting(rows(7, 8)).tolist() == [False, True]


def test_patch_is_known_by_its_sources(two_out):
    out, (first, _) = two_out
    assert out.number_of(rows(1, 0)) == first
    assert out.number_of(rows(0, 1), rows(2, 3)) == first
    for wrong in (rows(0), rows(0, 4), rows(0, 1, 1), rows(9), rows(-1), rows(10), rows()):
        with pytest.raises(InputError, match="not the active sources of a patch that is out"):
            out.number_of(wrong)
    with pytest.raises(InputError, match=r"fixed sources \[3\]: expected \[2, 3\]"):
        out.number_of(rows(0, 1), rows(3))
    out.bring_back(first)
    with pytest.raises(InputError, match="source_index"):
        out.number_of(rows(0, 1))
