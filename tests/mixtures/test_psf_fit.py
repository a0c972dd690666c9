"""PSF images to mixtures: against noiseless mixtures, real images, and inputs that are no PSFs."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.special import erf
from threadpoolctl import threadpool_info, threadpool_limits

from fphojax.errors import InputError
from fphojax.mixtures import psf_fit, psf_solver
from fphojax.mixtures.psf_fit import fit_psf, fit_psfs, plot_psf_fit
from fphojax.mixtures.psf_image import effective_psf

DATA = Path(os.environ.get("FPHOJAX_DATA", Path(__file__).resolve().parents[2] / "../shared/data"))

AMPLITUDES = np.array([0.55, 0.3, 0.15])
MEANS = np.array([[0.05, -0.02], [-0.1, 0.15], [0.2, 0.1]])
COVARIANCES = np.array([[1.2, 1.0, 0.1], [4.5, 5.5, -0.6], [20.0, 17.0, 2.0]])


def mixture(shape, amplitudes=AMPLITUDES, means=MEANS, covariances=COVARIANCES, *, centre=None):
    """Sum of Gaussians at pixel centres, straight from the definition."""
    centre = ((shape[1] - 1) / 2, (shape[0] - 1) / 2) if centre is None else centre
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for a, m, (xx, yy, xy) in zip(amplitudes, means, covariances, strict=True):
        c = np.array([[xx, xy], [xy, yy]])
        d = np.stack([x - centre[0] - m[0], y - centre[1] - m[1]], axis=-1)
        exponent = -0.5 * np.einsum("...i,ij,...j", d, np.linalg.inv(c), d)
        image += a * np.exp(exponent) / (2 * np.pi * np.sqrt(np.linalg.det(c)))
    return image


def integrated(n, amplitudes, sigmas, oversample):
    """Exact integral of round Gaussians over the fine pixels of an oversampled image."""
    edges = (np.arange(n + 1) - n / 2) / oversample
    image = np.zeros((n, n))
    for a, s in zip(amplitudes, sigmas, strict=True):
        part = np.diff(0.5 * erf(edges / (np.sqrt(2) * s)))
        image += a * np.outer(part, part)
    return image


def assert_recovers(fit, rtol, amplitudes=AMPLITUDES, means=MEANS, covariances=COVARIANCES):
    error = max(
        np.abs(fit.amplitudes - amplitudes).max(),
        np.abs(fit.means - means).max(),
        np.abs(fit.covariances / covariances[:, :1] - covariances / covariances[:, :1]).max(),
    )
    print(f"largest error of a recovered parameter: {error:.1e}")
    assert error < rtol


def test_recovers_a_noiseless_mixture():
    fit = fit_psf(mixture((71, 71)), n_gauss=3, normalise=False)
    assert_recovers(fit, 1e-6)
    assert fit.verdict.relative_l2 < 1e-7
    assert not fit.verdict.poor
    # amplitudes are the image's own where it is normalised: the wings outside of 71 pixels hold nothing
    assert_recovers(fit_psf(5.0 * mixture((71, 71)), n_gauss=3), 1e-6)


def test_recovers_a_negative_gaussian():
    amplitudes = np.array([-0.35, 0.9, 0.45])
    covariances = np.array([[1.0, 1.1, 0.0], [2.0, 1.8, 0.1], [9.0, 10.0, 0.5]])
    image = mixture((51, 51), amplitudes, 0 * MEANS, covariances)
    fit = fit_psf(image, n_gauss=3, n_negative=1, centre="fixed")
    assert_recovers(fit, 1e-5, amplitudes, 0 * MEANS, covariances)
    assert np.all(fit.means == 0)


def test_background_and_mask():
    image = mixture((71, 71)) + 2e-4
    fit = fit_psf(image, n_gauss=3, background=True, normalise=False)
    assert_recovers(fit, 1e-5)
    assert_allclose(fit.background, 2e-4, rtol=1e-5)
    mask = np.zeros(image.shape, bool)
    mask[30:33, 20:50] = True
    image = np.where(mask, np.nan, mixture((71, 71)))
    assert_recovers(fit_psf(image, n_gauss=3, mask=mask), 1e-5)
    image = np.ma.array(np.where(mask, 5.0, mixture((71, 71))), mask=mask)
    assert_recovers(fit_psf(image, n_gauss=3), 1e-5)


def test_encircled_energy_is_the_sum_of_the_amplitudes():
    fit = fit_psf(mixture((41, 41)), n_gauss=2, normalise=0.97)
    assert_allclose(fit.amplitudes.sum(), 0.97, rtol=1e-12)


@pytest.mark.parametrize("oversample", [2, 3, 4])
def test_oversampled_image_gives_the_psf_without_the_pixel(oversample):
    amplitudes, sigmas = [0.7, 0.3], [1.0, 2.5]
    image = integrated(24 * oversample + 1, amplitudes, sigmas, oversample)
    fit = fit_psf(image, n_gauss=2, oversample=oversample, includes_pixel=False)
    sigma = np.sqrt(fit.covariances[:, :2].mean(axis=1))
    print(
        f"oversample {oversample}: amplitudes {fit.amplitudes}, sigmas {sigma}, L2 {fit.verdict.relative_l2:.1e}"
    )
    # a variance of 1/12 stands for the pixel to second order only
    assert_allclose(fit.amplitudes, amplitudes, atol=0.01)
    assert_allclose(sigma, sigmas, rtol=0.01)
    assert fit.verdict.relative_l2 < 1e-3
    assert fit.shift == (0.0, 0.0)


def test_native_image_gives_the_psf_with_or_without_the_pixel():
    image = integrated(41, [1.0], [1.5], 1)
    with_pixel = fit_psf(image, n_gauss=1)
    pixel_free = fit_psf(image, n_gauss=1, includes_pixel=False)
    assert_allclose(with_pixel.covariances[0, :2] - pixel_free.covariances[0, :2], 1 / 12, rtol=1e-6)
    assert_allclose(pixel_free.covariances[0, :2], 1.5**2, rtol=1e-3)


def test_off_centre_and_even_sized_images_report_their_shift():
    round_ = {"amplitudes": [1.0], "means": np.zeros((1, 2)), "covariances": np.array([[3.0, 3.0, 0.0]])}
    fit = fit_psf(mixture((41, 41), centre=(22.3, 18.9), **round_), n_gauss=1)
    assert_allclose(fit.shift, (2.3, -1.1), atol=1e-4)
    assert_allclose(fit.means, 0, atol=1e-4)
    fit = fit_psf(mixture((40, 40), centre=(20, 20), **round_), n_gauss=1)
    assert_allclose(fit.shift, (0.5, 0.5), atol=1e-4)
    # less than half a pixel: the convention of the image stands, the mean takes the offset
    fit = fit_psf(mixture((41, 41), centre=(20.3, 20.0), **round_), n_gauss=1)
    assert fit.shift == (0.0, 0.0)
    assert_allclose(fit.means, [[0.3, 0.0]], atol=1e-6)


def test_recentred_images_lose_their_offset():
    round_ = {"amplitudes": [1.0], "means": np.zeros((1, 2)), "covariances": np.array([[3.0, 3.0, 0.0]])}
    image = mixture((41, 41), centre=(20.3, 19.8), **round_)
    uncentred, recentred = fit_psf(image, n_gauss=1), fit_psf(image, n_gauss=1, recentre=True)
    for fit in (uncentred, recentred):
        assert_allclose(fit.offset, (0.3, -0.2), atol=1e-4)
        assert_allclose(fit.values(fit.effective(image)).sum(), 1, atol=1e-6)
    assert uncentred.shift == (0.0, 0.0)
    assert_allclose(uncentred.means, [[0.3, -0.2]], atol=1e-6)
    assert recentred.shift == recentred.offset
    assert_allclose(recentred.means, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("sky", "words"), [(1e-4, "pedestal 0.144 > 0.05"), (-1e-4, "pedestal -0.202 < -0.05"), (1e-5, None)]
)
def test_sky_in_an_image_is_complained_about(sky, words):
    """Three Gaussians describe sky as wings, and nothing but the border says so."""
    one = [[1.0], np.zeros((1, 2)), np.array([[3.0, 3.0, 0.0]])]
    image = mixture((41, 41), *one) + sky
    complaints = fit_psf(image, n_gauss=3).verdict.complaints
    assert (words in complaints) if words else not complaints
    assert not fit_psf(image, n_gauss=3, background=True).verdict.complaints


def test_chooses_the_smallest_number_of_gaussians():
    image = mixture((51, 51))
    fit = fit_psf(image, n_gauss=None, target_l2=1e-3)
    fewer = fit_psf(image, n_gauss=len(fit.amplitudes) - 1)
    print(
        f"{len(fit.amplitudes)} Gaussians: {fit.verdict.relative_l2:.1e}, one less: {fewer.verdict.relative_l2:.1e}"
    )
    assert len(fit.amplitudes) == 3
    assert fit.verdict.relative_l2 < 1e-3 < fewer.verdict.relative_l2


def test_the_number_is_chosen_by_default():
    assert len(fit_psf(mixture((31, 31))).amplitudes) == 3


def test_noise_takes_no_gaussians():
    one = [[1.0], np.zeros((1, 2)), np.array([[2.0, 2.0, 0.3]])]
    fit = fit_psf(mixture((15, 15), *one) + np.random.default_rng(4).normal(0, 3e-4, (15, 15)))
    print(f"{len(fit.amplitudes)} Gaussians: {fit.verdict.relative_l2:.4f}")
    assert len(fit.amplitudes) < 8
    assert fit.verdict.relative_l2 > 0.01


def test_rings_of_a_space_telescope():
    """With starts on the source alone, three Gaussians were the end, with 5.6 %."""
    path = DATA / "nircam_psf/Pointings12_F444W_Module_A.fits"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    fit = fit_psf(fits.getdata(path), oversample=4, includes_pixel=False)
    print(f"{len(fit.amplitudes)} Gaussians, {fit.verdict}, {fit.seconds:.1f} s")
    assert len(fit.amplitudes) <= 8
    assert fit.verdict.relative_l2 < 0.045
    assert 0.005 < abs(fit.verdict.point_flux_error) < 0.015


def test_threads_do_not_matter(monkeypatch):
    """Matrices are small: threads of BLAS take longer, and round otherwise."""
    n_threads, search = [], psf_fit.search

    def searched(*args, **options):
        n_threads.extend(library["num_threads"] for library in threadpool_info())
        return search(*args, **options)

    monkeypatch.setattr(psf_fit, "search", searched)
    with threadpool_limits(2, user_api="blas"):
        if not any(library["num_threads"] == 2 for library in threadpool_info()):
            pytest.skip("BLAS has no threads here")
        fit_psf(mixture((31, 31)), n_gauss=1)
        assert any(library["num_threads"] == 2 for library in threadpool_info())
    assert set(n_threads) == {1}


def test_same_seed_same_result_in_any_process():
    images = [mixture((31, 31)), mixture((31, 31), covariances=1.3 * COVARIANCES)]
    serial = fit_psfs(images, n_gauss=2)
    parallel = fit_psfs(images, n_gauss=2, workers=2)
    for a, b in zip(serial, parallel, strict=True):
        assert np.array_equal(a.amplitudes, b.amplitudes)
        assert np.array_equal(a.covariances, b.covariances)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.8, 3.0), st.floats(0.3, 1.0), st.floats(0, np.pi), st.floats(0.1, 1e4))
def test_size_flux_and_orientation_of_one_gaussian(sigma, axis_ratio, angle, flux):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    c = rotation @ np.diag([sigma**2, (axis_ratio * sigma) ** 2 + 0.2]) @ rotation.T
    truth = np.array([[c[0, 0], c[1, 1], c[0, 1]]])
    image = mixture((41, 41), [flux], np.zeros((1, 2)), truth)
    fit = fit_psf(image, n_gauss=1, normalise=False)
    assert_allclose(fit.covariances, truth, atol=1e-6 * sigma**2)
    assert_allclose(fit.amplitudes, flux, rtol=1e-6)


def test_derivatives_against_finite_differences():
    effective = effective_psf(mixture((21, 21)), total=1.0)
    x, y = (c.ravel() for c in np.meshgrid(effective.x, effective.y))
    order = np.argsort(np.hypot(x, y), kind="stable")
    problem = psf_solver.Problem(
        x=x[order], y=y[order], data=effective.values.ravel()[order], weight=np.ones(x.size),
        rings=np.array([0, 20, 100]), ring_scale=0.1, floor=0.1, response=1 / 12, total=1.0,
        background=False, fixed_centre=False, mean_limit=5.0, width_limit=10.0,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    theta = np.array([[0.1, 0.2, 1.0, 0.3, 1.2], [-0.3, 0.0, 2.0, -0.5, 1.7]])
    amplitudes = np.array([0.7, -0.2])

    def model(theta):
        return problem.weighted(amplitudes @ psf_solver._columns(problem, theta)[0][None])[:, 0]

    jac = psf_solver._jacobian(problem, theta, amplitudes, psf_solver._columns(problem, theta))
    direction = rng.standard_normal(theta.shape)
    numeric = (model(theta + 1e-5 * direction) - model(theta - 1e-5 * direction)) / 2e-5
    error = np.abs(jac @ direction.ravel() - numeric).max() / np.abs(numeric).max()
    print(f"derivative against finite difference: {error:.1e}")
    assert error < 1e-8


@pytest.mark.parametrize(
    "options",
    [
        {"normalise": False},
        {"normalise": 0.9},
        {"normalise": 0.9, "background": True},
        {"background": True, "normalise": False},
        {"mask": True},
    ],
)
def test_image_is_scaled_as_the_fit_scaled_it(options):
    image = 50 * mixture((31, 31)) + (0.01 if "background" in options else 0)
    mask = {"mask": np.arange(31 * 31).reshape(31, 31) % 7 == 3} if "mask" in options else {}
    fit = fit_psf(image, n_gauss=1, **options | mask)  # one is too few: the model is not the image
    effective = fit.effective(image, **mask)
    if options.get("normalise") is False:
        assert_allclose(effective.values, image, rtol=1e-12)
    values, good = effective.values, effective.good
    relative_l2 = np.linalg.norm((values - fit.values(effective))[good]) / np.linalg.norm(values[good])
    assert_allclose(relative_l2, fit.verdict.relative_l2, rtol=1e-9)


def test_verdict_measures_what_it_says(caplog):
    image = mixture((61, 61))
    with caplog.at_level(logging.WARNING):
        fit = fit_psf(image, n_gauss=1, name="simple")
    effective = effective_psf(image, total=1.0)
    model = mixture((61, 61), fit.amplitudes, fit.means, fit.covariances)
    residual = effective.values - model
    assert_allclose(
        fit.verdict.relative_l2, np.linalg.norm(residual) / np.linalg.norm(effective.values), rtol=1e-9
    )
    assert_allclose(fit.verdict.worst_pixel, np.abs(residual).max() / effective.values.max(), rtol=1e-9)
    r = np.hypot(*np.meshgrid(effective.x, effective.y))
    for i in (0, 7, 20):
        assert_allclose(
            fit.verdict.ee_image[i], effective.values[r <= fit.verdict.ee_radius[i]].sum(), rtol=1e-12
        )
    assert_allclose(fit.verdict.flux_outside, 1 - model.sum(), atol=1e-12)
    assert fit.verdict.poor
    assert "simple: poor PSF mixture of 1 Gaussians: relative l2" in caplog.text


def test_size_and_ellipticity_of_a_gaussian():
    image = mixture((41, 41), [1.0], np.zeros((1, 2)), np.array([[4.0, 4.0, 0.0]]))
    verdict = fit_psf(image, n_gauss=1).verdict
    assert_allclose([verdict.size_image, verdict.size_model], 2.0, rtol=0.02)
    assert_allclose([verdict.ellipticity_image, verdict.ellipticity_model], 0, atol=1e-6)


BAD = {
    "one axis": (np.ones(9), "shape is"),
    "complex": (1j + mixture((21, 21)), "holds complex128, expected real numbers"),
    "text": (mixture((21, 21)).astype(str), "expected real numbers"),
    "zeros": (np.zeros((21, 21)), "are zero"),
    "NaN": (np.full((21, 21), np.nan), "441 of 441 unmasked pixels are not finite"),
    "some NaN": (
        np.where(np.eye(21) > 0, np.nan, mixture((21, 21))),
        "21 of 441 unmasked pixels are not finite",
    ),
    "negative": (-mixture((21, 21)), "total flux is -"),
    "flat": (np.ones((21, 21)), "smaller than the core"),
    "core": (mixture((41, 41))[18:23, 18:23], "smaller than the core"),
    "noise": (np.random.default_rng(0).normal(0.1, 1, (41, 41)), "no clear peak"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_images_give_one_line(case):
    image, words = BAD[case]
    with pytest.raises(InputError) as caught:
        fit_psf(image, name="star.fits")
    message = str(caught.value)
    print(message)
    assert message.startswith("star.fits: ")
    assert words in message
    assert "expected" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "options",
    [
        {"n_gauss": 0},
        {"n_gauss": 4, "n_negative": 4},
        {"n_negative": 8},
        {"target_l2": 0.0},
        {"centre": "peak"},
        {"normalise": 2.0},
        {"oversample": 1.5, "includes_pixel": False},
        {"mask": np.zeros((3, 3))},
    ],
)
def test_bad_options(options):
    with pytest.raises(InputError, match="expected"):
        fit_psf(mixture((21, 21)), **options)


@pytest.mark.parametrize(
    ("file", "l2", "ee"),
    [("decam_g3r2z3/r_425858_N11.fits", 0.015, 0.005), ("hsc_cosmos35/i.fits", 0.015, 0.005),
     ("euclid_q1/VIS.fits", 0.025, 0.005)],
)  # fmt: skip
def test_real_images(file, l2, ee):
    if not (DATA / file).exists():
        pytest.skip(f"{DATA / file} is absent")
    image = fits.getdata(DATA / file, "PSF")
    fit = fit_psf(image, n_gauss=4)
    print(f"{file}: L2 {fit.verdict.relative_l2:.4f}, EE {fit.verdict.ee_error:.4f}, {fit.seconds:.2f} s")
    assert fit.verdict.relative_l2 < l2
    assert fit.verdict.ee_error < ee


def test_figure_shows_image_model_residual_and_curve(tmp_path):
    image = mixture((31, 31))
    figure = plot_psf_fit(fit_psf(image, n_gauss=2), image)
    figure.savefig(tmp_path / "psf.png")
    assert len(figure.axes) == 7
