"""PSF mixtures and their store: layouts, look-up, and files that are written whole."""

import dataclasses
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fphojax.errors import InputError
from fphojax.inputs import psf_layout
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.mixtures.psf_fit import fit_psf

REFERENCE = Path(
    os.environ.get("FPHOJAX_REFERENCE", Path(__file__).resolve().parents[2] / "../shared/reference")
)


def mixture(k=3, *, seed=0, location=None, includes_pixel=True):
    rng = np.random.default_rng(seed)
    factor = np.tril(rng.normal(0, 1, (k, 2, 2))) + 2 * np.eye(2)
    c = factor @ factor.transpose(0, 2, 1)
    covariances = np.stack([c[:, 0, 0], c[:, 1, 1], c[:, 0, 1]], axis=1)
    amplitudes = rng.dirichlet(np.ones(k))
    return PSFMixture(amplitudes, rng.normal(0, 0.2, (k, 2)), covariances, includes_pixel, location)


def assert_same(a, b, exact=True):
    for name in ("amplitudes", "means", "covariances"):
        assert_allclose(
            getattr(a, name), getattr(b, name), rtol=0 if exact else 1e-6, atol=0 if exact else 1e-7
        )
    assert a.includes_pixel == b.includes_pixel
    assert a.detector_location == b.detector_location


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amplitudes": [0.5, 0.5]}, "shape of means"),
        ({"amplitudes": [0.0, 0.0, 0.0]}, "total flux is 0"),
        ({"amplitudes": [0.5, -0.4, -0.3]}, "total flux is -0.2"),
        ({"means": [[0, 0], [np.nan, 0], [0, 0]]}, "means holds nan"),
        ({"covariances": [[1, 1, 0], [1, 1, 1], [1, 1, 0]]}, "covariance of Gaussian 1"),
        ({"covariances": [[1, 1, 0], [1, 1, 0], [-1, 1, 0]]}, "covariance of Gaussian 2"),
    ],
)
def test_mixture_is_checked(change, words):
    good = {"amplitudes": [0.5, 0.3, 0.2], "means": np.zeros((3, 2)), "covariances": [[1, 1, 0]] * 3}
    with pytest.raises(InputError, match=words):
        PSFMixture(**(good | change))


def test_residuals_are_kept_beside_their_mixtures(tmp_path):
    rng = np.random.default_rng(3)
    sizes = {(0.0, 0.0): (5, 7), (0.0, 100.0): (9, 3), (100.0, 0.0): None}
    mixtures = [
        dataclasses.replace(
            mixture(location=place), residual=None if size is None else rng.normal(0, 0.01, size)
        )
        for place, size in sizes.items()
    ]
    store = PSFStore()
    store.add(mixtures, "F1")
    store.write(tmp_path / "psfs.h5")
    first, second, third = (m.residual for m in PSFStore.open(tmp_path / "psfs.h5").mixtures("F1"))
    assert third is None
    assert_allclose(first, np.pad(mixtures[0].residual, ((2, 2), (0, 0))), atol=1e-9)
    assert_allclose(second, np.pad(mixtures[1].residual, ((0, 0), (2, 2))), atol=1e-9)


def test_residual_of_a_fit_is_the_image_less_the_mixture():
    image = mixture(seed=2).render((25, 25), (12, 12)) + mixture(seed=5).render((25, 25), (12, 12))
    fitted = PSFMixture.from_fit(fit_psf(image, n_gauss=2))
    assert np.abs(fitted.residual).max() > 1e-4
    assert_allclose(fitted.residual, image / image.sum() - fitted.render((25, 25), (12, 12)), atol=1e-9)


