"""PSF images, options of `fphojax psf` and PSF stores that are refused."""

from collections.abc import Callable
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from astropy.io import fits

OUT = "{}/p.h5"


class Row(NamedTuple):
    name: str
    options: list  # of `fphojax psf {}/psf.fits --band g --out {}/p.h5`
    said: str  # the beginning of the line
    spoil: Callable | None = None  # the HDUs of psf.fits


class Entry(NamedTuple):
    name: str
    spoil: Callable  # the file psfs.h5
    said: str  # the line behind the name of the file, or its beginning


def header(**cards):
    return lambda hdus: hdus[0].header.update(cards)


def pixels(change):
    def spoil(hdus):
        hdus[0].data = change(hdus[0].data)

    return spoil


IMAGES = [
    Row(
        "location of two",
        ["{}/psf.fits", "--location", 1, 2],
        "--location: found 2 images, expected a single one",
    ),
    Row("location NaN", ["--location", "nan", 2], "--location: found nan 2.0, expected finite pixels"),
    Row(
        "two scales",
        ["--oversample", 2, "--pixel-scale", 0.1],
        "--pixel-scale: found --oversample 2 beside it, expected one of them",
    ),
    Row("scale inf", ["--pixel-scale", "inf"], "--pixel-scale: found inf, expected arcsec"),
    Row(
        "no scale",
        ["--pixel-scale", 0.1],
        "psf.fits: extension PRIMARY has neither PIXELSCL nor a WCS, expected one",
    ),
    Row(
        "no whole sampling",
        ["--oversample", 2.5],
        "psf.fits: oversample is 2.5, expected a whole number >= 1",
    ),
    Row(
        "large sampling",
        ["--oversample", 20, "--no-includes-pixel"],
        "psf.fits: shape is (31, 31) at 20 pixels per native pixel, expected 3",
    ),
    Row("no Gaussian", ["--ngauss", 0], "psf.fits: n_gauss is 0, expected 1 to 64"),
    Row("many Gaussians", ["--ngauss", 1000], "psf.fits: n_gauss is 1000, expected 1 to 64"),
    Row(
        "all negative",
        ["--ngauss", 2, "--negative", 2],
        "psf.fits: n_negative is 2, expected 0 to n_gauss - 1",
    ),
    Row("extension", ["--extension", "DET_SAMP"], "psf.fits: no extension DET_SAMP, found PRIMARY"),
    Row("extension 7", ["--extension", 7], "psf.fits: no extension 7, found PRIMARY"),
    Row(
        "figures in a file", ["--figures", "{}/g1.fits/f"], "--figures: g1.fits is a file, expected a folder"
    ),
    Row(
        "same image twice",
        ["{}/psf.fits"],
        "psf.fits: found another PSF of band g, exposure psf, expected one",
    ),
    Row("other image absent", ["{}/none.fits"], "none.fits: no such file, expected a FITS image"),
    Row("catalogue", ["{}/peaks.fits"], "peaks.fits: no image, expected a PSF extension or an image"),
    Row("noise", ["{}/noise.fits"], "noise.fits: cannot be read as FITS (it does not begin with"),
    Row(
        "OVERSAMP text",
        [],
        "psf.fits: extension PRIMARY has OVERSAMP = 'two', expected a positive",
        header(OVERSAMP="two"),
    ),
    Row(
        "OVERSAMP negative",
        [],
        "psf.fits: extension PRIMARY has OVERSAMP = -2, expected a positive",
        header(OVERSAMP=-2),
    ),
    Row(
        "PIXELSCL text",
        ["--pixel-scale", 0.1],
        "psf.fits: extension PRIMARY has PIXELSCL = 'fine', expected",
        header(PIXELSCL="fine"),
    ),
    Row(
        "PIXELSCL coarse",
        ["--pixel-scale", 0.1],
        "psf.fits: extension PRIMARY has 0.25 pixels per pixel of",
        header(PIXELSCL=0.4),
    ),
    Row(
        "PIXRESP text",
        [],
        "psf.fits: extension PRIMARY has PIXRESP = 'yes', expected T or F",
        header(PIXRESP="yes"),
    ),
    Row(
        "NaN",
        [],
        "psf.fits: 31 of 961 unmasked pixels are not finite, expected none",
        pixels(lambda image: image * np.where(np.arange(31) == 3, np.nan, 1)),
    ),
    Row("zeros", [], "psf.fits: all 961 unmasked pixels are zero, expected a PSF", pixels(np.zeros_like)),
    Row("negative", [], "psf.fits: total flux is -15.708, expected a positive one", pixels(np.negative)),
    Row(
        "flat",
        [],
        "psf.fits: smaller than the core of its PSF: mean of the border is 1.00 of",
        pixels(np.ones_like),
    ),
    Row(
        "cube",
        [],
        "psf.fits: PRIMARY of 3 axes, expected a PSF extension or an image",
        pixels(lambda image: image[None]),
    ),
    Row(
        "a row",
        [],
        "psf.fits: shape is (1, 31), expected two axes of at least 5",
        pixels(lambda image: image[:1]),
    ),
    Row(
        "core at the edge",
        [],
        "psf.fits: core is (0.0, 14.2) pixels off the centre",
        pixels(lambda image: np.roll(image, 15, axis=0)),
    ),
    Row("store is an image", ["--out", "{}/g1.fits"], "g1.fits: not an HDF5 file, expected a PSF store"),
    Row("store is a folder", ["--out", "{}"], "{}: found a folder, expected the name of a file"),
    Row("store nowhere", ["--out", "{}/no/p.h5"], "no: no such folder, expected one to write p.h5 to"),
    Row(
        "store below a file",
        ["--out", "{}/g1.fits/p.h5"],
        "g1.fits: no such folder, expected one to write p.h5 to",
    ),
    Row(
        "long name",
        ["--out", "{}/" + 300 * "x"],
        300 * "x" + ": found a name of 300 bytes, expected at most 249",
    ),
    Row(
        "other PSF there",
        ["--out", "{}/psfs.h5"],
        "psfs.h5: has a PSF for band g already, not of psf.fits with these",
    ),
    Row("no band", ["--band", ""], "psf.fits: PSF of '': '' cannot name a group, expected"),
    Row("band with slash", ["--band", "a/b"], "psf.fits: PSF of 'a/b': 'a/b' cannot name a group, expected"),
    Row(
        "band of the layout",
        ["--band", "parameters"],
        "psf.fits: PSF of 'parameters': 'parameters' cannot name a group",
    ),
]


