"""Pixel and meta stores, and stores in the making, that are refused: what is wrong, and what is said about it."""

import json
from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
import pytest

DATA = "g/g1/data"
PIXELS = "pixels.h5: "
G1 = f"{PIXELS}exposure 'g1' of band g: "
INDEX = f"{PIXELS}dataset index"
INDEX_G1 = f"{INDEX}: exposure 'g1' of band g: found "


class Row(NamedTuple):
    name: str
    spoil: Callable
    said: str  # the beginning of the line


def attribute(name, value, path=DATA):
    """Another value of an attribute in the pixel store."""
    return lambda field: field.hdf5(lambda file: file[path].attrs.__setitem__(name, value))


def without(path):
    return lambda field: field.hdf5(lambda file: file.__delitem__(path))


def instead(path, value):
    """Something else in the place of what is at a path."""

    def change(file):
        del file[path]
        if value is h5py.Group:
            file.create_group(path)
        else:
            file[path] = value

    return lambda field: field.hdf5(change)


def unindexed(spoil):
    """Without the index, so that the file itself is looked at."""

    def change(field):
        without("index")(field)
        spoil(field)

    return change


def index(change):
    def spoil(file):
        content = json.loads(file["index"][:].tobytes())
        changed = change(content)
        del file["index"]
        file["index"] = np.frombuffer(json.dumps(changed).encode(), dtype=np.uint8)

    return lambda field: field.hdf5(spoil)


def of_entry(key, value):
    """Another value of what the index states of an exposure."""
    return index(lambda content: content | {"g": {"g1": content["g"]["g1"] | {key: value}}})


def pixels(change):
    def spoil(file):
        values = file[DATA][:]
        change(values)
        file[DATA][...] = values

    return lambda field: field.hdf5(spoil)


def meta(change):
    return lambda field: field.json(change, "meta.json")


def become(name, kind):
    return lambda field: field.become(name, kind)


def huge_psf(field):
    field.hdf5(_huge)


def _huge(file):
    del file["g/g1/psf"]
    file.create_dataset("g/g1/psf", (30_000, 30_000), "f8", chunks=(1000, 1000))


