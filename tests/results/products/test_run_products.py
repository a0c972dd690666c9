"""Catalogues as files: forcepho's layouts read back, tables in all formats, sources in several patches."""

from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from regions import Regions

from fphojax import RunDirectory, SourceCatalog
from fphojax.errors import InputError
from fphojax.results.products.catalog_columns import FLAGS
from fphojax.results.products.chain_catalog import ChainCatalog, read_chain_catalog
from fphojax.results.products.run_products import postprocess, write_catalogs


@pytest.fixture
def run(tmp_path, fit, shifted):
    """Source "one" in patches 0 and 1, "two" in patch 0."""
    directory = RunDirectory.create(tmp_path / "run")
    directory.write_patch(0, fit.result)
    directory.write_patch(1, shifted(fit.result, [0], 0.5))
    directory.write_scene(fit.truth, {"patches": 2})
    return directory


def test_catalogues_of_a_run(run, fit):
    suffixes = ("fits", "ecsv", "parquet", "vot")
    catalogs = write_catalogs(run, formats=("fits", "ecsv", "parquet", "votable"))
    names = {path.name for path in catalogs.files}
    tables = ("final", "multipatch", "neighbours")
    assert names == {f"{name}.{suffix}" for name in tables for suffix in suffixes} | {
        "postsample.fits",
        "forcepho.fits",
    }
    assert all(path.is_file() for path in catalogs.files)
    assert catalogs.unfitted.id.tolist() == ["three"]
    for path in (run.path / "catalogs" / f"final.{suffix}" for suffix in suffixes):
        read = Table.read(path)
        assert read.colnames == catalogs.final.colnames
        np.testing.assert_array_equal(read["sersic_84"], catalogs.final["sersic_84"])
        assert str(read["cov_B_R"].unit) == "nJy2"
    header = fits.getheader(run.path / "catalogs" / "final.fits", 1)
    place = catalogs.final.colnames.index("r_kron") + 1
    assert "Kron" in header[f"TCOMM{place}"]


def test_processes_make_the_same_catalogues(run):
    serial, parallel = (write_catalogs(run, chains=False, workers=workers) for workers in (1, 2))
    for name in ("final", "multipatch", "neighbours"):
        expected, table = getattr(serial, name), getattr(parallel, name)
        assert expected.colnames == table.colnames
        for column in expected.colnames:
            np.testing.assert_array_equal(expected[column], table[column])


def test_region_files_of_a_run(run):
    catalogs = postprocess(run, chains=False, images=False)
    names = [path.name for path in catalogs.files if path.suffix == ".reg"]
    assert names == ["sources.reg", "patches.reg", "isophotes_B.reg", "isophotes_R.reg"]
    sources = Regions.read(run.path / "regions" / "sources.reg", format="ds9")
    assert [str(source.meta["text"]) for source in sources] == catalogs.final["id"].tolist()
    tags = [[f"flag {bit}" for bit in FLAGS if flags & bit] for flags in catalogs.final["flags"]]
    assert any(tags)
    assert [source.meta.get("tag", []) for source in sources] == tags
    patches = Regions.read(run.path / "regions" / "patches.reg", format="ds9")
    assert [str(patch.meta["text"]) for patch in patches] == ["0", "1"]
    assert [patch.radius.to_value("arcsec") for patch in patches] == pytest.approx([0.8, 0.8], rel=1e-4)


def test_forcepho_catalogue_reads_back(run):
    catalogs = write_catalogs(run, chains=False)
    catalog = SourceCatalog.read(run.path / "catalogs" / "forcepho.fits")
    assert catalog.id.tolist() == ["one", "two"]
    for name in ("ra", "dec", "sersic", "rhalf"):
        np.testing.assert_array_equal(getattr(catalog, name), catalogs.final[name])
    np.testing.assert_allclose(catalog.q, catalogs.final["q"], rtol=1e-15)
    np.testing.assert_allclose(catalog.pa, catalogs.final["pa"], rtol=0, atol=1e-13)
    for b, band in enumerate(catalog.bands):
        np.testing.assert_array_equal(catalog.flux[:, b], catalogs.final[band])
        np.testing.assert_array_equal(catalog.flux_err[:, b], catalogs.final[f"{band}_err"])
    assert catalog["note"].tolist() == ["", "a, b"]  # columns of the input are carried along


