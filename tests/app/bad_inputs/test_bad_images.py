"""Images that are refused: what is wrong with a file, and what is said about it."""

import bz2
import gzip
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits


class Row(NamedTuple):
    name: str
    spoil: Callable
    said: str  # the line behind the name of the file, or its beginning
    file: str = "g1.fits"


def become(kind):
    return lambda field: field.become("g1.fits", kind)


def card(old, new):
    """Another text in the first card of that text."""

    def change(field):
        content = field.path("g1.fits").read_bytes()
        assert old in content
        field.write("g1.fits", content.replace(old.ljust(len(new)), new.ljust(len(old)), 1))

    return change


def header(key, value, extension="SCI"):
    return lambda field: field.fits(lambda hdus: hdus[extension].header.update({key: value}))


def without(extension):
    return lambda field: field.fits(lambda hdus: hdus.pop(extension))


def data(extension, change):
    def spoil(hdus):
        hdus[extension].data = change(hdus[extension].data)

    return lambda field: field.fits(spoil)


def no_columns(field):
    for extension in ("SCI", "ERR"):
        data(extension, lambda image: image[:, :0])(field)


def table(extension):
    def spoil(hdus):
        at = hdus.index_of(extension)
        hdus[at] = fits.BinTableHDU.from_columns(
            [fits.Column("a", "E", array=[1.0])], name=extension, header=None
        )

    return lambda field: field.fits(spoil)


def packed(pack, suffix, behind=b""):
    """A compressed file in the place of the image."""

    def change(field):
        content = field.path("g1.fits").read_bytes() + behind
        field.write(f"g1.fits{suffix}", pack(content))
        field.set(fitsfiles=[f"g1.fits{suffix}", "r1.fits"])

    return change


def bomb(field):
    """A short file that unpacks to many zeros behind the image."""
    packed(gzip.compress, ".gz", bytes(20_000_000))(field)


def declared(*axes):
    """A file of one header that declares much."""

    def change(field):
        cards = [
            "SIMPLE  =                    T",
            "BITPIX  =                    8",
            f"NAXIS   = {len(axes):20d}",
        ]
        cards += [f"NAXIS{n + 1:<3d}= {length:20d}" for n, length in enumerate(axes)]
        text = "".join(line.ljust(80) for line in [*cards, "END"])
        field.write("g1.fits", text.ljust(2880))

    return change


