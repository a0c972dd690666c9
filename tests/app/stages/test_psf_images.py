"""PSF images in FITS files: sampling and pixel response as the headers say, and what is said of the rest."""

import numpy as np
import pytest
from astropy.io import fits

from fphojax.app.stages.psf_images import read_psf_image
from fphojax.errors import InputError

IMAGE = np.exp(-0.5 * (np.mgrid[-10:11, -10:11] ** 2).sum(axis=0) / 4.0)


def plain(path, **header):
    fits.PrimaryHDU(IMAGE, fits.Header(header)).writeto(path)
    return path


@pytest.fixture
def webbpsf(tmp_path):
    """Extensions and keywords as WebbPSF (STPSF) writes them."""
    hdus = [fits.PrimaryHDU(np.ones((8, 8)) / 64)]
    hdus += [fits.ImageHDU(np.full(shape, 1 / shape[0] ** 2)) for shape in ((2, 2), (8, 8), (2, 2))]
    for hdu, name in zip(hdus, ("OVERSAMP", "DET_SAMP", "OVERDIST", "DET_DIST"), strict=True):
        fine = name.startswith("OVER")
        hdu.header.update(EXTNAME=name, OVERSAMP=4 if fine else 1, DET_SAMP=4, FILTER="F200W")
        hdu.header["PIXELSCL"] = 0.00775 if fine else 0.031
    fits.HDUList(hdus).writeto(tmp_path / "webbpsf.fits")
    return tmp_path / "webbpsf.fits"


@pytest.mark.parametrize(
    ("extension", "label", "oversample", "includes_pixel"),
    [
        (None, "OVERSAMP", 4, False),
        ("OVERDIST", "OVERDIST", 4, False),
        ("DET_SAMP", "DET_SAMP", 1, True),
        ("det_dist", "det_dist", 1, True),
        (1, "1", 1, True),
        (0, "0", 4, False),
    ],
)
def test_webbpsf_extensions(webbpsf, extension, label, oversample, includes_pixel):
    found = read_psf_image(webbpsf, band="F200W", extension=extension)
    assert (found.extension, found.oversample, found.sampling_by) == (label, oversample, "OVERSAMP")
    assert found.includes_pixel is includes_pixel
    assert found.pixel_by == ("native scale" if includes_pixel else "oversampled")
    assert found.values.shape == ((2, 2) if oversample == 1 else (8, 8))
    others = "extension OVERSAMP was taken; others: DET_SAMP, OVERDIST, DET_DIST (--extension)"
    assert found.notes == ((others,) if extension is None else ())


@pytest.mark.parametrize(
    ("header", "options", "oversample", "by", "note"),
    [
        ({"OVERSAMP": 3}, {}, 3, "OVERSAMP", None),
        ({"OVERSAMP": 1.0}, {}, 1, "OVERSAMP", None),
        ({"OVERSAMP": 4}, {"oversample": 2.0}, 2, "given", "OVERSAMP is 4 in the header, 2 by --oversample"),
        ({"OVERSAMP": 4}, {"oversample": 4.0}, 4, "given", None),
        ({}, {"oversample": 2.0}, 2, "given", None),
        (
            {},
            {},
            1,
            "assumed",
            "no OVERSAMP in the header, nor a pixel scale: taken at the pixel scale of the",
        ),
        ({"PIXELSCL": 0.015}, {}, 1, "assumed", "only PIXELSCL (0.015 arcsec): taken at the pixel scale"),
        ({"PIXELSCL": 0.01551}, {"pixel_scale": 0.031}, 2, "PIXELSCL", None),
        ({"PIXELSCL": 0.031}, {"pixel_scale": 0.0312}, 1, "PIXELSCL", None),
        ({"PIXELSCL": 0.012}, {"pixel_scale": 0.03}, 2.5, "PIXELSCL", None),
        (
            {"PIXELSCL": 0.0075, "OVERSAMP": 4},
            {"pixel_scale": 0.06},
            8,
            "PIXELSCL",
            "OVERSAMP is 4 in the header, 8 by --pixel-scale and PIXELSCL was taken",
        ),
        (
            {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -5e-6, "CDELT2": 5e-6},
            {"pixel_scale": 0.036},
            2,
            "WCS",
            None,
        ),
    ],
)
def test_sampling(tmp_path, header, options, oversample, by, note):
    found = read_psf_image(plain(tmp_path / "a.fits", **header), band="F", **options)
    assert (found.oversample, found.sampling_by) == (oversample, by)
    assert len(found.notes) == (note is not None)
    assert note is None or note in found.notes[0]