@pytest.mark.parametrize(
    ("residual", "words"),
    [(np.zeros((4, 5)), r"shape of residual is \(4, 5\)"), ([[np.nan]], "residual holds nan")],
)
def test_residual_is_checked(residual, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(mixture(), residual=residual)


def test_residuals_of_another_number_are_refused(tmp_path):
    store = PSFStore()
    store.add(dataclasses.replace(mixture(), residual=np.zeros((3, 3))), "F1")
    store.write(tmp_path / "psfs.h5")
    with h5py.File(tmp_path / "psfs.h5", "a") as file:
        del file["F1/residual"]
        file["F1/residual"] = np.zeros((2, 3, 3))
    with pytest.raises(InputError, match="F1/residual has 2 images, expected 1, as parameters"):
        PSFStore.open(tmp_path / "psfs.h5")


def test_render_sums_to_the_flux_and_has_the_moments():
    m = mixture(includes_pixel=False)
    image = m.render((121, 121), (60.3, 59.6))
    y, x = np.mgrid[:121, :121]
    assert_allclose(image.sum(), 1, rtol=1e-9)
    assert_allclose([(image * x).sum() - 60.3, (image * y).sum() - 59.6], m.amplitudes @ m.means, atol=1e-9)
    mean = m.amplitudes @ m.means
    xx = m.amplitudes @ (m.covariances[:, 0] + 1 / 12 + m.means[:, 0] ** 2) - mean[0] ** 2
    assert_allclose((image * x**2).sum() - (image * x).sum() ** 2, xx, rtol=1e-9)


def test_from_fit():
    y, x = np.mgrid[-15:16, -15:16]
    fit = fit_psf(np.exp(-(x**2 + y**2) / 8), n_gauss=1, includes_pixel=False)
    m = PSFMixture.from_fit(fit, detector_location=(3, 4))
    assert not m.includes_pixel
    assert m.detector_location == (3.0, 4.0)
    assert_allclose(m.covariances[0, :2], 4 - 1 / 12, rtol=1e-6)
    assert_allclose(m.render((31, 31), (15, 15)), np.exp(-(x**2 + y**2) / 8) / (8 * np.pi), atol=1e-7)


def test_store_round_trip(tmp_path):
    store = PSFStore()
    grid = [mixture(k, seed=k, location=(100 * k, 50)) for k in (2, 3, 5)]
    store.add(grid, "g")
    store.add(mixture(4, seed=9, includes_pixel=False), "r", "exp1.fits")
    store.add(mixture(2, seed=8), "r")
    store.write(tmp_path / "psf.h5")
    back = PSFStore.open(tmp_path / "psf.h5")
    assert back.bands == ["g", "r"]
    assert back.exposures("r") == ["exp1.fits"]
    for a, b in zip(back.mixtures("g"), grid, strict=True):
        assert_same(a, b)
    assert_same(back.lookup("r", "exp1.fits"), store.lookup("r", "exp1.fits"))
    assert_same(back.lookup("r", "another"), store.lookup("r"))
    assert not back.lookup("r", "exp1.fits").includes_pixel
    assert back.lookup("r").includes_pixel
    assert [p.name for p in tmp_path.iterdir()] == ["psf.h5"]


def test_exposure_alone_is_enough(tmp_path):
    store = PSFStore()
    store.add(mixture(), "g", "a")
    store.write(tmp_path / "psf.h5")
    back = PSFStore.open(tmp_path / "psf.h5")
    assert_same(back.lookup("g", "a"), mixture())
    with pytest.raises(InputError, match=r"no PSF for band g, exposure b; .*psf\.h5 has g"):
        back.lookup("g", "b")


def test_lookup_by_position():
    store = PSFStore()
    places = [(0.0, 0.0), (100.0, 0.0), (0.0, 50.0), (100.0, 50.0)]
    store.add([mixture(2, seed=i, location=p) for i, p in enumerate(places)], "g")
    assert store.lookup("g", location=(90, 10)).detector_location == (100.0, 0.0)
    with pytest.raises(InputError, match="varies over the detector"):
        store.lookup("g")
    images = [m.render((41, 41), (20, 20)) for m in store.mixtures("g")]
    mixed = store.lookup("g", location=(25, 10), interpolate=True).render((41, 41), (20, 20))
    weights = [0.75 * 0.8, 0.25 * 0.8, 0.75 * 0.2, 0.25 * 0.2]
    assert_allclose(mixed, np.tensordot(weights, images, axes=1), atol=1e-14)
    corner = store.lookup("g", location=(-5, -5), interpolate=True).render((41, 41), (20, 20))
    assert_allclose(corner, images[0], atol=1e-14)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e3)), min_size=2, max_size=6, unique=True))
