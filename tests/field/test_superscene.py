import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import given, settings
from hypothesis import strategies as st

from fphojax.field.superscene import LinkedSuperScene, SuperScene
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.bounds import default_bounds
from fphojax.inputs.source_catalog import SourceCatalog

BANDS = ("g", "r")
KINDS = pytest.mark.parametrize("kind", [SuperScene, LinkedSuperScene])


def run(scene, *, in_flight=1, n_iter=60, seed=0, watch=lambda *_: None):
    """The whole loop, patches coming back in random order; the active sources of each, in order."""
    rng, out, history = np.random.default_rng(seed), [], []
    while scene.undone:
        region = None
        if len(out) < in_flight:
            region, active, fixed = scene.checkout_region(seed_index=-1)
        if region is not None:
            out.append((region, active, fixed))
            history.append(active["source_index"].tolist())
            watch(scene, out)
        else:
            assert out, "nothing is out, and nothing can be taken"
            _, active, fixed = out.pop(rng.integers(len(out)))
            scene.checkin_region(active, fixed, n_iter)
    for _, active, fixed in out:
        scene.checkin_region(active, fixed, n_iter)
    return history


def check_patches(scene, out):
    """The laws that hold for all patches out at a time."""
    active = [set(a["source_index"].tolist()) for _, a, _ in out]
    fixed = [set(f["source_index"].tolist()) for _, _, f in out]
    everyone = set().union(*active)
    assert len(everyone) == sum(map(len, active))
    assert not everyone & set().union(*fixed)
    assert scene.n_active == len(everyone) == scene.is_active.sum()
    assert scene.n_out == len(out)
    assert not scene.is_valid[list(everyone | set().union(*fixed))].any()
    region, last, around = out[-1]
    options = scene.options
    assert 1 <= len(last) <= options["maxactive_per_patch"]
    assert region.radius <= options["maxradius"]
    if options["max_fixed"] is None:
        reaching = region_reach(region, scene.catalog)
        assert set(np.flatnonzero(reaching)) - active[-1] == set(around["source_index"].tolist())


def region_reach(region, catalog):
    """Which sources' circles reach into a region."""
    # on the sphere: offsets in a plane are wrong by 1e-6 arcsec, enough for a circle that just touches
    places = np.deg2rad([region.ra, region.dec]), np.deg2rad([catalog.ra, catalog.dec])
    return 3600 * np.rad2deg(angular_separation(*places[0], *places[1])) <= region.radius + catalog.roi


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([SuperScene, LinkedSuperScene]),
    size=st.integers(1, 120),
    seed=st.integers(0, 1000),
    density=st.sampled_from([0.02, 0.1, 0.5]),
    in_flight=st.integers(1, 8),
    options=st.fixed_dictionaries(
        {
            "strict": st.booleans(),
            "maxactive_per_patch": st.sampled_from([1, 4, 15]),
            "maxradius": st.sampled_from([3.0, 15.0]),
            "max_fixed": st.sampled_from([None, 3]),
            "buffer": st.sampled_from([0.0, 0.5]),
        }
    ),
)
def test_laws_of_patches(mock_field, kind, size, seed, density, in_flight, options):
    catalog = mock_field(size, seed, density=density)
    scene = kind(catalog, BANDS, target_niter=100, seed=seed, **options)
    history = run(scene, in_flight=in_flight, seed=seed, watch=check_patches)
    assert set().union(*history) == set(range(size))
    assert (scene.n_iter >= 100).all()
    assert (scene.n_patch == np.bincount(np.concatenate(history), minlength=size)).all()
    assert (scene.n_iter == 60 * scene.n_patch).all()
    assert scene.n_undone == scene.n_active == scene.n_out == 0
    assert scene.is_valid.all()