ROWS = [
    Row("absent", become("absent"), "no such file, expected a FITS image"),
    Row("folder", become("folder"), "found a folder, expected a FITS image"),
    Row("pipe", become("pipe"), "found a named pipe, expected a FITS image"),
    Row("device", become("device"), "found a device, expected a FITS image"),
    Row("empty", become("empty"), "cannot be read as FITS"),
    Row("noise", become("noise"), "cannot be read as FITS"),
    Row("text", become("text"), "cannot be read as FITS"),
    Row("cut", lambda field: field.cut("g1.fits"), "cannot be read as FITS"),
    Row(
        "no END",
        lambda field: field.write("g1.fits", field.path("g1.fits").read_bytes()[:320]),
        "cannot be read as",
    ),
    Row(
        "endless header",
        lambda field: field.write("g1.fits", b"SIMPLE  =                    T".ljust(80) * 700_000),
        "extension 0 has no END in 5000 blocks",
    ),
    Row(
        "zeros behind",
        lambda field: field.write("g1.fits", field.path("g1.fits").read_bytes() + bytes(2_000_000)),
        "goes on behind extension 3 with something that is none",
    ),
    Row(
        "noise behind",
        lambda field: field.write("g1.fits", field.path("g1.fits").read_bytes() + b"?" * 2880),
        "goes on behind extension 3 with something that is none",
    ),
    Row("bomb", bomb, "goes on behind extension 3 with something that is none", "g1.fits.gz"),
    Row(
        "gzip cut",
        packed(lambda content: gzip.compress(content)[:-900], ".gz"),
        "cannot be read as FITS",
        "g1.fits.gz",
    ),
    Row(
        "gzip of noise",
        packed(lambda content: gzip.compress(content[5:]), ".gz"),
        "cannot be read as FITS",
        "g1.fits.gz",
    ),
    Row(
        "bzip2 of text",
        packed(lambda content: bz2.compress(b"text"), ".bz2"),
        "cannot be read as FITS",
        "g1.fits.bz2",
    ),
    Row(
        "10^8 axes",
        card(b"NAXIS   =                    2", b"NAXIS   =             99999999"),
        "extension 1: BITPIX is -32 and NAXIS is 99999999, expected",
    ),
    Row(
        "axes below zero",
        card(b"NAXIS   =                    2", b"NAXIS   =                   -2"),
        "extension 1: BITPIX is -32 and NAXIS is -2, expected",
    ),
    Row(
        "axes text",
        card(b"NAXIS   =                    2", b"NAXIS   =                'two'"),
        "extension 1: NAXIS is \"'two'\", expected an integer",
    ),
    Row(
        "BITPIX",
        card(b"BITPIX  =                  -32", b"BITPIX  =                  -31"),
        "extension 1: BITPIX is -31 and NAXIS is 2, expected",
    ),
    Row(
        "GCOUNT",
        card(b"GCOUNT  =                    1", b"GCOUNT  =                   -3"),
        "extension 1: GCOUNT is -3 and PCOUNT is 0, expected 0 or more",
    ),
    Row(
        "side below zero",
        card(b"NAXIS1  =                   24", b"NAXIS1  =                  -24"),
        "extension 1: NAXIS1 is -24, expected 0 or more",
    ),
    Row(
        "side text",
        card(b"NAXIS1  =                   24", b"NAXIS1  =                  '24'"),
        "extension 1: NAXIS1 is \"'24'\", expected an integer",
    ),
    Row("petabytes", declared(10**6, 10**6, 10**6), "extension 0 declares 1e+09 GB, expected at most 64"),
    Row("terabyte", declared(10**6, 10**6), "extension 0 declares 1e+03 GB, expected at most 64"),
    Row("no SCI", without("SCI"), "no extension SCI, found"),
    Row("no ERR", without("ERR"), "no extension ERR, found"),
    Row("SCI a table", table("SCI"), "extension SCI is a table, expected an image"),
    Row("ERR a table", table("ERR"), "extension ERR is a table, expected an image"),
    Row("SCI flat", data("SCI", np.ravel), "extension SCI has shape (576,), expected a 2-D image"),
    Row(
        "SCI a cube",
        data("SCI", lambda image: image[None]),
        "extension SCI has shape (1, 24, 24), expected a 2-D",
    ),
    Row(
        "ERR small",
        data("ERR", lambda image: image[:-1]),
        "error image has shape (23, 24), expected (24, 24)",
    ),
    Row("no column", no_columns, "exposure 'g1': no valid pixel among 0"),
    Row("all NaN", data("SCI", lambda image: image * np.nan), "exposure 'g1': no valid pixel among 576"),
    Row("errors zero", data("ERR", np.zeros_like), "exposure 'g1': no valid pixel among 576"),
    Row("errors negative", data("ERR", np.negative), "exposure 'g1': no valid pixel among 576"),
    Row(
        "PSF NaN",
        data("PSF", lambda image: image * np.nan),
        "exposure 'g1': PSF image has 169 non-finite pixels, expected none",
    ),
    Row(
        "PSF zero",
        data("PSF", np.zeros_like),
        "exposure 'g1': PSF image has the total flux 0, expected a positive one",
    ),
    Row("PSF a cube", data("PSF", lambda image: image[None]), "extension PSF has shape"),
    Row(
        "PIXRESP text",
        header("PIXRESP", "maybe", "PSF"),
        "extension PSF has PIXRESP = 'maybe', expected T or F",
    ),
    Row("CTYPE", header("CTYPE1", "GLON-TAN"), "extension SCI has an invalid WCS (Inconsistent projection"),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_image(tiny, row):
    tiny.set(bandlist=["r"])  # whether the file says its band or not
    row.spoil(tiny)
    tiny.refused(said=[[f"{row.file}: {row.said}"]])


def test_zip_of_two_files(tiny):
    with zipfile.ZipFile(tiny.path("g1.zip"), "w") as archive:
        for name in ("g1.fits", "r1.fits"):
            archive.write(tiny.path(name), name)
    tiny.set(bandlist=["r"], fitsfiles=["g1.zip", "r1.fits"])
    tiny.refused(said=[["g1.zip: holds 2 files in a zip archive, expected one FITS file"]])


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (bz2.compress, ".bz2")])
def test_compressed_images_are_read(tiny, pack, suffix):
    packed(pack, suffix)(tiny)
    assert tiny.call("check", "{}/field.yml").exit_code == 0
