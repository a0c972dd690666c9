"""SExtractor's conventions against their definitions, on images that are turned and mirrored; its kinds of files."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from other_programs import SHAPE, end_on_sky, turned_wcs, write_image

from fphojax import InputError, convert_catalog
from fphojax.inputs.sextractor import read_sextractor

COLUMNS = {
    "NUMBER": ([4, 9, 11], "Running object number", "I6"),
    "X_IMAGE": ([30.5, 60.0, 12.0], "Object position along x [pixel]", "F10.4"),
    "Y_IMAGE": ([41.25, 20.0, 13.0], "Object position along y [pixel]", "F10.4"),
    "MAG_AUTO": ([22.5, 23.9, 99.0], "Kron-like elliptical aperture magnitude [mag]", "F9.4"),
    "FLUX_AUTO": ([100.0, 10.0, -3.0], "Flux within a Kron-like elliptical aperture [count]", "F9.4"),
    "FLUX_RADIUS": ([6.0, 3.0, 2.0], "Fraction-of-light radii [pixel]", "F9.4"),
    "A_IMAGE": ([5.0, 3.0, 2.0], "Profile RMS along major axis [pixel]", "F9.4"),
    "B_IMAGE": ([2.0, 3.0, 1.0], "Profile RMS along minor axis [pixel]", "F9.4"),
    "THETA_IMAGE": ([25.0, 0.0, -80.0], "Position angle (CCW/x) [deg]", "F7.2"),
}
MODEL = {
    "SPHEROID_REFF_IMAGE": ([6.0, 3.0, 2.0], "Spheroid effective radius from fitting [pixel]", "F9.4"),
    "SPHEROID_ASPECT_IMAGE": ([0.4, 1.6, 1.0], "Spheroid aspect ratio from fitting", "F9.4"),
    "SPHEROID_THETA_IMAGE": ([25.0, 10.0, 0.0], "Spheroid position angle (CCW/x) from fitting [deg]", "F9.4"),
    "SPHEROID_SERSICN": ([2.3, 1.0, 4.0], "Spheroid Sersic index from fitting", "F9.4"),
    "MAG_SPHEROID": ([22.0, 23.0, 24.0], "Spheroid total magnitude from fitting [mag]", "F9.4"),
}


def write_ascii(path, columns):
    lines = [f"#{i:4d} {name:22s} {text}" for i, (name, (_, text, _)) in enumerate(columns.items(), start=1)]
    rows = zip(*(values for values, *_ in columns.values()), strict=True)
    path.write_text("\n".join([*lines, *(" ".join(map(str, row)) for row in rows)]) + "\n")
    return path


def write_ldac(path, columns, wcs):
    header = fits.PrimaryHDU(np.zeros(SHAPE, np.float32), wcs.to_header()).header
    cards = np.array([[card.image.ljust(80) for card in header.cards] + ["END".ljust(80)]], dtype="S80")
    column = fits.Column("Field Header Card", f"{cards.size * 80}A", dim=f"(80, {cards.size})", array=cards)
    image = fits.BinTableHDU.from_columns([column], name="LDAC_IMHEAD")
    table = fits.table_to_hdu(Table({name: values for name, (values, *_) in columns.items()}))
    table.name = "LDAC_OBJECTS"
    fits.HDUList([fits.PrimaryHDU(), image, table]).writeto(path)
    return path


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0, 35, -110])
def test_major_axis_where_sextractor_has_it(tmp_path, angle, mirrored):
    """THETA_IMAGE is counted from the first axis towards the second, and the first pixel is (1, 1)."""
    wcs = turned_wcs(angle, mirrored=mirrored)
    catalog, _ = convert_catalog(write_ldac(tmp_path / "c.fits", COLUMNS, wcs), "r")
    assert catalog.id.tolist() == [4, 9]
    ra, dec = wcs.wcs_pix2world([30.5, 60.0], [41.25, 20.0], 1)
    np.testing.assert_allclose(catalog.ra, ra, atol=1e-10)
    np.testing.assert_allclose(catalog.dec, dec, atol=1e-10)
    theta = np.deg2rad(25.0)
    _, direction = end_on_sky(wcs, 30.5, 41.25, 5 * np.cos(theta), 5 * np.sin(theta))
    assert (catalog.pa[0] - direction + 90) % 180 - 90 == pytest.approx(0, abs=0.02)
    assert catalog.q == pytest.approx([0.4, 1.0], rel=1e-3)
    assert catalog.rhalf == pytest.approx([6 * 0.06, 3 * 0.06], rel=1e-3)  # the radius of a circle


def test_ascii_needs_the_image(tmp_path):
    wcs = turned_wcs()
    path = write_ascii(tmp_path / "c.cat", COLUMNS)
    with pytest.raises(InputError, match=r"c\.cat: names no image, expected the image"):
        convert_catalog(path, "r")
    image = write_image(tmp_path / "image.fits", wcs)
    catalog, notes = convert_catalog(path, "r", image=image)
    other, _ = convert_catalog(write_ldac(tmp_path / "c.fits", COLUMNS, wcs), "r")
    for name in ("id", "ra", "dec", "q", "pa", "rhalf", "flux"):
        np.testing.assert_allclose(getattr(catalog, name), getattr(other, name), rtol=1e-12)
    assert [note.removeprefix(f"{path}: ") for note in notes] == [
        "FLUX_RADIUS includes the PSF, and the Sersic index 1.5 is a guess: good for a start",
        "1 source (id 11) left out, with no usable flux",
    ]


def test_fluxes(tmp_path):
    path = write_ldac(tmp_path / "c.fits", COLUMNS, turned_wcs())
    assert convert_catalog(path, "r")[0].flux[:, 0] == pytest.approx([1000 * 10**0.56, 1000])
    catalog, _ = convert_catalog(path, "r", zero_points=28.9)
    assert catalog.flux[:, 0] == pytest.approx([1000, 100, -30])


def test_fitted_profiles(tmp_path):
    """Radii along the major axis; where the aspect is above one, the axes change places."""
    wcs = turned_wcs(0)
    catalog, notes = convert_catalog(write_ldac(tmp_path / "c.fits", COLUMNS | MODEL, wcs), "r")
    assert catalog.sersic.tolist() == [2.3, 1.0, 4.0]
    assert catalog.q == pytest.approx([0.4, 1 / 1.6, 1.0], rel=1e-3)
    major = catalog.rhalf / np.sqrt(catalog.q) / 0.06
    assert major == pytest.approx([6.0, 3 * 1.6, 2.0], rel=1e-3)
    assert catalog.pa[:2] == pytest.approx([25 - 90, 10], abs=0.03)  # from north, which is up
    assert catalog.flux[2, 0] == pytest.approx(10 ** (0.4 * 7.4))
    assert notes == ()


def test_dual_image_mode(tmp_path):
    """Shapes of the first image, fluxes of each; what one of them lacks is left out of both."""
    wcs = turned_wcs()
    first = write_ldac(tmp_path / "g.fits", COLUMNS, wcs)
    fainter = COLUMNS | {"MAG_AUTO": ([99.0, 24.9, 26.4], "", ""), "FLUX_RADIUS": ([1.0, 1.0, 1.0], "", "")}
    second = write_ldac(tmp_path / "r.fits", fainter, wcs)
    catalog, notes = convert_catalog([first, second], ["g", "r"])
    assert catalog.bands == ("g", "r")
    assert catalog.id.tolist() == [9]
    assert catalog.flux == pytest.approx(np.array([[1000, 10**2.6]]))
    assert catalog.rhalf == pytest.approx([0.18], rel=1e-3)
    assert any("(id 4) left out" in note for note in notes)
    other = write_ldac(tmp_path / "o.fits", COLUMNS | {"NUMBER": ([4, 9, 12], "", "")}, wcs)
    with pytest.raises(InputError, match=r"o\.fits: found other sources than in .*g\.fits"):
        convert_catalog([first, other], ["g", "r"])


@pytest.mark.parametrize(
    ("left_out", "added", "message"),
    [
        ("THETA_IMAGE", {}, "no column THETA_IMAGE, found NUMBER, "),
        ("MAG_AUTO", {}, "FLUX_AUTO in counts, expected also their zero point"),
        ("X_IMAGE", {}, "no column X_IMAGE"),
        ("", {"FLUX_RADIUS": ([[1.0, 2.0]] * 3, "", "")}, "FLUX_RADIUS has several values, expected one"),
    ],
)
def test_columns_that_are_missing(tmp_path, left_out, added, message):
    columns = {name: column for name, column in (COLUMNS | added).items() if name != left_out}
    path = write_ldac(tmp_path / "c.fits", columns, turned_wcs())
    with pytest.raises(InputError, match=rf"c\.fits: {message}"):
        read_sextractor(path)


def test_other_columns_for_the_shape(tmp_path):
    columns = {name: column for name, column in COLUMNS.items() if name not in ("A_IMAGE", "B_IMAGE")}
    wcs = turned_wcs()
    for name, values in {"ELLIPTICITY": [0.6, 0.0, 0.5], "ELONGATION": [2.5, 1.0, 2.0]}.items():
        path = write_ldac(tmp_path / f"{name}.fits", columns | {name: (values, "", "")}, wcs)
        assert convert_catalog(path, "r")[0].q == pytest.approx([0.4, 1], rel=1e-3)


def test_texts_that_cannot_be_read(tmp_path):
    path = write_ascii(tmp_path / "c.cat", COLUMNS)
    text = path.read_text()
    for old, new, message in (
        (
            "#   9 THETA",
            "#   90000000000 THETA",
            "column 90000000000 in the header, but 9 values in the first row",
        ),
        ("4 30.5", "4 30,5", r"X_IMAGE holds .*, expected numbers"),
        (text[text.index("4 30.5") :], "", "no row, expected a source"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=rf"c\.cat: {message}"):
            read_sextractor(path)
