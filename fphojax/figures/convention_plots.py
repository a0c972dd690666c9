"""Figures of the conventions of images and catalogues."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammainc, gammaincinv

from fphojax.system.figure_style import COLOURS, styled

from .sky_plots import half_light_ellipse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_pixel_convention", "plot_position_angles", "plot_sersic_profiles", "plot_shape_convention"]


@styled
def plot_pixel_convention() -> "Figure":
    """Plot the first pixels of an image: centres are whole numbers, x is the column, y the row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 3.4), layout="constrained")
    axis = figure.add_subplot()
    values = np.add.outer(10 * np.arange(3), np.arange(4))
    axis.imshow(values, origin="lower", cmap="Blues", vmax=60)
    for y, x in np.ndindex(values.shape):
        axis.text(
            x, y + 0.22, f"image[{y}, {x}]", ha="center", va="center", fontsize="x-small", color="black"
        )
        axis.text(x, y - 0.22, f"({x}, {y})", ha="center", va="center", fontsize="x-small", color="black")
        axis.plot(x, y, "k.", ms=3)
    axis.set_title("image[y, x] and (x, y) of pixel centres")
    axis.set(xlabel="x: column, FITS axis 1", ylabel="y: row, FITS axis 2")
    axis.set_xticks(np.arange(-0.5, 4), minor=False)
    axis.set_yticks(np.arange(-0.5, 3), minor=False)
    return figure


@styled
def plot_shape_convention(q: float = 0.4, pa_deg: float = 35.0, rhalf: float = 0.5) -> "Figure":
    """Plot a galaxy's half-light ellipse: position angle, axes, and the circle of the same area.

    Parameters
    ----------
    q : float
        b/a.
    pa_deg : float
        Degrees, east of north.
    rhalf : float
        Circularised half-light radius, arcsec.
    """
    from matplotlib import rcParams
    from matplotlib.figure import Figure
    from matplotlib.patches import Arc, Circle

    figure = Figure(figsize=(4.6, 4.4), layout="constrained")
    axis = figure.add_subplot(aspect="equal", title="half-light ellipse of a galaxy")
    ink = rcParams["text.color"]
    pa = np.deg2rad(pa_deg)
    ellipse = half_light_ellipse(q, pa_deg, rhalf)
    a, b = rhalf / np.sqrt(q), rhalf * np.sqrt(q)
    axis.fill(*ellipse.T, color=COLOURS[0], alpha=0.3)
    axis.plot(*ellipse.T, color=COLOURS[0])
    axis.add_patch(Circle((0, 0), rhalf, fill=False, color="0.5", ls="--"))
    major, minor = a * np.array([np.sin(pa), np.cos(pa)]), b * np.array([np.cos(pa), -np.sin(pa)])
    axis.annotate("", major, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[3], "lw": 2})
    axis.annotate("", minor, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[2], "lw": 2})
    axis.text(
        1.06 * major[0],
        1.06 * major[1],
        f'a = rhalf / sqrt(q) = {a:.2f}"',
        color=COLOURS[3],
        ha="center",
        va="bottom",
    )
    axis.text(
        2.1 * minor[0],
        2.1 * minor[1],
        f'b = rhalf sqrt(q) = {b:.2f}"',
        color=COLOURS[2],
        ha="center",
        va="top",
    )
    axis.text(0, -1.05 * a, f'dashed: circle of the same area, rhalf = {rhalf}"', color="0.5", ha="center")
    # angles of the picture run from +x (east) towards +y (north)
    axis.add_patch(Arc((0, 0), 1.1 * rhalf, 1.1 * rhalf, theta1=90 - pa_deg, theta2=90, color=ink))
    axis.text(-0.05 * rhalf, 0.6 * rhalf, f"pa = {pa_deg:g}°", ha="left")
    for tip, label in (((0, 1.3 * a), "N"), ((1.3 * a, 0), "E")):
        axis.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": "0.6"})
        axis.text(1.08 * tip[0], 1.08 * tip[1], label, color="0.5", ha="center", va="center")
    axis.set(
        xlim=(1.5 * a, -1.3 * a), ylim=(-1.2 * a, 1.55 * a), xlabel="east [arcsec]", ylabel="north [arcsec]"
    )
    axis.locator_params(nbins=5)
    return figure


@styled
def plot_position_angles(
    angles_deg: Sequence[float] = (0, 30, 60, 90, 120, 150), *, q: float = 0.35
) -> "Figure":
    """Plot ellipses of several position angles, labelled with forcepho's values for them.

    Parameters
    ----------
    angles_deg : sequence of float
        Degrees, east of north.
    q : float
        b/a.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.9 * len(angles_deg), 2.9), layout="constrained")
    figure.suptitle(
        "position angles: from north through east, and as forcepho counts them (radians)", fontsize="medium"
    )
    for axis, angle in zip(figure.subplots(1, len(angles_deg)), angles_deg, strict=True):
        ellipse = half_light_ellipse(q, angle, 0.5)
        axis.fill(*ellipse.T, color=COLOURS[0], alpha=0.4)
        axis.plot(*ellipse[[0, 36]].T, color=COLOURS[3])
        axis.set(xlim=(1, -1), ylim=(-1, 1), xticks=[], yticks=[], aspect="equal")
        axis.set_title(f"pa = {angle}°, q = {q}", fontsize="small")
        axis.set_xlabel(
            f"forcepho: pa = {np.pi / 2 - np.deg2rad(angle):+.2f}\nq = {np.sqrt(q):.2f}", fontsize="small"
        )
        axis.text(0, 0.86, "N", ha="center", va="center", fontsize="small", weight="bold")
        axis.text(0.9, 0, "E", va="center", fontsize="small", weight="bold")
    return figure


@styled
def plot_sersic_profiles(indices: Sequence[float] = (0.5, 1.0, 2.0, 4.0)) -> "Figure":
    """Plot brightness and enclosed flux of round Sersic profiles of the same flux and half-light radius.

    Parameters
    ----------
    indices : sequence of float
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    radius = np.geomspace(0.01, 10, 300)
    for n in indices:
        b = gammaincinv(2 * n, 0.5)
        brightness = np.exp(-b * (radius ** (1 / n) - 1))
        enclosed = gammainc(2 * n, b * radius ** (1 / n))
        left.loglog(radius, brightness, label=f"sersic = {n:g}")
        right.semilogx(radius, enclosed)
    left.set(xlabel="radius / rhalf", ylabel="surface brightness / that at rhalf", ylim=(1e-4, 1e4))
    right.set(xlabel="radius / rhalf", ylabel="flux within the radius / total flux")
    for axis in (left, right):
        axis.axvline(1, color="0.6", lw=1, ls="--")
    right.axhline(0.5, color="0.6", lw=1, ls="--")
    left.set_title("surface brightness of Sersic profiles")
    right.set_title("enclosed flux")
    left.legend()
    return figure
