"""Catalogues that are refused: what is wrong with a file, and what is said about it."""

import numpy as np
import pytest
from astropy.table import Table

ECSV, FITS = "peaks.ecsv", "peaks.fits"


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


def bytes_of(content):
    return lambda field: field.write(ECSV, content)


ROWS = [
    *(
        (f"{kind} as {name}", name, become(name, kind), said)
        for name in (ECSV, FITS)
        for kind, said in (
            ("absent", "no such file, expected a catalogue"),
            ("folder", "no such file, expected a catalogue"),
            ("pipe", "no such file, expected a catalogue"),
            ("device", "no such file, expected a catalogue"),
            ("empty", "cannot be read"),
            ("noise", "cannot be read"),
            ("text", "cannot be read"),
        )
    ),
    ("cut", FITS, lambda field: field.cut(FITS, 0.7), "cannot be read"),
    ("bytes", ECSV, bytes_of(b"# %ECSV 1.0\n\xff\xfe"), "cannot be read"),
    ("no header", ECSV, bytes_of("id ra dec\n1 2 3\n"), "cannot be read"),
    ("header of no YAML", ECSV, bytes_of("# %ECSV 1.0\n# ---\n# datatype: [\nid\n1\n"), "cannot be read"),
    ("no datatype", ECSV, bytes_of("# %ECSV 1.0\n# ---\n# meta: {}\nid\n1\n"), "cannot be read"),
    ("line short", ECSV, text("\n8 ", "\n8\n9 "), "cannot be read"),
    ("value text", ECSV, text("\n8 ", "\n8 ? "), "cannot be read"),
    *(
        (f"no {name}", FITS, without(name), f"no column {name}, found")
        for name in ("ra", "dec", "q", "pa", "sersic", "rhalf", "g", "r")
    ),
    *(
        (
            f"NaN in {name}",
            FITS,
            value(name, np.nan),
            f"row 1 (id 8): {name} is nan, expected a finite number",
        )
        for name in ("ra", "dec", "g", "rhalf", "sersic")
    ),
    ("q large", FITS, value("q", 1.2), "row 1 (id 8): q is 1.2"),
    ("q zero", FITS, value("q", 0.0), "row 1 (id 8): q is 0"),
    ("rhalf negative", FITS, value("rhalf", -0.1), "row 1 (id 8): rhalf is -0.1"),
    ("roi negative", FITS, value("roi", -1.0), "row 1 (id 8): roi is -1"),
    ("dec of a pole", FITS, value("dec", 91.0), "row 1 (id 8): dec is 91"),
    (
        "far away",
        FITS,
        value("ra", 210.0),
        "row 1 (id 8): found ra=210.000000 dec=2.000100 outside all exposures",
    ),
    ("id twice", FITS, value("id", 7), "id 7"),
    ("id empty", FITS, column("id", ["a", ""]), "row 1: id is '', expected a number below 2^63 or printable"),
    (
        "id of two lines",
        FITS,
        column("id", ["a", "b\nc"]),
        r"row 1: id is 'b\nc', expected a number below 2^63",
    ),
    (
        "id beyond 64 bits",
        FITS,
        column("id", np.array([1, 2**63 + 1], dtype=np.uint64)),
        "row 1: id is 9223372036854775809, expected a number below 2^63",
    ),
    (
        "ID for id",
        FITS,
        table(lambda found: found.rename_column("id", "ID")),
        "no column id, found ID, expected its name in small letters",
    ),
    (
        "of 1950",
        FITS,
        table(lambda found: found.meta.update(EQUINOX=1950.0)),
        "EQUINOX = 1950.0, expected positions in ICRS, or FK5 of equinox 2000",
    ),
    (
        "FK4",
        FITS,
        table(lambda found: found.meta.update(RADESYS="FK4")),
        "RADESYS = 'FK4', expected positions in ICRS",
    ),
    ("ra text", FITS, column("ra", ["a", "b"]), "column ra holds"),
    (
        "ra of pairs",
        FITS,
        column("ra", np.full((2, 2), 150.0)),
        "(2,), expected numbers",
    ),
    ("no rows", FITS, table(lambda found: found[:0]), "found no source, expected at least one"),
    ("sersic beyond", FITS, value("sersic", 9.0), "row 1 (id 8): sersic is 9, expected within [1, 5]"),
    ("rhalf beyond", FITS, value("rhalf", 9.0), "row 1 (id 8): rhalf is 9, expected within [0.03, 1]"),
]


@pytest.mark.parametrize(("name", "spoil", "said"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_catalogue(tiny, name, spoil, said):
    tiny.set(raw_catalog=name)
    spoil(tiny)
    tiny.refused(said=[[f"{name}: ", said]])


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
        ("empty", "not an HDF5 file, expected a PSF store"),
        ("noise", "not an HDF5 file, expected a PSF store"),
        ("text", "not an HDF5 file, expected a PSF store"),
    ],
)
def test_psf_store(tiny, kind, said):
    tiny.set(psfstorefile="psfs.h5")
    tiny.become("psfs.h5", kind)
    tiny.refused(said=[[f"psfs.h5: {said}"]])
