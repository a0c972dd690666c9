"""GALFIT's conventions against their definitions, on images that are turned and mirrored; its kinds of files."""

import galsim
import numpy as np
import pytest
from astropy.io import fits
from other_programs import SHAPE, end_on_sky, turned_wcs, write_image
from scipy.integrate import quad

import fphojax as fp
from fphojax import InputError, convert_catalog
from fphojax.inputs.galfit import read_galfit
from fphojax.inputs.projection import rendered

FEEDME = """
===============================================================================
# IMAGE and GALFIT CONTROL PARAMETERS
A) image.fits[1:80,1:80]  # Input data image (FITS file)
B) imgblock.fits       # Output data image block
J) 25.0                # Magnitude photometric zeropoint
K) 0.06  0.06          # Plate scale (dx dy)   [arcsec per pixel]
P) 0                   # Choose: 0=optimize, 1=model, 2=imgblock, 3=subcomps

# Component number: 1
 0) sersic                 #  Component type
 1) 30.5000  41.2500 1 1   #  Position x, y
 3) 22.5000     1          #  Integrated magnitude
 4) 6.0000      1          #  R_e (effective radius)   [pix]
 5) 2.3000      1          #  Sersic index n (de Vaucouleurs n=4)
 6) 0.0000      0          #     -----
 7) 0.0000      0          #     -----
 8) 0.0000      0          #     -----
 9) 0.4000      1          #  Axis ratio (b/a)
10) 25.0000     0          #  Position angle (PA) [deg: Up=0, Left=90]
 F1) 0.05 30.0  1 1        #  Fourier mode
 Z) 0                      #  Skip this model in output image?  (yes=1, no=0)

 0) sky
 1) 0.3      1
 Z) 0

 0) expdisk
 1) 60  20   1 1
 3) 23.9     1
 4) 3.0      1
 9) 0.5      1
10) -40      1
 Z) 0

 0) psf
 1) 12  13   1 1
 3) 21.4     1
 Z) 0

 0) sersic
 1) 33 34 1 1
 3) 24 1
 4) 2 1
 5) 4 0
 9) 1.0 1
10) 0 1
"""
GALAXY = """A) none
J) 25
0) sersic
1) 47.3 38.6 1 1
3) 23.9 1
4) 8 1
5) 1.5 1
9) 0.4 1
10) 25 1
"""
HEADER = {
    "DATAIN": "image.fits",
    "MAGZPT": 25.0,
    "COMP_1": "sersic",
    "1_XC": "30.5000 +/- 0.0029",
    "1_YC": "41.2500 +/- 0.0034",
    "1_MAG": "22.5000 +/- 0.0100",
    "1_RE": "*6.0000* +/- *0.0150*",
    "1_N": "2.3000 +/- 0.02",
    "1_AR": "0.4000 +/- 0.0015",
    "1_PA": "[25.0000]",
    "COMP_2": "sky",
    "2_SKY": "0.3000 +/- 0.0003",
    "COMP_3": "sersic",
    "3_XC": "33.0000 +/- 0.1",
    "3_YC": "34.0000 +/- 0.1",
    "3_MAG": "{24.0000}",
    "3_RE": "2.0000 +/- 0.1",
    "3_N": "[4.0000]",
    "3_AR": "1.0000 +/- 0.1",
    "3_PA": "0.0000 +/- 0.1",
}


@pytest.fixture
def feedme(tmp_path):
    write_image(tmp_path / "image.fits", turned_wcs())
    path = tmp_path / "galfit.feedme"
    path.write_text(FEEDME)
    return path


def write_block(path, header):
    images = [fits.ImageHDU(np.zeros((4, 4), np.float32)) for _ in range(3)]
    images[1].header.update(header)
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path)
    return path


