"""Ellipses in region files lie on the sky as the conventions say."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.wcs import WCS
from regions import PixCoord, Regions

from fphojax import SourceCatalog
from fphojax.results.products.region_files import write_isophotes, write_regions

RA, DEC, MAJOR, Q, PA = 53.1, -27.8, 2.0, 0.3, 35.0


FLAGS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 1 | 128, 32 | 128)


@pytest.fixture
def wcs():
    """North up, east left, 0.1 arcsec."""
    plane = WCS(naxis=2)
    plane.wcs.ctype, plane.wcs.crval, plane.wcs.crpix = ("RA---TAN", "DEC--TAN"), (RA, DEC), (51, 51)
    plane.wcs.cdelt = np.array([-0.1, 0.1]) / 3600
    return plane


def assert_along(region, wcs, radius):
    """The end of the major axis, `PA` degrees east of north, is on the rim; at right angles it is far outside."""
    centre = SkyCoord(RA, DEC, unit="deg")
    ellipse = region.to_pixel(wcs)
    for factor, expected in ((0.98, True), (1.02, False)):
        end = centre.directional_offset_by(PA * u.deg, factor * radius * u.arcsec)
        assert (PixCoord.from_sky(end, wcs) in ellipse) == expected
    side = centre.directional_offset_by((PA + 90) * u.deg, 1.1 * Q * radius * u.arcsec)
    assert PixCoord.from_sky(side, wcs) not in ellipse


def test_sources(tmp_path, wcs):
    catalog = SourceCatalog.from_columns(
        ra=[RA],
        dec=[DEC],
        flux=[[1.0]],
        q=Q,
        pa=PA,
        sersic=1.0,
        rhalf=MAJOR * np.sqrt(Q),
        bands=("g",),
    )
    write_regions(tmp_path / "sources.reg", catalog)
    (region,) = Regions.read(tmp_path / "sources.reg", format="ds9")
    assert_along(region, wcs, MAJOR)
    assert str(region.meta["text"]) == "0"


def test_isophotes(tmp_path, wcs):
    table = Table({"id": [7, 8], "ra": [RA] * 2, "dec": [DEC] * 2, "q": [Q] * 2, "pa": [PA] * 2})
    table["r_iso_g"] = [MAJOR, 0.0]
    write_isophotes(tmp_path / "isophotes.reg", table, "g")
    (region,) = Regions.read(tmp_path / "isophotes.reg", format="ds9")
    assert_along(region, wcs, MAJOR)


def test_a_point_source_is_a_point(tmp_path):
    """An ellipse of no width is refused by the package that writes them."""
    shape = {
        "dec": DEC,
        "flux": [[1.0], [2.0]],
        "q": 1.0,
        "pa": 0.0,
        "sersic": 1.0,
        "roi": 1.0,
        "bands": ("g",),
    }
    catalog = SourceCatalog.from_columns(ra=[RA, RA + 0.01], rhalf=[0.0, 0.5], **shape)
    write_regions(tmp_path / "sources.reg", catalog)
    point, ellipse = Regions.read(tmp_path / "sources.reg", format="ds9")
    assert (type(point).__name__, type(ellipse).__name__) == ("PointSkyRegion", "EllipseSkyRegion")
    assert point.center.ra.deg == pytest.approx(RA)
    assert str(point.meta["text"]) == "0"


def test_colours_and_tags_say_the_flags(tmp_path):
    catalog = SourceCatalog.from_columns(
        ra=np.full(len(FLAGS), RA),
        dec=DEC + np.arange(len(FLAGS)) / 1000,
        flux=np.ones((len(FLAGS), 1)),
        q=0.5,
        pa=0.0,
        sersic=1.0,
        rhalf=0.5,
        bands=("g",),
    )
    write_regions(tmp_path / "sources.reg", catalog, FLAGS)
    regions = Regions.read(tmp_path / "sources.reg", format="ds9")
    colours = [region.visual["edgecolor"] for region in regions]
    assert colours == [
        "green",
        "red",
        "red",
        "yellow",
        "red",
        "red",
        "yellow",
        "yellow",
        "magenta",
        "red",
        "magenta",
    ]
    assert [region.meta.get("tag", []) for region in regions[:2]] == [[], ["flag 1"]]
    assert regions[-1].meta["tag"] == ["flag 32", "flag 128"]


def test_carta_finds_what_it_needs(tmp_path):
    """It tells the format by the first line, wants the frame on a line of its own, and takes bare numbers as deg."""
    two = {"ra": [RA, RA], "dec": [DEC, DEC], "q": [Q, Q], "pa": [PA, PA], "r_iso_g": [MAJOR, 1.0]}
    write_isophotes(tmp_path / "isophotes.reg", Table({"id": [7, 8], **two}), "g")
    first, *_, frame, line, _ = (tmp_path / "isophotes.reg").read_text().strip().split("\n")
    assert first.startswith("# Region file format: DS9")
    assert frame == "icrs"
    numbers, words = line.removeprefix("ellipse(").split(") # ")
    ra, dec, major, minor, angle = map(float, numbers.split(","))
    assert (ra, dec) == pytest.approx((RA, DEC), abs=1e-8)
    assert (3600 * major, 3600 * minor) == pytest.approx((MAJOR, Q * MAJOR), rel=1e-4)
    assert angle == pytest.approx(PA + 90)
    assert "text={7}" in words
