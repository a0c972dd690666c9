"""Figures show what they should."""

import numpy as np
import pytest

from fphojax import load_sersic_table
from fphojax.figures.fit_plots import plot_residuals, plot_sersic_errors, save_figure
from fphojax.inputs import InputError


def test_residual_panels(fit, tmp_path):
    figure = plot_residuals(fit.scene, fit.chains.optimum.values)
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 6
    data, model, chi = (np.ma.filled(axis.images[0].get_array(), np.nan) for axis in panels[:3])
    ierr = 1 / 0.1
    good = np.isfinite(data)
    np.testing.assert_allclose((data - model)[good] * ierr, chi[good], atol=1e-4)
    assert np.isnan(data[3, 4:8]).all()
    assert panels[0].get_title() == "B first: data"
    assert float(panels[2].get_title().split("=")[1]) == pytest.approx(1, abs=0.15)
    assert {text.get_text() for text in panels[0].texts} >= {"one", "two", "N", "E", '0.2"'}
    save_figure(figure, tmp_path / "residuals.png", dpi=50)
    assert (tmp_path / "residuals.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_chosen_exposures_and_stretches(fit):
    from matplotlib.colors import AsinhNorm, LogNorm, Normalize

    for stretch, kind in (("asinh", AsinhNorm), ("log", LogNorm), ("linear", Normalize)):
        figure = plot_residuals(
            fit.scene, fit.chains.optimum.values, exposures=[1], stretch=stretch, linear_noise=2.0
        )
        data, model, _ = panels = [axis for axis in figure.axes if axis.images]
        assert [axis.get_title() for axis in panels[:2]] == ["R second: data", "model"]
        assert type(data.images[0].norm) is kind
        assert data.images[0].norm is model.images[0].norm
    with pytest.raises(ValueError, match="stretch is 'cubic', expected"):
        plot_residuals(fit.scene, fit.chains.optimum.values, stretch="cubic")


def test_a_figure_needs_its_folder(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder, expected one to write f\.png to"):
        save_figure(plot_sersic_errors(load_sersic_table()), tmp_path / "none" / "f.png")


def test_errors_of_the_profile_table(tmp_path):
    figure = plot_sersic_errors(load_sersic_table())
    (mesh,) = figure.axes[0].collections
    assert 0 < mesh.get_array().max() < 0.3  # per cent
    save_figure(figure, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").stat().st_size > 1000
