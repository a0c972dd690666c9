import numpy as np
import pytest

from fphojax.app.settings.schema import Settings
from fphojax.app.stages.catalog import catalog, first_patches
from fphojax.inputs.source_catalog import SourceCatalog


@pytest.fixture(scope="module")
def settings(tiny, tmp_path_factory):
    return Settings.from_yaml(tiny.write_field(tmp_path_factory.mktemp("field")))


def test_listed_sources(settings):
    report = catalog(settings)
    listed = SourceCatalog.read(settings.raw_catalog, bands=["F"])
    assert report.files == {"catalog": settings.raw_catalog}
    low, high = listed.roi.min(), listed.roi.max()
    assert report.verdict == (
        f"3 sources in peaks.ecsv. Radii of influence range from {low:.2g} to {high:.2g} arcsec."
    )
    table = report.tables["sources"]
    assert table.colnames == ["id", "ra", "dec", "roi", "F"]
    np.testing.assert_array_equal(table["F"], listed.flux[:, 0])
    assert report.level == "pass"


def test_sources_are_sought_without_a_list(settings, tmp_path):
    report = catalog(settings.changed(raw_catalog=None, outbase=str(tmp_path / "run")))
    found = SourceCatalog.read(report.files["catalog"])
    listed = SourceCatalog.read(settings.raw_catalog)
    assert len(found) == 3
    # listed or sought, they are the same galaxies
    offset = (
        (found.ra[:, None] - listed.ra) * np.cos(np.deg2rad(listed.dec[0])),
        found.dec[:, None] - listed.dec,
    )
    assert (3600 * np.hypot(*offset)).min(axis=0).max() < 0.2
    assert "Radii of influence" in report.verdict


def test_first_patches_take_each_source_once(settings):
    sources = SourceCatalog.read(settings.raw_catalog)
    patches = first_patches(settings, sources)
    active = [row for _, part, _ in patches for row in part["source_index"].tolist()]
    assert sorted(active) == [0, 1, 2]
    assert all(region.radius <= settings.patch_maxradius for region, _, _ in patches)
    assert len(first_patches(settings, sources, number=2)) == 2
