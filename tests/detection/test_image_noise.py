"""Detection promises a number of false sources: on noise that is correlated, on a pedestal, with wrong errors."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from fphojax.detection.source_search import detect


def noise(rng, side, kernel):
    return uniform_filter(rng.normal(size=(side, side)), kernel, mode="wrap") * kernel


@pytest.mark.parametrize(
    ("kernel", "pedestal", "error"), [(1, 0.0, 1.0), (3, 0.5, 1.0), (1, 0.0, 2.0), (1, 0.3, 0.5)]
)
def test_as_many_false_sources_as_promised(make_image, kernel, pedestal, error):
    """With ERR alone, the second case makes hundreds of sources where 0.0047 was promised, the third one none."""
    rng, count, promised = np.random.default_rng(5), 0, 0.0
    for _ in range(20):
        detections = detect([make_image(noise(rng, 128, kernel) + pedestal, error)], threshold=3.1)
        count += len(detections.catalog) + len(detections.structure)
        promised += detections.n_false
    print(f"\nkernel {kernel}, pedestal {pedestal}, error {error}: {count} found, {promised:.0f} promised")
    assert promised > 40
    assert promised / 1.5 < count < 1.5 * promised


def test_level_scale_and_correlation_beside_sources(make_image, spot):
    """Those of the noise, although sources and the halo of a bright one cover a third of the image."""
    rng = np.random.default_rng(6)
    noises = []
    for pedestal in (0.0, 0.4):
        values = 2 * noise(rng, 256, 3) + pedestal
        for x, y in rng.uniform(10, 246, (25, 2)):
            values += spot(values.shape, x, y, 2.0, 20.0)
        row, column = np.indices(values.shape)
        radius = np.hypot(column - 120, row - 140)
        values += 400 * np.exp(-radius / 8)
        noises.append(detect([make_image(values)]).noise["g"]["e"])
    # sum over l of A(l) C(l), for pixels whose noise is a mean over 3 x 3
    lag = np.arange(-2, 3)
    one = np.sum(np.exp(-(lag**2) / 4 / 1.6**2) * (1 - np.abs(lag) / 3))
    for measured, pedestal in zip(noises, (0.0, 0.4), strict=True):
        print(measured, "expected power", 4 * one**2)
        assert measured.scale == pytest.approx(2, rel=0.05)
        assert measured.power == pytest.approx(4 * one**2, rel=0.15)
        assert abs(measured.level - pedestal) < max(4 * measured.level_error, 0.1)
        assert measured.level_error < 0.06
    assert noises[1].level - noises[0].level == pytest.approx(0.4, abs=0.1)


def test_an_image_full_of_a_source_has_no_level(make_image):
    """There errors are believed, unless the image scatters more than they say."""
    rng = np.random.default_rng(7)
    row, column = np.indices((60, 60))
    light = 2000 * np.exp(-np.hypot(column - 30, row - 28) / 15)
    measured = detect([make_image(light + rng.normal(size=light.shape))]).noise["g"]["e"]
    assert (measured.level, measured.level_error, measured.power) == (0.0, np.inf, 1.0)
