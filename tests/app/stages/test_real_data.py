"""The loop on real images: what it adds, and how well the fields are fitted before and after."""

import numpy as np
import pytest

from fphojax.inputs.astrometry import sky_offsets

pytestmark = pytest.mark.slow

# Positions of peaks, by eye and from detection on the images: ra, dec.
HSC_PEAKS = [
    (149.999930, 1.999355),
    (149.999018, 1.999297),
    (149.999532, 1.998894),
    (149.999340, 2.001061),
]


def distance(catalog, ra, dec):
    """Arcsec of each source from a place."""
    return np.hypot(*sky_offsets(catalog.ra, catalog.dec, ra, dec).T)


def test_hsc_cosmos35(run_loop):
    """Four peaks are absent from the peak list; at least three of them are found."""
    _, report, catalog = run_loop("hsc_cosmos35")
    new = catalog[catalog["origin"] == "detected"]
    found = [distance(new, *peak).min() < 0.4 for peak in HSC_PEAKS]
    assert sum(found) >= 3
    exposures = report.tables["exposures"]
    # the galaxies of the first fit have made up for a part of those that it lacks
    assert (exposures["chi2_dof"] < 0.95 * exposures["before"]).all()
    assert exposures["chi2_dof"].max() < 7


def test_decam_g3r2z3(run_loop):
    """The faint neighbour in the west of the galaxy is found."""
    _, report, catalog = run_loop("decam_g3r2z3")
    new = catalog[catalog["origin"] == "detected"]
    east, north = sky_offsets(new.ra, new.dec, catalog.ra[0], catalog.dec[0]).T
    print(
        f"new sources at {np.column_stack([east, north]).round(2).tolist()} arcsec east and north of the galaxy"
    )
    assert ((east < -2) & (np.hypot(east, north) < 8)).any()
    exposures = report.tables["exposures"]
    assert (exposures["chi2_dof"] <= exposures["before"] + 0.005).all()
    assert exposures["chi2_dof"].max() < 1.2


def test_bok_mosaic3_blend(run_loop):
    """With a sky and a shift for every exposure, all are fitted; their weights are conservative."""
    _, report, _ = run_loop("bok_mosaic3_blend")
    assert (report.tables["exposures"]["chi2_dof"] < 0.95).all()