OF_PIXELS = [
    *(
        Row(f"pixels {kind}", become("pixels.h5", kind), said)
        for kind, said in (
            ("absent", "pixels.h5: no such file, expected a pixel store"),
            ("folder", "pixels.h5: found a folder, expected a pixel store"),
            ("pipe", "pixels.h5: found a named pipe, expected a pixel store"),
            ("empty", "pixels.h5: cannot be read as HDF5"),
            ("noise", "pixels.h5: cannot be read as HDF5"),
            ("text", "pixels.h5: cannot be read as HDF5"),
        )
    ),
    Row("pixels cut", lambda field: field.cut("pixels.h5"), "pixels.h5: cannot be read as HDF5 (Unable"),
    Row(
        "another HDF5",
        lambda field: field.path("psfs.h5").replace(field.path("pixels.h5")),
        "pixels.h5: no attribute super_pixel_size",
    ),
    Row(
        "size text",
        attribute("super_pixel_size", "eight", "/"),
        "pixels.h5: super_pixel_size is 'eight', expected 1 to 4096",
    ),
    Row(
        "size zero", attribute("super_pixel_size", 0, "/"), "pixels.h5: super_pixel_size is 0, expected 1 to"
    ),
    Row("size huge", attribute("super_pixel_size", 10**9, "/"), "pixels.h5: super_pixel_size is 1000000000"),
    Row(
        "size of two",
        attribute("super_pixel_size", [8, 8], "/"),
        "pixels.h5: super_pixel_size is [8, 8], expected 1",
    ),
    Row("index a group", instead("index", h5py.Group), "pixels.h5: dataset index is"),
    Row("index a number", instead("index", 3.0), "pixels.h5: dataset index is"),
    Row(
        "index text",
        instead("index", np.frombuffer(b"{", dtype=np.uint8)),
        f"{INDEX}: cannot be read (Expecting property name enclosed in double quotes",
    ),
    Row("index a list", index(lambda content: [1]), f"{INDEX}: the bands: found a list, expected a mapping"),
    Row(
        "index of lists", index(lambda content: {"g": [1]}), f"{INDEX}: the exposures of band g: found a list"
    ),
    Row("index empty", index(lambda content: {}), "pixels.h5: found no exposure, expected datasets"),
    Row("index of no shape", index(lambda content: {"g": {"g1": {}}}), INDEX_G1 + "{}, expected image_shape"),
    Row("index of text", of_entry("image_shape", ["a", 1]), INDEX_G1 + "{'image_shape': ['a', 1]"),
    Row("index of three", of_entry("image_shape", [1, 1, 1]), INDEX_G1 + "{'image_shape': [1, 1, 1]"),
    Row("index below zero", of_entry("image_shape", [-1, 1]), INDEX_G1 + "{'image_shape': [-1, 1]"),
    Row(
        "index of no circle",
        of_entry("footprint", [1]),
        INDEX_G1 + "{'image_shape': [24, 24], 'footprint': [1]",
    ),
    Row(
        "index checksum",
        attribute("crc32", 1, "index"),
        "pixels.h5: dataset index differs from its own checksum",
    ),
    Row("checksum text", of_entry("header_crc32", "a"), INDEX_G1 + "{'image_shape': [24, 24]"),
    Row(
        "other exposure",
        index(lambda c: c | {"g": {"g2": c["g"]["g1"]}}),
        "meta.json: no exposure 'g2' of band g",
    ),
    Row("no data", without(DATA), G1 + "no dataset g/g1/data in the file, expected it"),
    Row("data a group", unindexed(instead(DATA, h5py.Group)), "pixels.h5: no exposure 'g1' of band g"),
    Row("data a number", unindexed(instead(DATA, 3.0)), G1 + "data has shape (), expected"),
    Row(
        "data integers",
        unindexed(instead(DATA, np.zeros((3, 3, 128), int))),
        G1 + "data are int64, expected float32",
    ),
    Row(
        "data flat",
        unindexed(instead(DATA, np.zeros((3, 3), "f4"))),
        G1 + "data has shape (3, 3), expected (nx / 8,",
    ),
    Row(
        "link", unindexed(instead(DATA, h5py.SoftLink("/r/r1/data"))), "pixels.h5: no exposure 'g1' of band g"
    ),
    Row(
        "indexed link",
        instead(DATA, h5py.SoftLink("/r/r1/data")),
        G1 + "g/g1/data leads over a link to /r/r1/data",
    ),
    Row(
        "link out",
        instead(DATA, h5py.ExternalLink("psfs.h5", "/g")),
        G1 + "g/g1/data leads over a link to /g",
    ),
    Row(
        "link of a band",
        instead("g", h5py.SoftLink("/r")),
        G1 + "g/g1/gwcs leads over a link to /r, expected it",
    ),
    Row("psf a group", instead("g/g1/psf", h5py.Group), G1 + "g/g1/psf is a group, expected a dataset"),
    Row("psf huge", huge_psf, G1 + "dataset /g/g1/psf declares 7.2 GB, of which the file holds 0 bytes"),
    Row(
        "no includes_pixel",
        lambda f: f.hdf5(lambda file: file["g/g1/psf"].attrs.__delitem__("includes_pixel")),
        G1 + "psf has includes_pixel = None",
    ),
    Row(
        "includes text", attribute("includes_pixel", "yes", "g/g1/psf"), G1 + "psf has includes_pixel = 'yes'"
    ),
    Row("psf checksum", attribute("crc32", 1, "g/g1/psf"), G1 + "psf differs from its own checksum"),
    Row(
        "NaN",
        pixels(lambda values: values.__setitem__((0, 0, 0), np.nan)),
        G1 + "found values that are not finite",
    ),
    Row(
        "negative error",
        pixels(lambda values: values.__setitem__((0, 0, 127), -1)),
        G1 + "found values that are not",
    ),
    Row(
        "other pixels",
        pixels(lambda values: values.__setitem__((0, 0, 0), 9.0)),
        G1 + "found checksum 3773238495, expected 202023044: pixels have changed",
    ),
    Row(
        "no weight",
        pixels(lambda values: values.__setitem__(np.s_[..., 64:], 0)),
        G1 + "found checksum 2900170708, expected 202023044: pixels have changed",
    ),
    Row("n_weighted", attribute("n_weighted", 3), G1 + "found 576 pixels with weight, expected 3"),
    Row(
        "n_weighted text",
        attribute("n_weighted", "all"),
        G1 + "data has n_weighted = 'all', expected an integer",
    ),
    Row("crc text", attribute("data_crc32", "all"), G1 + "data has data_crc32 = 'all', expected an integer"),
    Row(
        "factor text",
        attribute("counts_to_flux", "one"),
        G1 + "data has counts_to_flux = 'one', expected a number",
    ),
    Row(
        "factors",
        attribute("counts_to_flux", [1.0, 2.0]),
        G1 + "data has counts_to_flux = array([1., 2.]), expected a number",
    ),
    Row(
        "shape",
        unindexed(attribute("image_shape", [99, 9])),
        G1 + "image_shape is (99, 9), expected at most (24, 24)",
    ),
    Row("shape text", unindexed(attribute("image_shape", "large")), G1 + "cannot be read as HDF5"),
    Row(
        "circle",
        unindexed(attribute("footprint", [1.0])),
        G1 + "footprint is [1.0], expected ra, dec and a radius",
    ),
]
OF_META = [
    *(
        Row(f"meta {kind}", become("meta.json", kind), said)
        for kind, said in (
            ("absent", "meta.json: no such file, expected a meta store (JSON)"),
            ("folder", "meta.json: found a folder, expected a meta store (JSON)"),
            ("pipe", "meta.json: found a named pipe, expected a meta store (JSON)"),
            ("empty", "meta.json: cannot be read"),
            ("noise", "meta.json: cannot be read"),
            ("text", "meta.json: cannot be read"),
        )
    ),
    Row("meta cut", lambda field: field.cut("meta.json"), "meta.json: cannot be read"),
    Row(
        "meta deep",
        lambda field: field.write("meta.json", 100_000 * "["),
        "meta.json: cannot be read (nested too deeply), expected a meta",
    ),
    Row("meta a list", meta(lambda content: [1]), "meta.json: not a meta store, expected headers as strings"),
    Row("meta a number", meta(lambda content: 1), "meta.json: not a meta store, expected headers as strings"),
    Row("meta null", meta(lambda content: None), "meta.json: not a meta store, expected headers as strings"),
    Row(
        "meta of numbers",
        meta(lambda content: {"g": {"g1": 1}}),
        "meta.json: not a meta store, expected headers as strings",
    ),
    Row(
        "meta of lists",
        meta(lambda content: {"g": ["g1"]}),
        "meta.json: not a meta store, expected headers as strings",
    ),
    Row("meta empty mapping", meta(lambda content: {}), "meta.json: no exposure 'g1' of band g"),
    Row(
        "meta without one", meta(lambda content: {"g": content["g"]}), "meta.json: no exposure 'r1' of band r"
    ),
    Row("meta with one more", meta(lambda c: c | {"z": c["g"]}), "pixels.h5: no exposure 'g1' of band z"),
    Row(
        "other header",
        meta(lambda c: c | {"g": {"g1": c["g"]["g1"] + " "}}),
        "meta.json: header of exposure 'g1' of band g differs from the one that",
    ),
    Row(
        "header of another",
        meta(lambda c: c | {"g": {"g1": c["r"]["r1"]}}),
        "meta.json: header of exposure 'g1' of band g differs from the one that",
    ),
]


