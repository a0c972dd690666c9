"""`fphojax preprocess` and `fphojax check` on stores: from files to the same patches, and one line per problem."""

import os
import shutil

import h5py
import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.wcs import WCS
from typer.testing import CliRunner

from fphojax import CircularRegion, Patcher, read_exposures
from fphojax.app.cli import app
from fphojax.app.run.record import step_key
from fphojax.app.run.steps import Step
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.input_checks import check_inputs
from fphojax.app.stages.preprocess import preprocess as stage
from fphojax.app.stages.store_build import preprocess
from fphojax.errors import InputError
from fphojax.inputs.psf_store import PSFStore
from fphojax.inputs.source_catalog import SourceCatalog
from fphojax.inputs.stores.stored_exposures import open_stores
from fphojax.inputs.stores.writer import StoreWriter

RA, DEC = 150.0, 2.0


class Field:
    """Two exposures in each of two bands, with PSFs, and settings for tests to spoil."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "images").mkdir()
        y, x = np.mgrid[-7:8, -7:8]
        psf = np.exp(-(x**2 + y**2) / 4.0) / (4 * np.pi)
        rng = np.random.default_rng(0)
        for i, (band, shape) in enumerate(
            (("g", (24, 20)), ("g", (30, 33)), ("r", (24, 20)), ("r", (24, 20)))
        ):
            wcs = WCS(naxis=2)
            wcs.wcs.ctype, wcs.wcs.crval = ("RA---TAN", "DEC--TAN"), (RA, DEC)
            wcs.wcs.crpix, wcs.wcs.cdelt = (10 + i, 12), (-0.2 / 3600, 0.2 / 3600)
            header = wcs.to_header()
            header.update(FILTER=band, EXPID=f"{band}{i}", ABMAG=28.9)
            hdus = fits.HDUList([fits.PrimaryHDU()])
            hdus.append(fits.ImageHDU(rng.normal(size=shape).astype("f4"), header, name="SCI"))
            hdus.append(fits.ImageHDU(np.ones(shape, "f4"), name="ERR"))
            hdus.append(fits.ImageHDU((rng.uniform(size=shape) < 0.1).astype("i2") * 4, name="MASK"))
            hdus.append(fits.ImageHDU(psf, name="PSF"))
            hdus.writeto(folder / f"images/{band}{i}.fits")
        SourceCatalog.from_columns(
            ra=[RA], dec=[DEC], flux=[[9.0, 8.0]], q=0.7, pa=17.0, sersic=2.0, rhalf=0.3, bands=("g", "r")
        ).write(folder / "peaks.ecsv")
        self.images = sorted((folder / "images").glob("*.fits"))
        self.settings = {
            "bandlist": ["g", "r"],
            "raw_catalog": "peaks.ecsv",
            "frame_search_pattern": "images/*.fits",
            "pixelstorefile": "pixels.h5",
            "metastorefile": "meta.json",
        }

    def config(self, **preprocess_keys):
        path = self.folder / "run.yml"
        content = self.settings | ({"preprocess": preprocess_keys} if preprocess_keys else {})
        path.write_text(yaml.safe_dump(content))
        return path

    def load(self, **preprocess_keys):
        return Settings.from_yaml(self.config(**preprocess_keys))

    def make(self, **preprocess_keys):
        lines = preprocess(self.load(**preprocess_keys), progress=False).lines
        print(*lines, sep="\n")
        return self.stores(), lines

    def stores(self):
        return open_stores(self.folder / "pixels.h5", self.folder / "meta.json")

    def refused(self, **preprocess_keys):
        """Problems without the folder's name."""
        with pytest.raises(InputError) as caught:
            preprocess(self.load(**preprocess_keys), progress=False)
        assert not (self.folder / "pixels.h5").exists()
        assert not (self.folder / "meta.json").exists()
        lines = str(caught.value).replace(f"{self.folder}/", "").splitlines()
        print(*lines, sep="\n")
        return lines

    def edit(self, change, name="g0"):
        with fits.open(self.folder / f"images/{name}.fits", mode="update") as hdus:
            change(hdus)

    def command(self, *arguments):
        result = CliRunner().invoke(app, [*arguments, str(self.config())])
        print(result.stdout, result.stderr)
        return result


@pytest.fixture
def run(tmp_path):
    return Field(tmp_path)


