"""Figures for web pages: bytes of a PNG."""

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CSS_DPI", "png", "png_of_pixels"]

CSS_DPI = 88  # pixels of a page per inch of a figure
_SHARP = 2  # pixels of the picture per pixel of the page, for screens of high resolution


def png(figure: "Figure") -> bytes:
    """Render a figure as the bytes of a PNG file, with twice the pixels that the page gives it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_SHARP * CSS_DPI)
    return buffer.getvalue()


def png_of_pixels(image: np.ndarray) -> bytes:
    """Encode an image, shape (ny, nx, 3), values in [0, 1], its first row at the bottom, as a PNG file."""
    from matplotlib.image import imsave

    buffer = BytesIO()
    imsave(buffer, image, origin="lower", format="png")
    return buffer.getvalue()
