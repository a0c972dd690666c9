"""Region files in DS9's format, which CARTA and other programs read, too: sources, isophotes, patches."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import ArrayLike

from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.system.files import replacing

from .catalog_columns import FLAGS
from .patch_draws import PatchDraws

__all__ = ["write_isophotes", "write_patch_regions", "write_regions"]

_OF_ORIGIN = {"detected": "red", "structure": "magenta"}
# Flags by what they say of a fit, the worst first: draws that did not converge, a model that does not fit, the rest.
_OF_FLAGS = {1 | 2 | 8 | 16: "red", 128: "magenta", 4 | 32 | 64: "yellow"}
_OTHERS, _PATCHES = "green", "blue"


def write_regions(path: str | Path, catalog: SourceCatalog, flags: ArrayLike | None = None) -> None:
    """Write the half-light ellipse of every source, named by its id; a point for radius 0.

    Parameters
    ----------
    path : path-like
    catalog : SourceCatalog
    flags : array_like of int, shape (N,), optional
        Those of a `final_catalog`. Sources without any are green, those whose draws have not converged (1, 2, 8, 16)
        red, those that the model does not describe (128) magenta, the rest yellow; each flag is a tag, by which DS9
        groups regions. Without flags, colours are by the column ``origin``: red for "detected", magenta for
        "structure", green for all others.
    """
    if flags is None:
        origin = catalog["origin"] if "origin" in catalog.extra.colnames else np.full(len(catalog), "catalog")
        colours = [_OF_ORIGIN.get(str(name), _OTHERS) for name in origin]
        tags: list[list[str]] = [[] for _ in colours]
    else:
        flags = [int(flag) for flag in np.asarray(flags)]
        colours = [
            next((colour for bits, colour in _OF_FLAGS.items() if flag & bits), _OTHERS) for flag in flags
        ]
        tags = [[f"flag {bit}" for bit in FLAGS if flag & bit] for flag in flags]
    major = catalog.rhalf / np.sqrt(catalog.q)
    shape = catalog.ra, catalog.dec, major, catalog.q, catalog.pa
    _write(path, _ellipses(*shape, catalog.id, colours, tags))


def write_isophotes(path: str | Path, table: Table, band: str) -> None:
    """Write the isophote of every source in a band, named by its id; fainter sources have none.

    Parameters
    ----------
    path : path-like
    table : Table
        A `final_catalog`.
    band : str
    """
    table = table[table[f"r_iso_{band}"] > 0]
    names = "ra", "dec", f"r_iso_{band}", "q", "pa", "id"
    ra, dec, major, q, pa, ids = (np.asarray(table[name]) for name in names)
    size = len(table)
    _write(path, _ellipses(ra, dec, major, q, pa, ids, [_OTHERS] * size, [()] * size))


def write_patch_regions(path: str | Path, patches: Iterable[PatchDraws]) -> None:
    """Write the circle of every patch, named by its number."""
    from regions import CircleSkyRegion, RegionVisual

    shapes = []
    for patch in patches:
        ra, dec, radius = patch.region
        shapes.append(
            CircleSkyRegion(
                SkyCoord(ra, dec, unit="deg"),
                radius * u.arcsec,
                meta={"text": str(patch.patch)},
                visual=RegionVisual(color=_PATCHES),
            )
        )
    _write(path, shapes)


def _ellipses(ra, dec, major, q, pa, ids, colours, tags):
    """Make ellipses of semi-major axes in arcsec (0: a point), position angles in degrees east of north."""
    from regions import EllipseSkyRegion, PointSkyRegion, RegionVisual

    shapes = []
    for i in range(len(ids)):
        centre, meta = SkyCoord(ra[i], dec[i], unit="deg"), {"text": str(ids[i])}
        if tags[i]:
            meta["tag"] = tags[i]
        visual = RegionVisual(color=colours[i])
        if major[i] == 0:
            shapes.append(PointSkyRegion(centre, meta=meta, visual=visual))
            continue
        width = 2 * major[i] * u.arcsec
        angle = pa[i] * u.deg + 90 * u.deg  # of the major axis, from west
        shapes.append(EllipseSkyRegion(centre, width, width * q[i], angle, meta=meta, visual=visual))
    return shapes


def _write(path, shapes):
    from regions import Regions

    with replacing(path) as temporary:
        Regions(shapes).write(temporary, format="ds9", overwrite=True)
