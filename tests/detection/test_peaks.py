import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from fphojax.detection.peaks import prominent_peaks


def peaks_by_flooding(values, threshold, prominence):
    """The same from the definition: lower the water level by level, and see which islands join."""
    peaks, eight = set(), np.ones((3, 3))
    levels = np.sort(values[values > threshold])[::-1]
    for y, x in np.argwhere(values > threshold):
        height = values[y, x]
        for level in levels[levels <= height]:
            island = label(values >= level, eight)[0]
            if (values[island == island[y, x]] > height).any():
                if height - level >= prominence:
                    peaks.add((x, y))
                break
        else:
            peaks.add((x, y))  # never joined to a higher one
    return peaks


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    threshold=st.floats(-0.5, 1.0),
    prominence=st.floats(0.01, 1.0),
)
def test_peaks_are_those_of_the_definition(seed, shape, threshold, prominence):
    values = np.random.default_rng(seed).normal(size=shape)
    x, y = prominent_peaks(values, threshold, prominence)
    assert set(zip(x.tolist(), y.tolist(), strict=True)) == peaks_by_flooding(values, threshold, prominence)
    assert (np.diff(values[y, x]) < 0).all()


def test_a_flat_top_is_one_peak():
    values = np.zeros((9, 9))
    values[3:6, 2:7] = 2.0
    assert len(prominent_peaks(values, 1.0, 0.5)[0]) == 1
    assert len(prominent_peaks(values, 3.0, 0.5)[0]) == 0
