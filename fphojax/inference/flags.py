"""Quality flags of a fit.

====================  =============================================================================================
``not converged``     the predicted gain is still larger than the tolerance
``at a bound``        a parameter ended at an edge of its prior, and is not where the data want it
``few pixels``        the patch has fewer good pixels than free parameters
``no data``           no good pixel of a band constrains the source; its flux there keeps its initial value
``masked``            an exposure reaches into the patch, and has no good pixel there (set where the patch is made)
``degenerate``        sources of equal place and shape: the data give the sum of their fluxes, the prior its division
====================  =============================================================================================
"""

from collections.abc import Sequence

import numpy as np

from fphojax.core.model import PARAMETERS, SceneModel

from .linear_fit import flux_precision
from .optimum import BestFit

__all__ = ["fit_flags"]

SINGULAR = 1e-5  # eigenvalue of flux correlations below which sources are degenerate; identical ones have 0


def fit_flags(model: SceneModel, optimum: BestFit, bands: Sequence[str]) -> list[dict[str, str]]:
    """Return the flags of each source of a patch.

    Parameters
    ----------
    model : SceneModel
    optimum : BestFit
    bands : sequence of str
        Columns of the fluxes.

    Returns
    -------
    list of dict of str to str
        For each source its flags, each with what was found; empty where nothing is wrong.
    """
    n_source = model.optics.n_source
    flags: list[dict[str, str]] = [{} for _ in range(n_source)]

    def note(row, flag, detail):
        flags[row][flag] = f"{flags[row][flag]}, {detail}" if flag in flags[row] else detail

    if not optimum.converged:
        for row in range(n_source):
            note(row, "not converged", f"after {optimum.n_step} steps")
    for name in PARAMETERS:
        at_bound = np.reshape(optimum.at_bound[name], (n_source, -1)).any(axis=1)
        for row in np.flatnonzero(at_bound):
            note(row, "at a bound", name)
    n_pixel = int(np.count_nonzero(np.asarray(model.patch.ierr)))
    n_free = int(sum(np.count_nonzero(model.is_free(name)) for name in optimum.values))
    if n_pixel < n_free:
        for row in range(n_source):
            note(row, "few pixels", f"{n_pixel} for {n_free} parameters")
    tied = np.asarray(model.tied.get("flux", np.arange(n_source))) != np.arange(n_source)
    for band, precision in zip(bands, flux_precision(model, optimum), strict=True):
        unseen = (np.diag(precision) <= 0) & ~tied
        for row in np.flatnonzero(unseen):
            note(row, "no data", f"in {band}")
        for row in _degenerate(precision, ~unseen & ~tied):
            note(row, "degenerate", f"in {band}")
    return flags


def _degenerate(precision, used):
    """Return the rows of the sources that share a direction in which the fluxes are unconstrained."""
    rows = np.flatnonzero(used)
    matrix = precision[np.ix_(rows, rows)]
    scale = 1 / np.sqrt(np.diag(matrix))
    values, vectors = np.linalg.eigh(matrix * scale[:, None] * scale)
    unknown = np.abs(vectors[:, values < SINGULAR]).max(axis=1, initial=0.0)
    return rows[unknown > 0.1]
