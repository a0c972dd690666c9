"""Units of images: spellings that mean a flux, and those that do not."""

import numpy as np
import pytest

from fphojax.inputs.image_units import flux_density, root_unit, same_unit, surface_brightness


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("nJy", 1),
        (" njy ", 1),
        ("NJY", 1),
        ("nJy/pix", 1),
        ("nJy / pixel", 1),
        ("nJy per pixel", 1),
        ("nJy pix-1", 1),
        ("nJy.pixel**(-1)", 1),
        ("nanojansky", 1),
        ("10*nJy", 10),
        ("uJy", 1e3),
        ("UJY", 1e3),
        ("\N{MICRO SIGN}Jy", 1e3),
        ("\N{GREEK SMALL LETTER MU}Jy", 1e3),
        ("microJy", 1e3),
        ("mJy", 1e6),
        ("milliJansky", 1e6),
        ("Jy", 1e9),
        ("JY", 1e9),
        ("Janskys", 1e9),
        ("MJy", 1e15),
        ("nanomaggy", 3631),
        ("nanomaggies", 3631),
        ("nmgy", 3631),
        ("maggies", 3631e9),
        ("erg/s/cm2/Hz", 1e32),
        ("W/m2/Hz", 1e35),
    ],
)
def test_flux_densities(unit, factor):
    assert flux_density(unit) == pytest.approx(factor, rel=1e-12)
    assert surface_brightness(unit) is None


NONE = "mjy MJY Jy/beam MJy/sr DN DN/s adu counts counts/s ELECTRONS/S e-/s furlong mag mag(AB) dex(nJy) 1 nJy/pix/s"


@pytest.mark.parametrize("unit", ["", "0 nJy", "???", "erg/s/cm2/Angstrom", *NONE.split()])
def test_what_is_no_flux_density(unit):
    """mjy may be milli or mega; magnitudes are no factor."""
    assert flux_density(unit) is None


def test_surface_brightnesses():
    for unit, factor in (("MJy/sr", 1e15), ("MJY/SR", 1e15), ("MJy / sr", 1e15), ("mJy/sr", 1e6)):
        assert surface_brightness(unit) == pytest.approx(factor, rel=1e-12)
    per_arcsec = np.rad2deg(1) ** 2 * 3600**2
    assert surface_brightness("uJy/arcsec2") == pytest.approx(1e3 * per_arcsec, rel=1e-12)
    assert [surface_brightness(unit) for unit in ("Jy/beam", "DN/sr", "mjy/sr", "")] == [None] * 4


def test_units_that_are_the_same():
    assert same_unit("MJy / sr", "MJy/sr")
    assert same_unit("ELECTRONS", "electrons")
    assert same_unit("NJY", "nJy")
    assert not same_unit("mJy", "MJy")
    assert not same_unit("nJy", "uJy")


def test_roots_of_the_units_of_variances():
    assert flux_density(root_unit("uJy2", 2)) == pytest.approx(1e3)
    assert flux_density(root_unit("uJy**-2", -2)) == pytest.approx(1e3)
    assert surface_brightness(root_unit("MJy2 / sr2", 2)) == pytest.approx(1e15)
    assert root_unit("UNITLESS", -2) is None
