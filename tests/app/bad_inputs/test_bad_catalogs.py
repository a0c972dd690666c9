"""Catalogues that are refused: what is wrong with a file, and what is said about it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

ECSV, FITS = "peaks.ecsv", "peaks.fits"


class Row(NamedTuple):
    name: str
    file: str
    spoil: Callable
    said: str  # the line behind the name of the file, or its beginning


def become(name, kind):
    return lambda field: field.become(name, kind)


def text(old, new):
    return lambda field: field.replace(ECSV, old, new)


def table(change):
    """Another table in the FITS file."""

    def spoil(field):
        found = Table.read(field.path(FITS))
        changed = change(found)
        (found if changed is None else changed).write(field.path(FITS), overwrite=True)

    return spoil


def value(column, new, row=1):
    return table(lambda found: found[column].__setitem__(row, new))


def without(column):
    return table(lambda found: found.remove_column(column))


def column(name, values):
    def change(found):
        unit = found[name].unit
        found[name] = values
        found[name].unit = unit

    return table(change)


def unit(name, text):
    return table(lambda found: setattr(found[name], "unit", text))


def added(**columns):
    """More columns, or others in their place, without units."""

    def change(found):
        for name, values in columns.items():
            found[name] = values

    return table(change)


def keyword(**cards):
    return table(lambda found: found.meta.update(cards))


def forcepho(**columns):
    """In the layout of forcepho, but for some columns; None leaves one out."""

    def change(found):
        del found.meta["FPHOJAX"]
        for name in found.colnames:
            found[name].unit = None
        found["q"], found["pa"] = np.sqrt(found["q"]), np.deg2rad(found["pa"])
        found["id"] = np.array([7, 8], np.int32)
        for name, values in columns.items():
            if values is None:
                found.remove_column(name)
            else:
                found[name] = values

    return table(change)


def ascii_ids(name):
    """Ids that are text, the second one with another character than ASCII's."""

    def change(field):
        found = Table.read(field.path(ECSV))
        found["id"] = ["a", name]
        found.write(field.path(ECSV), overwrite=True)

    return change


def images_only(field):
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(field.path(FITS), overwrite=True)


def many(**columns):
    """Thirty sources, with other values of a column."""

    def change(found):
        rows = found[np.arange(30) % 2]
        rows["id"] = np.arange(30)
        for name, number in columns.items():
            rows[name][:] = number
        return rows

    return table(change)


def bytes_of(content):
    return lambda field: field.write(ECSV, content)


