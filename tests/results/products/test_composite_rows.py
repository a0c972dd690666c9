"""A field of galaxies with one and two components: one row for each in the final catalogue."""

import numpy as np
import pytest
from astropy.table import Table

import fphojax as fp
from fphojax.results.products.run_products import write_catalogs

FLUX = {"g": [40.0, 60, 30, 80, 50], "r": [90.0, 60, 80, 80, 70]}


def scene():
    """A bulge and disk, another one of two free profiles near a single galaxy; the field, and where fits start."""
    truth = fp.mock_galaxies(
        x=[-1.1, -1.1, 0.9, 0.9, 0.3],
        y=[0, 0, 0.2, 0.2, -0.9],
        flux=FLUX,
        q=[0.9, 0.5, 0.8, 0.4, 0.7],
        pa=[20.0, 50, 0, 120, 30],
        sersic=[4.0, 1, 4, 1, 2],
        rhalf=[0.08, 0.22, 0.1, 0.25, 0.15],
    )
    cameras = [fp.MockCamera(band, width=4.0).with_snr(truth[1:], 80) for band in FLUX]
    sums = {band: [f[0] + f[1], f[2] + f[3], f[4]] for band, f in FLUX.items()}
    start = fp.mock_galaxies(
        x=[-1.09, 0.91, 0.3],
        y=[0, 0.2, -0.9],
        flux=sums,
        q=0.7,
        pa=[45.0, 120, 30],
        sersic=2.0,
        rhalf=0.18,
    )
    profiles = ["bulge_disk", "devaucouleurs+exponential", "sersic"]
    return fp.mock_field(truth, cameras, seed=1), start.replace(extra=Table({"profile": profiles})), sums


@pytest.fixture(scope="module", params=["optimum", pytest.param("importance", marks=pytest.mark.slow)])
def written(request, tmp_path_factory):
    field, start, sums = scene()
    folder = tmp_path_factory.mktemp(request.param)
    method = fp.Optimum() if request.param == "optimum" else fp.Importance(draws=200, chains=2)
    done = fp.fit_field(field.exposures, field.psfs, start, method, folder=folder, maxactive_per_patch=3)
    return write_catalogs(done.directory, chains=False), done.directory, sums


def test_final_catalogue_has_a_row_for_each_galaxy(written):
    catalogs, _, sums = written
    final, parts = catalogs.final, catalogs.components
    assert list(final["id"]) == ["1", "2", "3"]
    assert list(final["profile"]) == ["bulge_disk", "devaucouleurs+exponential", "sersic"]
    assert list(parts["id"]) == ["1_bulge", "1_disk", "2_devaucouleurs", "2_exponential", "3"]
    for band, values in sums.items():
        pull = (np.asarray(final[band]) - values) / np.asarray(final[f"{band}_err"])
        print(f"{band}: pulls of the totals {pull.round(1)}")
        assert (np.abs(pull) < 4).all()
        shares = np.array([FLUX[band][0], FLUX[band][2]]) / values[:2]
        pull = (np.asarray(final[f"bt_{band}"])[:2] - shares) / np.asarray(final[f"bt_{band}_err"])[:2]
        print(f"{band}: pulls of the shares {pull.round(1)}")
        assert (np.abs(pull) < 4).all()
        # the total is known better than its parts
        part = np.asarray(parts[f"{band}_err"])
        assert (np.asarray(final[f"{band}_err"])[:2] < np.hypot(part[[0, 2]], part[[1, 3]])).all()
    np.testing.assert_array_equal(np.isnan(final["bt_g"]), [False, False, True])


def test_columns_of_components_are_those_of_their_rows(written):
    catalogs, _, _ = written
    final, parts = catalogs.final, catalogs.components
    assert final["bulge_g"][0] == parts["g"][0]
    assert final["disk_rhalf"][0] == final["rhalf"][0] == parts["rhalf"][1]
    assert final["devaucouleurs_q"][1] == parts["q"][2]
    assert np.isnan(final["disk_rhalf"][1:]).all()
    assert final["n_pixel"][0] == parts["n_pixel"][:2].sum()
    assert final["g"][2] == parts["g"][4]
    np.testing.assert_array_equal(np.isnan(final["r_kron"]), [True, True, False])
    for name in final.colnames:
        assert final[name].description
        assert final[name].meta["ucd"]
    assert str(final["disk_rhalf"].unit) == "arcsec"


def test_files_have_both(written):
    catalogs, directory, _ = written
    names = {path.name for path in catalogs.files}
    assert {"final.fits", "components.fits", "forcepho.fits"} <= names
    assert len(Table.read(directory.path / "catalogs" / "final.fits")) == 3
    again = fp.SourceCatalog.read(directory.path / "catalogs" / "final.fits")
    assert fp.split_composites(again).id.tolist() == catalogs.components["id"].tolist()


def test_components_are_fitted_together_in_their_place(written):
    _, directory, _ = written
    for number in directory.patches():
        patch = directory.read_patch(number)
        names = patch.active["galaxy"].tolist()
        assert all(names.count(name) == 2 for name in names if name)
        draws = patch.draws["ra"].to_numpy()
        for name in set(names) - {""}:
            first, second = (row for row, other in enumerate(names) if other == name)
            np.testing.assert_array_equal(draws[..., first], draws[..., second])
