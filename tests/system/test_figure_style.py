"""Figures look the same whatever the user's settings of matplotlib are, on light and on dark ground."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fphojax.figures.convention_plots import plot_sersic_profiles
from fphojax.system.figure_style import COLOURS, figure_theme


def test_settings_of_the_user_do_not_show():
    plain = plot_sersic_profiles()
    with mpl.rc_context(
        {"axes.facecolor": "red", "lines.linewidth": 9, "axes.prop_cycle": "cycler('color', ['k'])"}
    ):
        drawn = plot_sersic_profiles()
        assert mpl.rcParams["axes.facecolor"] == "red"
    for figure in (plain, drawn):
        assert figure.axes[0].lines[0].get_color() == COLOURS[0]
        assert figure.axes[0].lines[0].get_linewidth() == 1.5
        assert to_rgb(figure.axes[0].get_facecolor()) == (1, 1, 1)


def test_dark_ground_has_bright_words():
    with figure_theme("dark"):
        figure = plot_sersic_profiles()
    axis = figure.axes[0]
    figure.draw_without_rendering()
    ground = np.mean(to_rgb(figure.get_facecolor()))
    for text in (axis.title, axis.xaxis.label, *axis.get_xticklabels()):
        assert np.mean(to_rgb(text.get_color())) > ground + 0.6
    assert to_rgb(plot_sersic_profiles().get_facecolor()) == (1, 1, 1)
    with pytest.raises(ValueError, match="theme is 'blue', expected"), figure_theme("blue"):
        pass
