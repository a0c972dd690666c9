"""What a notebook shows of an object: a line of facts, or a small table of them, and an image."""

import base64
import html
from collections.abc import Mapping
from io import BytesIO

import numpy as np

__all__ = ["Shown", "facts_html", "facts_text", "thumbnail"]

_SIDE = 160  # pixels of a thumbnail on the page
_MASKED = (1.0, 0.55, 0.45)


class Shown:
    """Base of what shows itself by a few facts, never by its arrays: in one line, and as a table in a notebook."""

    def _facts(self) -> dict[str, object]:
        """Return what is to be known of the object, by name."""
        raise NotImplementedError

    def _below(self) -> str:
        """Return HTML that a notebook shows below the facts."""
        return ""

    def __repr__(self) -> str:
        return facts_text(type(self).__name__, self._facts())

    def _repr_html_(self) -> str:
        return facts_html(type(self).__name__, self._facts(), below=self._below())


def facts_text(kind: str, facts: Mapping[str, object]) -> str:
    """Return ``KIND(name value, name value)``, a single line: what ``repr`` gives."""
    return f"{kind}({', '.join(f'{name} {value}'.strip() for name, value in facts.items())})"


def facts_html(kind: str, facts: Mapping[str, object], *, image: str = "", below: str = "") -> str:
    """Make a table of facts with the kind of the object above it.

    Parameters
    ----------
    kind : str
        Of the object.
    facts : mapping of str to object
        By name; escaped.
    image, below : str
        HTML to the left of the facts, and below them.
    """
    rows = "".join(
        f"<tr><td style='text-align:left'>{html.escape(name)}</td>"
        f"<td style='text-align:left'>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    table = f"<div><b>{html.escape(kind)}</b><table>{rows}</table></div>"
    return f"<div style='display:flex;gap:1em;align-items:center'>{image}{table}</div>{below}"


def thumbnail(data: np.ndarray, ierr: np.ndarray) -> str:
    """Draw an image as an inline PNG, dark on bright: linear in the noise, logarithmic above it.

    Parameters
    ----------
    data, ierr : ndarray, shape (ny, nx)
        Image, and inverse standard deviation; pixels without weight are red.
    """
    from matplotlib.image import imsave

    step = max(1, int(np.ceil(max(data.shape) / _SIDE)))
    data, ierr = data[::step, ::step], ierr[::step, ::step]
    weighted = ierr > 0
    shown = np.zeros(data.shape)
    if weighted.any():
        noise = 1 / np.median(ierr[weighted])
        low, high = (np.arcsinh(edge / noise) for edge in (-2 * noise, np.percentile(data[weighted], 99.8)))
        shown = np.clip((np.arcsinh(data / noise) - low) / max(high - low, 1e-6), 0, 1)
    colours = np.where(weighted[..., None], 1 - shown[..., None], _MASKED)
    buffer = BytesIO()
    imsave(buffer, np.ascontiguousarray(colours), format="png", origin="lower")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    size = f"width:{_SIDE}px;image-rendering:pixelated"
    return f"<img alt='image' style='{size}' src='data:image/png;base64,{encoded}'>"
