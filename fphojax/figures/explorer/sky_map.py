"""The map of a field: its image, with sources as ellipses that can be clicked (drawn by the browser)."""

from pathlib import Path

import anywidget
import numpy as np
import traitlets

from fphojax.figures.field_image import FieldImage
from fphojax.figures.figure_bytes import png_of_pixels
from fphojax.inputs.astrometry import sky_offsets
from fphojax.inputs.source_catalog import SourceCatalog

__all__ = ["SkyMap"]

_DARK = 0.25  # of the scale of colours, which would not be seen on the sky


class SkyMap(anywidget.AnyWidget):
    """Image and ellipses; zoomed with the wheel, moved with the mouse, stepped through with the arrow keys.

    Everything that a selection changes is a few numbers, so that it does not wait for Python.

    Parameters
    ----------
    catalog : SourceCatalog
    ra, dec, half : float
        Middle of the map (degrees), and from there to its edges (arcsec).

    Attributes
    ----------
    selected : int
        Row of the source that is marked.
    rows : bytes
        Rows that are listed (int32), in the order of the arrow keys; all others are faint.
    shapes, draws : bytes
        Ellipses of the sources, and of draws of the selected one: east, north, semi-axes (arcsec), position angle
        (degrees), float32.
    values : bytes
        What colours the ellipses, float64.
    label : str
        What that is.
    """

    _esm = Path(__file__).with_name("sky_map.js")
    selected = traitlets.Int(0).tag(sync=True)
    rows = traitlets.Bytes(b"").tag(sync=True)
    ids: traitlets.List = traitlets.List().tag(sync=True)
    shapes = traitlets.Bytes(b"").tag(sync=True)
    draws = traitlets.Bytes(b"").tag(sync=True)
    values = traitlets.Bytes(b"").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)
    palette = traitlets.Bytes(b"").tag(sync=True)
    image = traitlets.Bytes(b"").tag(sync=True)
    bands: traitlets.List = traitlets.List().tag(sync=True)
    half = traitlets.Float(1.0).tag(sync=True)

    def __init__(self, catalog: SourceCatalog, ra: float, dec: float, half: float):
        from matplotlib import colormaps

        self.middle = ra, dec
        palette = (255 * colormaps["viridis"](np.linspace(_DARK, 1, 256))[:, :3]).astype(np.uint8)
        super().__init__(
            ids=[str(name) for name in catalog.id],
            shapes=self.ellipses(catalog.ra, catalog.dec, catalog.q, catalog.pa, catalog.rhalf),
            half=half,
            palette=palette.tobytes(),
        )

    def show_image(self, image: FieldImage) -> None:
        """Put an image of the same middle and size below the ellipses."""
        self.image, self.bands = png_of_pixels(image.pixels), list(image.bands)

    def ellipses(
        self, ra: np.ndarray, dec: np.ndarray, q: np.ndarray, pa: np.ndarray, rhalf: np.ndarray
    ) -> bytes:
        """Encode half-light ellipses: degrees, b/a, degrees east of north, arcsec."""
        east, north = sky_offsets(np.atleast_1d(ra), np.atleast_1d(dec), *self.middle).T
        root = np.sqrt(q)
        return np.stack([east, north, rhalf / root, rhalf * root, pa], axis=1).astype("<f4").tobytes()