@pytest.mark.parametrize(("angle", "mirrored", "stretch"), [(0, False, 1), (35, False, 1), (-110, True, 1)])
@pytest.mark.parametrize("pa", [25.0, -70.0])
def test_major_axis_where_galfit_has_it(tmp_path, angle, mirrored, stretch, pa):
    """Its end is R_e pixels from the centre, PA degrees from up towards the left."""
    wcs = turned_wcs(angle, mirrored=mirrored, stretch=stretch)
    write_image(tmp_path / "image.fits", wcs)
    (tmp_path / "f").write_text(FEEDME.replace("10) 25.0000", f"10) {pa}"))
    catalog, _ = convert_catalog(tmp_path / "f", "r")
    ra, dec = wcs.wcs_pix2world(30.5, 41.25, 1)
    assert (catalog.ra[0], catalog.dec[0]) == pytest.approx((float(ra), float(dec)), abs=1e-10)
    up_left = -6 * np.sin(np.deg2rad(pa)), 6 * np.cos(np.deg2rad(pa))
    length, direction = end_on_sky(wcs, 30.5, 41.25, *up_left)
    assert catalog.rhalf[0] / np.sqrt(catalog.q[0]) == pytest.approx(length, rel=1e-4)
    assert catalog.rhalf[0] == pytest.approx(6 * 0.06 * np.sqrt(0.4), rel=1e-3)
    assert catalog.q[0] == pytest.approx(0.4, rel=1e-3)
    assert (catalog.pa[0] - direction + 90) % 180 - 90 == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("angle", "mirrored"), [(35, False), (-110, True)])
def test_the_model_is_the_image_that_galfit_means(tmp_path, angle, mirrored):
    """Rendered here, against GalSim in pixels: sheared along an axis PA degrees from up towards the left."""
    wcs = turned_wcs(angle, mirrored=mirrored)
    image = write_image(tmp_path / "image.fits", wcs)
    (tmp_path / "f").write_text(GALAXY)
    catalog, _ = convert_catalog(tmp_path / "f", "r", image=image)
    exposure = fp.Exposure.from_arrays(np.zeros(SHAPE), np.ones(SHAPE), wcs, band="r", name="e")
    psfs = fp.PSFStore()
    psfs.add(fp.PSFMixture.gaussian(2.5), "r")
    frame = fp.cut([exposure], fp.CircularRegion(catalog.ra[0], catalog.dec[0], 2.0))
    found = frame.image(0, rendered(catalog, frame, psfs, fp.load_sersic_table()))
    profile = galsim.Sersic(n=1.5, half_light_radius=8 * np.sqrt(0.4), flux=1000)
    profile = profile.shear(q=0.4, beta=(25 + 90) * galsim.degrees)
    offset = np.array([47.3, 38.6]) - (np.array(SHAPE[::-1]) + 1) / 2
    expected = (
        galsim.Convolve(profile, galsim.Gaussian(fwhm=2.5))
        .drawImage(nx=SHAPE[1], ny=SHAPE[0], scale=1, offset=tuple(offset), method="no_pixel", dtype=float)
        .array
    )
    inside = np.isfinite(found)
    difference = np.abs(found - expected)[inside].max() / expected.max()
    print(f"largest difference: {difference:.4f} of the peak")
    assert difference < 0.0005


def test_upright_images_keep_the_angle(tmp_path):
    write_image(tmp_path / "image.fits", turned_wcs(0))
    (tmp_path / "f").write_text(FEEDME)
    catalog, _ = convert_catalog(tmp_path / "f", "r")
    assert catalog.pa[[0, 2]].tolist() == pytest.approx([25, 0], abs=0.02)
    assert catalog.pa[1] == pytest.approx(-40, abs=0.02)


def test_oblong_pixels(tmp_path):
    """A round source in pixels that are twice as wide as high is an ellipse along the rows."""
    wcs = turned_wcs(0, stretch=2.0)
    write_image(tmp_path / "image.fits", wcs)
    (tmp_path / "f").write_text(FEEDME.replace("0.4000      1", "1.0      1"))
    catalog, _ = convert_catalog(tmp_path / "f", "r")
    assert catalog.q[0] == pytest.approx(0.5, rel=1e-6)
    assert abs(catalog.pa[0]) == pytest.approx(90, abs=0.02)
    assert catalog.rhalf[0] == pytest.approx(6 * 0.06 * np.sqrt(2), rel=1e-6)