def test_stores_give_the_patch_of_the_files(run):
    stored, lines = run.make()
    exposures = read_exposures(run.images)
    region = CircularRegion(RA, DEC, 1.5)
    patches = [Patcher(e, PSFStore()).build_patch(region) for e in (exposures, stored)]
    for name in ("data", "ierr", "origin", "exposure", "count"):
        a, b = (np.asarray(getattr(patch, name)) for patch in patches)
        assert a.tobytes() == b.tobytes()
    assert len(lines) == 4
    assert all("1 image unit = 1 nJy (no BUNIT, taken as nJy)" in line for line in lines)
    with h5py.File(run.folder / "pixels.h5") as file:
        assert file["g/g1/data"].shape == (5, 4, 128)
        attributes = dict(file["g/g1/data"].attrs)
    assert attributes["counts_to_flux"] == 1
    assert attributes["flux_units"] == "nJy"
    assert tuple(attributes["image_shape"]) == (30, 33)


def test_command_line(run):
    result = run.command("preprocess")
    assert result.exit_code == 0
    assert "4 exposures" in result.stdout
    assert "MB/s" in result.stdout
    result = run.command("preprocess")
    assert result.exit_code == 2
    assert "pixels.h5: exists already, expected a new file (or --overwrite)" in result.stderr
    assert run.command("preprocess", "--overwrite").exit_code == 0
    result = run.command("check")
    assert result.exit_code == 0
    for text in ("Pixel store pixels.h5", "nJy per", "bitmask", "image 15 x 15", "No problems found."):
        assert text in result.stdout
    run.settings["bandlist"] = ["r"]
    run.settings["raw_catalog"] = "peaks.ecsv"
    assert "not fitted" in run.command("check").stdout


def test_check_of_files_and_of_stores_agree(run):
    run.make()
    stored = check_inputs(run.load(), verify=True)
    del run.settings["pixelstorefile"], run.settings["metastorefile"]
    run.settings["fitsfiles"] = "images/*.fits"
    files = check_inputs(run.load())
    assert stored.problems == files.problems == []
    for a, b in zip(stored.exposures, files.exposures, strict=True):
        assert (a.name, a.band, a.shape, a.pixel_scale) == (b.name, b.band, b.shape, b.pixel_scale)
        assert a.masked_fraction == pytest.approx(b.masked_fraction)


def test_check_verifies_pixels(run):
    stored, _ = run.make()
    stored[0].store.close()
    with h5py.File(run.folder / "pixels.h5", "r+") as file:
        file["g/g0/data"][0, 0, 3] += 1
        file["g/g1/data"][0, 0, 3] = np.nan
        file["r/r2/data"].attrs["n_weighted"] = 5
        file["r/r3/data"][:] = 0
        del file["r/r3/data"].attrs["n_weighted"], file["r/r3/data"].attrs["data_crc32"]
    result = run.command("check")
    assert result.exit_code == 2
    found = [line for line in result.stderr.splitlines() if "pixels.h5" in line]
    for line, text in zip(
        found,
        ("found checksum", "not finite", "pixels with weight, expected 5", "no pixel with weight"),
        strict=True,
    ):
        assert text in line


def test_stores_that_are_not_there_yet(run):
    result = run.command("check")
    assert result.exit_code == 2
    assert "pixels.h5: no such file, expected a pixel store (fphojax preprocess)" in result.stderr


def refused_by_stage(run, **preprocess_keys):
    """The one line without the folder's name."""
    with pytest.raises(InputError) as caught:
        stage(run.load(**preprocess_keys))
    return str(caught.value).replace(f"{run.folder}/", "")


def test_stage_takes_stores_that_it_would_make(run):
    stage(run.load())
    run.settings |= {"seed": 3, "tweak_background": "tweakbg", "tweakbg": {"g": 1.0}}
    assert stage(run.load()).verdict == "The stores existed already. They contain 4 exposures in g, r."


def test_stage_refuses_stores_that_it_would_make_otherwise(run):
    stage(run.load())
    assert refused_by_stage(run, calibration="ABMAG") == (
        "pixels.h5: was made with other settings (calibration: 'none', now 'ABMAG'), expected the same, or "
        "`fphojax preprocess --overwrite`"
    )
    run.settings["super_pixel_size"] = 4
    assert "(super_pixel_size: 8, now 4)" in refused_by_stage(run)
    del run.settings["super_pixel_size"]
    os.utime(run.images[1], (0, 0))
    assert refused_by_stage(run) == (
        "pixels.h5: was made of other images (1 are new or changed since, 1 gone or changed, the first is "
        "images/g1.fits), expected the same, or `fphojax preprocess --overwrite`"
    )
    assert run.command("preprocess", "--overwrite").exit_code == 0
    assert stage(run.load()).verdict.startswith("The stores existed already.")
    run.images[1].unlink()
    assert "0 are new or changed since, 1 gone or changed, the first is images/g1.fits" in refused_by_stage(
        run
    )