def test_chain_catalogue(run, fit):
    write_catalogs(run)
    path = run.path / "catalogs" / "postsample.fits"
    with fits.open(path) as hdus:
        hdus.verify("exception")
        raw = hdus[1].data
        assert raw.names == [
            "id",
            "source_index",
            "patch_id",
            "B",
            "R",
            "ra",
            "dec",
            "q",
            "pa",
            "sersic",
            "rhalf",
        ]
        assert raw["patch_id"].tolist() == [1, 0]
        np.testing.assert_array_equal(raw["source_index"], [0, 1])
        posterior = fit.result.centred_draws.transpose("source", "chain", "draw", ...)
        np.testing.assert_allclose(raw["q"][1], np.sqrt(posterior["q"][1].to_numpy().ravel()), rtol=1e-15)
    table = read_chain_catalog(path)
    assert table.meta["FILTERS"] == "B,R"
    for name in ("ra", "dec", "q", "pa", "sersic", "rhalf"):
        expected = posterior[name][1].to_numpy().ravel()
        np.testing.assert_allclose(table[name][1], expected % 360 if name == "ra" else expected, atol=1e-12)
    np.testing.assert_array_equal(table["R"][1], posterior["flux"][1, :, :, 1].to_numpy().ravel())
    # of the source in two patches, draws of both
    both = np.concatenate([posterior["sersic"][0].to_numpy(), posterior["sersic"][0].to_numpy()]).ravel()
    assert table["sersic"].shape[1] == 150
    spread = float(posterior["sersic"][0].std())
    assert table["sersic"][0].mean() == pytest.approx(both.mean() + 0.25 * spread, abs=0.15 * spread)
    assert np.isfinite(table["sersic"]).all()


@pytest.mark.parametrize(
    ("ids", "format"), [([2**31 - 1, -7], "J"), ([42291234567890123, 42291234567890124], "K")]
)
def test_chain_catalogue_of_ids_with_64_bits(tmp_path, ids, format):
    """As surveys number their sources; numbers that fit are of forcepho's type."""
    ids = np.array(ids)
    run = SimpleNamespace(path=tmp_path)
    draws = SimpleNamespace(bands=("R",), n_draw=2, ids=ids, scene=SimpleNamespace(id=ids[::-1]), run=run)
    values = {name: np.full((2, 1, 2), 0.5) for name in ("ra", "dec", "q", "pa", "sersic", "rhalf")}
    values["flux"] = np.full((2, 1, 2, 1), 3.0)
    sources = SimpleNamespace(values=values, rows=[0, 1], parts=[[SimpleNamespace(patch=4)]] * 2)
    path = tmp_path / "chains.fits"
    with ChainCatalog(path, draws) as chains:
        chains.add(sources)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[1].columns["id"].format == format
        assert hdus[1].data["id"].tolist() == ids.tolist()
        assert hdus[1].data["source_index"].tolist() == [1, 0]
        assert hdus[1].data["patch_id"].tolist() == [4, 4]
        np.testing.assert_array_equal(hdus[1].data["R"], 3.0)


def test_covariance_of_neighbours(run, fit):
    table = write_catalogs(run, chains=False).neighbours
    assert len(table) == 1
    assert (table["id"][0], table["neighbour"][0], table["patch"][0]) == ("one", "two", 0)
    flux = fit.result.draws["flux"].stack(n=("chain", "draw")).transpose("band", "source", "n").to_numpy()
    assert table["corr_R"][0] == pytest.approx(np.corrcoef(flux[1])[0, 1], rel=1e-9)
    assert table["cov_B"][0] == pytest.approx(np.cov(flux[0], ddof=0)[0, 1], rel=1e-9)


def test_bad_requests(run, tmp_path):
    with pytest.raises(InputError, match=r"format 'csv' of a catalogue, expected some of fits, .*, votable"):
        write_catalogs(run, formats=("csv",))
    with pytest.raises(InputError, match="no such file, expected a chain catalogue"):
        read_chain_catalog(tmp_path / "none.fits")
    with pytest.raises(InputError, match="expected a chain catalogue"):
        read_chain_catalog(run.scene_path)
