"""Figure of the noise of exposures, as the stage noise has measured it."""

from typing import TYPE_CHECKING

import numpy as np

from fphojax.inputs.noise_model import NoiseModel, rings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["plot_noise"]

_MOST = 12  # exposures whose correlation is drawn
_LINE = 0.22  # inches for an exposure


def plot_noise(noise: NoiseModel) -> "Figure":
    """Plot correlation and scale of the noise of exposures, and the pixels used.

    Parameters
    ----------
    noise : NoiseModel

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    exposures = list(noise.exposures.values())
    bands = list(dict.fromkeys(exposure.band for exposure in exposures))
    figure = Figure(figsize=(9, max(3.0, _LINE * len(exposures) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(0, color="0.5", lw=1)
    for exposure in exposures[:_MOST]:
        rings = rings_of(exposure.correlation, exposure.n_pixel)
        variance = exposure.scale**2
        lag = [0, *(ring.lag for ring in rings)]
        mean = [1.0, *(ring.mean / variance for ring in rings)]
        error = [0.0, *(ring.error / variance for ring in rings)]
        colour = f"C{bands.index(exposure.band)}"
        left.errorbar(lag, mean, error, fmt="o-", ms=3, lw=1, color=colour)
    left.set(xlabel="distance [pixel]", ylabel="correlation")
    right.axvline(1, color="0.5", lw=1)
    for row, exposure in enumerate(exposures):
        colour = f"C{bands.index(exposure.band)}"
        right.errorbar(exposure.scale, row, xerr=exposure.scale_error, fmt="o", color=colour)
    names = [f"{exposure.band} {exposure.name}: {exposure.n_pixel} pixels" for exposure in exposures]
    right.set_yticks(np.arange(len(exposures)), names, fontsize="x-small")
    right.invert_yaxis()
    right.set_xlabel("scatter of the pixels over their errors")
    return figure
