import numpy as np
import pytest
from astropy.table import Table

from fphojax.field.columns import SceneColumns
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.bounds import PARAMETERS, default_bounds
from fphojax.inputs.source_catalog import SourceCatalog

BANDS = ("g", "r")
SIZE, N_PARAMETER = 4, 8


@pytest.fixture
def catalog():
    rng = np.random.default_rng(0)
    return SourceCatalog.from_columns(
        id=np.array(["a", "b", "c", "d"]),
        ra=150 + rng.uniform(-1, 1, SIZE) / 3600,
        dec=2 + rng.uniform(-1, 1, SIZE) / 3600,
        flux=rng.uniform(10, 20, (SIZE, 2)),
        flux_err=np.full((SIZE, 2), 3.0),
        q=rng.uniform(0.5, 0.9, SIZE),
        pa=rng.uniform(-60, 60, SIZE),
        sersic=rng.uniform(1, 3, SIZE),
        rhalf=rng.uniform(0.1, 0.3, SIZE),
        bands=BANDS,
        extra=Table({"profile": ["sersic", "exponential", "sersic", "point"], "z": np.arange(4.0)}),
    )


@pytest.fixture
def bounds(catalog):
    return default_bounds(catalog)


@pytest.fixture
def columns(catalog, bounds):
    return SceneColumns(catalog, catalog.ra, catalog.dec, bounds.of_model())


def covariances(size, seed=1):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, N_PARAMETER, N_PARAMETER))
    return root @ np.swapaxes(root, 1, 2)


def test_rows_are_those_of_the_catalogue(columns, catalog):
    found = columns.take(np.array([2, 0]))
    for name in ("id", "ra", "dec", "flux", "q", "sersic", "rhalf", "roi"):
        np.testing.assert_array_equal(getattr(found, name), getattr(catalog, name)[[2, 0]])
    np.testing.assert_allclose(found.pa, catalog.pa[[2, 0]], rtol=1e-14)
    assert found["source_index"].tolist() == found.extra["source_index"].tolist() == [2, 0]
    assert found["profile"].tolist() == ["sersic", "sersic"]
    assert found.flux_err is None
    np.testing.assert_array_equal(columns.values_of(found), columns.values[[2, 0]])


def test_rows_at_other_values_leave_the_scene_as_it_is(columns):
    before = columns.values.copy()
    found = columns.take(np.array([1]), values=columns.values[[3]])
    assert found.id.tolist() == ["b"]
    assert found.q == columns.values[3, 4]
    np.testing.assert_array_equal(columns.values, before)


def test_catalogue_that_is_not_of_the_scene(columns, catalog):
    with pytest.raises(InputError, match="catalogue in r, expected g, r"):
        columns.values_of(catalog.select_bands(["r"]))
    broken = columns.take(np.array([1, 2]))
    broken.q[1] = np.nan
    with pytest.raises(InputError, match=r"row 1 \(id c\): parameters .*nan.*, expected finite numbers"):
        columns.values_of(broken)


def test_bounds_stay_where_they_are_on_the_sky(columns, bounds):
    rows = np.array([0, 3])
    before = columns.bounds(rows)
    for name in PARAMETERS:
        np.testing.assert_allclose(before.lower[name], bounds.lower[name][rows], rtol=1e-12)
        np.testing.assert_allclose(before.upper[name], bounds.upper[name][rows], rtol=1e-12)
    moved = columns.values[rows].copy()
    share = 0.3 * bounds.upper["y"][rows]
    moved[:, 3] += share / 3600  # dec
    columns.put(rows, np.ones((2, 2), dtype=int), moved)
    after = columns.bounds(rows)
    np.testing.assert_allclose(after.lower["y"], before.lower["y"] - share, rtol=1e-6)
    np.testing.assert_allclose(after.upper["y"], before.upper["y"] - share, rtol=1e-6)
    np.testing.assert_allclose(after.upper["x"], before.upper["x"], rtol=1e-6)
    # a source that rounding took over the edge is still inside
    moved[:, 3] += 10 * share / 3600
    columns.put(rows, np.ones((2, 2), dtype=int), moved)
    assert (columns.bounds(rows).upper["y"] == 0).all()
    below = moved.copy()
    below[:, 3] -= 22 * share / 3600
    columns.put(rows, np.ones((2, 2), dtype=int), below)
    assert (columns.bounds(rows).lower["y"] == 0).all()
    columns.put(rows, np.ones((2, 2), dtype=int), moved)
    lower, _ = columns.all_limits()
    np.testing.assert_array_equal(lower["y"][rows], bounds.lower["y"][rows])
    offset = sky_offsets(*moved[:, 2:4].T, columns.start_ra[rows], columns.start_dec[rows])
    np.testing.assert_allclose(offset[:, 1], 11 * share, rtol=1e-6)


