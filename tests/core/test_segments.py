"""Segments hold every pair of a tile and a Gaussian once."""

import jax.numpy as jnp
import numpy as np
import pytest

from fphojax.core.pairs import all_pairs
from fphojax.core.patch import TILE, Patch
from fphojax.core.segments import LENGTH, segments_of

SHAPE = E, S, K, M = 2, 3, 5, 3


def mock_patch():
    """Three tiles of the first exposure, two of the second, and an empty one."""
    ierr = np.zeros((6, TILE * TILE))
    ierr[:5] = 1
    return Patch(
        data=jnp.zeros(ierr.shape),
        ierr=jnp.asarray(ierr),
        origin=jnp.zeros((6, 2), dtype=jnp.int32),
        exposure=jnp.asarray([0, 0, 0, 1, 1, 1]),
        count=jnp.asarray(5),
    )


@pytest.mark.parametrize("corrected", [False, True])
def test_every_pair_is_in_one_segment(corrected):
    patch, amplitude = mock_patch(), np.ones(SHAPE)
    amplitude[1, 2] = 0  # the last source is not seen by the second exposure
    pairs = all_pairs(patch, amplitude, np.broadcast_to([corrected, False, corrected], (E, S)))
    plain, polynomial = segments_of(pairs, patch.n_tile, SHAPE)
    end = int(np.prod(SHAPE))
    found = set()
    for kind, segments in enumerate((plain, polynomial)):
        tile, source, members = (np.asarray(part) for part in segments[:3])
        for n in range(len(tile)):
            own = members[n][members[n] < end]
            if not own.size:
                assert (tile[n], source[n]) == (patch.n_tile - 1, 0)  # padding
                continue
            exposure, of = np.unravel_index(own, SHAPE)[:2]
            assert (of == source[n]).all()
            assert (exposure == patch.exposure[tile[n]]).all()
            pairs_here = {(int(tile[n]), int(g), kind) for g in own}
            assert len(pairs_here) == own.size
            assert not pairs_here & found
            found |= pairs_here
    expected = {
        (t, int(np.ravel_multi_index((e, s, k, m), SHAPE)), int(corrected and s != 1))
        for t, e in enumerate([0, 0, 0, 1, 1])
        for s in range(S)
        for k in range(K)
        for m in range(M)
        if amplitude[e, s, k, m]
    }
    assert found == expected
    # 15 Gaussians of a source on a tile fill two segments
    used = sum(np.count_nonzero((np.asarray(part.members) < end).any(axis=1)) for part in (plain, polynomial))
    assert used == 13 * -(-K * M // LENGTH)


def test_no_pairs_no_segments():
    patch = mock_patch()
    pairs = all_pairs(patch, np.ones(SHAPE), np.zeros((E, S), dtype=bool))
    _, polynomial = segments_of(pairs, patch.n_tile, SHAPE)
    assert polynomial.tile.shape == (0,)
    assert polynomial.members.shape == (0, LENGTH)