def test_interpolation_keeps_the_flux_and_meets_its_nodes(places):
    store = PSFStore()
    store.add([mixture(2, seed=i, location=p) for i, p in enumerate(places)], "g")
    assert_allclose(store.lookup("g", location=(10, 20), interpolate=True).amplitudes.sum(), 1, rtol=1e-9)
    if min(np.hypot(a[0] - b[0], a[1] - b[1]) for a in places for b in places if a != b) < 1:
        return
    at_node = store.lookup("g", location=places[0], interpolate=True).render((31, 31), (15, 15))
    assert_allclose(at_node, mixture(2, seed=0).render((31, 31), (15, 15)), atol=1e-9)


def test_a_file_is_not_overwritten_unless_asked(tmp_path):
    store = PSFStore()
    store.add(mixture(), "g")
    store.write(tmp_path / "psf.h5")
    with pytest.raises(InputError, match="exists already"):
        store.write(tmp_path / "psf.h5")
    store.write(tmp_path / "psf.h5", overwrite=True)
    with pytest.raises(InputError, match="no such folder"):
        store.write(tmp_path / "none" / "psf.h5")


def test_adding_a_band_leaves_the_others(tmp_path):
    path = tmp_path / "psf.h5"
    first, second = PSFStore(), PSFStore()
    first.add(mixture(seed=1), "g")
    first.add_to(path)
    second.add(mixture(seed=2), "r")
    second.add_to(path)
    back = PSFStore.open(path)
    assert_same(back.lookup("g"), mixture(seed=1))
    assert_same(back.lookup("r"), mixture(seed=2))
    with pytest.raises(InputError, match="has a PSF for band r already"):
        second.add_to(path)
    second.add_to(path, overwrite=True)


