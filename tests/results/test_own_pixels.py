"""A source's own pixels, and their chi-squared, against a count pixel by pixel."""

import numpy as np

from fphojax.results.own_pixels import owners
from fphojax.results.products.patch_draws import read_patch_draws

STEP = 1e-6  # degrees


def distances(fit, exposure, values, row, x, y):
    """How far inside a source's ellipse pixels are, by the WCS itself."""
    region, cos = fit.frame.region, np.cos(np.deg2rad(fit.frame.region.dec))
    ra = region.ra + values["x"][row] / 3600 / cos
    dec = region.dec + values["y"][row] / 3600
    place = np.array(
        [exposure.wcs.world_to_pixel_values(*at) for at in ((ra, dec), (ra + STEP, dec), (ra, dec + STEP))]
    )
    jacobian = np.stack(
        [(place[1] - place[0]) / (3600 * STEP * cos), (place[2] - place[0]) / (3600 * STEP)], axis=1
    )
    q, pa, rhalf = (values[name][row] for name in ("q", "pa", "rhalf"))
    turn = np.array([[np.sin(pa), -np.cos(pa)], [np.cos(pa), np.sin(pa)]])
    sky = turn @ np.diag([rhalf**2 / q, rhalf**2 * q]) @ turn.T
    # of the PSF of R the first Gaussian has 0.8 of the light
    xx, yy, xy = fit.psfs.lookup(exposure.band).covariances[0]
    core = np.array([[xx, xy], [xy, yy]]) + np.eye(2) / 12
    inverse = np.linalg.inv(jacobian @ sky @ jacobian.T + 2 * np.log(2) * core)
    d = np.array([x, y]) - place[0]
    return d @ inverse @ d


def test_pixels_go_to_the_source_in_which_they_lie_deepest(fit):
    values = fit.chains.optimum.values
    for e, owner in enumerate(owners(fit.scene, values)):
        exposure, n_near = fit.frame.exposures[e], 0
        chi2, n_pixel = np.zeros(2), np.zeros(2, dtype=int)
        tiles = np.asarray(fit.model.patch.data) - np.asarray(fit.model.images(values))
        residual = tiles.ravel()
        for x, y, flat, found in zip(*fit.frame.pixels(e), owner, strict=True):
            both = [distances(fit, exposure, values, row, x, y) for row in (0, 1)]
            best = int(np.argmin(both))
            if min(abs(both[0] - both[1]), abs(both[best] - 4)) < 1e-3:
                n_near += 1  # on a border
                best = found
            elif both[best] > 4:
                best = -1
            assert found == best
            if best >= 0:
                n_pixel[best] += 1
                chi2[best] += (residual[flat] * exposure.ierr[y, x]) ** 2
        assert n_near < 3
        own = fit.result.own_pixels.isel(exposure=e)
        print(f"{exposure.name}: {n_pixel} pixels, chi2 {chi2.round(1)}")
        assert (n_pixel > 30).all()
        np.testing.assert_array_equal(own["n_pixel"], n_pixel)
        np.testing.assert_allclose(own["chi2"], chi2, rtol=1e-4)


def test_catalogues_find_them(fit, tmp_path):
    fit.result.write(tmp_path / "patch.nc")
    found = read_patch_draws(tmp_path / "patch.nc", 0)
    own, bands = fit.result.own_pixels, np.array([exposure.band for exposure in fit.frame.exposures])
    for name, values in (("n_pixel", found.n_pixel), ("chi2", found.chi2)):
        by_band = [own[name].isel(exposure=bands == band).sum("exposure") for band in fit.result.bands]
        np.testing.assert_allclose(values, np.stack(by_band, axis=1), rtol=1e-12)
