"""Figures on the images of a patch: posterior draws over the data, and colour composites."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fphojax.errors import InputError
from fphojax.inputs.astrometry import local_affine, sky_offsets, sky_position
from fphojax.results.fitted_patch import FittedPatch
from fphojax.results.tiles import residual_tiles
from fphojax.system.figure_style import COLOURS, styled
from fphojax.system.wording import counted

from .colours import composite_bands, lupton, noise_of
from .fit_plots import LINEAR_NOISE
from .sky_marks import compass, exposure_title, mark_sky, pixel_labels, scale_bar, shortened
from .sky_plots import half_light_ellipse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["composites", "name_colours", "plot_composites", "plot_posterior_on_image"]

_SIDE = 160  # pixels of a composite


@styled
def plot_posterior_on_image(
    fitted: FittedPatch, *, exposures: Sequence[int] | None = None, n_draw: int = 40
) -> "Figure":
    """Plot half-light ellipses of draws over the data.

    Parameters
    ----------
    fitted : FittedPatch
    exposures : sequence of int, optional
        Which of the patch's exposures; by default the first of each band.
    n_draw : int
        Number of draws, spread over all chains.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per exposure, in pixels; the ellipses hold half the light of the profile before the PSF blurs it.
        Each source has its own colour; the dots are the centres.
    """
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure

    frame, result = fitted.scene.frame, fitted.result
    exposures = _first_of_each_band(frame) if exposures is None else list(exposures)
    columns = min(len(exposures), 3)
    rows = -(-len(exposures) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.7 * rows + 0.3), layout="compressed")
    figure.suptitle(f"data, and half-light ellipses of {counted(n_draw, 'draw')}", fontsize="medium")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    stacked = result.draws.stack(sample=("chain", "draw"))
    samples = np.unique(np.linspace(0, stacked.sizes["sample"] - 1, n_draw).astype(int))
    draws = stacked.isel(sample=samples).transpose("sample", "source", ...)
    for axis, e in zip(axes, exposures, strict=False):
        exposure = frame.exposures[e]
        image = frame.image(e, np.asarray(frame.patch.data))
        noise = np.median(1 / np.asarray(frame.patch.ierr).ravel()[frame.pixels(e)[2]])
        linear = LINEAR_NOISE * noise
        norm = AsinhNorm(linear_width=linear, vmin=-linear, vmax=max(np.nanmax(image), 2 * linear))
        axis.imshow(image, norm=norm, cmap=colormaps["gray_r"].with_extremes(bad="0.85"), origin="lower")
        for s, source in enumerate(result.active.id):
            colour = COLOURS[s % len(COLOURS)]
            outlines, centres = _ellipses(draws.isel(source=s), exposure, frame.region)
            axis.plot(*outlines.transpose(2, 1, 0), color=colour, lw=0.6, alpha=min(1.0, 12 / len(samples)))
            axis.plot(*centres.T, ".", color=colour, ms=2, mew=0)
            text = {"color": colour, "fontsize": "small", "weight": "bold", "clip_on": True}
            axis.annotate(str(source), outlines[0].max(axis=0), **text)
        used = np.argwhere(np.isfinite(image))
        (low_y, low_x), (high_y, high_x) = used.min(axis=0), used.max(axis=0)
        axis.set(xlim=(low_x - 0.5, high_x + 0.5), ylim=(low_y - 0.5, high_y + 0.5))
        axis.set_title(shortened(exposure_title(exposure)), fontsize="small")
        mark_sky(axis, exposure)
        pixel_labels(axis)
    for axis in axes[len(exposures) :]:
        axis.remove()
    return figure


def composites(
    fitted: FittedPatch, values: Mapping[str, np.ndarray], bands: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Make colour composites of data, model and residual on a common grid of the sky.

    Every pixel of the grid takes the value of the nearest pixel of each exposure; exposures of a band are averaged
    with their weights. This is for display, not for measurement: PSFs are not matched.

    Parameters
    ----------
    fitted : FittedPatch
    values : dict of array
        Parameters of the model.
    bands : sequence of str, optional
        For blue, green and red; by default the first, middle and last of the patch's bands. With two bands,
        green is their mean; a single band gives grey.

    Returns
    -------
    dict of ndarray (side, side, 3)
        "data", "model", "residual": values in [0, 1], north up and east to the left; scaled together (Lupton et al.
        2004), so that colours of data and model compare. Pixels that some band lacks are grey.
    """
    frame = fitted.scene.frame
    bands = list(bands or composite_bands(frame.bands))
    if unknown := [band for band in bands if band not in frame.bands]:
        raise InputError(f"found no band {unknown[0]}, expected some of {', '.join(frame.bands)}")
    residual = residual_tiles(fitted.scene, values)
    data = np.asarray(frame.patch.data)
    planes = {
        key: [_on_sky(frame, tiles, band) for band in bands]
        for key, tiles in {"data": data, "model": data - residual, "residual": residual}.items()
    }
    return lupton(planes, [noise_of(plane) for plane in planes["residual"]])