@pytest.mark.parametrize("row", OF_PIXELS + OF_META, ids=[row.name for row in OF_PIXELS + OF_META])
def test_store(stored, row):
    row.spoil(stored)
    stored.refused(said=[[row.said]])


JOURNAL = "pixels.h5.building.jsonl"
DAMAGED = (
    "damaged, expected the journal of a store in the making (`fphojax preprocess --overwrite` begins anew)"
)


class Journal(NamedTuple):
    name: str
    spoil: Callable  # its three lines
    said: str  # the line behind "pixels.h5.building", or its beginning


JOURNALS = [
    Journal(
        "other recipe",
        lambda lines: [lines[0].replace(b"super_pixel_size", b"super_pixel_sise"), *lines[1:]],
        f".jsonl: line 1 is {DAMAGED}",
    ),
    Journal(
        "first line gone", lambda lines: lines[1:], ": was begun with other settings (calibration: None, now"
    ),
    Journal(
        "other header",
        lambda lines: [lines[0], lines[1].replace(b"CRVAL1", b"CRVAL3"), lines[2]],
        f".jsonl: line 2 is {DAMAGED}",
    ),
    Journal(
        "other value",
        lambda lines: [lines[0], lines[1].replace(b"150.0", b"151.0"), lines[2]],
        f".jsonl: line 2 is {DAMAGED}",
    ),
    Journal("a list", lambda lines: [lines[0], b"[1, 2]", lines[2]], f".jsonl: line 2 is {DAMAGED}"),
    Journal("a number", lambda lines: [b"3", *lines[1:]], f".jsonl: line 1 is {DAMAGED}"),
    Journal("bytes", lambda lines: [lines[0], b"\xff\xfe", lines[2]], f".jsonl: line 2 is {DAMAGED}"),
    Journal("deep", lambda lines: [lines[0], 100_000 * b"[", lines[2]], f".jsonl: line 2 is {DAMAGED}"),
]