def test_a_write_that_dies_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "psf.h5"
    store = PSFStore()
    store.add(mixture(seed=1), "g")
    store.write(path)
    before = path.read_bytes()
    other = PSFStore()
    other.add(mixture(seed=2), "r")
    for broken in ("table", "_write_locations"):
        with monkeypatch.context() as patch:
            patch.setattr(f"fphojax.inputs.psf_store.{broken}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                other.add_to(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.add_to(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["psf.h5"]


def forcepho_files():
    return sorted(REFERENCE.glob("*/psf.h5"))


@pytest.mark.parametrize("path", forcepho_files() or [None], ids=lambda p: p.parent.name if p else "none")
def test_forcepho_files_both_ways(path, tmp_path):
    if path is None:
        pytest.skip(f"{REFERENCE} is absent")
    store = PSFStore.open(path)
    with h5py.File(path) as file:
        assert store.bands == sorted(file)
        for band in store.bands:
            rows, n = file[band]["parameters"][0], file[band].attrs["n_psf_per_source"]
            m = store.lookup(band)
            assert not m.includes_pixel
            assert m.amplitudes.size == n // 9
            assert_array_equal(m.amplitudes, rows["amp"][: n // 9])
            assert_array_equal(m.covariances[:, 2], rows["Cxy"][-(n // 9) :])
    store.write_forcepho(tmp_path / "back.h5", 9)
    with h5py.File(path) as a, h5py.File(tmp_path / "back.h5") as b:
        for band in a:
            assert_array_equal(a[band]["parameters"][()], b[band]["parameters"][()])
            assert a[band]["parameters"].dtype == b[band]["parameters"].dtype
            assert dict(a[band].attrs) == dict(b[band].attrs)
    store.write(tmp_path / "ours.h5")
    for band in store.bands:
        assert_same(PSFStore.open(tmp_path / "ours.h5").lookup(band), store.lookup(band))


def test_forcepho_layout_holds_locations_and_refuses_the_rest(tmp_path):
    store = PSFStore()
    grid = [mixture(k, seed=k, location=(k, 2 * k), includes_pixel=False) for k in (2, 3)]
    store.add(grid, "g")
    store.write_forcepho(tmp_path / "f.h5", 5)
    back = PSFStore.open(tmp_path / "f.h5")
    for a, b in zip(back.mixtures("g"), grid, strict=True):
        assert_same(a, b, exact=False)
    store.add(mixture(includes_pixel=False), "g", "exposure")
    with pytest.raises(InputError, match="exposure exposure has its own"):
        store.write_forcepho(tmp_path / "g.h5", 5)
    store = PSFStore()
    store.add(mixture(includes_pixel=True), "g")
    with pytest.raises(InputError, match="includes the pixel response"):
        store.write_forcepho(tmp_path / "g.h5", 5)


def bad_file(path, kind):
    if kind == "missing":
        return "no such file"
    if kind == "text":
        path.write_text("not HDF5")
        return "not an HDF5 file"
    with h5py.File(path, "w") as file:
        if kind == "empty":
            return "holds no PSF"
        if kind == "no parameters":
            file.create_group("g")
            return "/g has no dataset `parameters`"
        rows = psf_layout.repeated(psf_layout.table([mixture(2), mixture(2, seed=1)]), 3)
        if kind == "differs":
            rows["Cxx"][0, 3] *= 1.1
            words = "/g/parameters: PSF differs between Sersic radii"
        elif kind == "fields":
            rows = rows[["amp", "xcen", "ycen", "Cxx", "Cyy", "sersic_bin"]]
            words = "/g/parameters: no field Cxy"
        elif kind == "locations":
            file["g/detector_locations"] = np.zeros((3, 2))
            words = "/g: detector_locations has shape (3, 2), expected (2, 2)"
        elif kind == "flux":
            rows["amp"] = 0
            file["g/detector_locations"] = np.eye(2)
            words = "/g, location 0: PSF mixture: total flux is 0"
        file["g/parameters"] = rows
    return words


@pytest.mark.parametrize(
    "kind", ["missing", "text", "empty", "no parameters", "differs", "fields", "locations", "flux"]
)
def test_bad_files_give_one_line(kind, tmp_path):
    path = tmp_path / "psf.h5"
    words = bad_file(path, kind)
    with pytest.raises(InputError) as caught:
        PSFStore.open(path)
    message = str(caught.value)
    print(message)
    assert str(path) in message
    assert words in message
    assert "expected" in message
    assert "\n" not in message


def test_additions_are_checked():
    store = PSFStore()
    for mixtures, band, words in (
        ([], "g", "no mixture"),
        ([mixture(), mixture(seed=1)], "g", "no detector location"),
        ([mixture(location=(0, 0)), mixture(location=(1, 0), includes_pixel=False)], "g", "one kind"),
        (mixture(), "a/b", "cannot name a group"),
    ):
        with pytest.raises(InputError, match=words):
            store.add(mixtures, band)
    with pytest.raises(InputError, match="no PSF for band g; the PSF store has none"):
        store.lookup("g")


def test_mixtures_are_in_pixels():
    """What has a unit is not taken for pixels."""
    plain = PSFMixture([1.0], [[0.1, 0.0]], [[1.4, 1.2, 0.1]], detector_location=(3, 4))
    with_units = PSFMixture(
        [100.0] * u.percent,
        [[0.1, 0.0]] * u.pix,
        [[1.4, 1.2, 0.1]] * u.pix**2,
        detector_location=(3 * u.pix, 4 * u.pix),
    )
    for name in ("amplitudes", "means", "covariances", "detector_location"):
        np.testing.assert_array_equal(getattr(with_units, name), getattr(plain, name))
    with pytest.raises(InputError, match="PSF mixture: covariances: found unit arcsec2, expected pix2"):
        PSFMixture([1.0], [[0.0, 0.0]], [[0.01, 0.01, 0.0]] * u.arcsec**2)
    with pytest.raises(InputError, match="PSF mixture: means: found unit arcsec, expected pix"):
        PSFMixture([1.0], [[0.1, 0.0]] * u.arcsec, [[1.4, 1.4, 0.0]])
    with pytest.raises(InputError, match="PSF mixture: detector_location: found unit mm, expected pix"):
        PSFMixture([1.0], [[0.0, 0.0]], [[1.4, 1.4, 0.0]], detector_location=(3, 4) * u.mm)