@pytest.fixture
def imaged(tiny):
    """The field with a PSF image of 31 x 31 pixels."""
    square = np.sum((np.indices((31, 31)) - 15) ** 2, axis=0)
    fits.writeto(tiny.path("psf.fits"), np.exp(-square / 5))
    tiny.become("noise.fits", "noise")
    return tiny


@pytest.mark.parametrize("row", IMAGES, ids=[row.name for row in IMAGES])
def test_psf_image(imaged, row):
    if row.spoil is not None:
        imaged.fits(row.spoil, "psf.fits")
    command = ("psf", "{}/psf.fits", "--band", "g", "--out", OUT, "--quiet", *row.options)
    imaged.refused(*command, said=[[row.said.replace("{}", str(imaged.folder))]])


def parameters(change):
    """Other Gaussians of band g."""

    def spoil(file):
        rows = file["g/parameters"][...]
        changed = change(rows)
        del file["g/parameters"]
        file["g/parameters"] = rows if changed is None else changed

    return spoil


def field(name, value):
    return parameters(lambda rows: rows[name].fill(value))


def instead(path, value):
    def spoil(file):
        del file[path]
        if value is not None:
            file[path] = value

    return spoil


def attribute(name, value):
    return lambda file: file["g"].attrs.__setitem__(name, value)


