"""Figure of a search for sources: map of significance and detections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fphojax.detection.source_search import Detections
from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.figure_style import styled
from fphojax.system.wording import counted

from .sky_marks import compass, outline, scale_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_detections"]


@styled
def plot_detections(
    detections: Detections, catalog: SourceCatalog | None = None, ids: Sequence | None = None
) -> "Figure":
    """Plot significance over the field, with detections as circles and known sources as plus signs.

    Detections have their names; structure of bright galaxies is marked with oblique crosses.

    Parameters
    ----------
    detections : Detections
    catalog : SourceCatalog, optional
        Sources that were known before.
    ids : sequence, optional
        Names of the detections; by default their row numbers.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib import colormaps
    from matplotlib.colors import AsinhNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6.5), layout="constrained")
    axis = figure.add_subplot(projection=detections.wcs)
    top = max(float(detections.significance.max()), 2 * detections.threshold)
    norm = AsinhNorm(linear_width=detections.threshold, vmin=-detections.threshold, vmax=top)
    image = axis.imshow(
        np.where(detections.significance == 0, np.nan, detections.significance),
        norm=norm,
        cmap=colormaps["viridis"].with_extremes(bad="0.75"),
        origin="lower",
    )
    bar = figure.colorbar(image, label="significance [standard deviations]", format="%g")
    bar.set_ticks(
        [t for t in (-5, 0, 5, 10, 20, 50, 100, 200, 500, 1000, 5000) if -detections.threshold <= t <= top]
    )
    if catalog is not None and len(catalog):
        x, y = detections.wcs.world_to_pixel_values(catalog.ra, catalog.dec)
        axis.plot(
            x,
            y,
            "+",
            color="#ff6f3c",
            ms=7,
            mew=1.2,
            path_effects=outline(),
            label=f"catalogue ({len(catalog)})",
        )
    new = detections.catalog
    if len(new):
        x, y = detections.wcs.world_to_pixel_values(new.ra, new.dec)
        axis.plot(x, y, "o", color="black", ms=9, mew=2.6, fillstyle="none")
        axis.plot(x, y, "o", color="white", ms=9, mew=1.2, fillstyle="none", label=f"detected ({len(new)})")
        for name, place in zip(new.id if ids is None else ids, zip(x, y, strict=True), strict=True):
            axis.annotate(
                str(name),
                place,
                (5, 5),
                textcoords="offset points",
                color="white",
                fontsize="small",
                path_effects=outline(),
            )
    if len(detections.structure):
        x, y = detections.wcs.world_to_pixel_values(detections.structure.ra, detections.structure.dec)
        axis.plot(
            x,
            y,
            "x",
            color="#ff9bd2",
            ms=7,
            mew=1.2,
            path_effects=outline(),
            label=f"structure ({len(detections.structure)})",
        )
    axis.set(
        xlim=(-0.5, detections.significance.shape[1] - 0.5),
        ylim=(-0.5, detections.significance.shape[0] - 0.5),
    )
    axis.coords[0].set_axislabel("right ascension (ICRS)")
    axis.coords[1].set_axislabel("declination (ICRS)")
    _mark_sky(axis, detections)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(loc="upper right", fontsize="small", facecolor="0.3", labelcolor="white")
    axis.set_title(
        rf"significance: {counted(len(new), 'source')} above {detections.threshold:g} $\sigma$, "
        f"at most {detections.n_false:.2g} expected to be false"
    )
    return figure


def _mark_sky(axis, detections):
    """Draw north, east and a scale at the middle of the map."""
    ny, nx = detections.significance.shape
    ra, dec = (float(value) for value in detections.wcs.pixel_to_world_values((nx - 1) / 2, (ny - 1) / 2))
    jacobian = local_affine(detections.wcs, ra, dec, dec0=dec).jacobian[0]
    compass(axis, jacobian)
    scale_bar(axis, 1 / float(np.sqrt(abs(np.linalg.det(jacobian)))))