def test_fluxes_and_profiles(feedme):
    catalog, notes = convert_catalog(feedme, "F200W")
    assert catalog.id.tolist() == [1, 3, 4, 5]
    assert catalog["profile"].tolist() == ["sersic", "exponential", "point", "devaucouleurs"]
    assert catalog.sersic.tolist() == [2.3, 1.0, 1.0, 4.0]
    assert catalog.flux[:, 0] == pytest.approx(
        [3631e9 * 10 ** (-0.4 * m) for m in (22.5, 23.9, 21.4, 24)], rel=2e-4
    )
    assert catalog.flux[1, 0] == pytest.approx(1000)  # 23.9 is a microjansky
    assert catalog.flux_err is None
    assert catalog.rhalf[2] == 0
    assert catalog.roi[2] == pytest.approx(0.6, rel=1e-3)  # ten pixels
    assert notes == (
        f"{feedme}: component 1 (sersic): pa held in GALFIT, free here within the bounds",
        f"{feedme}: component 1 (sersic): F1 left out, only the ellipse is taken over",
        f"{feedme}: component 2 (sky) left out: the setting nuisance fits the sky",
    )


def test_half_light_radius_of_a_disc(feedme):
    """Half of the light of exp(-r / R_s) lies within `rhalf` of the circle of the same area."""
    catalog, _ = convert_catalog(feedme, "r")
    radius = catalog.rhalf[1] / (0.06 * np.sqrt(0.5)) / 3.0
    assert quad(lambda r: r * np.exp(-r), 0, radius)[0] == pytest.approx(0.5, rel=1e-3)


def test_gaussian_width(tmp_path, feedme):
    text = FEEDME.replace(" 0) expdisk", " 0) gaussian")
    feedme.write_text(text)
    catalog, notes = convert_catalog(feedme, "r")
    assert catalog.rhalf[1] == pytest.approx(1.5 * 0.06 * np.sqrt(0.5), rel=1e-3)
    assert catalog.sersic[1] == 0.5
    assert "sersic_range" in notes[-1]


def test_another_zero_point(feedme):
    catalog, _ = convert_catalog(feedme, "r", zero_points=27.5)
    assert catalog.flux[1, 0] == pytest.approx(100)


def test_block_of_images(tmp_path, feedme):
    block = write_block(tmp_path / "imgblock.fits", HEADER)
    catalog, notes = convert_catalog(block, "r")
    text, _ = convert_catalog(feedme, "r")
    for name in ("ra", "dec", "q", "pa", "sersic", "rhalf"):
        np.testing.assert_allclose(getattr(catalog, name), getattr(text, name)[[0, 3]], rtol=1e-12)
    assert catalog.id.tolist() == [1, 3]
    assert catalog["profile"].tolist() == ["sersic", "devaucouleurs"]
    assert [note.removeprefix(f"{block}: ") for note in notes] == [
        "component 1 (sersic): pa held in GALFIT, free here within the bounds",
        "component 1 (sersic): radius marked by GALFIT as unreliable (*)",
        "component 2 (sky) left out: the setting nuisance fits the sky",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "0) psf",
            "0) king",
            r"galfit\.feedme: component 4 is king, expected one of sersic, devauc, .*, or sky",
        ),
        ("22.5000     1", "22.5,23 1", r"component 1 \(sersic\): 3\) is '22\.5,23 1', expected a number"),
        (
            " 8) 0.0000      0",
            " 8) 0.4 1",
            r"component 1 \(sersic\): 8\) is 0\.4 1, expected the layout of GALFIT 3",
        ),
        (" 9) 0.5      1", "", r"component 3 \(expdisk\): no q, expected a number"),
        ("J) 25.0", "J) none", r"J\) is none, expected the zero point of the magnitudes"),
    ],
)
def test_files_that_cannot_be_read(feedme, old, new, message):
    assert old in FEEDME
    feedme.write_text(FEEDME.replace(old, new))
    with pytest.raises(InputError, match=message):
        read_galfit(feedme, zero_point=25.0)


def test_blocks_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="no keyword COMP_1 in its headers"):
        read_galfit(write_image(tmp_path / "image.fits", turned_wcs()))
    block = write_block(tmp_path / "block.fits", HEADER | {"1_MAG": "nothing"})
    with pytest.raises(InputError, match=r"block\.fits: 1_MAG is 'nothing', expected a number"):
        read_galfit(block)


def test_a_card_that_cannot_be_parsed(tmp_path):
    block = write_block(tmp_path / "block.fits", HEADER)
    block.write_bytes(block.read_bytes().replace(b"1_MAG   = '22", b"1_MAG   = a22"))
    with pytest.raises(InputError, match=r"block\.fits: cannot be read as FITS \(Unparsable card \(1_MAG\)"):
        convert_catalog(block, "r")
