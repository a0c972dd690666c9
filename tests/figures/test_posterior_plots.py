"""Figures of posteriors show the draws, the truth and the prior."""

import numpy as np
import pytest
from numpyro.distributions import LogNormal

from fphojax.figures.fit_plots import save_figure
from fphojax.figures.posterior_plots import (
    parameter_draws,
    plot_corner,
    plot_posterior,
    plot_ranks,
    plot_traces,
)
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import sky_offsets


def test_draws_by_name(fit):
    draws = parameter_draws(fit.result, ["two"], truth=fit.truth)
    assert list(draws)[:3] == ["B [nJy]", "R [nJy]", r"$\Delta$ ra [mas]"]
    assert np.array_equal(draws["R [nJy]"], fit.chains.values["flux"][:, :, 1, 1])
    assert draws["R [nJy]"].attrs["truth"] == 80.0
    assert draws["sersic"].attrs["upper"] == fit.bounds.upper["sersic"][1]
    x = 1e3 * fit.chains.values["x"][:, :, 1]
    ra = draws[r"$\Delta$ ra [mas]"]
    np.testing.assert_allclose(ra, x - np.median(x), atol=1e-5)
    at = sky_offsets(fit.truth.ra[1], fit.truth.dec[1], fit.frame.region.ra, fit.frame.region.dec)[0]
    assert ra.attrs["truth"] == pytest.approx(1e3 * at - np.median(x), abs=1e-5)
    box = 1e3 * (at + fit.bounds.lower["x"][1]) - np.median(x)
    assert ra.attrs["lower"] == pytest.approx(box, abs=1e-5)


def test_angles_keep_their_box(fit):
    """Where draws are moved by half turns, so are the bounds, and no draw leaves them."""
    for draw in parameter_draws(fit.result, parameters=["pa"]).values():
        outside = (draw < draw.attrs["lower"]) | (draw > draw.attrs["upper"])
        assert float(outside.mean()) < 0.01


def test_chosen_parameters(fit):
    draws = parameter_draws(fit.result, parameters=["R", "q"])
    assert list(draws) == ["one: R [nJy]", "one: q", "two: R [nJy]", "two: q"]
    with pytest.raises(InputError, match="found no source six, expected some of one, two"):
        parameter_draws(fit.result, ["six"])
    with pytest.raises(InputError, match="found no parameter Z, expected some of B, R, dec"):
        parameter_draws(fit.result, parameters=["Z"])


def test_posterior_panels(fit, tmp_path):
    figure = plot_posterior(fit.result, fit.truth)
    assert len(figure.axes) == 2 * 8
    assert [axis.get_title() for axis in figure.axes[:3]] == ["B [nJy]", "R [nJy]", r"$\Delta$ ra [mas]"]
    median, truth = (line.get_xdata()[0] for line in figure.axes[0].lines)
    assert median == pytest.approx(np.median(fit.chains.values["flux"][..., 0, 0]))
    assert truth == 100.0
    save_figure(figure, tmp_path / "posterior.png", dpi=50)


def test_traces_and_ranks(fit, tmp_path):
    figure = plot_traces(fit.result, ["one"], ["B", "q"])
    traces = figure.axes[1].lines
    for chain in range(3):
        assert np.array_equal(traces[chain].get_ydata(), fit.chains.values["flux"][chain, :, 0, 0])
    save_figure(figure, tmp_path / "traces.png", dpi=50)
    figure = plot_ranks(fit.result, ["one"], ["B", "q"])
    assert [axis.get_title() for axis in figure.axes] == ["B [nJy]", "q"]
    assert all(len(axis.lines) >= 3 for axis in figure.axes)
    save_figure(figure, tmp_path / "ranks.png", dpi=50)


def test_corner_has_truth_and_prior(fit, tmp_path):
    from matplotlib import pyplot

    figure = plot_corner(
        fit.result, ["two"], ["R", "sersic"], truth=fit.truth, priors={"sersic": LogNormal(0.7, 0.01)}
    )
    save_figure(figure, tmp_path / "corner.png", dpi=50)
    flux, _, joint, sersic = figure.axes
    assert [80.0, 80.0] in [list(line.get_xdata()) for line in flux.lines]
    assert [2.0, 2.0] in [list(line.get_ydata()) for line in joint.lines]
    assert joint.collections  # draws and contours
    heights = [c.get_paths()[0].vertices[:, 1].max() for c in (flux.collections[-1], sersic.collections[-1])]
    box = fit.bounds.upper["flux"][1, 1] - fit.bounds.lower["flux"][1, 1]
    assert heights[0] == pytest.approx(1 / box)
    assert heights[1] == pytest.approx(1 / (2.0137 * 0.01 * np.sqrt(2 * np.pi)), rel=0.02)
    assert pyplot.get_fignums() == []