@pytest.mark.parametrize(
    ("header", "given", "includes_pixel", "by"),
    [
        ({}, None, True, "native scale"),
        ({"OVERSAMP": 2}, None, False, "oversampled"),
        ({"OVERSAMP": 2, "PIXRESP": True}, None, True, "PIXRESP"),
        ({"PIXRESP": False}, None, False, "PIXRESP"),
        ({"PIXRESP": False}, True, True, "given"),
    ],
)
def test_pixel_response(tmp_path, header, given, includes_pixel, by):
    found = read_psf_image(plain(tmp_path / "a.fits", **header), band="F", includes_pixel=given)
    assert (found.includes_pixel, found.pixel_by) == (includes_pixel, by)


def test_a_header_without_an_image_speaks_for_its_extensions(tmp_path):
    primary = fits.PrimaryHDU(header=fits.Header({"OVERSAMP": 2, "EXPID": "e7", "FILTER": "F090W"}))
    fits.HDUList([primary, fits.ImageHDU(IMAGE)]).writeto(tmp_path / "a.fits")
    found = read_psf_image(tmp_path / "a.fits", band="F115W")
    assert (found.oversample, found.name) == (2, "e7")
    assert found.notes == ("FILTER is F090W, taken as the PSF of band F115W",)


def cube(path):
    fits.PrimaryHDU(np.ones((3, 9, 9))).writeto(path)


def psf_cube(path):
    """The image beside it is not the PSF."""
    fits.HDUList([fits.PrimaryHDU(IMAGE), fits.ImageHDU(np.ones((3, 9, 9)), name="PSF")]).writeto(path)


def table(path):
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(name="PSF")]).writeto(path)


BAD = {
    "OVERSAMP text": ({"OVERSAMP": "4"}, {}, "OVERSAMP = '4', expected a positive number"),
    "OVERSAMP zero": ({"OVERSAMP": 0}, {}, "OVERSAMP = 0, expected a positive number"),
    "OVERSAMP negative": ({"OVERSAMP": -4}, {}, "OVERSAMP = -4, expected a positive number"),
    "OVERSAMP true": ({"OVERSAMP": True}, {}, "OVERSAMP = True, expected a positive number"),
    "OVERSAMP below 1": (
        {"OVERSAMP": 0.5},
        {},
        "0.5 pixels per pixel of the exposures (by OVERSAMP), expected 1",
    ),
    "coarser than exposures": (
        {"PIXELSCL": 0.06},
        {"pixel_scale": 0.03},
        "has 0.5 pixels per pixel of the exposures (by PIXELSCL), expected 1 or more",
    ),
    "PIXELSCL text": (
        {"PIXELSCL": "0.03 arcsec"},
        {},
        "PIXELSCL = '0.03 arcsec', expected a positive number",
    ),
    "no scale to compare": ({}, {"pixel_scale": 0.03}, "has neither PIXELSCL nor a WCS, expected one"),
    "PIXRESP text": ({"PIXRESP": "yes"}, {}, "PIXRESP = 'yes', expected T or F"),
    "cube": (cube, {}, "PRIMARY of 3 axes, expected a PSF extension or an image of two dimensions"),
    "cube beside an image": (psf_cube, {}, "extension PSF has 3 axes, expected an image of two dimensions"),
    "table": (table, {}, "no image, expected a PSF extension or an image of two dimensions"),
    "no such extension": ({}, {"extension": "DET_SAMP"}, "no extension DET_SAMP, found PRIMARY"),
    "no such number": ({}, {"extension": 3}, "no extension 3, found PRIMARY"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_in_one_line(kind, tmp_path):
    make, options, words = BAD[kind]
    path = tmp_path / "a.fits"
    make(path) if callable(make) else plain(path, **make)
    with pytest.raises(InputError) as caught:
        read_psf_image(path, band="F", **options)
    message = str(caught.value)
    print(message)
    assert message.startswith(f"{path}: ")
    assert words in message
    assert "\n" not in message