def test_stage_takes_stores_that_nothing_can_be_compared_with(run):
    """They do not say what they were made of, or the images are not there any more."""
    stage(run.load())
    for path in run.images:
        path.unlink()
    assert (
        "existed already, without images to compare them with."
        in stage(run.load(calibration="ABMAG")).verdict
    )
    run.images[0].touch()
    run.stores()[0].store.close()
    with h5py.File(run.folder / "pixels.h5", "r+") as file:
        del file["made_of"]
    assert "The stores existed already. They contain 4" in stage(run.load(calibration="ABMAG")).verdict


def test_images_and_stores_are_in_the_keys_of_a_run(run):
    def keys():
        settings = run.load()
        first = step_key(Step("preprocess", 1), settings, None)
        return first, step_key(Step("check", 1), settings, "before")

    before = keys()
    stage(run.load())
    made = keys()
    assert made[0] == before[0]
    assert made[1] != before[1]
    os.utime(run.images[1], (0, 0))
    assert keys()[0] != made[0]
    assert keys()[1] == made[1]
    os.utime(run.folder / "pixels.h5", (0, 0))
    assert keys()[1] != made[1]


def test_calibration_bitmask_cap_and_background(run):
    for path in run.images:
        with fits.open(path, mode="update") as hdus:
            hdus.append(fits.ImageHDU(np.full(hdus["SCI"].shape, 0.5, "f4"), name="BKG"))
    run.settings |= {"bitmask": 3, "max_snr": 2.0}
    stored, lines = run.make(calibration="ABMAG", background="BKG")
    assert "1 image unit = 10 nJy (ABMAG = 28.9)" in lines[0]
    with fits.open(run.images[0]) as hdus:
        expected = 10 * (hdus["SCI"].data.astype("f8") - 0.5)
    data, ierr = stored[0].window(0, 20, 0, 24)
    assert (ierr > 0).all()  # bit 4 is not among 1 and 2
    np.testing.assert_allclose(data, expected, rtol=1e-6)
    np.testing.assert_allclose(ierr, np.minimum(0.1, 2 / np.abs(expected)), rtol=1e-5)
    assert stored[0].attributes["bitmask_applied"] == 3
    assert stored[0].attributes["max_snr_applied"] == 2
    assert stored[0].attributes["counts_to_flux"] == pytest.approx(10)


def test_cutting_and_full_size(run):
    stored, _ = run.make(edge="cut")
    assert {e.name: e.shape for e in stored} == {
        "g0": (24, 16),
        "g1": (24, 32),
        "r2": (24, 16),
        "r3": (24, 16),
    }
    full = read_exposures([run.images[1]])[0]
    np.testing.assert_array_equal(stored[1].window(3, 32, 5, 24)[0], full.data[5:24, 3:32])
    with h5py.File(run.folder / "pixels.h5") as file:
        assert tuple(file.attrs["nside_full"]) == (32, 24)


def test_images_in_files_of_their_own(run):
    for path in run.images:
        with fits.open(path) as hdus:
            for kind in ("SCI", "ERR"):
                name = f"{path.stem}_{kind.lower()}.fits"
                fits.PrimaryHDU(hdus[kind].data, hdus["SCI"].header).writeto(run.folder / name)
    run.settings["frame_search_pattern"] = "*_sci.fits"
    stored, _ = run.make(error_pattern="*_err.fits")
    assert [e.name for e in stored] == ["g0", "g1", "r2", "r3"]
    assert stored[0].psf_image is None
    for name in ("pixels.h5", "meta.json", "r2_err.fits"):
        (run.folder / name).unlink()
    assert run.refused(error_pattern="*_err.fits") == [
        "r2_sci.fits: r2_err.fits: no such file, expected a FITS image"
    ]
    assert "err.fits: found 0 * in the pattern, expected 1 as" in run.refused(error_pattern="err.fits")[0]
    run.settings["frame_search_pattern"] = "*_nothing.fits"
    assert "found no file that matches" in run.refused(error_pattern="*_err.fits")[0]