@pytest.mark.parametrize("row", JOURNALS, ids=[row.name for row in JOURNALS])
def test_journal(stored, row):
    """That of a build which was stopped after two of two images."""
    unfinished(stored)
    lines = stored.path(JOURNAL).read_bytes().splitlines()
    assert len(lines) == 3
    spoiled = row.spoil(lines)
    assert spoiled != lines
    stored.write(JOURNAL, b"".join(line + b"\n" for line in spoiled))
    stored.refused("preprocess", "{}/field.yml", "--quiet", said=[[f"pixels.h5.building{row.said}"]])


def unfinished(field):
    """A build that has all images, and is not finished."""
    for name in ("pixels.h5", "meta.json"):
        field.path(name).unlink()
    whole = field.path("g1.fits").read_bytes()
    field.write("bad.fits", whole[:3000])
    field.set(fitsfiles=["g1.fits", "r1.fits", "bad.fits"])
    assert field.call("preprocess", "{}/field.yml", "--quiet").exit_code == 2
    assert field.path(JOURNAL).is_file()


@pytest.mark.parametrize(
    ("stores", "key"),
    [
        ({"pixelstorefile": "g1.fits", "metastorefile": "meta.json"}, "pixelstorefile"),
        ({"pixelstorefile": "pixels.h5", "metastorefile": "field.yml"}, "metastorefile"),
        ({"pixelstorefile": "link.h5", "metastorefile": "meta.json"}, "pixelstorefile"),
        ({"pixelstorefile": "pixels.h5", "metastorefile": "peaks.ecsv"}, "metastorefile"),
    ],
)
def test_stores_do_not_take_the_place_of_inputs(tiny, stores, key):
    tiny.path("link.h5").symlink_to(tiny.path("r1.fits"))
    tiny.set(**stores)
    for options in ((), ("--overwrite",)):
        said = [[f"field.yml: {key}: found {stores[key]}, which is one of the inputs, expected another file"]]
        tiny.refused("preprocess", "{}/field.yml", "--quiet", *options, said=said)


def test_both_stores_in_one_file(tiny):
    tiny.set(pixelstorefile="pixels.h5", metastorefile="pixels.h5")
    tiny.refused(said=[["field.yml: metastorefile: found pixels.h5 for both, expected another file"]])


def test_stores_that_would_be_made_otherwise_now_are_named(stored):
    """They are used as they are, as their images may be gone; who changes a setting or an image is told."""
    stored.set(bitmask=4)
    result = stored.call("check", "{}/field.yml")
    assert result.exit_code == 0
    assert f"note: {stored.path('pixels.h5')}: was made with other settings (bitmask" in result.stdout
    stored.set(bitmask=None)
    assert "was made" not in stored.call("check", "{}/field.yml").stdout
    stored.fits(lambda hdus: hdus["SCI"].header.update(OBJECT="changed"))
    result = stored.call("check", "{}/field.yml")
    assert result.exit_code == 0
    assert (
        f"note: {stored.path('pixels.h5')}: was made of other images (1 are new or changed" in result.stdout
    )
