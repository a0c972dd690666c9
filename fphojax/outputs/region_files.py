"""Sources as a region file, for DS9 and its like."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord

from ..inputs.catalog import SourceCatalog
from ..inputs.files import replacing

__all__ = ["write_regions"]

_COLOURS = {"detected": "red"}
_OTHERS = "green"


def write_regions(path, catalog: SourceCatalog) -> None:
    """Write the half-light ellipse of every source, named by its id; those with the `origin` "detected" in red.

    Parameters
    ----------
    path : path-like
    catalog : SourceCatalog
    """
    from regions import EllipseSkyRegion, Regions, RegionVisual

    has_origin = "origin" in catalog.extra.colnames
    origin = catalog["origin"] if has_origin else np.full(len(catalog), "catalog")
    shapes = [
        EllipseSkyRegion(
            SkyCoord(catalog.ra[i], catalog.dec[i], unit="deg"),
            width=2 * catalog.rhalf[i] / np.sqrt(catalog.q[i]) * u.arcsec,
            height=2 * catalog.rhalf[i] * np.sqrt(catalog.q[i]) * u.arcsec,
            angle=np.rad2deg(catalog.pa[i]) * u.deg + 90 * u.deg,  # of the major axis, from west
            meta={"text": str(catalog.id[i])},
            visual=RegionVisual(color=_COLOURS.get(str(origin[i]), _OTHERS)),
        )
        for i in range(len(catalog))
    ]
    with replacing(path) as temporary:
        Regions(shapes).write(temporary, format="ds9", overwrite=True)
