"""Maps and files of pages."""

import numpy as np
import pytest

from fphojax.figures.field_plots import catalog_column, chain_pdf, plot_sky, residual_pdf, sky_columns
from fphojax.figures.fit_plots import save_figure
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import CircularRegion


def test_map_of_sources(fit, tmp_path):
    region = CircularRegion(fit.truth.ra[0], fit.truth.dec[0], 0.8)
    figure = plot_sky(fit.truth, "R", regions=[region], selected=[1])
    axis, bar = figure.axes
    (points,) = [c for c in axis.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(points.get_array(), [50, 80, 40])
    offsets = np.asarray(points.get_offsets())
    step = (fit.truth.dec - fit.truth.dec[0]) * 3600
    np.testing.assert_allclose(offsets[:, 1] - offsets[0, 1], step, atol=1e-6)
    assert np.abs(offsets).max() < 1  # although the field lies across ra = 0
    assert axis.get_xlim()[0] > axis.get_xlim()[1]
    assert "two" in [text.get_text() for text in axis.texts]
    assert bar.get_ylabel() == "R [nJy]"
    save_figure(figure, tmp_path / "map.png", dpi=50)


def test_columns_of_a_map(fit):
    assert sky_columns(fit.truth) == ["B", "R", "rhalf", "q", "sersic", "pa", "roi", "n_iter"]
    np.testing.assert_allclose(catalog_column(fit.truth, "pa"), fit.truth.pa)
    assert catalog_column(fit.truth, "n_iter").tolist() == [0, 3, 5]
    with pytest.raises(InputError, match="found no column of numbers 'note', expected one of B, R"):
        plot_sky(fit.truth, "note")
    figure = plot_sky(fit.truth, [1.0, np.nan, 2.0], label="mine")
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [1, 2]


@pytest.mark.slow
def test_pages_of_a_run(run, tmp_path):
    chains = chain_pdf(run, tmp_path / "chains.pdf", progress=False)
    residuals = residual_pdf(run, tmp_path / "residuals.pdf", progress=False)
    assert chains.read_bytes().count(b"/Type /Page ") == 2 * 2 * 2
    assert residuals.read_bytes().count(b"/Type /Page ") == 2