@styled
def plot_composites(
    fitted: FittedPatch, values: Mapping[str, np.ndarray], bands: Sequence[str] | None = None
) -> "Figure":
    """Plot colour composites of data, model and residual; see `composites`.

    Parameters
    ----------
    fitted : FittedPatch
    values : dict of array
        Parameters of the model.
    bands : sequence of str, optional
        For blue, green and red.

    Returns
    -------
    matplotlib.figure.Figure
        Offsets from the centre of the patch in arcsec, north up and east to the left; the first panel says which band
        has which colour.
    """
    from matplotlib.figure import Figure

    images = composites(fitted, values, bands)
    radius = fitted.scene.frame.region.radius
    figure = Figure(figsize=(9.6, 3.6), layout="compressed")
    named = list(bands or composite_bands(fitted.scene.frame.bands))
    for axis, (name, image) in zip(figure.subplots(1, 3, sharey=True), images.items(), strict=True):
        axis.imshow(image, origin="lower", extent=(radius, -radius, -radius, radius), interpolation="nearest")
        axis.set_title(name)
        compass(axis, np.eye(2))
        scale_bar(axis, 1.0)
        axis.set_xlabel("east [arcsec]")
        axis.tick_params(labelsize="small")
    figure.axes[0].set_ylabel("north [arcsec]")
    name_colours(figure.axes[0], named)
    return figure


def name_colours(axis: "Axes", bands: Sequence[str]) -> None:
    """Write on a panel which band has which colour."""
    if len(bands) == 1:
        lines = [(f"grey: {bands[0]}", "white")]
    else:
        green = bands[1] if len(bands) == 3 else "mean of both"
        lines = [
            (f"red: {bands[-1]}", "#ff8a80"),
            (f"green: {green}", "#9be7a0"),
            (f"blue: {bands[0]}", "#90caff"),
        ]
    for number, (text, colour) in enumerate(lines):
        axis.annotate(
            text,
            (0.03, 0.97),
            xytext=(0, -13 * number),
            xycoords="axes fraction",
            textcoords="offset points",
            color=colour,
            fontsize="small",
            va="top",
            bbox={"facecolor": "black", "alpha": 0.65, "lw": 0, "pad": 1.5},
        )


def _first_of_each_band(frame):
    first = {}
    for e, exposure in enumerate(frame.exposures):
        first.setdefault(exposure.band, e)
    return list(first.values())


def _ellipses(draws, exposure, region):
    """Compute outlines (draw, point, 2) and centres (draw, 2) of a source's half-light ellipses, in pixels."""
    shapes = (draws["q"].to_numpy(), draws["pa"].to_numpy(), draws["rhalf"].to_numpy())
    sky = np.stack([half_light_ellipse(*shape) for shape in zip(*shapes, strict=True)])
    affine = local_affine(exposure.wcs, draws["ra"].to_numpy(), draws["dec"].to_numpy(), dec0=region.dec)
    return affine.pixel[:, None] + np.einsum("nij,npj->npi", affine.jacobian, sky), affine.pixel


def _on_sky(frame, tiles, band):
    """Compute the weighted mean of a band's exposures on a grid over the region, NaN where there is none."""
    radius = frame.region.radius
    east, north = np.meshgrid(np.linspace(radius, -radius, _SIDE), np.linspace(-radius, radius, _SIDE))
    ra, dec = sky_position(east.ravel(), north.ravel(), frame.region.ra, frame.region.dec)
    total, weight = np.zeros(east.size), np.zeros(east.size)
    for e, exposure in enumerate(frame.exposures):
        if exposure.band != band:
            continue
        image, ierr = frame.image(e, tiles), np.nan_to_num(frame.image(e, frame.patch.ierr))
        # the WCS linearised at the centre is accurate enough for display
        affine = local_affine(exposure.wcs, frame.region.ra, frame.region.dec, dec0=frame.region.dec)
        offset = sky_offsets(ra, dec, frame.region.ra, frame.region.dec)
        x, y = np.rint(affine.pixel[0] + offset @ affine.jacobian[0].T).astype(int).T
        inside = (x >= 0) & (x < exposure.shape[1]) & (y >= 0) & (y < exposure.shape[0])
        w = np.where(inside, ierr[y * inside, x * inside] ** 2, 0.0)
        # brightness per area, so that pixels of any size compare
        area = np.abs(np.linalg.det(affine.jacobian[0]))
        total += w * np.nan_to_num(image[y * inside, x * inside]) * area
        weight += w
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan).reshape(_SIDE, _SIDE)