@KINDS
@pytest.mark.parametrize("strict", [True, False])
def test_sources_that_belong_together_are_active_together(mock_field, tmp_path, kind, strict):
    """Bulges with their disks, and a triple, in a field so dense that groups have to be cut."""
    catalog = mock_field(90, 6, density=0.3)
    together = [[row, row + 45] for row in range(20)] + [[20, 65, 66]]
    ra, dec = catalog.ra.copy(), catalog.dec.copy()
    for rows in together:
        ra[rows], dec[rows] = ra[rows[0]], dec[rows[0]]
    options = {"maxactive_per_patch": 4, "strict": strict, "together": together, "seed": 5}
    scene = kind(
        catalog.replace(ra=ra, dec=dec), BANDS, statefile=tmp_path / "scene.fits", target_niter=60, **options
    )
    whole = []

    def watch(scene, out):
        check_patches(scene, out)
        members = set(out[-1][1]["source_index"].tolist())
        for rows in together:
            assert members.issuperset(rows) or members.isdisjoint(rows)
        whole.append(sum(members.issuperset(rows) for rows in together))

    history = run(scene, in_flight=4, watch=watch)
    print(f"{len(history)} patches, {sum(map(bool, whole))} with sources that belong together")
    assert set().union(*history) == set(range(90))

    scene.writeout()
    again = SuperScene.resume(tmp_path / "scene.fits", target_niter=120)
    before = sum(whole)
    run(again, in_flight=4, watch=watch)
    assert sum(whole) > before
    assert not again.undone


def test_neighbours_of_a_partner_are_subtracted():
    """A lone source tied to one that is not: the group is not alone, whatever its seed is."""
    offset = np.array([0.0, 6.0, 6.6, 3.0])
    catalog = SourceCatalog.from_columns(
        ra=np.full(4, 20.0),
        dec=offset / 3600,
        flux=np.ones((4, 1)),
        q=0.8,
        pa=0.0,
        sersic=1.0,
        rhalf=0.2,
        roi=0.5,
        bands=("r",),
    )
    scene = LinkedSuperScene(catalog, ("r",), together=[[0, 1]], maxactive_per_patch=2, buffer=0.0)
    _, active, fixed = scene.checkout_region(seed_index=0)
    assert sorted(active["source_index"].tolist()) == [0, 1]
    assert sorted(fixed["source_index"].tolist()) == [2, 3]


