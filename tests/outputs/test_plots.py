"""Figures show what they should."""

import numpy as np
import pytest

from fphojax import load_sersic_table
from fphojax.inputs import InputError
from fphojax.outputs.plots import plot_posterior, plot_residuals, plot_sersic_errors, save_figure


def test_residual_panels(fit, tmp_path):
    figure = plot_residuals(fit.frame, fit.model, fit.chains.optimum.values, ids=fit.active.id)
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 6
    data, model, chi = (np.ma.filled(axis.images[0].get_array(), np.nan) for axis in panels[:3])
    ierr = 1 / 0.1
    good = np.isfinite(data)
    np.testing.assert_allclose((data - model)[good] * ierr, chi[good], atol=1e-4)
    assert np.isnan(data[3, 4:8]).all()
    assert panels[0].get_title() == "B first"
    assert float(panels[2].get_title().split("=")[1]) == pytest.approx(1, abs=0.15)
    assert {text.get_text() for text in panels[0].texts} >= {"one", "two", "N", "E"}
    save_figure(figure, tmp_path / "residuals.png", dpi=50)
    assert (tmp_path / "residuals.png").read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.iterdir())) == 1


def test_posterior_panels(fit, tmp_path):
    figure = plot_posterior(fit.result, fit.truth)
    assert len(figure.axes) == 2 * 8
    assert [axis.get_title() for axis in figure.axes[:3]] == ["B [nJy]", "R [nJy]", r"$\Delta$ ra [mas]"]
    median, truth = (line.get_xdata()[0] for line in figure.axes[0].lines)
    assert median == pytest.approx(np.median(fit.chains.values["flux"][..., 0, 0]))
    assert truth == 100.0
    save_figure(figure, tmp_path / "posterior.png", dpi=50)


def test_a_figure_needs_its_folder(tmp_path, fit):
    with pytest.raises(InputError, match=r"none: no such folder, expected one to write f\.png to"):
        save_figure(plot_posterior(fit.result), tmp_path / "none" / "f.png")


def test_errors_of_the_profile_table(tmp_path):
    figure = plot_sersic_errors(load_sersic_table())
    (mesh,) = figure.axes[0].collections
    assert 0 < mesh.get_array().max() < 0.3  # per cent
    save_figure(figure, tmp_path / "errors.png")
    assert (tmp_path / "errors.png").stat().st_size > 1000