def test_masks_and_backgrounds_in_files_of_their_own(run):
    for path in run.images:
        with fits.open(path) as hdus:
            mask = np.zeros(hdus["SCI"].shape, np.uint8)
            mask[2, 3], mask[4, 5] = 2, 1
            fits.PrimaryHDU(mask).writeto(run.folder / f"{path.stem}_mask.fits")
            fits.PrimaryHDU(np.full(mask.shape, 0.25)).writeto(run.folder / f"{path.stem}_bkg.fits")
    run.settings |= {"bitmask": 2, "frame_search_pattern": "images/*.fits"}
    stored, _ = run.make(mask_pattern="*_mask.fits", background_pattern="*_bkg.fits")
    assert [e.name for e in stored] == ["g0", "g1", "r2", "r3"]
    for exposure, path in zip(stored, run.images, strict=True):
        ny, nx = exposure.shape
        data, ierr = exposure.window(0, nx, 0, ny)
        assert ierr[2, 3] == 0
        assert (ierr > 0).sum() == ierr.size - 1
        expected = fits.getdata(path, "SCI").astype(np.float64) - 0.25
        np.testing.assert_array_equal(data[ierr > 0], expected.astype(np.float32)[ierr > 0])
    for name in ("pixels.h5", "meta.json"):
        (run.folder / name).unlink()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(run.folder / "g1_bkg.fits", overwrite=True)
    (line,) = run.refused(mask_pattern="*_mask.fits", background_pattern="*_bkg.fits")
    assert line.startswith("images/g1.fits: background image has shape (3, 3), expected (30, 33)")


def test_problems_leave_an_unfinished_build_that_goes_on(run):
    def change(hdus):
        hdus["SCI"].header["BUNIT"] = "furlong"

    run.edit(change, "g1")
    run.edit(lambda hdus: hdus["SCI"].header.set("EXPID", "r2"), "r3")
    lines = run.refused()
    assert len(lines) == 2
    assert lines[0] == (
        "images/g1.fits: extension SCI: BUNIT = 'furlong', expected nJy, uJy, mJy, Jy or nanomaggy per pixel, or "
        "none for nJy; `fphojax preprocess` converts other units by the setting preprocess.calibration: PHOTFLAM, "
        "PHOTMJSR or the keyword of the zero point"
    )
    assert lines[1].startswith("images/r3.fits: exposure 'r2' of band r is in pixels.h5.building already")
    assert (run.folder / "pixels.h5.building").exists()
    assert (
        "was begun with other settings (calibration: 'none', now 'ABMAG')"
        in run.refused(calibration="ABMAG")[0]
    )

    run.edit(lambda hdus: hdus["SCI"].header.remove("BUNIT"), "g1")
    run.edit(lambda hdus: hdus["SCI"].header.set("EXPID", "r3"), "r3")
    report = preprocess(run.load(), progress=False)
    print(report)
    assert (report.n_stored, report.n_reused) == (2, 2)
    assert len(run.stores()) == 4
    assert sorted(p.name for p in run.folder.glob("*building*")) == []


def test_stores_that_were_moved_with_their_images(run, tmp_path_factory):
    """An unfinished build goes on, and finished stores are taken as they are."""
    run.edit(lambda hdus: hdus["SCI"].header.set("BUNIT", "furlong"), "r3")
    run.refused()
    folder = tmp_path_factory.mktemp("moved")
    shutil.move(run.folder, folder / "field")
    run.folder = folder / "field"
    run.edit(lambda hdus: hdus["SCI"].header.remove("BUNIT"), "r3")
    report = preprocess(run.load(), progress=False)
    assert (report.n_stored, report.n_reused) == (1, 3)
    run.stores()[0].store.close()
    shutil.move(folder / "field", folder / "again")
    run.folder = folder / "again"
    assert stage(run.load()).verdict == "The stores existed already. They contain 4 exposures in g, r."


def test_a_changed_file_is_read_again(run):
    os.truncate(run.images[3], 3000)
    assert "cannot be read as FITS" in run.refused()[0]
    run.images[3].unlink()
    run.edit(lambda hdus: hdus["SCI"].data.__iadd__(1), "g0")
    stored, lines = run.make()
    assert len(lines) == 1  # the others were kept, and the image that is no longer there was never stored
    assert [e.name for e in stored] == ["g0", "g1", "r2"]
    (exposure,) = read_exposures(run.images[:1])
    np.testing.assert_array_equal(stored[0].window(0, 20, 0, 24)[0], exposure.data)


