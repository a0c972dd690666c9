"""Bright, extended sources of a second catalogue, which are never fitted."""

from typing import Any

import numpy as np
from astropy.table import Table

from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.sphere import CircleIndex, unit_vectors

__all__ = ["BigScene"]


class BigScene:
    """Sources that are subtracted from every patch that they overlap.

    Parameters
    ----------
    catalog : SourceCatalog
    """

    def __init__(self, catalog: SourceCatalog):
        self._catalog = catalog
        self._index = CircleIndex(unit_vectors(catalog.ra, catalog.dec), catalog.roi)

    def joined(self, fixed: SourceCatalog, centre: np.ndarray, radius: float) -> SourceCatalog:
        """Append the big sources that overlap a patch to its fixed sources, with ``source_index`` -1.

        Parameters
        ----------
        fixed : SourceCatalog
            In the same bands.
        centre : ndarray, shape (3,)
            Unit vector of the centre of the patch.
        radius : float
            Of the patch, arcsec.
        """
        rows, _ = self._index.overlapping(centre, radius)
        if not len(rows):
            return fixed
        big = self._catalog[rows]
        names = ("ra", "dec", "flux", "q", "pa", "sersic", "rhalf", "roi")
        # identifiers of the two catalogues may be numbers in one and text in the other
        ids = [*fixed.id.tolist(), *big.id.tolist()]
        ids = ids if len(set(map(type, ids))) == 1 else list(map(str, ids))
        extra = Table({"source_index": np.concatenate([fixed["source_index"], np.full(len(rows), -1)])})
        if any("profile" in catalog.extra.colnames for catalog in (fixed, big)):
            extra["profile"] = np.concatenate([_profiles(fixed), _profiles(big)])
        columns: dict[str, Any] = {
            name: np.concatenate([getattr(fixed, name), getattr(big, name)]) for name in names
        }
        return SourceCatalog(
            id=np.array(ids),
            flux_err=None,
            bands=fixed.bands,
            extra=extra,
            **columns,
        )


def _profiles(catalog):
    present = "profile" in catalog.extra.colnames
    return catalog["profile"].astype(str) if present else np.full(len(catalog), "sersic")
