"""Files whose structure is not that of FITS are refused by a look at their cards."""

import bz2
import gzip
import io
import lzma
import zipfile

import numpy as np
import pytest
from astropy.io import fits

from fphojax.inputs import InputError
from fphojax.inputs.fits_structure import require_structure, unpacked


def whole():
    """Bytes of a file with an image, a compressed image and a table."""
    made = io.BytesIO()
    values = np.arange(4000.0).reshape(50, 80)
    table = fits.BinTableHDU.from_columns([fits.Column("a", "PJ()", array=[[1, 2], [3]])])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values), fits.CompImageHDU(values), table]).writeto(made)
    return made.getvalue()


def cards(*lines):
    """A header of these cards, in whole blocks."""
    return "".join(f"{line:80}" for line in (*lines, "END")).encode().ljust(2880)


def refused(tmp_path, content, match):
    (tmp_path / "a.fits").write_bytes(content)
    with pytest.raises(InputError, match=match) as caught:
        require_structure(tmp_path / "a.fits")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packing", [bytes, gzip.compress, bz2.compress, lzma.compress, "zip"])
def test_whole_files_pass(tmp_path, packing):
    path, content = tmp_path / "a.fits", whole()
    if packing == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.fits", content)
    else:
        path.write_bytes(packing(content))
    require_structure(path)
    with unpacked(path) as (stream, packed):
        assert stream.read() == content
        assert packed == (packing is not bytes)


def test_padding_behind_the_end_passes(tmp_path):
    (tmp_path / "a.fits").write_bytes(whole() + b"\0" * 2880 + b" " * 100)
    require_structure(tmp_path / "a.fits")


def test_data_that_end_early_are_left_to_the_reader(tmp_path):
    (tmp_path / "a.fits").write_bytes(whole()[:-4000])
    require_structure(tmp_path / "a.fits")


SIMPLE = "SIMPLE  =                    T"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it does not begin with SIMPLE"),
        (b"\x89PNG", "it does not begin with SIMPLE"),
        (cards(SIMPLE)[:80].ljust(2880), r"extension 0 has no END\)"),
        (cards(SIMPLE, "NAXIS   = 0"), "extension 0: BITPIX is missing, expected an integer"),
        (cards(SIMPLE, "BITPIX  = 8.5", "NAXIS   = 0"), "extension 0: BITPIX is '8.5', expected an integer"),
        (cards(SIMPLE, "BITPIX  = 7", "NAXIS   = 0"), "BITPIX is 7 and NAXIS is 0, expected 8, 16"),
        (cards(SIMPLE, "BITPIX  = 8", "NAXIS   = 100000000"), "NAXIS is 100000000"),
        (cards(SIMPLE, "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = -5"), "NAXIS1 is -5, expected 0 or more"),
        (cards(SIMPLE, "BITPIX  = 8", "NAXIS   = 0", "GCOUNT  = -1"), "GCOUNT is -1 and PCOUNT is 0"),
        (
            cards(SIMPLE, "BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 1000000", "NAXIS2  = 1000000"),
            r"extension 0 declares 8e\+03 GB, expected at most 64",
        ),
        (whole() + b"XTENSION, or not".ljust(2880), r"extension 4 has no END\)"),
        (whole() + b"something".ljust(2880), "goes on behind extension 3 with something that is none"),
        (whole() + b"\0" * 1_010_000, "goes on behind extension 3 with something that is none"),
        (gzip.compress(whole())[:-500], r"cannot be read as FITS \(.*\), expected a whole FITS file"),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    refused(tmp_path, content, message)


def test_archive_of_two_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.fits", whole())
        archive.writestr("b.fits", whole())
    refused(
        tmp_path, (tmp_path / "b.zip").read_bytes(), "holds 2 files in a zip archive, expected one FITS file"
    )


def test_file_that_declares_more_than_it_may_unpack_to(tmp_path):
    header = cards(SIMPLE, "BITPIX  = 8", "NAXIS   = 1", "NAXIS1  = 9000000000")
    refused(tmp_path, gzip.compress(header), "unpacks to more than 8 GB, expected less")
    (tmp_path / "a.fits").write_bytes(header)  # as it is, the reader says that it ends early
    require_structure(tmp_path / "a.fits")