@KINDS
def test_same_seed_same_order(mock_field, kind):
    catalog = mock_field(150, 5)
    orders = [run(kind(catalog, BANDS, target_niter=100, seed=seed), in_flight=4) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@KINDS
def test_largest_first(mock_field, kind, tmp_path):
    """Groups form around the sources with the largest radii of influence, once each, and so after an interruption."""
    options = {"target_niter": 120, "largest_first": True, "maxactive_per_patch": 4}
    catalog = mock_field(60)
    scene = kind(catalog, BANDS, statefile=tmp_path / "scene.fits", **options)
    left = set(range(60))
    while left:
        _, active, fixed = scene.checkout_region()
        assert active["source_index"][0] == min(left, key=lambda row: (-catalog.roi[row], row))
        scene.checkin_region(active, fixed, 60)
        left -= set(active["source_index"].tolist())
        if len(left) < 30:
            scene = kind.resume(tmp_path / "scene.fits")


@KINDS
def test_search_gives_up_only_when_every_group_is_blocked(mock_field, kind):
    catalog = mock_field(80, 7, density=0.2)
    scene = kind(catalog, BANDS, seed=3)
    out = []
    while (found := scene.checkout_region())[0] is not None:
        out.append(found)
    assert len(out) > 1
    for seed in range(80):
        assert scene.checkout_region(seed_index=seed) == (None, None, None)
    _, active, fixed = out[0]
    scene.release_region(active, fixed)
    assert scene.checkout_region(seed_index=int(active["source_index"][0]))[0] is not None


def test_strict_groups_do_not_depend_on_what_is_out():
    # a chain of five that fits, and a source which reaches into the region of its first two alone
    x = np.array([0.0, 1.5, 3.0, 4.5, 6.0])
    catalog = SourceCatalog.from_columns(
        ra=x / 3600, dec=0.0, flux=np.ones(5), q=0.8, pa=0.0, sersic=1.5, rhalf=0.2, roi=0.8, bands=("r",)
    )
    whole = LinkedSuperScene(catalog, ("r",), strict=True)
    _, active, fixed = whole.checkout_region(seed_index=2)
    assert sorted(active["source_index"]) == [0, 1, 2, 3, 4]
    assert len(fixed) == 0

    cut = LinkedSuperScene(catalog, ("r",), strict=True, maxactive_per_patch=2)
    _, active, fixed = cut.checkout_region(seed_index=0)
    assert active["source_index"].tolist() == [0, 1]
    assert fixed["source_index"].tolist() == [2]
    assert cut.checkout_region(seed_index=3)[0] is None  # would need 2, which is fixed
    loose = LinkedSuperScene(catalog, ("r",), strict=False, maxactive_per_patch=2)
    loose.checkout_region(seed_index=0)
    _, active, fixed = loose.checkout_region(seed_index=3)
    assert active["source_index"].tolist() == [3, 4]
    assert fixed["source_index"].tolist() == [2]


@KINDS
@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (123.4, 65.0)])
def test_region_covers_the_circles_of_active_sources(mock_field, kind, ra, dec):
    catalog = mock_field(100, 2, ra=ra, dec=dec)
    scene = kind(catalog, BANDS, maxradius=50.0, buffer=0.3)
    while (found := scene.checkout_region())[0] is not None:
        region, active, _ = found
        offset = sky_offsets(active.ra, active.dec, region.ra, region.dec)
        assert (np.hypot(*offset.T) + active.roi).max() == pytest.approx(region.radius - 0.3, abs=1e-4)
        np.testing.assert_array_equal(active.id, catalog.id[active["source_index"]])


def test_pairs_of_many_groups_link_across_ra_zero_and_over_degrees():
    # pairs 1 arcsec apart, spread over four degrees, in a field that no plane projection would keep
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(-2, 2, 200), 70 + rng.uniform(-2, 2, 200)
    catalog = SourceCatalog.from_columns(
        ra=np.concatenate([ra, ra + 1 / 3600 / np.cos(np.deg2rad(dec))]) % 360,
        dec=np.tile(dec, 2),
        flux=np.ones(400),
        q=0.8,
        pa=0.0,
        sersic=1.5,
        rhalf=0.1,
        roi=0.5001,
        bands=("r",),
    )
    scene = LinkedSuperScene(catalog, ("r",))
    for row in range(200):
        region, active, _ = scene.checkout_region(seed_index=row)
        assert active["source_index"].tolist() == [row, row + 200]
        assert region.contains(active.ra, active.dec).all()


def test_big_sources_are_always_fixed(mock_field):
    catalog = mock_field(60, 1, density=0.3)
    big = SourceCatalog.from_columns(
        ra=[0.0, 5.0],
        dec=[-20.0, 30.0],
        flux=[[50.0, 100.0, 200.0]] * 2,
        q=0.7,
        pa=17.0,
        sersic=4.0,
        rhalf=5.0,
        roi=60.0,
        bands=("z", "r", "g"),
        id=["NGC 1", "NGC 2"],
    )
    scene = LinkedSuperScene(catalog, BANDS, bigscene=big, max_fixed=1)
    _, active, fixed = scene.checkout_region()
    assert fixed["source_index"][-1] == -1
    assert fixed.id[-1] == "NGC 1"
    np.testing.assert_array_equal(fixed.flux[-1], [200.0, 100.0])
    assert len(fixed) <= 2
    scene.checkin_region(active, fixed, 500)
    assert len(scene.catalog) == 60


