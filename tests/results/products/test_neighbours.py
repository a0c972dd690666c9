"""Flux covariances of blended sources against numpy."""

from types import SimpleNamespace

import numpy as np

from fphojax.results.products.neighbours import NeighbourReport

RA, DEC = 359.9999, 60.0


def patch(number=4, *, x=(0.0, 1.0, 5.0), roi=(0.8, 0.7, 3.5), seed=0):
    """Sources at x arcsec to the east; the fluxes of the first two are anti-correlated in g."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(100, 3, (len(x), 2, 40, 2))
    flux[1, ..., 0] = 200 - flux[0, ..., 0] + rng.normal(0, 1, (2, 40))
    ra = (RA + np.array(x) / 3600 / np.cos(np.deg2rad(DEC)))[:, None, None] + np.zeros((1, 2, 40))
    ids = np.array([f"{number}{letter}" for letter in "abc"])
    values = {"flux": flux, "ra": ra, "dec": np.full_like(ra, DEC)}
    region = (RA, DEC, 10.0)
    return SimpleNamespace(
        patch=number, ids=ids, bands=("g", "r"), roi=np.array(roi), values=values, region=region
    )


def test_pairs_whose_radii_overlap():
    report = NeighbourReport()
    one = patch()
    report.add(one)
    table = report.table
    # 1 < 0.8 + 0.7 and 4 < 0.7 + 3.5, but 5 > 0.8 + 3.5
    assert [tuple(row) for row in table["id", "neighbour", "patch"]] == [("4a", "4b", 4), ("4b", "4c", 4)]
    np.testing.assert_allclose(table["distance"], [1, 4], rtol=1e-5)
    for b, band in enumerate(("g", "r")):
        flat = one.values["flux"][..., b].reshape(3, -1)
        expected, correlation = np.cov(flat, bias=True), np.corrcoef(flat)
        np.testing.assert_allclose(table[f"cov_{band}"], [expected[0, 1], expected[1, 2]])
        np.testing.assert_allclose(table[f"corr_{band}"], [correlation[0, 1], correlation[1, 2]])
    assert table["corr_g"][0] < -0.9
    assert table["distance"].unit == "arcsec"
    assert table["cov_g"].unit == "nJy2"


def test_patches_stand_one_after_another():
    report = NeighbourReport()
    for part in (patch(1), patch(2, x=(0.0, 50.0, 99.0)), patch(3)):
        report.add(part)
    assert list(report.table["patch"]) == [1, 1, 3, 3]


def test_held_flux_has_no_correlation():
    part = patch()
    part.values["flux"][0] = 100.0
    report = NeighbourReport()
    report.add(part)
    assert report.table["cov_g"][0] == 0
    assert np.isnan(report.table["corr_g"][0])


def test_nothing_overlaps():
    report = NeighbourReport()
    report.add(patch(roi=(0.1, 0.1, 0.1)))
    assert report.table.colnames == []
