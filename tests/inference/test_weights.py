"""Importance weights: smoothed, resampled, and judged."""

import dataclasses

import numpy as np
import pytest

from fphojax.inference.weights import TRUSTED, Verdict, effective_size, judged, resampled, smoothed


def test_weights_make_one_normal_another(capsys):
    """Of draws from a normal of width 1.5, those of a unit normal."""
    rng = np.random.default_rng(1)
    points = 1.5 * rng.normal(size=4000)
    weight, k_hat = smoothed(-0.5 * points**2 * (1 - 1 / 1.5**2))
    drawn = points[resampled(weight, 1000, rng)]
    with capsys.disabled():
        print(f"\nmean {drawn.mean():+.3f}, sd {drawn.std():.3f}, k-hat {k_hat:.2f}")
    assert k_hat < TRUSTED
    assert abs(drawn.mean()) < 0.1
    assert abs(drawn.std() - 1) < 0.07


def test_points_without_density_are_not_drawn():
    log_ratio = np.random.default_rng(2).normal(size=1000)
    log_ratio[:100] = -np.inf
    log_ratio[100:200] = np.nan
    weight, _ = smoothed(log_ratio)
    rows = resampled(weight, 500, np.random.default_rng(3))
    count = np.bincount(rows, minlength=1000)
    expected = 500 * weight / weight.sum()
    assert (count >= np.floor(expected)).all()
    assert (count <= np.ceil(expected)).all()
    assert not count[:200].any()


def test_weights_without_a_tail():
    """Equal ones, a single one that is all, and none."""
    for log_ratio, k_hat, expected in (
        (np.zeros(400), 0, np.full(400, 1 / 400)),
        (np.r_[0.0, np.full(399, -900.0)], np.inf, np.r_[1.0, np.zeros(399)]),
        (np.full(400, -np.inf), np.inf, np.full(400, 1 / 400)),
    ):
        weight, found = smoothed(log_ratio)
        assert found == k_hat
        np.testing.assert_allclose(weight, expected, atol=1e-300)


def test_effective_size_is_the_number_of_equal_weights():
    assert effective_size(np.full(50, -700.0)) == pytest.approx(50)
    assert effective_size(np.r_[np.zeros(20), np.full(30, -np.inf)]) == pytest.approx(20)
    assert effective_size(np.full(5, -np.inf)) == 0


def judgement(points, log_ratio):
    """Verdict on points that were all drawn in one round."""
    weight, k_hat = smoothed(log_ratio)
    return judged(points, weight, k_hat, slice(0, len(points)), log_ratio)


def test_good_points_are_trusted():
    rng = np.random.default_rng(4)
    points = 1.3 * rng.normal(size=(2000, 3))
    verdict = judgement(points, -0.5 * np.sum(points**2, axis=1) * (1 - 1 / 1.3**2))
    assert verdict.trusted
    assert verdict.efficiency == pytest.approx(0.72, abs=0.08)
    assert verdict.width_error == pytest.approx(1 / np.sqrt(2 * 2000 * verdict.efficiency), rel=0.3)


def test_a_density_that_is_wider_than_its_proposal_is_not_trusted():
    points = np.random.default_rng(5).normal(size=(2000, 3))
    verdict = judgement(points, 0.5 * np.sum(points**2, axis=1) * (1 - 1 / 2**2))
    assert not verdict.trusted
    assert verdict.k_hat > TRUSTED


def test_points_of_which_halves_differ_are_not_trusted():
    points = np.random.default_rng(6).normal(size=(2000, 3))
    points[::2, 1] += 0.3
    verdict = judgement(points, np.zeros(2000))
    assert verdict.halves > 5
    assert not verdict.trusted


def test_a_last_round_unlike_all_is_not_trusted():
    points = np.random.default_rng(7).normal(size=(4000, 2))
    points[3000:, 0] *= 0.8
    weight = np.full(4000, 1 / 4000)
    verdict = judged(points, weight, 0.1, slice(3000, 4000), np.random.default_rng(8).normal(size=1000) / 10)
    assert verdict.last > 4
    assert not verdict.trusted


def test_a_width_that_rests_on_few_points_is_not_trusted():
    points = np.random.default_rng(9).normal(size=(2000, 2))
    points[7, 1] = 40.0
    verdict = judgement(points, np.zeros(2000))
    assert verdict.width_error > 0.1
    assert not verdict.trusted


@pytest.mark.parametrize("name", ["k_hat", "k_last", "width_error", "halves", "last"])
def test_each_figure_alone_can_refuse(name):
    good = Verdict(k_hat=0.3, k_last=0.3, efficiency=0.5, width_error=0.02, halves=2.0, last=2.0)
    assert good.trusted
    assert not dataclasses.replace(good, **{name: 10.0}).trusted
