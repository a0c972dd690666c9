"""Tests of the error bars: mock scenes drawn from the prior, fitted, and each compared with its truth.

If truths come from the prior and posteriors are correct, the quantile of the truth among the draws is uniform
between 0 and 1 for every parameter (Talts et al. 2018), and an interval of 68 % holds 68 % of the truths.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table

from fphojax.field.scene_fit import fit_scene
from fphojax.inference.methods import Method
from fphojax.inputs.astrometry import sky_position
from fphojax.inputs.bounds import PARAMETERS, Bounds
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.figure_style import COLOURS, styled
from fphojax.system.progress import Progress

from .mock_fields import MockCamera, mock_field
from .ranks import covered, rank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CoverageStudy", "coverage_study"]

LEVELS = (0.50, 0.68, 0.95)
_RANKED = ("flux", "x", "y", "q", "sersic", "rhalf")  # pa is periodic, and undefined where q is 1
_SKY_NAMES = {"x": "ra", "y": "dec"}
_BINS = 10


@dataclass(frozen=True, eq=False)
class CoverageStudy:
    """Quantiles of the truths within their posteriors.

    Attributes
    ----------
    quantiles : dict of str to ndarray (n_scene, ...)
        Fraction of the draws of a parameter that lie below its truth; position angles are left out.
    """

    quantiles: dict[str, np.ndarray]

    def table(self) -> Table:
        """Return the fraction of the truths in the central intervals, by parameter.

        Returns
        -------
        Table
            Columns: parameter, 50 %, 68 %, 95 %, and ``error``: the binomial standard deviation of the second if its
            expectation is 0.68.
        """
        rows = []
        for name, values in self.quantiles.items():
            row = {"parameter": name} | {f"{level:.0%}": covered(values, level)[0] for level in LEVELS}
            rows.append(row | {"error": covered(values, 0.68)[1]})
        table = Table(rows)
        for name in table.colnames[1:]:
            table[name].info.format = ".3f"
        return table

    @styled
    def plot(self) -> "Figure":
        """Plot histograms of the quantiles.

        Returns
        -------
        matplotlib.figure.Figure
            One panel per parameter; the band contains 95 % of the bins if the posteriors are correct.
        """
        from matplotlib.figure import Figure
        from scipy.stats import binom

        figure = Figure(figsize=(1.9 * len(self.quantiles) + 0.6, 2.5), layout="constrained")
        figure.suptitle("ranks of the truths among the draws; band: 95 % of the bins", fontsize="medium")
        axes = figure.subplots(1, len(self.quantiles), sharey=True, squeeze=False)[0]
        for axis, (name, values) in zip(axes, self.quantiles.items(), strict=True):
            axis.hist(values.ravel(), bins=_BINS, range=(0, 1), color=COLOURS[0], alpha=0.7)
            axis.axhspan(*binom.interval(0.95, values.size, 1 / _BINS), color="0.5", alpha=0.3)
            axis.set_title(name, fontsize="small")
            axis.tick_params(labelsize="x-small")
        figure.supxlabel("fraction of draws below the truth", fontsize="small")
        axes[0].set_ylabel("truths", fontsize="small")
        return figure


def coverage_study(
    catalog: SourceCatalog,
    cameras: Sequence[MockCamera],
    bounds: Bounds,
    method: Method | None = None,
    *,
    n_scene: int = 100,
    seed: int = 0,
    progress: bool = False,
    **options: Any,
) -> CoverageStudy:
    """Draw scenes from the prior, simulate their exposures, and fit them.

    Parameters
    ----------
    catalog : SourceCatalog
        Number of sources of a scene, and their positions to within the bounds; every fit starts from it.
    cameras : sequence of MockCamera
        How the scenes are observed: one camera for each band.
    bounds : Bounds
        The prior is uniform within.
    method : Method, optional
        `NUTS` (the default), `Importance`, `Auto` or `Laplace`.
    n_scene : int
    seed : int
    progress : bool
        Show a progress bar.
    **options
        Of `fit_scene`: ``bands``, ``priors``, and so on.

    Returns
    -------
    CoverageStudy
    """
    ranks: dict[str, list] = {name: [] for name in _RANKED}
    for number in Progress(range(n_scene), text="coverage", units="scenes", shown=progress):
        truth = _draw_catalog(catalog, bounds, np.random.default_rng([seed, number]))
        field = mock_field(truth, cameras, seed=seed + number)
        fit = fit_scene(field.exposures, field.psfs, catalog, method, bounds=bounds, seed=number, **options)
        draws = fit.result.centred_draws.stack(sample=("chain", "draw")).transpose("sample", ...)
        for name, values in ranks.items():
            column = _SKY_NAMES.get(name, name)
            values.append(rank(draws[column].to_numpy(), getattr(truth, column)))
    return CoverageStudy({name: np.array(values) for name, values in ranks.items()})


def _draw_catalog(catalog: SourceCatalog, bounds: Bounds, rng: np.random.Generator) -> SourceCatalog:
    """Draw a catalogue from the prior."""
    bounds = bounds.matching(catalog)
    values = {name: rng.uniform(bounds.lower[name], bounds.upper[name]) for name in PARAMETERS}
    ra, dec = sky_position(values.pop("x"), values.pop("y"), catalog.ra, catalog.dec)
    return catalog.replace(ra=ra, dec=dec, **values)