def test_covariances_come_back_whole(columns):
    blocks, rows = covariances(2), np.array([3, 1])
    triangles = columns.triangles_of(blocks, 2)
    assert triangles.shape == (2, N_PARAMETER * (N_PARAMETER + 1) // 2)
    np.testing.assert_array_equal(columns.blocks_of(triangles)[0][np.triu_indices(8)], triangles[0])
    columns.put(rows, np.array([[5, 1], [6, 2]]), columns.values[rows], triangles)
    np.testing.assert_allclose(columns.covariances(rows), blocks)
    assert np.isnan(columns.covariances(np.array([0]))).all()
    assert columns.n_iter.tolist() == [0, 6, 0, 5]
    assert columns.n_patch.tolist() == [0, 2, 0, 1]
    known, kept = columns.stored_covariances()
    assert known.tolist() == [1, 3]
    np.testing.assert_array_equal(kept, triangles[[1, 0]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b[:, :-1], r"block_covs has shape \(2, 7, 8\), expected \(2, 8, 8\)"),
        (lambda b: b * np.where(np.arange(2) == 1, np.nan, 1)[:, None, None], "block_covs of row 1: "),
        (lambda b: b * np.where(np.arange(2) == 0, -1, 1)[:, None, None], "block_covs of row 0: "),
    ],
)
def test_covariances_that_are_none(columns, spoil, message):
    with pytest.raises(InputError, match=message):
        columns.triangles_of(spoil(covariances(2)), 2)


def test_flux_errors_are_those_of_the_fit(columns):
    blocks = covariances(1)
    blocks[0, 1, :] = blocks[0, :, 1] = 0  # the flux in r is held
    columns.put_covariances(np.array([2]), columns.triangles_of(blocks, 1))
    nobody = np.zeros(SIZE, dtype=bool)
    errors = columns.catalog(nobody, ~nobody).flux_err
    np.testing.assert_allclose(errors[2], [np.sqrt(blocks[0, 0, 0]), 3.0])
    np.testing.assert_array_equal(errors[[0, 1, 3]], 3.0)
    with pytest.raises(InputError, match="covariances of 3 numbers each, expected 36"):
        columns.put_covariances(np.array([2]), np.zeros((1, 3)))


def test_catalogue_holds_the_state_and_restores_it(columns, catalog, bounds):
    columns.put(np.array([1]), np.array([[7, 2]]), columns.values[[1]] + 0.01)
    columns.set_flag(np.array([0, 3]), "no convergence après 5 steps")
    columns.set_flag(np.array([3]), None)
    active = np.arange(SIZE) == 2
    written = columns.catalog(active, ~active)
    assert written.extra["source_index"].tolist() == [0, 1, 2, 3]
    assert written.extra["is_active"].tolist() == active.tolist()
    assert written.extra["is_valid"].tolist() == (~active).tolist()
    assert written.extra["z"].tolist() == [0, 1, 2, 3]
    assert written.extra["fit_flag"].tolist() == ["no convergence apr?s 5 steps", "", "", ""]

    again = SceneColumns(written, catalog.ra, catalog.dec, bounds.of_model())
    again.restore(written.extra, columns.values)
    np.testing.assert_array_equal(again.values, columns.values)
    assert again.n_iter.tolist() == [0, 7, 0, 0]
    assert again.n_patch.tolist() == [0, 2, 0, 0]
    assert again.flags == {0: "no convergence apr?s 5 steps"}
    assert again.flagged.tolist() == [True, False, False, False]
    assert again.catalog(active, active).extra.colnames == written.extra.colnames
    with pytest.raises(InputError, match=r"parameters of shape \(2, 8\), expected \(4, 8\)"):
        again.restore(written.extra, columns.values[:2])


def test_rounding_of_a_file_is_undone_but_no_more(columns, catalog, bounds):
    column = columns.parameters.index("q")
    columns.values[:2, column] = bounds.upper["q"][:2] + np.array([1e-14, 1e-9])
    nobody = np.zeros(SIZE, dtype=bool)
    again = SceneColumns(catalog, catalog.ra, catalog.dec, bounds.of_model())
    state = again.catalog(nobody, nobody).extra
    again.values[:] = columns.values
    again.restore(state)
    assert again.values[0, column] == bounds.upper["q"][0]
    assert again.values[1, column] == columns.values[1, column]
