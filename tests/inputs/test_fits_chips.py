"""Which images of a file belong together."""

import numpy as np
import pytest
from astropy.io import fits

from fphojax.inputs import InputError
from fphojax.inputs.fits_chips import beside, chips, extension_key, label, listing, matching, named


def file(*extensions):
    """A file with images of these names and EXTVERs after the primary HDU."""
    images = [
        fits.ImageHDU(np.full((2, 2), float(i)), name=name, ver=version)
        for i, (name, version) in enumerate(extensions)
    ]
    return fits.HDUList([fits.PrimaryHDU(), *images])


def where(hdus, *found):
    """Numbers of HDUs in the file."""
    return [list(map(id, hdus)).index(id(hdu)) for hdu in found]


SINGLE = ("SCI", 1), ("ERR", 1), ("DQ", 1)
TWO = ("SCI", 1), ("ERR", 1), ("SCI", 2), ("ERR", 2), ("D2IM", 1)


@pytest.mark.parametrize("key", ["SCI", 0, 3, ("SCI", 2)])
def test_keys(key):
    assert extension_key(key) == key
    assert extension_key(["SCI", 2]) == ("SCI", 2)


@pytest.mark.parametrize("key", ["", -1, True, 1.0, None, ("SCI",), ["SCI", "1"], ("SCI", True), (1, 1)])
def test_what_is_no_key(key):
    with pytest.raises(InputError, match="expected a name, the number of an HDU, or a pair"):
        extension_key(key)


def test_labels():
    assert [label(key) for key in ("SCI", 1, ("SCI", 2))] == ["SCI", "1", "SCI,2"]
    assert listing(file(*SINGLE)) == "PRIMARY, SCI, ERR, DQ"
    assert listing(file(*TWO)) == "PRIMARY, SCI,1, ERR,1, SCI,2, ERR,2, D2IM"
    assert listing(file(("", 1))) == "PRIMARY, 1"


def test_hdus_of_a_key():
    hdus = file(*TWO)
    assert where(hdus, *named(hdus, "sci ")) == [1, 3]
    assert where(hdus, *named(hdus, ("SCI", 2))) == [3]
    assert where(hdus, *named(hdus, 4)) == [4]
    assert where(hdus, *named(hdus, "primary")) == [0]
    assert named(hdus, 9) == named(hdus, "WHT") == named(hdus, ("SCI", 3)) == []
    hdus[0].name = "SCI"  # the primary HDU may have a name of its own, and is still the primary one
    assert where(hdus, *named(hdus, "SCI")) == [0, 1, 3]
    assert where(hdus, *named(hdus, "PRIMARY")) == [0]
    with pytest.raises(InputError, match="no extension SCI,3, found SCI,1, SCI,1, ERR,1, SCI,2, ERR,2, D2IM"):
        matching(hdus, ("SCI", 3))


def test_chips_of_a_name():
    hdus = file(*TWO)
    both = chips(hdus, "SCI")
    assert where(hdus, *(chip.hdu for chip in both)) == [1, 3]
    assert [(c.version, c.label, c.suffix, c.count) for c in both] == [
        (1, "SCI,1", "_1", 2),
        (2, "SCI,2", "_2", 2),
    ]
    (second,) = chips(hdus, ("SCI", 2))
    assert (second.label, second.suffix, second.count) == ("SCI,2", "_2", 1)
    (by_number,) = chips(hdus, 3)
    assert (by_number.label, by_number.suffix) == ("SCI,2", "_2")
    (single,) = chips(file(*SINGLE), "SCI")
    assert (single.label, single.suffix, single.several) == ("SCI", "", False)


def test_chips_that_nothing_tells_apart():
    with pytest.raises(InputError, match="SCI"):
        chips(file(("SCI", 1), ("SCI", 1)), "SCI")


def test_what_lies_beside_a_chip():
    hdus = file(*TWO)
    first, second = chips(hdus, "SCI")
    assert where(hdus, beside(hdus, "ERR", first), beside(hdus, "ERR", second)) == [2, 4]
    assert where(hdus, beside(hdus, "D2IM", second, shared=True)) == [5]
    with pytest.raises(
        InputError, match=r"no extension D2IM,2 for SCI,2, found .*expected one for each chip"
    ):
        beside(hdus, "D2IM", second)
    for key in (2, ("ERR", 1)):
        with pytest.raises(InputError, match=f"extension {label(key)} is one image for 2 chips"):
            beside(hdus, key, first)
    (chosen,) = chips(hdus, ("SCI", 2))
    assert where(hdus, beside(hdus, "ERR", chosen), beside(hdus, 2, chosen)) == [4, 2]


def test_single_chip_takes_the_only_one_whatever_its_version():
    hdus = file(("SCI", 1), ("ERR", 7))
    (chip,) = chips(hdus, "SCI")
    assert where(hdus, beside(hdus, "ERR", chip)) == [2]
