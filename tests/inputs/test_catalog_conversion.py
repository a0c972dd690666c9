"""`fphojax convert` and `convert_catalog`: kinds of files told apart, files that do not belong together."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from other_programs import turned_wcs, write_image
from typer.testing import CliRunner

from fphojax import InputError, SourceCatalog, convert_catalog
from fphojax.app.cli.program import app

GALFIT = "A) none\nJ) 25\n0) sersic\n1) 30 20 1 1\n3) 23.9 1\n4) 5 1\n5) 2 1\n9) 0.5 1\n10) 30 1\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "galfit.01").write_text(GALFIT)
    write_image(tmp_path / "image.fits", turned_wcs())
    return tmp_path


def convert(*words):
    return CliRunner().invoke(app, ["convert", *map(str, words)])


def test_command(files):
    out = files / "start.ecsv"
    words = files / "galfit.01", "--band", "r", "--image", files / "image.fits", "--out", out
    done = convert(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"wrote {out}: 1 source, bands r\n"
    catalog = SourceCatalog.read(out)
    assert catalog.bands == ("r",)
    assert catalog.flux[0, 0] == pytest.approx(1000)
    again = convert(*words)
    assert (again.exit_code, again.stderr) == (
        2,
        f"error: {out}: exists already, expected a new file (or --overwrite)\n",
    )
    assert convert(*words, "--overwrite").exit_code == 0


def test_notes_go_to_the_standard_error(files):
    (files / "galfit.01").write_text(GALFIT + "0) sky\n1) 0.1 1\n")
    words = files / "galfit.01", "--band", "r", "--image", files / "image.fits", "--out", files / "o.fits"
    assert convert(*words).stderr == (
        f"note: {files / 'galfit.01'}: component 2 (sky) left out: the setting nuisance fits the sky\n"
    )


def test_nothing_is_written_where_a_file_is_refused(files):
    done = convert(files / "image.fits", "--band", "r", "--out", files / "o.ecsv")
    assert done.exit_code == 2
    assert "found 0 tables of sources, expected one" in done.stderr
    assert not (files / "o.ecsv").exists()


def test_image_with_several_extensions(files):
    header = turned_wcs(10).to_header()
    images = [fits.ImageHDU(np.zeros((80, 100), np.float32), turned_wcs(0).to_header(), name="OTHER")]
    images.append(fits.ImageHDU(np.zeros((80, 100), np.float32), header, name="SCI"))
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(files / "two.fits")
    turned, upright, numbered = (
        convert_catalog(files / "galfit.01", "r", image=files / f"two.fits{key}")[0].pa[0]
        for key in ("", "[OTHER]", "[1]")
    )
    assert turned == pytest.approx(upright - 10, abs=0.02)  # north is farther to the left
    assert numbered == upright
    with pytest.raises(InputError, match=r"two\.fits\[7\]: no such image"):
        convert_catalog(files / "galfit.01", "r", image=files / "two.fits[7]")


def test_the_image_that_galfit_names(files):
    with pytest.raises(InputError, match=r"galfit\.01: names no image, expected the image"):
        convert_catalog(files / "galfit.01", "r")
    (files / "galfit.01").write_text(GALFIT.replace("A) none", "A) gone.fits"))
    with pytest.raises(InputError, match=r"gone\.fits: no such file, .*\(the image that .*galfit\.01 names"):
        convert_catalog(files / "galfit.01", "r")


def test_files_that_do_not_belong_together(files):
    image = files / "image.fits"
    with pytest.raises(InputError, match="found 1 file and 2 bands, expected as many"):
        convert_catalog(files / "galfit.01", ["g", "r"], image=image)
    with pytest.raises(InputError, match="found 1 file and 2 zero points, expected as many"):
        convert_catalog(files / "galfit.01", "g", image=image, zero_points=[25, 26])
    (files / "notes.txt").write_text("nothing\n")
    with pytest.raises(
        InputError, match=r"notes\.txt: found neither '0\) sersic' nor '# 1 NUMBER', expected"
    ):
        convert_catalog(files / "notes.txt", "r", image=image)
    with pytest.raises(InputError, match=r"gone\.txt: no such file, expected a file of GALFIT"):
        convert_catalog(files / "gone.txt", "r", image=image)


def test_a_source_with_no_radius_is_left_out(files):
    (files / "galfit.01").write_text(GALFIT.replace("4) 5 1", "4) 0 1"))
    with pytest.raises(InputError, match=r"no source is left \(.*with no usable half-light radius\)"):
        convert_catalog(files / "galfit.01", "r", image=files / "image.fits")


def test_a_catalogue_is_not_read_from_what_has_to_be_converted(files):
    """The settings' `raw_catalog` may name one by mistake."""
    expected = r"found a file of {}, expected a catalogue \(FITS or ECSV\), such as `fphojax convert` makes"
    with pytest.raises(InputError, match=r"galfit\.01: " + expected.format("GALFIT")):
        SourceCatalog.read(files / "galfit.01", ["r"])
    (files / "a.cat").write_text(
        "#   1 NUMBER   Running object number\n#   2 X_IMAGE   Position [pixel]\n1 30\n"
    )
    with pytest.raises(InputError, match=r"a\.cat: " + expected.format("SExtractor")):
        SourceCatalog.read(files / "a.cat", ["r"])
    Table({"NUMBER": [1], "X_IMAGE": [30.0], "MAG_AUTO": [22.0]}).write(files / "c.fits")
    with pytest.raises(InputError, match=r"c\.fits: " + expected.format("SExtractor")):
        SourceCatalog.read(files / "c.fits", ["r"])
