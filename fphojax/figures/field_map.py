"""Figure of a field: its image, with the sources as ellipses."""

from typing import TYPE_CHECKING

import numpy as np

from fphojax.inputs.astrometry import sky_offsets, sky_position
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.figure_style import styled
from fphojax.system.wording import counted

from .field_image import FieldImage
from .image_plots import name_colours
from .sky_marks import compass, outline, scale_bar
from .sky_plots import half_light_ellipse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["field_extent", "plot_field"]

_NAMED = 60  # sources at most that have their names
_DARK = 0.35  # of a scale of colours, which would not be seen on the sky


def field_extent(catalog: SourceCatalog) -> tuple[float, float, float]:
    """Compute a square that holds the sources, which may lie across ra = 0.

    Returns
    -------
    ra, dec, half : float
        Middle (degrees), and from there to an edge (arcsec).
    """
    first = catalog.ra[0], catalog.dec[0]
    offsets = sky_offsets(catalog.ra, catalog.dec, *first)
    low, high = offsets.min(axis=0), offsets.max(axis=0)
    east, north = (low + high) / 2
    ra, dec = (float(np.squeeze(value)) for value in sky_position(east, north, *first))
    return ra, dec, float((high - low).max() / 2 + max(4 * np.median(catalog.rhalf), 0.5))


@styled
def plot_field(image: FieldImage, catalog: SourceCatalog, values: np.ndarray, *, label: str) -> "Figure":
    """Plot a field with half-light ellipses, coloured by a value.

    Parameters
    ----------
    image : FieldImage
    catalog : SourceCatalog
    values : array (N,)
        Sources without a value are grey.
    label : str
        What the values are.

    Returns
    -------
    matplotlib.figure.Figure
        Offsets in arcsec from the middle, north up and east to the left; few sources have their names.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    half, good = image.half, np.isfinite(values)
    low, high = np.percentile(values[good], (1, 99)) if good.any() else (0.0, 1.0)
    colours = ScalarMappable(Normalize(low, high if high > low else low + 1.0), _visible(colormaps["plasma"]))
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(image.pixels, origin="lower", extent=(half, -half, -half, half), interpolation="nearest")
    places = sky_offsets(catalog.ra, catalog.dec, image.ra, image.dec)
    shapes = zip(catalog.q, catalog.pa, catalog.rhalf, strict=True)
    outlines = [place + half_light_ellipse(*shape) for place, shape in zip(places, shapes, strict=True)]
    edges = np.where(good[:, None], colours.to_rgba(values), (0.7, 0.7, 0.7, 1.0))
    axis.add_collection(LineCollection(outlines, colors=edges, linewidths=1.3, path_effects=outline()))
    if len(catalog) <= _NAMED:
        for name, points in zip(catalog.id, outlines, strict=True):
            axis.annotate(
                str(name),
                points[np.argmax(points[:, 1] - points[:, 0])],
                color="white",
                fontsize="small",
                path_effects=outline(),
                clip_on=True,
            )
    axis.set(xlim=(half, -half), ylim=(-half, half), xlabel="east [arcsec]", ylabel="north [arcsec]")
    axis.set_title(f"{counted(len(catalog), 'source')} about ra {image.ra:.5f}°, dec {image.dec:+.5f}°")
    compass(axis, np.eye(2))
    scale_bar(axis, 1.0)
    name_colours(axis, image.bands)
    figure.colorbar(colours, ax=axis, label=label)
    return figure


def _visible(colours):
    """Return a scale of colours without its dark end."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(colours(np.linspace(_DARK, 1, 256)))
