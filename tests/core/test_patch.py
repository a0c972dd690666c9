"""Padding and pairing of tiles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fphojax.core.pairs import all_pairs, listed_pairs
from fphojax.core.patch import padded_length


@given(n=st.integers(0, 10**7), smallest=st.sampled_from([2, 16, 64]))
def test_padded_length(n, smallest):
    length = padded_length(n, smallest=smallest)
    assert length >= max(n, smallest)
    assert length <= max(smallest, 1.5 * n)
    # one of smallest * {2^k, 3 * 2^(k - 1)}
    assert np.log2(length / smallest) % 1 == 0 or np.log2(length / smallest / 1.5) % 1 == 0


def test_all_pairs(make_patcher):
    patcher, _catalog = make_patcher(n_source=2)
    patch = patcher.frame.patch
    amplitudes = np.ones((2, 2, 3, 2))
    amplitudes[1, :, :, 1] = 0  # the second exposure's PSF has one Gaussian only
    pairs = all_pairs(patch, amplitudes, corrected=np.array([[True, False], [False, False]]))
    n = int(pairs.level[-1])
    assert sorted(np.asarray(pairs.tile)[:n]) == list(range(int(patch.count)))
    assert set(np.asarray(pairs.tile)[n:]) <= {patch.n_tile - 1}
    first, second = (
        np.flatnonzero(np.asarray(patch.exposure)[np.asarray(pairs.tile)[:n]] == e)[0] for e in (0, 1)
    )
    end = amplitudes.size
    # first exposure: six Gaussians of each source, those of source 0 with the polynomial
    _, plain, corrected = pairs.row(first, pairs.longest, end)
    assert set(np.asarray(corrected)) - {end} == set(range(6))
    assert set(np.asarray(plain)) - {end} == set(range(6, 12))
    # second exposure: the first PSF component of three profile components of two sources
    _, plain, corrected = pairs.row(second, pairs.longest, end)
    assert set(np.asarray(plain)) - {end} == set(range(12, 24, 2))
    assert set(np.asarray(corrected)) == {end}


def test_lists_hold_every_pair_once(make_patcher):
    patcher, _ = make_patcher(side=40)
    patch = patcher.frame.patch
    rng = np.random.default_rng(0)
    tiles = np.flatnonzero(np.asarray(patch.ierr).any(axis=1))
    lists_by_kind = [
        [np.sort(rng.choice(400, rng.integers(0, most), replace=False)) for _ in tiles] for most in (200, 9)
    ]
    pairs = listed_pairs(patch, tiles, *lists_by_kind)
    lists_by_tile = {}
    for begin, end, lengths in zip(pairs.level, pairs.level[1:], pairs.lengths, strict=False):
        for row in range(int(begin), int(end)):
            tile, *lists = pairs.row(row, lengths, 400)
            lists_by_tile[int(tile)] = [np.asarray(part)[np.asarray(part) < 400] for part in lists]
    assert pairs.n_pair == sum(len(part) for lists in lists_by_kind for part in lists)
    for tile, *expected in zip(tiles, *lists_by_kind, strict=True):
        if any(len(part) for part in expected):
            for ours, theirs in zip(lists_by_tile.pop(int(tile)), expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)
        assert tile not in lists_by_tile
    assert (np.asarray(pairs.tile)[int(pairs.level[-1]) :] == patch.n_tile - 1).all()