ROWS = [
    *(
        Row(f"{kind} as {name}", name, become(name, kind), said)
        for name in (ECSV, FITS)
        for kind, said in (
            ("absent", "no such file, expected a catalogue"),
            ("folder", "found a folder, expected a catalogue"),
            ("pipe", "found a named pipe, expected a catalogue"),
            ("device", "found a device, expected a catalogue"),
            ("empty", "cannot be read"),
            ("noise", "cannot be read"),
            ("text", "cannot be read"),
        )
    ),
    Row("cut", FITS, lambda field: field.cut(FITS, 0.7), "cannot be read"),
    Row("bytes", ECSV, bytes_of(b"# %ECSV 1.0\n\xff\xfe"), "cannot be read"),
    Row("no header", ECSV, bytes_of("id ra dec\n1 2 3\n"), "cannot be read"),
    Row("header of no YAML", ECSV, bytes_of("# %ECSV 1.0\n# ---\n# datatype: [\nid\n1\n"), "cannot be read"),
    Row("no datatype", ECSV, bytes_of("# %ECSV 1.0\n# ---\n# meta: {}\nid\n1\n"), "cannot be read"),
    Row("line short", ECSV, text("\n8 ", "\n8\n9 "), "cannot be read"),
    Row("value text", ECSV, text("\n8 ", "\n8 ? "), "cannot be read"),
    *(
        Row(f"no {name}", FITS, without(name), f"no column {name}, found")
        for name in ("ra", "dec", "q", "pa", "sersic", "rhalf", "g", "r")
    ),
    *(
        Row(
            f"NaN in {name}",
            FITS,
            value(name, np.nan),
            f"row 1 (id 8): {name} is nan, expected a finite number",
        )
        for name in ("ra", "dec", "g", "rhalf", "sersic")
    ),
    Row("q large", FITS, value("q", 1.2), "row 1 (id 8): q is 1.2, expected b/a in (0, 1]"),
    Row("q zero", FITS, value("q", 0.0), "row 1 (id 8): q is 0, expected b/a in (0, 1]"),
    Row("rhalf negative", FITS, value("rhalf", -0.1), "row 1 (id 8): rhalf is -0.1, expected a number not"),
    Row("roi negative", FITS, value("roi", -1.0), "row 1 (id 8): roi is -1, expected a positive"),
    Row("dec of a pole", FITS, value("dec", 91.0), "row 1 (id 8): dec is 91, expected a number in [-90"),
    Row(
        "far away",
        FITS,
        value("ra", 210.0),
        "row 1 (id 8): found ra=210.000000 dec=2.000100 outside all exposures",
    ),
    Row("id twice", FITS, value("id", 7), "row 1 (id 7): row 0 has this id, too, expected a different one"),
    Row(
        "id empty",
        FITS,
        column("id", ["a", ""]),
        "row 1: id is '', expected a number below 2^63 or printable",
    ),
    Row(
        "id of two lines",
        FITS,
        column("id", ["a", "b\nc"]),
        r"row 1: id is 'b\nc', expected a number below 2^63",
    ),
    Row(
        "id beyond 64 bits",
        FITS,
        column("id", np.array([1, 2**63 + 1], dtype=np.uint64)),
        "row 1: id is 9223372036854775809, expected a number below 2^63",
    ),
    Row(
        "ID for id",
        FITS,
        table(lambda found: found.rename_column("id", "ID")),
        "no column id, found ID, expected its name in small letters",
    ),
    Row(
        "of 1950",
        FITS,
        table(lambda found: found.meta.update(EQUINOX=1950.0)),
        "EQUINOX = 1950.0, expected positions in ICRS, or FK5 of equinox 2000",
    ),
    Row(
        "FK4",
        FITS,
        table(lambda found: found.meta.update(RADESYS="FK4")),
        "RADESYS = 'FK4', expected positions in ICRS",
    ),
    Row("ra text", FITS, column("ra", ["a", "b"]), "column ra holds <U1, expected numbers"),
    Row(
        "ra of pairs",
        FITS,
        column("ra", np.full((2, 2), 150.0)),
        "column ra holds >f8(2,), expected numbers",
    ),
    Row("no rows", FITS, table(lambda found: found[:0]), "found no source, expected at least one"),
    Row("sersic beyond", FITS, value("sersic", 9.0), "row 1 (id 8): sersic is 9, expected within [0.6, 6]"),
    Row(
        "rhalf beyond", FITS, value("rhalf", 1e-3), "row 1 (id 8): rhalf is 0.001, expected within [0.01, 1]"
    ),
    Row(
        "unknown unit",
        ECSV,
        text("{name: g, unit: nJy", "{name: g, unit: njyy"),
        "column g: unknown unit 'njyy', expected nJy or what converts",
    ),
    Row(
        "unknown unit of pa",
        ECSV,
        text("{name: pa, unit: deg", "{name: pa, unit: furlong"),
        "column pa: unknown unit 'furlong', expected deg",
    ),
    Row(
        "magnitudes",
        FITS,
        unit("g", "mag"),
        "column g: unit mag is a magnitude, expected nJy or what converts",
    ),
    Row(
        "per area", FITS, unit("g", "MJy/sr"), "column g: unit MJy / sr is a surface brightness, expected nJy"
    ),
    *(
        Row(f"{name} in {text}", FITS, unit(name, text), f"column {name}: unit {text}, expected {expected}")
        for name, text, expected in (
            ("ra", "m", "deg or what converts"),
            ("rhalf", "pix", "arcsec or what converts"),
            ("g", "ct", "nJy or what converts"),
            ("q", "deg", "a pure number"),
            ("sersic", "arcsec", "a pure number"),
        )
    ),
    Row(
        "degrees as radians",
        FITS,
        table(lambda found: setattr(found["pa"], "unit", "rad") or found["pa"].__setitem__(1, 30.0)),
        "row 1 (id 8): pa is 30, expected radians within 2 pi, as its unit says; degrees need the unit deg",
    ),
    Row(
        "degrees in forcepho's layout",
        FITS,
        forcepho(pa=[0.5, 40.0]),
        "row 1 (id 8): pa is 40, expected radians within 2 pi, as forcepho's layout has them; degrees need",
    ),
    *(
        Row(
            f"neither layout: {why}",
            FITS,
            forcepho(**columns),
            f"column pa has no unit, and the table is neither ours nor forcepho's ({why}), expected pa with the",
        )
        for why, columns in (
            ("no id", {"id": None}),
            ("no roi", {"roi": None}),
            ("a column g_err", {"g_err": [1.0, 1.0]}),
            ("id of type int64, roi of type float64", {"id": [7, 8]}),
        )
    ),
    Row(
        "newer layout",
        FITS,
        keyword(FPHOJAX=2),
        "FPHOJAX = 2, expected 1: the layout is newer than this program",
    ),
    Row("id NaN", FITS, added(id=[7, np.nan]), "row 1: id is nan, expected a number below 2^63 or printable"),
    Row("id inf", FITS, added(id=[7, np.inf]), "row 1: id is inf, expected a number below 2^63 or printable"),
    Row(
        "id not ASCII",
        ECSV,
        ascii_ids("\u03b1"),
        "row 1: id is \u03b1, expected a number below 2^63 or printable",
    ),
    Row(
        "id masked", FITS, added(id=MaskedColumn([7, 8], mask=[0, 1])), "row 1: id is masked, expected an id"
    ),
    Row(
        "text id twice",
        FITS,
        added(id=["a", "a"]),
        "row 1 (id a): row 0 has this id, too, expected a different",
    ),
    Row(
        "ids in pairs", FITS, added(id=[[1, 2], [3, 4]]), "id has shape (2, 2), expected one for each source"
    ),
    Row("id true", FITS, added(id=[True, False]), "id holds bool, expected numbers or text"),
    Row(
        "an error missing",
        FITS,
        added(g_err=[1.0, 2.0]),
        "flux uncertainties only in g_err, expected g_err, r_err",
    ),
    Row(
        "error negative",
        FITS,
        added(g_err=[1.0, -2.0], r_err=[1.0, 2.0]),
        "row 1 (id 8): uncertainty of g is -2, expected a positive number, or nan if not known",
    ),
    Row("flux inf", FITS, value("g", np.inf), "row 1 (id 8): g is inf, expected a finite number"),
    *(
        Row(
            f"profile {name!r}",
            FITS,
            added(profile=["sersic", name]),
            f"row 1: profile is {name!r}, expected one of sersic, exponential, devaucouleurs, point",
        )
        for name in ("disk", "Point", "")
    ),
    Row("no table", FITS, images_only, "no table among its extensions, expected a catalogue"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_catalogue(tiny, row):
    tiny.set(raw_catalog=row.file)
    row.spoil(tiny)
    tiny.refused(said=[[f"{row.file}: {row.said}"]])


@pytest.mark.parametrize(
    ("columns", "said", "last"),
    [
        ({"ra": 10.0}, "found ra=10.000000 dec=", "sources outside all exposures"),
        ({"sersic": 9.0}, "sersic is 9, expected within [0.6, 6]", "values outside the bounds"),
    ],
    ids=["off the images", "beyond the bounds"],
)
def test_many_sources(tiny, columns, said, last):
    """Ten lines and a count."""
    many(**columns)(tiny)
    tiny.set(raw_catalog=FITS)
    lines = [[f"{FITS}: row {row} (id {row}): {said}"] for row in range(10)]
    tiny.refused(said=[*lines, [f"{FITS}: {last}: and 20 more like these"]])


@pytest.mark.parametrize("kind", ["absent", "folder", "empty", "noise"])
def test_big_catalogue(tiny, kind):
    tiny.set(big_catalog="big.fits")
    tiny.become("big.fits", kind)
    tiny.refused(said=[["big.fits: ", "expected a"]])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "found no file, expected a Sersic table"),
        ("folder", "found no file, expected a Sersic table"),
        ("pipe", "found no file, expected a Sersic table"),
        ("empty", "found a file that is not HDF5, expected a Sersic table"),
        ("noise", "found a file that is not HDF5, expected a Sersic table"),
        ("text", "found a file that is not HDF5, expected a Sersic table"),
    ],
)
def test_sersic_table(tiny, kind, said):
    tiny.set(splinedatafile="sersic.h5")
    tiny.become("sersic.h5", kind)
    tiny.refused(said=[[f"sersic.h5: {said}"]])


def test_another_file_as_sersic_table(tiny):
    tiny.set(splinedatafile="psfs.h5")
    tiny.refused(said=[["psfs.h5: found g, r", "expected the datasets steps, logits"]])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "no such file, expected a PSF store"),
        ("folder", "found a folder, expected a PSF store"),
        ("pipe", "found a named pipe, expected a PSF store"),
        ("empty", "not an HDF5 file, expected a PSF store"),
        ("noise", "not an HDF5 file, expected a PSF store"),
        ("text", "not an HDF5 file, expected a PSF store"),
    ],
)
def test_psf_store(tiny, kind, said):
    tiny.set(psfstorefile="psfs.h5")
    tiny.become("psfs.h5", kind)
    tiny.refused(said=[[f"psfs.h5: {said}"]])
