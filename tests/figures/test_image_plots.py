"""Figures on images: ellipses lie where the sources are, composites on a common grid."""

import numpy as np
import pytest

from fphojax.figures.fit_plots import save_figure
from fphojax.figures.image_plots import composites, plot_composites, plot_posterior_on_image
from fphojax.inputs import InputError
from fphojax.inputs.astrometry import local_affine
from fphojax.results.fitted_patch import FittedPatch


@pytest.fixture(scope="module")
def fitted(fit):
    return FittedPatch(fit.scene, fit.result)


def test_ellipses_of_draws(fit, fitted, tmp_path):
    figure = plot_posterior_on_image(fitted, n_draw=20)
    assert [axis.get_title() for axis in figure.axes] == ["B first", "R second"]
    save_figure(figure, tmp_path / "ellipses.png", dpi=50)
    axis, exposure = figure.axes[0], fit.frame.exposures[0]
    *outlines, centres = axis.lines[:21]  # of the first source
    pixel = local_affine(exposure.wcs, fit.truth.ra[:1], fit.truth.dec[:1], dec0=fit.truth.dec[0]).pixel[0]
    assert np.abs(np.median(centres.get_xydata(), axis=0) - pixel).max() < 0.1
    # area of the half-light ellipse, pi rhalf^2, and its axis ratio
    shape = np.cov((outlines[0].get_xydata() - centres.get_xydata()[0])[:-1].T, bias=True)
    assert 2 * np.sqrt(np.linalg.det(shape)) == pytest.approx((0.2 / 0.05) ** 2, rel=0.15)
    values, vectors = np.linalg.eigh(shape)
    assert np.sqrt(values[0] / values[1]) == pytest.approx(0.5, abs=0.05)
    affine = local_affine(exposure.wcs, fit.truth.ra[:1], fit.truth.dec[:1], dec0=fit.truth.dec[0])
    sky = np.linalg.solve(affine.jacobian[0], vectors[:, 1])
    angle = np.arctan2(sky[0], sky[1])  # from north to east
    assert abs((angle - np.deg2rad(fit.truth.pa[0]) + np.pi / 2) % np.pi - np.pi / 2) < 0.4


def test_composites_share_a_grid(fit, fitted, tmp_path):
    images = composites(fitted, fit.chains.optimum.values)
    assert {image.shape for image in images.values()} == {(160, 160, 3)}
    assert all(image.min() >= 0 and image.max() <= 1 for image in images.values())
    save_figure(plot_composites(fitted, fit.chains.optimum.values), tmp_path / "colours.png", dpi=50)

    # the first source is brighter in B, the second in R; east is left
    radius = fit.frame.region.radius
    redness = []
    for row in (0, 1):
        x, y = (float(fit.chains.optimum.values[name][row]) for name in ("x", "y"))
        column, line = (np.rint((1 + offset / radius) / 2 * 159).astype(int) for offset in (-x, y))
        red, _, blue = images["model"][line, column]
        redness.append(red / blue)
    assert redness[1] > 1.2 * redness[0]
    # where the model is bright, the residual is not
    model = images["model"]
    light = np.where((model == 0.75).all(axis=-1), 0.0, model.sum(axis=-1))  # not where no pixel is
    bright = light > np.quantile(light, 0.99)
    assert images["residual"][bright].mean() < 0.5 * images["data"][bright].mean()
    with pytest.raises(InputError, match="found no band Z, expected some of B, R"):
        composites(fitted, fit.chains.optimum.values, ["B", "Z"])


def test_composites_say_which_band_has_which_colour(fit, fitted):
    figure = plot_composites(fitted, fit.chains.optimum.values)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"red: R", "green: mean of both", "blue: B", "N", "E"} <= set(texts)
    alone = plot_composites(fitted, fit.chains.optimum.values, ["R"])
    assert "grey: R" in [text.get_text() for text in alone.axes[0].texts]
