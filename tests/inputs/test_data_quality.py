"""Which pixels of small images are bad, and why."""

import numpy as np
import pytest
from astropy.io import fits

from fphojax.inputs import InputError
from fphojax.inputs.data_quality import (
    JWST_BITS,
    bad_pixels,
    hint_at_errors,
    kind_by_name,
    quality_note,
)
from fphojax.inputs.fits_chips import chips

BITS = np.array([[0, 1, 2], [4, 512, 513]], dtype=np.int32)


def file(**images):
    """A file of images by EXTNAME, SCI first."""
    hdus = [fits.ImageHDU(np.zeros((2, 3)), name="SCI")]
    return fits.HDUList([fits.PrimaryHDU(), *hdus, *(fits.ImageHDU(v, name=n) for n, v in images.items())])


def found(hdus, *, mask=None, bitmask=None, err="ERR", headers=(), mask_file=None):
    (chip,) = chips(hdus, "SCI")
    return bad_pixels(hdus, chip, mask=mask, err=err, bitmask=bitmask, headers=headers, mask_file=mask_file)


def test_any_bit_is_bad():
    bad = found(file(DQ=BITS))
    np.testing.assert_array_equal(bad.where, BITS != 0)
    assert (bad.name, bad.rule, bad.how) == ("DQ", "not 0", "DQ")


def test_chosen_bits():
    bad = found(file(DQ=BITS), bitmask=6)
    np.testing.assert_array_equal(bad.where, [[False, False, True], [True, False, False]])
    assert (bad.bits, bad.how) == (6, "DQ bits 2|4")
    unsigned = found(file(DQ=BITS.astype(np.uint32) + 2**31), bitmask=2**31)
    assert unsigned.where.all()


def test_bits_of_jwst():
    header = fits.Header({"TELESCOP": "JWST"})
    np.testing.assert_array_equal(found(file(DQ=BITS), headers=[header]).where, (BITS & JWST_BITS) != 0)
    # but what the user chose, and masks of another name, count as they are
    np.testing.assert_array_equal(found(file(DQ=BITS), headers=[header], bitmask=4).where, BITS == 4)
    np.testing.assert_array_equal(found(file(MASK=BITS), headers=[header]).where, BITS != 0)


def test_order_of_what_is_looked_for():
    mask, weight = np.zeros((2, 3), dtype=np.uint8), np.array([[1.0, 0, -1], [np.nan, 2, 3]])
    mask[0, 0] = 1
    everything = file(WHT=weight, DQ=BITS, MASK=mask)
    np.testing.assert_array_equal(found(everything).where, mask != 0)
    np.testing.assert_array_equal(found(everything, mask="DQ").where, BITS != 0)
    by_weight = found(file(WHT=weight))
    np.testing.assert_array_equal(by_weight.where, [[False, True, True], [True, False, False]])
    assert (by_weight.rule, by_weight.name) == ("not above 0", "WHT")
    for none in (found(file(WHT=weight), err="wht"), found(file())):
        assert none.where is None
        assert none.how == "no mask"


def test_mask_in_a_file_of_its_own():
    bad = found(file(DQ=BITS), mask_file=("bad.fits", BITS == 2))
    np.testing.assert_array_equal(bad.where, BITS == 2)
    assert bad.name == ""
    assert bad.how.startswith("mask file")


def test_masks_that_cannot_be_used():
    with pytest.raises(InputError, match="no extension MASK, found PRIMARY, SCI"):
        found(file(), mask="MASK")
    with pytest.raises(InputError, match=r"extension DQ has dtype .*f.*, expected integers for bitmask 4"):
        found(file(DQ=BITS.astype(float)), bitmask=4)
    with pytest.raises(InputError, match=r"mask bad\.fits has dtype bool, expected integers for bitmask 4"):
        found(file(), mask_file=("bad.fits", BITS == 2), bitmask=4)


def test_note_says_what_is_used_and_what_is_not():
    assert quality_note(file(MASK=BITS), {"MASK": "the mask"}) == ""
    assert quality_note(file(), {}) == ""
    note = quality_note(file(DQ=BITS, WHT=BITS, VAR_RNOISE=BITS, CON=BITS), {"DQ": "the mask"})
    assert note == "extension DQ is the mask; WHT, VAR_RNOISE are not used"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "inverse_variance") for name in ("WHT", "WGT", "WEIGHT", "IVAR", "INVVAR")),
        *((name, "variance") for name in ("VAR", "VARIANCE", "VAR_POISSON")),
        *((name, "") for name in ("ERR", "SCI", "DQ", "MASK", "VARY", "")),
    ],
)
def test_kinds_of_errors_by_name(name, kind):
    assert kind_by_name(name) == kind


def test_hint_names_the_settings():
    assert "extensions.err: WHT and preprocess.error_kind: inverse_variance" in hint_at_errors(
        file(DQ=BITS, WHT=BITS)
    )
    assert hint_at_errors(file(DQ=BITS)) == ""