def test_parameters_bounds_and_covariances_come_back(mock_field):
    catalog = mock_field(30, 8, ra=359.99999)
    scene = LinkedSuperScene(catalog, BANDS, bounds_kwargs={"n_pix": 1.5})
    start = default_bounds(catalog, n_pix=1.5)
    _, active, fixed = scene.checkout_region()
    rows = active["source_index"]
    bounds, covs = scene.bounds_and_covs(rows)
    for name in bounds.lower:
        np.testing.assert_allclose(bounds.lower[name], start.lower[name][rows], rtol=1e-12)
    n = len(BANDS) + 6
    assert scene.parameters == (*BANDS, "x", "y", "q", "pa", "sersic", "rhalf")
    assert covs.shape == (len(rows), n, n)
    assert np.isnan(covs).all()
    assert not scene.has_covariance[rows].any()

    # as far east, and half as far south, as the bounds allow
    shift = 0.045 / 3600
    moved = active.replace(
        ra=(active.ra + shift / np.cos(np.deg2rad(catalog.dec[rows]))) % 360,
        dec=active.dec - shift / 2,
        flux=active.flux * 1.5,
        sersic=np.full(len(rows), 2.5),
    )
    root = np.random.default_rng(1).normal(size=(len(rows), n, n))
    given_covs = root @ root.transpose(0, 2, 1)
    scene.checkin_region(moved, fixed, 40, block_covs=given_covs, taskID="a")
    assert scene.has_covariance[rows].all()
    bounds, covs = scene.bounds_and_covs(rows)
    np.testing.assert_allclose(covs, given_covs, rtol=1e-14)
    np.testing.assert_allclose(bounds.lower["x"], -0.09, atol=1e-8)
    np.testing.assert_allclose(bounds.upper["x"], 0, atol=1e-8)
    np.testing.assert_allclose(bounds.lower["y"], -0.0225, atol=1e-8)
    np.testing.assert_allclose(bounds.upper["y"], 0.0675, atol=1e-8)
    np.testing.assert_array_equal(bounds.upper["flux"], start.upper["flux"][rows])
    now = scene.catalog[rows]
    assert not bounds.violations(now)
    np.testing.assert_array_equal(now.flux, moved.flux)
    np.testing.assert_array_equal(now["n_iter"], 40)
    np.testing.assert_array_equal(catalog.sersic, mock_field(30, 8, ra=359.99999).sersic)


def test_flagged_sources_keep_their_parameters_and_are_left_alone(mock_field):
    catalog = mock_field(60, 9, density=0.1)
    scene = LinkedSuperScene(catalog, BANDS, target_niter=10)
    _, active, fixed = scene.checkout_region()
    bad = active["source_index"].tolist()
    scene.checkin_region(active.replace(sersic=active.sersic + 1), fixed, 0, flag="out of memory")
    np.testing.assert_array_equal(scene.catalog.sersic[bad], catalog.sersic[bad])
    assert scene.n_flagged == len(bad)
    assert scene.n_undone == 60 - len(bad)
    history = run(scene, n_iter=10, in_flight=3)
    assert not set(bad) & set().union(*history)
    assert scene.flags == dict.fromkeys(bad, "out of memory")
    assert set(np.flatnonzero(scene.n_iter >= 10)) == set(range(60)) - set(bad)
    # to ask for one by name is to try it again
    _, active, fixed = scene.checkout_region(seed_index=bad[0])
    scene.checkin_region(active, fixed, 10)
    assert bad[0] not in scene.flags
    assert scene.n_undone == 0


