"""Agreement between patches on the sources that several of them fitted."""

from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table

from fphojax.results.convergence import r_hat
from fphojax.results.patch_result import POSTERIOR_UNITS

from .patch_draws import SourceDraws

__all__ = ["DISAGREES", "MultipatchReport", "largest_shift", "parameter_names", "parameters_first"]

DISAGREES = 1.0  # standard deviations between the means of patches


class MultipatchReport:
    """Table of sources in several patches, one row per source and parameter.

    Columns: id, parameter (the band's name for a flux), unit, n_patch, patches (their numbers, separated by
    blanks), mean and std of all draws, lowest and highest mean of a patch, shift (difference of these over the mean
    standard deviation within patches), r_hat of all chains.

    Parameters
    ----------
    bands : tuple of str
    """

    def __init__(self, bands: tuple[str, ...]):
        self._bands = bands
        self._rows: list[tuple] = []

    def add(self, ids: np.ndarray, sources: SourceDraws) -> None:
        """Add sources; those of a single patch are skipped.

        Parameters
        ----------
        ids : array (S,)
            Their names.
        sources : SourceDraws
        """
        for s, parts in enumerate(sources.parts):
            if len(parts) < 2:
                continue
            draws = parameters_first({name: array[s : s + 1] for name, array in sources.values.items()})[0]
            means, within = _per_patch(draws, len(parts))
            mixing = r_hat(draws)
            shift = _shift(means, within)
            patches = " ".join(str(part.patch) for part in parts)
            for p, (name, unit) in enumerate(parameter_names(self._bands).items()):
                moments = draws[p].mean(), draws[p].std()
                range_ = means[:, p].min(), means[:, p].max()
                self._rows.append(
                    (ids[s], name, unit, len(parts), patches, *moments, *range_, shift[p], mixing[p])
                )

    @property
    def table(self) -> Table:
        """Table of the added sources; without rows if no source was in several patches."""
        names = ("id", "parameter", "unit", "n_patch", "patches", "mean", "std", "lowest", "highest", "shift")
        kinds = (object, "U16", "U8", int, "U256", float, float, float, float, float)
        if not self._rows:
            kinds = (int, *kinds[1:])
            return Table(names=(*names, "r_hat"), dtype=(*kinds, float))
        return Table(rows=self._rows, names=(*names, "r_hat"))


def parameter_names(bands: Sequence[str]) -> dict[str, str]:
    """Return a source's parameters and units: fluxes by band, then the rest, as in `parameters_first`."""
    rest = {name: unit for name, unit in POSTERIOR_UNITS.items() if name != "flux"}
    return dict.fromkeys(bands, POSTERIOR_UNITS["flux"]) | rest


def parameters_first(values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Stack draws into one array (S, parameter, chain, draw).

    Parameters
    ----------
    values : dict of array
        As in `SourceDraws`.
    """
    rest = [values[name] for name in POSTERIOR_UNITS if name != "flux"]
    return np.concatenate([np.moveaxis(values["flux"], -1, 1), np.stack(rest, axis=1)], axis=1)


def largest_shift(draws: np.ndarray, n_patch: int) -> float:
    """Compute the largest difference between means of patches, in standard deviations within a patch.

    Parameters
    ----------
    draws : array (parameter, chain, draw)
        Equally many chains of each patch, side by side.
    n_patch : int
    """
    return float(np.nanmax(_shift(*_per_patch(draws, n_patch)), initial=0.0))


def _per_patch(draws, n_patch):
    """Compute means and standard deviations (patch, parameter)."""
    parts = np.array_split(draws, n_patch, axis=1)
    return tuple(np.stack([getattr(part, what)(axis=(1, 2)) for part in parts]) for what in ("mean", "std"))


def _shift(means, within):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.ptp(means, axis=0) / within.mean(axis=0)
