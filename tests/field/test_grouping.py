import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from fphojax.field.grouping import LinkedGroups, NearGroups
from fphojax.inputs.sphere import separation, unit_vectors


def nobody(rows):
    return np.zeros(len(rows), dtype=bool)


def everyone_but(*allowed):
    return lambda rows: ~np.isin(rows, allowed)


def on_equator(x):
    """Unit vectors of sources at x arcsec along the equator, across ra = 0."""
    return unit_vectors(np.asarray(x, dtype=float) / 3600 % 360, np.zeros(len(x)))


def test_friends_of_friends_against_disjoint_sets(mock_field):
    catalog = mock_field(300, seed=3)
    vectors = unit_vectors(catalog.ra, catalog.dec)
    groups = LinkedGroups(vectors, catalog.roi, maxactive=1000, maxradius=1e4)
    distance = separation(vectors[:, None], vectors[None, :])
    sets = DisjointSet(range(300))
    for i, j in np.argwhere(distance <= catalog.roi[:, None] + catalog.roi[None, :]):
        sets.merge(i, j)
    for seed in range(300):
        members = groups.members(seed, nobody)
        assert members[0] == seed
        assert set(members.tolist()) == sets.subset(seed)
    print(f"{sets.n_subsets} groups, largest {max(map(len, sets.subsets()))}")


def test_sources_at_the_same_position_link():
    groups = LinkedGroups(on_equator([5, 5, 9]), np.full(3, 1e-3), maxactive=15, maxradius=15)
    assert sorted(groups.members(0, nobody)) == [0, 1]
    assert sorted(groups.members(1, nobody)) == [0, 1]


def test_long_chain_is_cut_to_the_nearest():
    groups = LinkedGroups(on_equator(np.arange(-20, 21)), np.full(41, 0.6), maxactive=5, maxradius=15)
    members = groups.members(20, nobody)
    assert members[0] == 20
    assert sorted(members) == [18, 19, 20, 21, 22]


def test_chain_is_cut_at_the_largest_radius():
    groups = LinkedGroups(on_equator(np.arange(-20, 21)), np.full(41, 0.6), maxactive=50, maxradius=3.7)
    assert sorted(groups.members(20, nobody)) == [17, 18, 19, 20, 21, 22, 23]


def test_whole_group_is_taken_where_it_fits_about_its_own_centre():
    # from its end, the chain is longer than the radius; about its middle it is not
    groups = LinkedGroups(on_equator([0, 1, 2, 3, 4]), np.full(5, 0.6), maxactive=5, maxradius=2.7)
    assert sorted(groups.members(0, nobody)) == [0, 1, 2, 3, 4]


def test_links_do_not_go_through_excluded_sources():
    groups = LinkedGroups(on_equator(np.arange(7)), np.full(7, 0.6), maxactive=5, maxradius=15)
    assert sorted(groups.members(3, everyone_but(2, 4, 5, 0))) == [2, 3, 4, 5]


def test_seed_too_large_for_any_patch_is_alone():
    groups = LinkedGroups(on_equator([0, 1]), np.array([20.0, 0.5]), maxactive=5, maxradius=15)
    assert groups.members(0, nobody).tolist() == [0, 1]
    assert groups.members(1, nobody).tolist() == [1]


def test_near_groups_by_half_light_radii():
    rhalf = np.array([0.2, 0.2, 1.0, 0.1])
    groups = NearGroups(
        on_equator([0, 1.1, 3.5, 0.95]), 5 * rhalf, rhalf, nscale=3, maxactive=15, maxradius=15
    )
    # 1.1 <= 3 * 0.4 and 3.5 <= 3 * 1.2, but 0.95 > 3 * 0.3; 3.5 / 1.2 > 1.1 / 0.4
    assert groups.members(0, nobody).tolist() == [0, 1, 2]
    assert groups.members(0, everyone_but(2)).tolist() == [0, 2]
    small = NearGroups(on_equator([0, 1.1, 3.5, 0.95]), 5 * rhalf, rhalf, nscale=3, maxactive=2, maxradius=15)
    assert small.members(0, nobody).tolist() == [0, 1]
    near = NearGroups(on_equator([0, 1.1, 3.5, 0.95]), 5 * rhalf, rhalf, nscale=3, maxactive=15, maxradius=8)
    assert near.members(0, nobody).tolist() == [0, 1]
