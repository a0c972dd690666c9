"""Padding and pairing of tiles."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fphojax.core.patch import all_pairs, padded_length


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
    (pairs,) = all_pairs(patch, amplitudes, corrected=np.array([[True, False], [False, False]]))
    n = int(pairs.count)
    assert sorted(np.asarray(pairs.tile)[:n]) == list(range(int(patch.count)))
    assert set(np.asarray(pairs.tile)[n:]) <= {patch.n_tile - 1}
    first, second = (
        np.flatnonzero(np.asarray(patch.exposure)[np.asarray(pairs.tile)[:n]] == e)[0] for e in (0, 1)
    )
    end = amplitudes.size
    # first exposure: six Gaussians of each source, those of source 0 with the polynomial
    assert set(np.asarray(pairs.corrected)[first]) == set(range(6))
    assert set(np.asarray(pairs.plain)[first]) == set(range(6, 12))
    # second exposure: the first PSF component of three profile components of two sources
    assert set(np.asarray(pairs.plain)[second]) - {end} == set(range(12, 24, 2))
    assert set(np.asarray(pairs.corrected)[second]) == {end}
