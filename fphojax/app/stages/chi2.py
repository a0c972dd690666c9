"""Chi-squared per degree of freedom of every exposure of a fit, alone or beside an earlier fit."""

import numpy as np
from astropy.table import Table

from fphojax.results.residuals import RunResiduals
from fphojax.results.run_directory import RunDirectory
from fphojax.results.summary import degrees_of_freedom
from fphojax.results.table_text import formatted

__all__ = ["chi2_table"]


def chi2_table(run: RunDirectory, before: RunDirectory | None = None) -> Table:
    """Compute chi-squared per degree of freedom of every exposure of a run.

    Parameters
    ----------
    run : RunDirectory
        With residual files.
    before : RunDirectory, optional
        An earlier fit to compare with, on the same pixels: those of `run`, with its errors. Where no patch of the
        earlier fit was, its residual is the image less the sky that it subtracted.

    Returns
    -------
    Table
        ``band``, ``exposure``, ``n_pixel``, ``chi2_dof``, and with an earlier fit ``before``.
    """
    residuals = RunResiduals(run)
    earlier = None if before is None else _Earlier(before, run.read_sky())
    rows = []
    for band, name in residuals.exposures:
        pixels = residuals.read(band, name)
        assert pixels is not None  # it is listed
        chi2 = [float(np.sum((pixels.residual * pixels.ierr) ** 2, dtype=np.float64))]
        if earlier is not None:
            chi2.append(float(np.sum((earlier.residual(pixels) * pixels.ierr) ** 2, dtype=np.float64)))
        rows.append((band, name, len(pixels.x), *chi2))
    band, name, n_pixel, *chi2 = map(list, zip(*rows, strict=True))
    table = Table({"band": band, "exposure": name, "n_pixel": n_pixel})
    for column, values, fit in zip(("chi2_dof", "before"), chi2, (run, before), strict=False):
        table[column] = np.array(values) / degrees_of_freedom(n_pixel, _n_parameter(fit))
    return formatted(table, {}, rest=".3f")


class _Earlier:
    """Residuals of an earlier fit, at pixels of a later one."""

    def __init__(self, run, sky_now) -> None:
        self._residuals = RunResiduals(run)
        self._sky, self._sky_now = run.read_sky(), sky_now

    def residual(self, pixels):
        """Return the residual at the pixels of an `ExposureResiduals`."""
        values = pixels.data + self._sky_now.get(pixels.band, 0.0) - self._sky.get(pixels.band, 0.0)
        earlier = self._residuals.read(pixels.band, pixels.name)
        if earlier is not None:
            width = 1 + max(int(pixels.x.max()), int(earlier.x.max()))
            index, earlier_index = (p.y.astype(np.int64) * width + p.x for p in (pixels, earlier))
            _, i, j = np.intersect1d(index, earlier_index, assume_unique=True, return_indices=True)
            values[i] = earlier.residual[j]
        return values


def _n_parameter(run):
    scene = run.read_scene()
    return len(scene) * (6 + len(scene.bands))
