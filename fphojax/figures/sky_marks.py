"""Marks on pictures of the sky: north and east, a scale, names; readable on bright and on dark."""

from typing import TYPE_CHECKING

import numpy as np

from fphojax.inputs.astrometry import local_affine
from fphojax.inputs.exposures import Exposure
from fphojax.inputs.stores.stored_exposures import StoredExposure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["compass", "exposure_title", "mark_sky", "outline", "pixel_labels", "scale_bar", "shortened"]

_ARROW = 19.0  # points
_MARGIN = 9.0
_LONGEST = 0.3  # of a panel's width, of the scale bar


def mark_sky(axis: "Axes", exposure: Exposure | StoredExposure) -> None:
    """Draw north, east and a scale bar on a panel in the pixels of an exposure."""
    ra, dec, _ = exposure.footprint
    compass(axis, local_affine(exposure.wcs, ra, dec, dec0=dec).jacobian[0])
    scale_bar(axis, exposure.pixel_scale)


def compass(axis: "Axes", jacobian: np.ndarray) -> None:
    """Draw arrows to north and east in the lower left corner.

    Parameters
    ----------
    axis : matplotlib Axes
        Of equal scales, its limits set.
    jacobian : array (2, 2)
        Axis units per arcsec; the columns are east and north.
    """
    flip = np.array([-1 if axis.xaxis_inverted() else 1, -1 if axis.yaxis_inverted() else 1])
    arrows = [_ARROW * flip * d / np.linalg.norm(d) for d in np.asarray(jacobian).T]
    origin = _MARGIN + 1.35 * np.max([np.zeros(2), *(-arrow for arrow in arrows)], axis=0)
    for arrow, label in zip(arrows, ("E", "N"), strict=True):
        # a bare arrow; each is given in points from the corner, so that it has the same size in any panel
        ends = {"xycoords": _points(axis, origin + arrow), "textcoords": _points(axis, origin)}
        line = {"arrowstyle": "->", "color": "white", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        drawn = axis.annotate("", (0, 0), (0, 0), arrowprops=line | {"path_effects": outline()}, **ends)
        drawn.set_in_layout(False)
        axis.annotate(
            label,
            (0, 0),
            xycoords=_points(axis, origin + 1.35 * arrow),
            color="white",
            fontsize="small",
            weight="bold",
            ha="center",
            va="center",
            path_effects=outline(),
        ).set_in_layout(False)


def scale_bar(axis: "Axes", arcsec_per_unit: float) -> None:
    """Draw a bar of a round length in arcsec in the lower right corner.

    Parameters
    ----------
    axis : matplotlib Axes
        Its limits set.
    arcsec_per_unit : float
        Of the horizontal axis.
    """
    left, right = axis.get_xlim()
    width = abs(right - left)
    longest = _LONGEST * width * arcsec_per_unit
    unit, sign = (60, "'") if longest >= 60 else (1, '"')
    length = unit * _round_below(longest / unit)
    fraction = length / arcsec_per_unit / width
    axis.plot(
        [0.95 - fraction, 0.95],
        [0.055, 0.055],
        color="white",
        lw=2,
        solid_capstyle="butt",
        transform=axis.transAxes,
        path_effects=outline(),
        scalex=False,
        scaley=False,
    )
    text = f"{length / unit:g}{sign}"
    axis.text(
        0.95 - fraction / 2,
        0.075,
        text,
        color="white",
        fontsize="small",
        ha="center",
        va="bottom",
        transform=axis.transAxes,
        path_effects=outline(),
    )


def pixel_labels(axis: "Axes", *, x: bool = True, y: bool = True) -> None:
    """Say that a panel's axes count pixels."""
    axis.set(xlabel="x [pixel]" if x else "", ylabel="y [pixel]" if y else "")
    axis.xaxis.label.set_fontsize("small")
    axis.yaxis.label.set_fontsize("small")
    axis.tick_params(labelsize="x-small")


def outline() -> list:
    """Make the path effect that keeps white marks readable on bright and on dark."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.0, foreground="black", alpha=0.7)]


def exposure_title(exposure: Exposure | StoredExposure) -> str:
    """Return the name of an exposure, with the band unless the name contains it."""
    return exposure.name if exposure.band in exposure.name else f"{exposure.band} {exposure.name}"


def shortened(text: str, width: int = 34) -> str:
    """Leave out the middle of a text that is too long for the title of a panel."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[:half]}…{text[-half:]}"


def _points(axis, offset):
    """Make the transform of a place given in points from the lower left corner of a panel."""
    from matplotlib.transforms import ScaledTranslation

    return axis.transAxes + ScaledTranslation(*(offset / 72), axis.figure.dpi_scale_trans)


def _round_below(value):
    """Return the largest of 1, 2, 5 times a power of ten that is not above the value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(power * max(step for step in (1, 2, 5) if step * power <= value * (1 + 1e-9)))