def two_chips(run, name="g0"):
    """Give an image a second chip, with other pixels."""
    with fits.open(run.folder / f"images/{name}.fits", mode="update") as hdus:
        for kind in ("SCI", "ERR", "MASK", "PSF"):
            second = hdus[kind].copy()
            second.data = second.data * (2 if kind == "SCI" else 1)
            second.header["EXTVER"] = 2
            hdus.append(second)


def test_chips_go_into_the_store(run):
    two_chips(run)
    stored, lines = run.make()
    assert [exposure.name for exposure in stored] == ["g0_1", "g0_2", "g1", "r2", "r3"]
    assert len(lines) == 5
    for exposure, read in zip(stored, read_exposures(run.images), strict=True):
        ny, nx = exposure.shape
        np.testing.assert_array_equal(exposure.window(0, nx, 0, ny)[0], read.data)
        assert exposure.read_as == read.read_as
    assert stage(run.load()).verdict == "The stores existed already. They contain 5 exposures in g, r."


def test_a_build_that_was_stopped_between_chips_has_both_in_the_end(run, monkeypatch):
    two_chips(run)
    add = StoreWriter.add

    def stopped(writer, packed, **options):
        if packed.name == "g0_2":
            raise KeyboardInterrupt
        add(writer, packed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add", stopped)
        with pytest.raises(KeyboardInterrupt):
            preprocess(run.load(), progress=False)
    report = preprocess(run.load(), progress=False)
    assert (report.n_stored, report.n_reused) == (5, 0)
    assert [exposure.name for exposure in run.stores()] == ["g0_1", "g0_2", "g1", "r2", "r3"]


def test_a_chip_of_the_settings(run):
    two_chips(run)
    run.settings["extensions"] = {"sci": ["SCI", 2]}
    run.settings["frame_search_pattern"] = "images/g0.fits"
    (stored,), _ = run.make()
    assert stored.name == "g0_2"
    run.settings["extensions"] = {"sci": ["SCI", 1]}
    assert "(sci: ['SCI', 2], now ['SCI', 1])" in refused_by_stage(run)
    run.settings["extensions"] = {"sci": ["SCI", 2]}
    assert stage(run.load()).verdict.startswith("The stores existed already.")


def test_store_of_bands_by_file_name(run):
    run.settings |= {"band_patterns": {"g*.fits": "g2"}, "bandlist": ["g2", "r"]}
    stored, _ = run.make()
    assert [exposure.band for exposure in stored] == ["g2", "g2", "r", "r"]
    assert stored[0].read_as == "no BUNIT: nJy, MASK, file name g*.fits, ICRS"


def test_mosaics_and_exposures_go_apart(run):
    run.edit(lambda hdus: hdus[0].header.set("S_RESAMP", "COMPLETE"), "r3")
    (line,) = run.refused()
    assert line.startswith("images/r3.fits: found a mosaic, expected a single exposure as the first image is")


def sip_header(**cards):
    """As JWST's and HST's pipelines write it: a SIP polynomial of a few pixels."""
    header = fits.Header({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CRVAL1": RA, "CRVAL2": DEC})
    header.update(
        {"CRPIX1": 10.0, "CRPIX2": 12.0, "CD1_1": -1e-5, "CD1_2": 1e-6, "CD2_1": 1e-6, "CD2_2": 1e-5}
    )
    header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3, "A_1_1": 2e-4, "B_0_2": -1e-3, "B_1_1": 3e-4})
    header.update(cards)
    return header


PRODUCTS = {
    # headers of primary and SCI; calibration; nJy per unit, by independent arithmetic; bands when split or not
    "jwst": (
        {"TELESCOP": "JWST", "FILTER": "F150W2", "PUPIL": "F162M", "DETECTOR": "NRCB3", "MODULE": "B"},
        {"BUNIT": "MJy/sr", "PIXAR_SR": 3.01e-14, "PIXAR_A2": 1.28e-3},
        "PHOTMJSR",
        3.01e-14 * 1e6 * 1e9,
        {None: "F162M", "DETECTOR": "F162M_NRCB3", "MODULE": "F162M_B"},
    ),
    "hst": (
        {"TELESCOP": "HST", "FILTER": "F606W", "DETECTOR": "WFC", "EXPTIME": 500.0},
        {"BUNIT": "ELECTRONS", "PHOTFLAM": 7.8e-20, "PHOTPLAM": 5921.0},
        "PHOTFLAM",
        7.8e-20 * 5921.0**2 / 2.99792458e18 / 500 * 1e23 * 1e9,
        {None: "F606W", "DETECTOR": "F606W_WFC"},
    ),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_products_of_telescopes_as_they_come(tmp_path, product):
    primary, cards, calibration, factor, bands = PRODUCTS[product]
    run, shape = Field(tmp_path), (24, 20)
    rng = np.random.default_rng(4)
    sci, err = rng.normal(size=shape).astype(">f4"), rng.uniform(1, 2, shape).astype(">f4")
    sci[3, 4], err[5, 6] = np.nan, 0
    dq = np.zeros(shape, np.uint32)
    dq[0, :3] = 1, 4, 512  # JWST: do not use, a jump that was mended, no science
    for path in run.images:
        path.unlink()
    hdus = [fits.PrimaryHDU(header=fits.Header(primary)), fits.ImageHDU(sci, sip_header(**cards), name="SCI")]
    hdus += [fits.ImageHDU(err, name="ERR"), fits.ImageHDU(dq, name="DQ")]
    path = run.folder / f"images/{product}_a.fits"
    fits.HDUList(hdus).writeto(path)
    good = np.isfinite(sci) & (err > 0)
    good[0, :3] = (False, product == "jwst", False)
    for split_by, band in bands.items():
        run.settings["bandlist"] = [band]
        (stored,), lines = run.make(calibration=calibration, split_by=split_by)
        assert (stored.band, stored.name, stored.shape) == (band, f"{product}_a", shape)
        data, ierr = stored.window(0, 20, 0, 24)
        np.testing.assert_array_equal(ierr > 0, good)
        np.testing.assert_allclose(data[good], (sci * factor)[good], rtol=3e-7)
        np.testing.assert_allclose(ierr[good] * (err * factor)[good], 1, rtol=3e-7)
        assert stored.attributes["counts_to_flux"] == pytest.approx(factor, rel=1e-12)
        assert f"1 image unit = {factor:.6g} nJy" in lines[0]
        x, y = rng.uniform(0, 20, (2, 30))
        world = stored.wcs.pixel_to_world_values(x, y)
        np.testing.assert_array_equal(world, WCS(sip_header()).pixel_to_world_values(x, y))
        for name in ("pixels.h5", "meta.json"):
            (run.folder / name).unlink()
    linear = sip_header(CTYPE1="RA---TAN", CTYPE2="DEC--TAN")
    for key in ("A_ORDER", "B_ORDER", "A_2_0", "A_1_1", "B_0_2", "B_1_1"):
        del linear[key]
    moved = 3600 * np.abs(np.subtract(WCS(linear).pixel_to_world_values(x, y), world)).max()
    print(f"{product}: factor {factor:.6g}, the SIP polynomial moves pixels by up to {moved:.4f} arcsec")
    assert moved > 1e-3


def test_calibration_keywords_that_are_missing(run):
    run.edit(lambda hdus: hdus["SCI"].header.remove("ABMAG"), "g1")
    assert run.refused(calibration="ABMAG") == [
        "images/g1.fits: extension SCI: no keyword ABMAG, expected it for the flux calibration"
    ]
    (run.folder / "pixels.h5.building").unlink()
    (run.folder / "pixels.h5.building.jsonl").unlink()
    lines = run.refused(calibration="ZEROPNT")
    assert [line.split(":")[0] for line in lines] == [f"images/{p.name}" for p in run.images]
    assert all("no keyword ZEROPNT" in line for line in lines)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"metastorefile": None}, "metastorefile: expected pixelstorefile and metastorefile together"),
        ({"pixelstorefile": None, "metastorefile": None}, "fitsfiles: found nothing, expected exposures"),
        ({"nside_full": 30}, r"nside_full: found \[30, 30\], expected multiples of super_pixel_size = 8"),
        (
            {"preprocess": {"compression": "zip"}},
            "preprocess.compression: found 'zip', expected 'lzf' or 'gzip'",
        ),
    ],
)
def test_settings_that_are_refused(run, settings, match):
    run.settings |= settings
    with pytest.raises(InputError, match=match):
        run.load()


def test_without_stores_in_the_settings(run):
    del run.settings["pixelstorefile"], run.settings["metastorefile"]
    run.settings["fitsfiles"] = "images/*.fits"
    assert "found no pixelstorefile" in run.refused()[0]
    with pytest.raises(InputError, match="found no pixelstorefile"):  # not an AttributeError of the stage
        stage(run.load(), progress=False)
