"""Figures of the inputs of a fit: exposures with their sources, and patches on the sky."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fphojax.inputs.astrometry import CircularRegion, local_affine, sky_offsets
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.figure_style import COLOURS, styled

from .sky_marks import exposure_title, mark_sky, outline, pixel_labels, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["first_of_each_band", "half_light_ellipse", "plot_exposures", "plot_patches"]

_PANEL = 3.0  # inches
_WIDTH, _LARGEST_PANEL = 12.0, 4.5  # of exposures, inches
_LINEAR_NOISE = 3.0  # standard deviations of a pixel up to which the stretch is linear
_COLOURS = ("white", "#ff6f3c", "#56B4E9")
_ANGLES = np.linspace(0, 2 * np.pi, 73)


def half_light_ellipse(q: float, pa: float, rhalf: float) -> np.ndarray:
    """Compute the isophote that holds half of a galaxy's light.

    Parameters
    ----------
    q : float
        b/a.
    pa : float
        Degrees, east of north.
    rhalf : float
        Circularised half-light radius, arcsec.

    Returns
    -------
    ndarray (73, 2)
        Offsets east and north, arcsec; the first point is the end of the major axis.
    """
    along, across = rhalf / np.sqrt(q) * np.cos(_ANGLES), rhalf * np.sqrt(q) * np.sin(_ANGLES)
    sin, cos = np.sin(np.deg2rad(pa)), np.cos(np.deg2rad(pa))
    major, minor = np.array([sin, cos]), np.array([cos, -sin])
    return along[:, None] * major + across[:, None] * minor


def first_of_each_band(exposures: Sequence[Exposure]) -> list[Exposure]:
    """Return one exposure of every band, in the order of the bands."""
    return list({exposure.band: exposure for exposure in reversed(exposures)}.values())[::-1]


@styled
def plot_exposures(
    exposures: Sequence[Exposure], catalogs: Mapping[str, SourceCatalog] | None = None, *, columns: int = 4
) -> "Figure":
    """Plot exposures side by side, each in its own pixels.

    Parameters
    ----------
    exposures : sequence of Exposure
    catalogs : mapping of str to SourceCatalog, optional
        Half-light ellipses of up to three catalogues, by the label that they have in the legend.
    columns : int
        Largest number of panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        An asinh stretch by the noise of each exposure; arrows point north and east; unused pixels are grey.
    """
    from matplotlib.figure import Figure

    rows = -(-len(exposures) // columns)
    columns = -(-len(exposures) // rows)
    panel = min(_WIDTH / columns, _LARGEST_PANEL)
    figure = Figure(figsize=(panel * columns, (panel + 0.3) * rows + 0.4), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, exposure in zip(axes, exposures, strict=False):
        _show(axis, exposure)
        for colour, catalog in zip(_COLOURS, (catalogs or {}).values(), strict=False):
            _draw_ellipses(axis, exposure, catalog, colour)
        mark_sky(axis, exposure)
    for axis in axes[len(exposures) :]:
        axis.set_axis_off()
    if catalogs:
        from matplotlib.lines import Line2D

        marks = [
            Line2D([], [], color=colour, label=f"half-light ellipses: {name}")
            for colour, name in zip(_COLOURS, catalogs, strict=False)
        ]
        style = {"facecolor": "0.35", "labelcolor": "white"}  # the first colour is white
        figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), **style)
    return figure


@styled
def plot_patches(
    catalog: SourceCatalog,
    patches: Sequence[tuple[CircularRegion, SourceCatalog, SourceCatalog]],
    *,
    columns: int = 3,
) -> "Figure":
    """Plot patches on the sky, as checked out by a superscene.

    Parameters
    ----------
    catalog : SourceCatalog
        All sources of the field.
    patches : sequence of (region, active, fixed)
        What `checkout_region` returned.
    columns : int
        Largest number of panels in a row.

    Returns
    -------
    matplotlib.figure.Figure
        One panel per patch: its circle, sources with their radii of influence, active ones in orange, fixed ones in
        blue, all others in grey. Offsets in arcsec, east to the left.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    columns = min(columns, len(patches))
    rows = -(-len(patches) // columns)
    figure = Figure(figsize=(_PANEL * columns, _PANEL * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    ra0, dec0 = float(np.median(catalog.ra)), float(np.median(catalog.dec))
    for number, (axis, (region, active, fixed)) in enumerate(zip(axes, patches, strict=False)):
        for sources, colour, order in ((catalog, "0.7", 1), (fixed, COLOURS[0], 2), (active, COLOURS[1], 3)):
            offsets = sky_offsets(sources.ra, sources.dec, ra0, dec0)
            for offset, roi in zip(offsets, sources.roi, strict=True):
                axis.add_patch(Circle(offset, roi, fill=False, color=colour, lw=0.8, zorder=order))
            axis.plot(*offsets.T, ".", color=colour, ms=4, zorder=order)
        east, north = np.squeeze(sky_offsets(region.ra, region.dec, ra0, dec0))
        axis.add_patch(
            Circle((east, north), region.radius, fill=False, color=rcParams["text.color"], ls="--", lw=1)
        )
        axis.set_title(f"patch {number + 1}: {len(active)} active, {len(fixed)} fixed", fontsize="small")
        axis.set_aspect("equal")
    axes[0].invert_xaxis()
    for axis in axes[len(patches) :]:
        axis.set_axis_off()
    figure.suptitle(
        "patches (dashed), and radii of influence of active, fixed and other sources", fontsize="medium"
    )
    figure.supxlabel("east [arcsec]", fontsize="small")
    figure.supylabel("north [arcsec]", fontsize="small")
    return figure


def _show(axis, exposure):
    """Show the image in a stretch that makes its noise visible."""
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm

    ny, nx = exposure.shape
    data, ierr = exposure.window(0, nx, 0, ny)
    used = ierr > 0
    linear = _LINEAR_NOISE * float(np.median(1 / ierr[used]))
    image = np.where(used, data, np.nan)
    stretch = AsinhNorm(linear_width=linear, vmin=-linear, vmax=max(np.nanmax(image), 2 * linear))
    colours = colormaps["viridis"].with_extremes(bad="0.75")
    axis.imshow(image, norm=stretch, cmap=colours, origin="lower", interpolation="nearest")
    name = shortened(exposure_title(exposure), 24)
    axis.set_title(f'{name}: data, {exposure.pixel_scale:.3g}"/pixel', fontsize="small")
    pixel_labels(axis)


def _draw_ellipses(axis, exposure, catalog, colour):
    limits = axis.get_xlim(), axis.get_ylim()
    affine = local_affine(exposure.wcs, catalog.ra, catalog.dec, dec0=float(np.median(catalog.dec)))
    for s, (pixel, jacobian) in enumerate(zip(affine.pixel, affine.jacobian, strict=True)):
        if not np.isfinite(pixel).all():
            continue
        ellipse = pixel + half_light_ellipse(catalog.q[s], catalog.pa[s], catalog.rhalf[s]) @ jacobian.T
        axis.plot(*ellipse.T, color=colour, lw=1, path_effects=outline())
        axis.annotate(
            str(catalog.id[s]),
            ellipse.max(axis=0),
            color=colour,
            fontsize="small",
            path_effects=outline(),
            annotation_clip=True,
            clip_on=True,
        )
    axis.set(xlim=limits[0], ylim=limits[1])