def test_what_cannot_be_checked_in(mock_field):
    scene = LinkedSuperScene(mock_field(40, 11), BANDS, maxactive_per_patch=3)
    _, active, fixed = scene.checkout_region()
    with pytest.raises(InputError, match=r"source_index .* not the active sources of a patch"):
        scene.checkin_region(scene.catalog[[0, 1, 2, 3]], None, 10)
    with pytest.raises(InputError, match="n_iter is -1"):
        scene.checkin_region(active, fixed, -1)
    with pytest.raises(InputError, match="block_covs has shape"):
        scene.checkin_region(active, fixed, 10, block_covs=np.eye(8))
    with pytest.raises(InputError, match="block_covs of row 0"):
        scene.checkin_region(active, fixed, 10, block_covs=np.full((len(active), 8, 8), np.nan))
    with pytest.raises(InputError, match="catalogue in r, expected g, r"):
        scene.checkin_region(active.select_bands(["r"]), fixed, 10)
    with pytest.raises(InputError, match="fixed sources"):
        scene.checkin_region(active, active, 10)
    final = active.replace(flux=active.flux.copy())
    final.flux[0, 1] = np.nan
    with pytest.raises(InputError, match=r"row 0 \(id \d+\): parameters .*nan.*, expected finite"):
        scene.checkin_region(final, fixed, 10)
    assert scene.n_out == 1
    assert not scene.patchlog
    scene.checkin_region(active, fixed, 10)
    with pytest.raises(InputError, match="not the active sources"):
        scene.checkin_region(active, fixed, 10)


def test_what_a_superscene_refuses(mock_field):
    catalog = mock_field(5)
    with pytest.raises(InputError, match=r"row 0 \(id 1000\): sersic is .*, expected within \[5, 6\]"):
        SuperScene(catalog, BANDS, bounds_kwargs={"sersic_range": (5.0, 6.0)})
    with pytest.raises(InputError, match="maxradius is 0"):
        SuperScene(catalog, BANDS, maxradius=0)
    with pytest.raises(InputError, match="max_fixed is -1"):
        SuperScene(catalog, BANDS, max_fixed=-1)
    with pytest.raises(InputError, match="no fluxes in F200W"):
        SuperScene(catalog, ["F200W"])
    with pytest.raises(TypeError, match="nscale"):
        LinkedSuperScene(catalog, BANDS, nscale=2.0)
    with pytest.raises(InputError, match="seed_index is 5, expected at most 4"):
        SuperScene(catalog, BANDS).checkout_region(seed_index=5)
    with pytest.raises(InputError, match="no statefile"):
        SuperScene(catalog, BANDS).writeout()
    with pytest.raises(InputError, match=r"expected \.fits"):
        SuperScene(catalog, BANDS, statefile="scene.ecsv")


def test_radii_of_influence_can_be_given(mock_field):
    catalog = mock_field(20)
    assert (LinkedSuperScene(catalog, BANDS, roi=0.7).catalog.roi == 0.7).all()
    scene = LinkedSuperScene(catalog, BANDS, roi=3 * catalog["rhalf"])
    np.testing.assert_array_equal(scene.catalog.roi, 3 * catalog.rhalf)


@KINDS
def test_sources_with_larger_radii_are_fitted_again(mock_field, tmp_path, kind):
    catalog = mock_field(30).replace(roi=np.full(30, 0.3))
    scene = kind(catalog, BANDS, statefile=tmp_path / "scene.fits", target_niter=100, maxradius=4.0)
    _, active, fixed = scene.checkout_region(3)
    with pytest.raises(InputError, match="1 patches are out, expected none"):
        scene.widen(np.full(30, 1.0))
    scene.checkin_region(active, fixed, 100)
    run(scene, n_iter=100)
    assert scene.widen(np.full(30, 0.2)) == 0
    assert not scene.undone
    roi = np.full(30, 0.3)
    roi[[4, 7]] = 2.0
    assert scene.widen(roi) == 2
    again = kind.resume(tmp_path / "scene.fits")
    for one in (again, scene):
        np.testing.assert_array_equal(one.catalog.roi, roi)
        assert one.n_undone == 2
        assert (one.n_iter[[4, 7]] == 0).all()
        regions = []
        run(one, n_iter=100, watch=lambda _, out, regions=regions: regions.append(out[-1][0].radius))
        assert max(regions) >= 2.0
        assert not one.undone
