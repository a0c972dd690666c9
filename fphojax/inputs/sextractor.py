"""Sources of SExtractor's catalogues, ASCII_HEAD, FITS_LDAC and FITS_1.0.

SExtractor's conventions: pixels from (1, 1); angles ``THETA_IMAGE`` from the first axis of the image towards the
second; ``FLUX_RADIUS`` the radius of a circle, in pixels, with half of the light as it is seen through the PSF;
fluxes in the counts of the image.
"""

import re
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from fphojax.errors import InputError

from .astrometry import check_celestial
from .fits_images import blame, opened, read_wcs
from .pixel_sources import ZERO_POINT, PixelSources

__all__ = ["read_sextractor"]

_SERSIC = 1.5  # where no profile was fitted
_MODEL = ("SPHEROID_REFF_IMAGE", "SPHEROID_ASPECT_IMAGE", "SPHEROID_THETA_IMAGE", "SPHEROID_SERSICN")
_POSITIONS = (("XWIN_IMAGE", "YWIN_IMAGE"), ("X_IMAGE", "Y_IMAGE"))
_OF_MODEL = (("XMODEL_IMAGE", "YMODEL_IMAGE"), *_POSITIONS)
_NO_MAGNITUDE = 90.0  # 99 stands for none


def read_sextractor(path: str | Path, *, zero_point: float | None = None) -> PixelSources:
    """Read a catalogue of SExtractor.

    Shapes are those of a Sersic profile where one was fitted alone (``SPHEROID_...``), else of ``FLUX_RADIUS``,
    ``A_IMAGE``, ``B_IMAGE``, ``THETA_IMAGE``, and the Sersic index is a guess.

    Parameters
    ----------
    path : path-like
    zero_point : float, optional
        AB magnitude of one count, for ``FLUX_AUTO`` (``FLUX_SPHEROID``). Without it ``MAG_AUTO`` (``MAG_SPHEROID``)
        are taken as AB magnitudes.

    Returns
    -------
    PixelSources
        Ids are ``NUMBER``. FITS_LDAC has the WCS of the image.

    Raises
    ------
    InputError
        A file that is none of these, columns that are missing.
    """
    path = Path(path)
    with blame(path):
        with path.open("rb") as file:
            in_fits = file.read(6) == b"SIMPLE"
        table, wcs = _of_fits(path) if in_fits else (_of_text(path), None)
        return _sources(table, wcs, zero_point)


def _of_text(path):
    _require_columns(path)
    try:
        return Table.read(path, format="ascii.sextractor")
    except Exception as error:  # astropy has no exception class of its own for these
        reason = " ".join(str(error).split())
        raise InputError(f"cannot be read ({reason}), expected SExtractor's ASCII_HEAD") from error


def _require_columns(path):
    """Refuse a header that numbers more columns than there are: the reader would make up names for all of them."""
    last, n_value = 0, 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                n_value = len(line.split())
                break
            if number := re.match(r"#\s*(\d+)\s", line):
                last = max(last, int(number[1][:18]))
    if n_value == 0:
        raise InputError("no row, expected a source")
    if last > n_value:
        raise InputError(
            f"column {last} in the header, but {n_value} values in the first row, expected as many"
        )


def _of_fits(path):
    with opened(path) as hdus:
        tables = [hdu for hdu in hdus if not hdu.is_image and hdu.name != "LDAC_IMHEAD"]
        headers = [hdu for hdu in hdus if hdu.name == "LDAC_IMHEAD"]
        if len(tables) != 1:
            raise InputError(f"found {len(tables)} tables of sources, expected one: that of a single image")
        table = Table.read(tables[0], format="fits", mask_invalid=False, unit_parse_strict="silent")
        if not headers:
            return table, None
        cards = np.ravel(headers[0].data.field(0)).tolist()
        header = fits.Header.fromstring("".join(str(card)[:80].ljust(80) for card in cards))
        wcs = read_wcs(header, None, "LDAC_IMHEAD")
        check_celestial(wcs, (int(header.get("NAXIS2", 1)), int(header.get("NAXIS1", 1))))
    return table, wcs


def _sources(table, wcs, zero_point):
    columns, notes = _Columns(table), []
    if len(table) == 0:
        raise InputError("no row, expected a source")
    is_model = columns.has(*_MODEL) and not columns.has("DISK_SCALE_IMAGE")
    x, y = columns.first(_OF_MODEL if is_model else _POSITIONS)
    if is_model:
        major, q, theta, sersic = (columns.one(name) for name in _MODEL)
        shorter = q > 1  # the fit lets the axes change places
        major, theta = np.where(shorter, major * q, major), np.where(shorter, theta + 90, theta)
        q = np.where(shorter, 1 / np.where(shorter, q, 1), q)
    else:
        q, theta = _axis_ratio(columns), columns.one("THETA_IMAGE")
        with np.errstate(invalid="ignore", divide="ignore"):
            major = columns.one("FLUX_RADIUS") / np.sqrt(q)
        sersic = np.full(len(table), _SERSIC)
        notes.append(
            f"FLUX_RADIUS includes the PSF, and the Sersic index {_SERSIC} is a guess: good for a start"
        )
    return PixelSources(
        id=np.asarray(table["NUMBER"]) if columns.has("NUMBER") else np.arange(1, len(table) + 1),
        x=x,
        y=y,
        major=major,
        q=q,
        theta=theta,
        sersic=sersic,
        flux=_flux(columns, "SPHEROID" if is_model else "AUTO", zero_point),
        profile=["sersic"] * len(table),
        wcs=wcs,
        notes=tuple(notes),
    )


def _axis_ratio(columns):
    with np.errstate(invalid="ignore", divide="ignore"):
        if columns.has("A_IMAGE", "B_IMAGE"):
            return columns.one("B_IMAGE") / columns.one("A_IMAGE")
        if columns.has("ELLIPTICITY"):
            return 1 - columns.one("ELLIPTICITY")
        return 1 / columns.one("ELONGATION")


def _flux(columns, kind, zero_point):
    if zero_point is not None:
        return columns.one(f"FLUX_{kind}") * 10 ** (0.4 * (ZERO_POINT - zero_point))
    if not columns.has(f"MAG_{kind}") and columns.has(f"FLUX_{kind}"):
        raise InputError(
            f"FLUX_{kind} in counts, expected also their zero point (AB magnitude of one count), or MAG_{kind}"
        )
    magnitude = columns.one(f"MAG_{kind}")
    return 10 ** (0.4 * (ZERO_POINT - np.where(magnitude < _NO_MAGNITUDE, magnitude, np.nan)))


class _Columns:
    """Columns of a table as numbers."""

    def __init__(self, table: Table):
        self._table = table

    def has(self, *names: str) -> bool:
        return set(names) <= set(self._table.colnames)

    def one(self, name: str) -> np.ndarray:
        if not self.has(name):
            raise InputError(f"no column {name}, found {', '.join(self._table.colnames)}")
        if self._table[name].ndim > 1 or self.has(f"{name}_1"):
            raise InputError(f"{name} has several values, expected one (PHOT_FLUXFRAC 0.5 for FLUX_RADIUS)")
        if self._table[name].dtype.kind not in "iuf":
            raise InputError(f"{name} holds {self._table[name].dtype}, expected numbers")
        return np.asarray(np.ma.filled(np.ma.asarray(self._table[name], dtype=float), np.nan))

    def first(self, pairs) -> tuple[np.ndarray, np.ndarray]:
        """Return the first of several pairs of columns that is there."""
        x, y = next((pair for pair in pairs if self.has(*pair)), pairs[-1])
        return self.one(x), self.one(y)
