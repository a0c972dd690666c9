"""Pictures of exposures, patches and conventions: what is drawn is where it should be."""

import numpy as np
import pytest

from fphojax.figures import convention_plots
from fphojax.figures.sky_plots import half_light_ellipse, plot_exposures, plot_patches
from fphojax.inputs.astrometry import CircularRegion
from fphojax.simulate.mock_fields import MockCamera, mock_field, mock_galaxies

GALAXY = mock_galaxies(x=0.3, y=0.1, flux={"F1": [500]}, q=0.3, pa=40, sersic=1.0, rhalf=0.2)


def test_ellipse_has_the_area_of_the_circle():
    ellipse = half_light_ellipse(0.4, 30, 0.5)
    x, y = ellipse.T
    area = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
    assert area == pytest.approx(np.pi * 0.25, rel=2e-3)
    # its first point is the end of the major axis, east of north
    np.testing.assert_allclose(ellipse[0], 0.5 / np.sqrt(0.4) * np.array([0.5, np.sqrt(0.75)]))


def test_ellipses_lie_on_the_images():
    """Their centre and orientation are those of the light."""
    field = mock_field(GALAXY, [MockCamera("F1", noise=1e-3, n_exposure=2)])
    figure = plot_exposures(field.exposures, {"truth": GALAXY})
    for axis, exposure in zip(figure.axes, field.exposures, strict=True):
        (ellipse,) = (line for line in axis.lines if len(line.get_xdata()) > 2)
        outline = np.array(ellipse.get_data())[:, :-1]
        y, x = np.mgrid[: exposure.shape[0], : exposure.shape[1]]
        light = np.where(exposure.data > 0.2 * exposure.data.max(), exposure.data, 0)
        weight = light / light.sum()
        centre = np.array([np.sum(weight * x), np.sum(weight * y)])
        np.testing.assert_allclose(outline.mean(axis=1), centre, atol=0.2)
        moments = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=weight.ravel())
        axes = [np.linalg.eigh(m)[1][:, -1] for m in (moments, np.cov(outline))]
        assert abs(axes[0] @ axes[1]) > 0.995


def test_panels_fill_their_rows():
    """Five exposures are three and two, not four and one."""
    field = mock_field(GALAXY, [MockCamera("F1", noise=1e-3, n_exposure=5)])
    figure = plot_exposures(field.exposures)
    assert [axis.axison for axis in figure.axes] == [True] * 5 + [False]


def test_patches_count_their_sources():
    field = mock_galaxies(x=[0, 1, 5], y=[0, 0, 0], flux={"F1": [1, 1, 1]}, q=1, pa=0, sersic=1, rhalf=0.2)
    region = CircularRegion(field.ra[0], field.dec[0], 2.0)
    figure = plot_patches(field, [(region, field[:1], field[1:2])])
    assert figure.axes[0].get_title() == "patch 1: 1 active, 1 fixed"


def test_conventions_have_their_pictures():
    figures = [
        convention_plots.plot_pixel_convention(),
        convention_plots.plot_shape_convention(),
        convention_plots.plot_position_angles(),
        convention_plots.plot_sersic_profiles(),
    ]
    assert [len(figure.axes) for figure in figures] == [1, 1, 6, 2]
    # an angle of zero points north, and forcepho counts from east
    assert figures[2].axes[0].get_xlabel().startswith("forcepho: pa = +1.57")
