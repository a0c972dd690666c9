import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter, shift
from scipy.stats import norm

from fphojax.detection.matched_filter import ResidualImage
from fphojax.detection.source_search import append_detections, detect, detect_on_images
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.psf_mixture import PSFMixture
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.simulate.mock_exposures import ExposureSpec, noiseless_image, simulate_exposures

DATA = Path(os.environ.get("FPHOJAX_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))
RA, DEC = 0.0, 40.0


def gaussian_psf(sigma, half=12):
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    psf = np.exp(-(x**2 + y**2) / 2 / sigma**2)
    return psf / psf.sum()


def spec(band, name, *, scale=0.1, size=200, rotation=0.0, sigma=1.6, noise=1.0):
    psf = PSFMixture([1.0], [[0.0, 0.0]], [[sigma**2, sigma**2, 0.0]], includes_pixel=False)
    return ExposureSpec(band, name, (size, size), scale, rotation, RA, DEC, psf, noise)


def residual_image(exposure, residual=None, model=None):
    psf = exposure.psf_image / exposure.psf_image.sum()
    residual = np.where(exposure.ierr > 0, exposure.data, np.nan) if residual is None else residual
    return ResidualImage(residual, exposure.ierr, model, exposure.wcs, exposure.band, exposure.name, psf)


def catalog(x, y, flux, *, sersic=1.0, rhalf=0.02, q=0.9):
    """Sources at offsets in arcsec from the centre."""
    flux = np.atleast_2d(flux)
    return SourceCatalog.from_columns(
        ra=(RA + np.asarray(x) / 3600 / np.cos(np.deg2rad(DEC))) % 360,
        dec=DEC + np.asarray(y) / 3600,
        flux=flux,
        q=q,
        pa=23.0,
        sersic=sersic,
        rhalf=rhalf,
        bands=("g", "r")[: flux.shape[1]],
    )


def matched(truth, detections, radius):
    """For each true source the row of the nearest detection within a radius, -1 if there is none."""
    offsets = [sky_offsets(c.ra, c.dec, RA, DEC) for c in (truth, detections)]
    distance = np.hypot(*(offsets[0][:, None] - offsets[1][None]).transpose(2, 0, 1))
    return np.where(distance.min(axis=1) < radius, distance.argmin(axis=1), -1)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_number_of_false_detections(correlation):
    rng, threshold, counts, expected = np.random.default_rng(1), 3.6, 0, 0.0
    wcs, rotated = WCS(spec("g", "").header()), WCS(spec("g", "", rotation=30.0).header())
    exposures = [("g", wcs, 1.3), ("g", rotated, 1.6), ("r", wcs, 2.0)]
    for _ in range(6):
        images = []
        for k, (band, projection, sigma) in enumerate(exposures):
            noise = rng.normal(size=(200, 200))
            if correlation:
                noise = gaussian_filter(noise, correlation)
                noise /= noise.std()
            images.append(
                ResidualImage(
                    noise, np.ones_like(noise), None, projection, band, f"e{k}", gaussian_psf(sigma)
                )
            )
        detections = detect(images, threshold=threshold)
        counts += len(detections.catalog)
        expected += detections.n_false
    noise = {name: round(s.power, 2) for part in detections.noise.values() for name, s in part.items()}
    print(
        f"\ncorrelation {correlation}: {counts} false detections, at most {expected:.1f} expected; noise {noise}"
    )
    assert counts < expected + 3 * np.sqrt(expected)
    assert counts > 0.5 * expected  # "at most" counts what is a peak of two statistics twice


def test_completeness_and_positions():
    specs = [
        spec("g", "g1"),
        spec("g", "g2", rotation=20.0, noise=1.5),
        spec("r", "r1", scale=0.17, size=120, sigma=1.4, rotation=-40.0),
    ]
    rng, step = np.random.default_rng(2), 1.7
    x, y = (
        axis.ravel() for axis in np.mgrid[-8.5:8.6:step, -8.5:8.6:step] + rng.uniform(-0.3, 0.3, (2, 11, 11))
    )
    brightness = rng.uniform(8, 45, len(x))
    truth = catalog(x, y, brightness[:, None] * [1.0, 1.6])
    images = [residual_image(exposure) for exposure in simulate_exposures(truth, specs, seed=3)]
    detections = detect(images, threshold=5.0)
    # what a perfect filter would see: the inverse variances of the fluxes, from the PSFs
    weight = {
        band: sum(np.sum(i.psf_image**2) * np.median(i.ierr) ** 2 for i in images if i.band == band)
        for band in "gr"
    }
    flat = brightness * (weight["g"] + 1.6 * weight["r"]) / np.sqrt(weight["g"] + weight["r"])
    each = [brightness * t * np.sqrt(weight[band]) for band, t in (("g", 1.0), ("r", 1.6))]
    expected = norm.cdf(np.max([flat, *each], axis=0) - 5.0)
    row = matched(truth, detections.catalog, 0.25)
    detected = row >= 0
    false = len(detections.catalog) - len(np.unique(row[detected]))
    print(
        f"\n{detected.sum()} of {len(x)} found, {expected.sum():.1f} expected of a single look; S > 7: "
        f"{detected[expected > 0.977].sum()} of {(expected > 0.977).sum()}; "
        f"false {false}, at most {detections.n_false:.3f}"
    )
    assert detected.sum() > expected.sum() - 3 * np.sqrt(np.sum(expected * (1 - expected)))
    assert detected[expected > 0.977].mean() > 0.96
    assert false <= 1
    moved = sky_offsets(detections.catalog.ra[row[detected]], detections.catalog.dec[row[detected]], RA, DEC)
    moved -= sky_offsets(truth.ra[detected], truth.dec[detected], RA, DEC)
    print(f"positions: mean {moved.mean(axis=0)}, sd {moved.std(axis=0)} arcsec, pixels of 0.1")
    assert (np.abs(moved.mean(axis=0)) < 0.01).all()
    assert (moved.std(axis=0) < 0.04).all()
    ratio = detections.catalog.flux[row[detected]] / truth.flux[detected]
    print("flux / truth, median:", np.median(ratio, axis=0).round(2))
    assert (np.abs(np.median(ratio, axis=0) - 1) < 0.15).all()


@pytest.mark.parametrize(("sersic", "rhalf"), [(1.0, 0.03), (1.0, 0.3), (1.0, 0.6), (4.0, 0.4)])
def test_guesses_of_flux_and_size(sersic, rhalf):
    x, y = (axis.ravel() for axis in np.mgrid[-6:6.1:6, -6:6.1:6] + 0.03)
    truth = catalog(x, y, np.tile([1000.0, 2000.0], (9, 1)), sersic=sersic, rhalf=rhalf)
    specs = [spec("g", "g"), spec("r", "r", scale=0.15, size=140, rotation=10.0)]
    images = [residual_image(exposure) for exposure in simulate_exposures(truth, specs, seed=1)]
    detections = detect_on_images(images, rhalf_range=(0.02, 3.0)).catalog
    row = matched(truth, detections, 0.2)
    flux, size = (
        np.median(detections.flux[row] / truth.flux, axis=0),
        np.median(detections.rhalf[row]) / rhalf,
    )
    print(
        f"\nn {sersic}, rhalf {rhalf}: {len(detections)} of 9; flux / truth {flux.round(2)}, rhalf / truth {size:.2f}"
    )
    assert len(detections) == 9
    assert (row >= 0).all()
    limits = (0.9, 1.1) if sersic == 1 else (0.8, 1.0)
    assert ((limits[0] < flux) & (flux < limits[1])).all()
    if rhalf > 0.1:
        assert 0.9 < size < 1.15
        assert (detections.roi > 4 * rhalf).all()  # where the light ends


def test_guesses_in_the_light_of_a_cuspy_galaxy():
    """It is measured as far as its light goes, and faint neighbours without its halo."""
    flux = np.array([3e4, 800.0, 400.0, 250.0])
    truth = catalog(
        [0.1, 2.0, -2.6, -1.0], [-0.2, 1.5, 2.2, -4.2], flux[:, None],
        sersic=np.array([4.0, 1.0, 1.0, 1.0]), rhalf=np.array([0.7, 0.2, 0.25, 0.05]), q=0.8,
    )  # fmt: skip
    (exposure,) = simulate_exposures(truth, [spec("g", "g", noise=0.5)], seed=4)
    detections = detect_on_images([residual_image(exposure)], rhalf_range=(0.02, 3.0))
    row = matched(truth, detections.catalog, 0.2)
    ratio = detections.catalog.flux[row, 0] / flux
    print(
        f"\n{len(detections.catalog)} found of 4; flux / truth {ratio.round(2)}, "
        f"roi {detections.catalog.roi[row].round(1)}"
    )
    assert sorted(row) == [0, 1, 2, 3]
    assert len(detections.structure) == 0
    assert 0.75 < ratio[0] < 1
    assert (np.abs(ratio[1:] - 1) < 0.35).all()
    assert 0.6 < detections.catalog.rhalf[row[0]] / 0.7 < 1.1
    assert detections.catalog.roi[row[0]] > 3.5


def test_an_imperfect_model_is_no_source_but_a_neighbour_is():
    bright = catalog([0.0], [0.0], [[2e5]], rhalf=0.4, sersic=2.0)
    neighbour = catalog([1.6], [0.5], [[1500.0]], rhalf=0.1)
    image = spec("g", "g")
    model = noiseless_image(bright, image)
    (exposure,) = simulate_exposures(neighbour, [image], seed=5)
    # too bright by 1 %, and off by a twentieth of a pixel
    error = 0.01 * model + model - shift(model, (0.05, 0.02), order=5)
    chi = np.abs(error * exposure.ierr).max()
    residual = residual_image(exposure, exposure.data + error, model)
    detections = detect([residual])
    ringed = detect([residual], model_error=1e-6, structure=0)
    print(
        f"\nlargest |chi| of the model's error {chi:.0f}: {len(detections.catalog)} found, else {len(ringed.catalog)}"
    )
    assert len(detections.catalog) == 1
    assert matched(neighbour, detections.catalog, 0.15)[0] == 0
    assert len(ringed.catalog) > 1


def test_structure_of_a_bright_image_is_one_source():
    truth = catalog([0.0, 6.0], [0.0, 6.0], [[3e5], [2e3]], rhalf=1.0)
    images = [residual_image(e) for e in simulate_exposures(truth, [spec("g", "g")], seed=6)]
    detections = detect_on_images(images)
    print(f"\n{len(detections.catalog)} found of 2 with S = {detections.catalog['significance'].round(0)}")
    assert len(detections.catalog) == 2


def test_sky_is_taken_off():
    truth = catalog([0.0, -5.0], [0.0, 4.0], [[300.0], [200.0]])
    (exposure,) = simulate_exposures(truth, [spec("g", "g")], seed=7)
    image = residual_image(exposure, exposure.data + 5 + np.linspace(0, 1, 200))
    detections = detect_on_images([image], background_box=50)
    assert len(detections.catalog) == 2
    np.testing.assert_allclose(detections.catalog.flux[:, 0], [300, 200], rtol=0.15)
    level = detect([residual_image(exposure, exposure.data + 5)])
    assert len(level.catalog) == 2
    np.testing.assert_allclose(level.catalog.flux[:, 0], [300, 200], rtol=0.15)
    assert level.noise["g"]["g"].level == pytest.approx(5, abs=0.05)


def test_bad_pixels_edges_and_bands_without_data():
    truth = catalog([0.0, 5.0, 10.02], [0.0, -5.0, 3.0], np.full((3, 2), 400.0))
    one, two = simulate_exposures(truth, [spec("g", "g"), spec("r", "r", size=60)], seed=8)
    data, ierr = one.data.copy(), one.ierr.copy()
    data[90:110, 40:60], ierr[90:110, 40:60] = 1e9, 0  # masked
    data[20, 30] = np.nan
    images = [residual_image(dataclasses.replace(one, ierr=ierr), data), residual_image(two)]
    detections = detect(images, sed={"g": 1.0, "r": 2.0})
    # the third lies outside, just beyond the edge
    row = matched(truth, detections.catalog, 0.2)
    assert len(detections.catalog) == 2
    assert row[2] == -1
    assert set(detections.catalog["found_in"]) <= {"g", "r", "all"}
    flux = detections.catalog.flux[row[:2]]
    assert flux[1, 1] == pytest.approx(2 * flux[1, 0])  # r does not reach there: from the SED
    np.testing.assert_allclose([*flux[0], flux[1, 0]], 400, rtol=0.15)


def test_new_sources_join_a_catalogue():
    old = catalog([0.0, 1.0], [0.0, 0.0], [[1.0, 2.0], [3.0, 4.0]])
    old = old.replace(extra=Table({"source_index": [0, 1], "z": [0.1, 0.2]}), flux_err=0.1 * old.flux)
    new = catalog([5.0], [5.0], [[7.0, 8.0]]).replace(extra=Table({"origin": ["detected"]}))
    joined = append_detections(old, new)
    assert joined["origin"].tolist() == ["catalog", "catalog", "detected"]
    assert joined.id.tolist() == [0, 1, 2]
    assert np.isnan(joined.flux_err[2]).all()  # guesses, around which bounds are wide
    assert joined.extra.colnames == ["source_index", "z", "origin"]
    renamed = append_detections(joined.replace(id=np.array(["a", "new0", "b"])), new)
    assert renamed["origin"].tolist() == ["catalog", "catalog", "detected", "detected"]
    assert renamed.id.tolist() == ["a", "new0", "b", "new1"]
    assert len(append_detections(old, new[[]])) == 2


def test_columns_of_the_user_are_kept_beside_detected_sources():
    """A star that lost its profile became a Sersic galaxy of radius 0."""
    shape = {"q": 0.9, "pa": 0.0, "sersic": 1.0, "rhalf": 0.1, "bands": ["g"]}
    mine = {"profile": ["point", "sersic"], "distance": [0.5, 1.5], "field": [3, 4], "note": ["a", "b"]}
    old = SourceCatalog.from_columns(ra=[1.0, 1.1], dec=2.0, flux=[5, 6], extra=Table(mine), **shape)
    old.extra["distance"].unit = "Mpc"
    extra_columns = Table({"origin": ["detected"], "significance": [7.0]})
    new = SourceCatalog.from_columns(ra=[1.2], dec=2.0, flux=[7], extra=extra_columns, **shape)
    extra = append_detections(old, new).extra
    assert extra.colnames == [*mine, "origin"]
    assert extra["profile"].tolist() == ["point", "sersic", "sersic"]
    np.testing.assert_array_equal(extra["distance"], [0.5, 1.5, np.nan])
    assert str(extra["distance"].unit) == "Mpc"
    assert extra["field"].tolist() == [3, 4, None]
    assert extra["note"].tolist() == ["a", "b", ""]


def test_what_is_refused():
    image = ResidualImage(
        np.zeros((9, 9)), np.ones((9, 9)), None, WCS(spec("g", "").header()), "g", "e", gaussian_psf(1)
    )
    with pytest.raises(InputError, match="no residual images"):
        detect([])
    with pytest.raises(InputError, match="threshold is 0"):
        detect([image], threshold=0)
    with pytest.raises(InputError, match="no flux in g in the SED, found r"):
        detect([image], sed={"r": 1.0})
    with pytest.raises(InputError, match=r"exposure e: ierr has shape \(8, 9\), expected \(9, 9\)"):
        dataclasses.replace(image, ierr=np.ones((8, 9)))
    with pytest.raises(InputError, match=r"PSF image of shape \(4, 4\), expected odd numbers"):
        dataclasses.replace(image, psf_image=np.ones((4, 4)))
    assert len(detect([image]).catalog) == 0


@pytest.mark.parametrize(("name", "fewest"), [("hsc_cosmos35", 6), ("decals_coadd", 40), ("euclid_q1", 30)])
def test_real_images(name, fewest):
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is absent")
    paths = sorted(path for path in (DATA / name).glob("*.fits") if path.name != "peaks.fits")
    detections = detect_on_images([residual_image(Exposure.from_fits(path)) for path in paths])
    peaks = SourceCatalog.read(DATA / name / "peaks.fits")
    row = matched(peaks, detections.catalog.select_bands(detections.catalog.bands), 0.5)
    print(
        f"\n{name}: {len(detections.catalog)} found, {np.count_nonzero(row >= 0)} of {len(peaks)} of the peak list"
    )
    assert len(detections.catalog) >= fewest
    assert detections.n_false < 0.2
