"""Flux covariances of blended neighbours."""

import numpy as np
from astropy.table import Table, vstack

from fphojax.inputs.astrometry import sky_offsets

from .patch_draws import PatchDraws

__all__ = ["NeighbourReport"]


class NeighbourReport:
    """Flux covariances of neighbours: pairs in one patch whose radii of influence overlap.

    Columns: id, neighbour, patch, distance (arcsec, between the medians), and for each band cov_BAND (nJy^2) and
    corr_BAND, covariance and correlation of the two sources' fluxes.
    """

    def __init__(self) -> None:
        self._parts: list[Table] = []

    def add(self, patch: PatchDraws) -> None:
        """Add the pairs of a patch."""
        first, second, distance = _overlapping_pairs(patch)
        if not first.size:
            return
        flux = patch.values["flux"].reshape(len(patch.ids), -1, len(patch.bands))
        centred = flux - flux.mean(axis=1, keepdims=True)
        columns = {"id": patch.ids[first], "neighbour": patch.ids[second]}
        columns |= {"patch": np.full(first.size, patch.patch), "distance": distance}
        for b, band in enumerate(patch.bands):
            matrix = centred[..., b] @ centred[..., b].T / flux.shape[1]
            scatter = np.sqrt(np.diag(matrix))
            columns[f"cov_{band}"] = matrix[first, second]
            with np.errstate(invalid="ignore", divide="ignore"):
                columns[f"corr_{band}"] = matrix[first, second] / (scatter[first] * scatter[second])
        self._parts.append(Table(columns))

    @property
    def table(self) -> Table:
        """Table of the pairs; without columns if no sources overlap."""
        table = vstack(self._parts, metadata_conflicts="silent") if self._parts else Table()
        for name in table.colnames:
            if name == "distance" or name.startswith("cov_"):
                table[name].unit = "arcsec" if name == "distance" else "nJy2"
        return table


def _overlapping_pairs(patch):
    """Find pairs of rows whose radii of influence overlap, and their distances in arcsec."""
    position = [np.median(patch.values[name].reshape(len(patch.ids), -1), axis=1) for name in ("ra", "dec")]
    offset = sky_offsets(*position, *patch.region[:2])
    first, second = np.triu_indices(len(patch.ids), 1)
    distance = np.hypot(*(offset[first] - offset[second]).T)
    overlap = distance < patch.roi[first] + patch.roi[second]
    return first[overlap], second[overlap], distance[overlap]