STORES = [
    Entry("no band", instead("g", None), "no PSF for band g, exposure g1; "),
    Entry("band a dataset", instead("g", 3.0), "/g is a dataset, expected a group"),
    Entry("band a link", instead("g", h5py.SoftLink("/r")), "/g is a link to /r, expected the thing itself"),
    Entry("no parameters", instead("g/parameters", None), "/g has no dataset `parameters`, expected one"),
    Entry(
        "parameters a number",
        instead("g/parameters", 3.0),
        "/g/parameters holds float64, expected the fields amp",
    ),
    Entry(
        "parameters text",
        instead("g/parameters", "text"),
        "/g/parameters holds object, expected the fields amp",
    ),
    Entry(
        "parameters a link",
        instead("g/parameters", h5py.SoftLink("/r/parameters")),
        "/g/parameters is a link to /r/parameters, expected",
    ),
    Entry(
        "parameters outside",
        instead("g/parameters", h5py.ExternalLink("x.h5", "/g")),
        "/g/parameters is a link to x.h5 /g, expected",
    ),
    Entry(
        "no Gaussians",
        parameters(lambda rows: rows[:, :0]),
        "/g/parameters has shape (1, 0), expected (locations, Gaussians)",
    ),
    Entry(
        "amplitude NaN", field("amp", np.nan), "/g: PSF mixture: amplitudes holds nan, expected finite values"
    ),
    Entry("amplitude zero", field("amp", 0.0), "/g: PSF mixture: total flux is 0, expected a positive one"),
    Entry("amplitude 100", field("amp", 100.0), "/g: PSF of g: total flux is 100, expected 0.5 to 1.5"),
    Entry(
        "amplitude negative", field("amp", -1.0), "/g: PSF mixture: total flux is -1, expected a positive one"
    ),
    Entry("far off", field("xcen", 50.0), "/g: PSF of g: centroid is (50, 0) pixels off the source"),
    Entry("position inf", field("ycen", np.inf), "/g: PSF mixture: means holds inf, expected finite values"),
    Entry(
        "width zero", field("Cxx", 0.0), "/g: PSF mixture: covariance of Gaussian 0 is (xx, yy, xy) = (0.0,"
    ),
    Entry(
        "width negative",
        field("Cyy", -1.0),
        "/g: PSF mixture: covariance of Gaussian 0 is (xx, yy, xy) = (1.4, -1.0,",
    ),
    Entry(
        "no ellipse",
        field("Cxy", 5.0),
        "/g: PSF mixture: covariance of Gaussian 0 is (xx, yy, xy) = (1.4, 1.4, 5.0)",
    ),
    Entry("width huge", field("Cxx", 1e9), "/g: PSF of g: Gaussian 0 is 1.18 x 3.16e+04 pixels wide (sigma)"),
    Entry(
        "count of Gaussians",
        attribute("n_psf_per_source", 7),
        "/g: attribute n_psf_per_source is 7, expected 1",
    ),
    Entry(
        "includes text",
        attribute("includes_pixel", "maybe"),
        "/g: attribute includes_pixel is 'maybe', expected true or",
    ),
    Entry(
        "positions flat",
        lambda file: file["g"].create_dataset("detector_locations", data=[1.0, 2.0]),
        "/g: detector_locations has shape (2,), expected (1, 2)",
    ),
    Entry(
        "positions NaN",
        lambda f: f["g"].create_dataset("detector_locations", data=[[np.nan, 2.0]]),
        "/g: PSF mixture: detector location is (nan, 2.0), expected",
    ),
    Entry(
        "positions text",
        lambda f: f["g"].create_dataset("detector_locations", data=[[b"a", b"b"]]),
        "/g/detector_locations holds object, expected pixels",
    ),
]


@pytest.mark.parametrize("row", STORES, ids=[row.name for row in STORES])
def test_psf_store(tiny, row):
    tiny.set(psfstorefile="psfs.h5")
    tiny.hdf5(row.spoil, "psfs.h5")
    tiny.refused(said=[[f"psfs.h5: {row.said}"]])
