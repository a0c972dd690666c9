"""`fphojax check`: a good configuration, and what is said about each bad input."""

import h5py
import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from standard_error import problems as printed_problems
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.app.settings.schema import Settings
from fphojax.app.stages.check import check as stage
from fphojax.app.stages.input_checks import check_inputs
from fphojax.inputs.psf_store import PSFMixture, PSFStore
from fphojax.inputs.source_catalog import SourceCatalog

RA, DEC, SHAPE = 150.0, 2.0, (24, 20)


def tan_wcs():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = RA, DEC
    wcs.wcs.crpix = (SHAPE[1] + 1) / 2, (SHAPE[0] + 1) / 2
    wcs.wcs.cdelt = -0.2 / 3600, 0.2 / 3600
    return wcs


class Field:
    """Inputs of a small run, one exposure in each of two bands, for tests to spoil."""

    def __init__(self, folder):
        self.folder = folder
        self.settings = {
            "bandlist": ["g", "r"],
            "raw_catalog": "peaks.ecsv",
            "fitsfiles": ["g.fits", "r.fits"],
        }
        y, x = np.mgrid[-7:8, -7:8]
        self.psf = np.exp(-(x**2 + y**2) / 4.0) / (4 * np.pi)
        for band in ("g", "r"):
            header = tan_wcs().to_header()
            header.update(FILTER=band, EXPID=f"{band}1")
            hdus = fits.HDUList([fits.PrimaryHDU()])
            hdus.append(fits.ImageHDU(np.ones(SHAPE, "f4"), header, name="SCI"))
            hdus.append(fits.ImageHDU(np.ones(SHAPE, "f4"), name="ERR"))
            hdus.append(fits.ImageHDU(self.psf, name="PSF"))
            hdus.writeto(folder / f"{band}.fits")
        self.write_catalog(self.catalog())

    def catalog(self, **changes):
        columns = {
            "ra": [RA, RA],
            "dec": [DEC, DEC + 1e-4],
            "flux": [[9.0, 8.0], [5.0, 6.0]],
            "q": 0.7,
            "pa": 17.0,
        }
        return SourceCatalog.from_columns(
            **columns | {"sersic": 2.0, "rhalf": 0.3, "bands": ("g", "r")} | changes
        )

    def write_catalog(self, catalog):
        catalog.write(self.folder / "peaks.ecsv")

    def edit(self, change, name="g.fits"):
        """Change the HDUs of an exposure."""
        with fits.open(self.folder / name, memmap=False, lazy_load_hdus=False) as hdus:
            change(hdus)
            hdus.writeto(self.folder / name, overwrite=True)

    def write(self):
        """Write the settings."""
        config = self.folder / "run.yml"
        config.write_text(yaml.safe_dump(self.settings))
        return config

    def check(self):
        """Run the command; return its result and its problems, the folder's name cut out."""
        config = self.write()
        before = {path: path.stat().st_mtime_ns for path in self.folder.rglob("*")}
        result = CliRunner().invoke(app, ["check", str(config)])
        assert before == {path: path.stat().st_mtime_ns for path in self.folder.rglob("*")}
        lines = printed_problems(result.stderr.replace(f"{self.folder}/", ""))
        return result, lines

    def problems(self):
        result, lines = self.check()
        print(*lines, sep="\n")
        assert result.exit_code == 2
        assert all(line.startswith("error: ") for line in lines)
        return [line.removeprefix("error: ") for line in lines]


@pytest.fixture
def run(tmp_path):
    return Field(tmp_path)


def test_good_inputs(run):
    result, lines = run.check()
    print(result.stdout)
    assert result.exit_code == 0
    assert lines == []
    for text in (
        "g1",
        "r1",
        "20 x 24",
        '0.2000"',
        "0.0 %",
        "image 15 x 15",
        "sources: 2",
        "No problems found.",
    ):
        assert text in result.stdout


def test_exposure_of_another_band_is_left_out(run):
    run.settings["bandlist"] = ["r"]
    result, _ = run.check()
    assert result.exit_code == 0
    assert "not fitted" in result.stdout


def test_exposures_are_in_the_order_of_bandlist(run):
    run.settings["bandlist"] = ["r", "g"]
    result, _ = run.check()
    assert result.exit_code == 0
    assert result.stdout.index("r1") < result.stdout.index("g1")


def test_no_catalogue(run):
    """As `run` has it: the sources are found in the images."""
    del run.settings["raw_catalog"]
    result, _ = run.check()
    assert result.exit_code == 0
    assert "note: no source catalogue; `fphojax run` detects sources in the images" in result.stdout
    assert "No problems found." in result.stdout
    settings = Settings.from_yaml(run.folder / "run.yml")
    (problem,) = check_inputs(settings).problems  # what a fit alone says
    assert (
        "raw_catalog: found nothing, expected a catalogue of sources to start from: `fphojax detect`"
        in problem
    )


def test_missing_file(run):
    run.settings["fitsfiles"].append("z.fits")
    assert run.problems() == ["z.fits: no such file, expected a FITS image"]


def test_missing_extension(run):
    run.edit(lambda hdus: hdus.pop("ERR"))
    assert run.problems() == [
        "g.fits: no extension ERR, found PRIMARY, SCI, PSF",  # and no second line about band g
    ]


def test_file_whose_band_is_not_known(run):
    """What is wrong with it may be the reason that a band has no exposure, or not."""
    run.edit(lambda hdus: hdus["SCI"].header.remove("FILTER"))
    absent = (
        "run.yml: bandlist: found no usable exposure in band g, expected one or more; bands of exposures: r"
    )
    assert run.problems()[1:] == [absent]
    run.settings["band_patterns"] = {"g*.fits": "g"}
    (run.folder / "g.fits").write_bytes(b"")
    (line,) = run.problems()
    assert line.startswith("g.fits: cannot be read as FITS")


def test_named_extension_must_exist(run):
    run.settings["extensions"] = {"mask": "DQ"}
    assert run.problems()[:2] == [
        "g.fits: no extension DQ, found PRIMARY, SCI, ERR, PSF",
        "r.fits: no extension DQ, found PRIMARY, SCI, ERR, PSF",
    ]


def test_missing_filter(run):
    run.edit(lambda hdus: hdus["SCI"].header.remove("FILTER"))
    assert run.problems()[0] == (
        "g.fits: extension SCI: no keyword FILTER (or FILTER1, FILTER2) in the header of the image or of the file, "
        "expected the band; the settings band_keyword and band_patterns name another place"
    )


def test_missing_wcs(run):
    def drop(hdus):
        for key in ("CTYPE1", "CTYPE2"):
            hdus["SCI"].header.remove(key)

    run.edit(drop)
    first = run.problems()[0]
    assert first.startswith("g.fits: extension SCI: no usable WCS: ")
    assert first.endswith("expected a celestial WCS with the axes right ascension, declination")


def test_missing_psf_extension(run):
    run.edit(lambda hdus: hdus.pop("PSF"))
    assert run.problems() == [
        "g.fits: found no PSF for band g, expected an extension PSF or the setting psfstorefile"
    ]


def test_missing_psf_in_store(run):
    store = PSFStore()
    store.add(PSFMixture([1.0], [[0, 0]], [[2, 2, 0]]), "r")
    store.write(run.folder / "psf.h5")
    run.settings["psfstorefile"] = "psf.h5"
    (line,) = run.problems()
    assert line == "psf.h5: no PSF for band g, exposure g1; psf.h5 has r"


def test_what_psf_mixtures_mean_for_a_star(run):
    """Known of mixtures that were fitted here, and not of those that come without their images."""
    result, _ = run.check()
    assert "2 PSF images are not fitted yet: the stage psf will report" in " ".join(result.stdout.split())
    store = PSFStore()
    store.add(PSFMixture([1.0], [[0, 0]], [[2, 2, 0]], point_flux_error=-0.0042), "g")
    store.add(PSFMixture([1.0], [[0, 0]], [[2, 2, 0]]), "r")
    store.write(run.folder / "psf.h5")
    run.settings["psfstorefile"] = "psf.h5"
    result, _ = run.check()
    said = " ".join(result.stdout.split())
    assert (
        "With these PSF mixtures, a bright point source's flux is off by up to 0.42 %, more than its noise above "
        "S/N 240 (g1, g). For 1 PSF mixture of the store, the flux error of bright point sources is not known "
        "without the PSF images."
    ) in said


def test_copies_of_an_image_are_named(run):
    """As a glob finds them beside the image; uncertainties come out too small."""
    run.edit(lambda hdus: hdus["SCI"].header.remove("EXPID"))
    (run.folder / "g copy.fits").write_bytes((run.folder / "g.fits").read_bytes())
    result, _ = run.check()
    assert "same pixels" not in result.stdout
    run.settings["fitsfiles"] = ["g*.fits", "r.fits"]
    result, _ = run.check()
    assert result.exit_code == 0
    folder = run.folder
    note = (
        f"note: {folder}/g.fits: exposure g of band g has the same pixels as g copy ({folder}/g copy.fits): "
        "they count twice"
    )
    assert note in result.stdout.splitlines()


def test_width_of_a_psf_in_a_store(run, monkeypatch):
    """It tells a store of another pixel scale, or one in arcsec."""
    monkeypatch.setenv("COLUMNS", "200")
    store = PSFStore()
    store.add(PSFMixture([0.9, 0.1], [[0, 0]] * 2, [[2, 2, 0], [9, 9, 0]], includes_pixel=True), "g")
    places = [
        PSFMixture([1.0], [[0, 0]], [[0.09, 0.09, 0]], detector_location=(x, 0), includes_pixel=False)
        for x in (0, 50)
    ]
    store.add(places, "r", "r1")
    store.write(run.folder / "psf.h5")
    run.settings["psfstorefile"] = "psf.h5"
    result, _ = run.check()
    assert result.exit_code == 0
    table = " ".join(result.stdout.replace("│", " ").split())
    assert 'store, core 0.67" wide' in table  # sqrt(8 ln 2) x sqrt(2) pixels of 0.2 arcsec
    for text in ("store, own, 2 positions, core", '0.14" wide, no pixel'):
        assert text in table


def test_psf_without_flux(run):
    def empty(hdus):
        hdus["PSF"].data = 0 * hdus["PSF"].data

    run.edit(empty)
    assert (
        run.problems()[0] == "g.fits: exposure 'g1': PSF image has the total flux 0, expected a positive one"
    )


def test_psf_without_flux_in_store(run):
    table = np.zeros((1, 1), dtype=[(name, "f8") for name in ("amp", "xcen", "ycen", "Cxx", "Cyy", "Cxy")])
    table["Cxx"] = table["Cyy"] = 1.0
    with h5py.File(run.folder / "psf.h5", "w") as file:
        file["g/parameters"] = table
    run.settings["psfstorefile"] = "psf.h5"
    assert run.problems() == ["psf.h5: /g: PSF mixture: total flux is 0, expected a positive one"]


def test_psf_without_peak(run):
    def flatten(hdus):
        hdus["PSF"].data = np.ones_like(hdus["PSF"].data)

    run.edit(flatten)
    (line,) = run.problems()
    assert line.startswith("g.fits: PSF image: ")


@pytest.mark.parametrize(
    ("centre", "words"), [("as it is", "+0.250 -0.100, as it is"), ("recentre", "+0.250 -0.100, recentred")]
)
def test_psf_whose_core_is_off_its_centre(run, centre, words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")

    def shift(hdus):
        y, x = np.mgrid[-7:8, -7:8]
        hdus["PSF"].data = np.exp(-((x - 0.25) ** 2 + (y + 0.1) ** 2) / 4.0)

    run.edit(shift)
    run.settings["psf_centre"] = centre
    result, _ = run.check()
    print(result.stdout)
    assert result.exit_code == 0
    assert f"core off centre: {words}" in result.stdout
    assert result.stdout.count("core off centre") == 1


def test_psf_on_another_pixel_scale(run):
    def finer(hdus):
        hdus["PSF"].header["PIXELSCL"] = 0.1

    run.edit(finer)
    line = "g.fits: extension PSF has PIXELSCL = 0.1, expected 0.2: the image's pixel scale"
    assert run.problems()[0] == line


def test_missing_catalog_column(run):
    text = (run.folder / "peaks.ecsv").read_text().replace("rhalf", "radius")
    (run.folder / "peaks.ecsv").write_text(text)
    assert run.problems() == [
        "peaks.ecsv: no column rhalf, found id, ra, dec, roi, q, pa, sersic, radius, g, r",
    ]


def test_missing_band_of_catalog(run):
    run.write_catalog(run.catalog().select_bands(["g"]))
    assert run.problems() == ["peaks.ecsv: no column r, found id, ra, dec, roi, q, pa, sersic, rhalf, g"]


def test_missing_catalog(run):
    run.settings["raw_catalog"] = "sources.fits"
    assert run.problems() == ["sources.fits: no such file, expected a catalogue (FITS or ECSV)"]


def test_band_without_exposure(run):
    run.settings["bandlist"] = ["g", "r", "F200W"]
    lines = run.problems()
    assert lines[0] == (
        "run.yml: bandlist: found no usable exposure in band F200W, expected one or more; "
        "bands of exposures: g, r"
    )
    assert lines[1].startswith("peaks.ecsv: no column F200W")


def test_exposure_without_valid_pixel(run):
    def spoil(hdus):
        hdus["ERR"].data[:] = -1

    run.edit(spoil)
    assert run.problems()[0] == (
        "g.fits: exposure 'g1': no valid pixel among 480, expected finite data with finite positive errors "
        "off the mask"
    )


def test_source_outside_all_exposures(run):
    run.write_catalog(run.catalog(dec=[DEC, DEC + 0.01]))
    assert run.problems() == [
        "peaks.ecsv: row 1 (id 1): found ra=150.000000 dec=2.010000 outside all exposures, "
        "expected it within its roi of at least one"
    ]


def test_a_source_must_reach_an_exposure(run):
    """The edge is half a pixel beyond the last centre; the radius of influence, 1.5 arcsec, is 7.5 pixels."""
    wcs = tan_wcs()
    for offset, inside in ((7.99, True), (8.01, False)):
        ra, dec = wcs.pixel_to_world_values(SHAPE[1] - 1 + offset, 5)
        run.write_catalog(run.catalog(ra=[RA, ra], dec=[DEC, dec]))
        assert (run.check()[0].exit_code == 0) is inside


def test_start_outside_bounds(run):
    run.settings["bounds_kwargs"] = {"rhalf_range": [0.5, 2.0], "sersic_range": [0.5, 6.0]}
    assert run.problems() == [
        f"peaks.ecsv: row {row} (id {row}): rhalf is 0.3, expected within [0.5, 2]" for row in (0, 1)
    ]


def test_position_angle_counts_modulo_half_a_turn(run):
    run.write_catalog(run.catalog(pa=17.0 + 3 * 180))
    assert run.check()[0].exit_code == 0


def test_impossible_bounds(run):
    run.settings["bounds_kwargs"] = {"sqrtq_range": [0.5, 1.5]}
    assert run.problems() == [
        "run.yml: bounds_kwargs: sqrtq_range is [0.5, 1.5], expected two increasing numbers in [0, 1]"
    ]


def test_nan_in_catalog(run):
    text = (run.folder / "peaks.ecsv").read_text()
    (run.folder / "peaks.ecsv").write_text(text.replace(" 5.0 6.0", " nan 6.0"))
    assert run.problems() == ["peaks.ecsv: row 1 (id 1): g is nan, expected a finite number"]


def test_mismatched_shapes(run):
    def crop(hdus):
        hdus["ERR"].data = hdus["ERR"].data[:-1]

    run.edit(crop)
    assert run.problems()[0] == (
        "g.fits: error image has shape (23, 20), expected (24, 20) as the science image"
    )


def test_unusable_table_prior_and_folder(run):
    run.settings |= {"splinedatafile": "sersic.h5", "priors": {"q": {"distribution": "Nomal"}}}
    assert run.problems() == [
        "sersic.h5: found no file, expected a Sersic table",
        "run.yml: priors.q: found 'Nomal', expected a name in numpyro.distributions",
    ]
    (run.folder / "output").touch()
    assert run.problems() == ["run.yml: outbase: found the file output, expected a folder"]


def test_all_problems_are_told(run):
    run.settings["fitsfiles"].append("z.fits")
    run.settings["bounds_kwargs"] = {"rhalf_range": [0.5, 2.0]}
    run.edit(lambda hdus: hdus.pop("PSF"), "r.fits")
    run.write_catalog(run.catalog(ra=[RA, RA + 1]))
    assert len(run.problems()) == 5


def test_settings_at_fault(run):
    run.settings["sed"] = 1
    assert run.problems() == ["run.yml: sed: unknown key, did you mean seed?"]


def test_debug_shows_the_trace(run):
    result = CliRunner().invoke(app, ["--debug", "check", str(run.folder / "absent.yml")])
    assert type(result.exception).__name__ == "InputError"


# ------------------------------------------------------------------------------------------------
# What is read, and what is to be known about it


def notes(run):
    """The command's notes, of inputs without problems; but for the one on how the catalogue was read."""
    result, lines = run.check()
    print(result.stdout, *lines, sep="\n")
    assert result.exit_code == 0
    found = [line for line in result.stdout.splitlines() if line.startswith("note: ")]
    lines = [line.removeprefix("note: ").replace(f"{run.folder}/", "") for line in found]
    assert "peaks.ecsv: read as fphojax's layout (keyword FPHOJAX)" in lines
    return [line for line in lines if not line.startswith("peaks.ecsv: read as")]


def test_nothing_to_know(run):
    assert notes(run) == []


def test_table_says_how_images_were_read(run):
    run.edit(lambda hdus: hdus["SCI"].header.update(BUNIT="uJy", RADESYS="FK5"))
    table = check_inputs(Settings.from_yaml(run.write())).exposure_table()
    assert list(table["read as"]) == [
        "uJy = 1000 nJy, no mask, FILTER, FK5",
        "no BUNIT: nJy, no mask, FILTER, ICRS",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_table_is_readable_on_a_terminal(run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run.check()[0].stdout.splitlines()
    print(*lines, sep="\n")
    assert max(len(line) for line in lines if not line.startswith("note: ")) <= width
    row = next(line for line in lines if "g1" in line)
    for text in (
        "20 x 24",
        '0.2000"',
        "0.0 %",
        "image 15 x 15",
        "no BUNIT: nJy" if width == 120 else "no BUNIT:",
    ):
        assert text in row


def test_quality_extensions_are_named_once_for_all_files(run):
    def add(hdus):
        for name in ("DQ", "VAR_POISSON", "VAR_FLAT"):
            hdus.append(fits.ImageHDU(np.zeros(SHAPE, "i4"), name=name))

    run.edit(add)
    assert notes(run) == ["g.fits: extension DQ is the mask (bad: not 0); VAR_POISSON, VAR_FLAT are not used"]
    run.edit(add, "r.fits")
    assert notes(run) == [
        "g.fits and 1 more: extension DQ is the mask (bad: not 0); VAR_POISSON, VAR_FLAT are not used"
    ]


def test_bitmask_is_for_files_too(run):
    dq = np.zeros(SHAPE, "i4")
    dq[:6] = 4
    dq[6] = 2
    run.edit(lambda hdus: hdus.append(fits.ImageHDU(dq, name="DQ")))
    run.settings["bitmask"] = 4
    result, _ = run.check()
    assert "25.0 %" in result.stdout
    del run.settings["bitmask"]
    assert "29.2 %" in run.check()[0].stdout


def test_chips_are_exposures_and_a_setting_chooses(run):
    def double(hdus):
        for name in ("SCI", "ERR"):
            second = hdus[name].copy()
            second.header["EXTVER"] = 2
            hdus.append(second)

    run.edit(double)
    result, _ = run.check()
    assert all(text in result.stdout for text in ("g1_1", "g1_2", "SCI,1", "SCI,2"))
    run.settings["extensions"] = {"sci": ["SCI", 2]}
    run.settings["bandlist"], run.settings["fitsfiles"] = ["g"], "g.fits"
    result, _ = run.check()
    assert result.exit_code == 0
    assert "g1_2" in result.stdout
    assert "g1_1" not in result.stdout
    run.settings["extensions"] = {"sci": 4, "err": 5}
    assert "g1_2" in run.check()[0].stdout
    run.settings["extensions"] = {"sci": ["SCI"]}
    assert run.problems() == [
        "run.yml: extensions.sci: found ('SCI',), expected a name, the number of an HDU, or a pair of name and "
        "EXTVER such as [SCI, 2]"
    ]


def test_band_by_keyword_and_by_file(run):
    run.edit(lambda hdus: hdus["SCI"].header.update(FILTER="x", BAND="g"))
    run.edit(lambda hdus: hdus["SCI"].header.update(FILTER="x", BAND="y"), "r.fits")
    run.settings |= {"band_keyword": "BAND", "band_patterns": {"r*.fits": "r"}}
    result, _ = run.check()
    assert result.exit_code == 0
    run.settings["band_patterns"] = {"*.fits": "g", "r*.fits": "r"}
    assert run.problems()[0].startswith(
        "r.fits: extension SCI: the name fits several entries of band_patterns"
    )


def test_band_that_differs_in_its_capitals(run):
    run.edit(lambda hdus: hdus["SCI"].header.update(FILTER="G"))
    assert run.problems()[0] == (
        "run.yml: bandlist: found no usable exposure in band g, expected one or more; bands of exposures: G, r "
        "(G differs only in its capitals)"
    )
    run.settings["bandlist"] = ["r"]
    run.settings["fitsfiles"] = ["r.fits", "R.fits"]
    run.edit(lambda hdus: hdus.writeto(run.folder / "R.fits"), "r.fits")
    run.edit(lambda hdus: hdus["SCI"].header.update(FILTER="R"), "R.fits")
    assert notes(run) == [
        "run.yml: bandlist: exposures of band R (1) are left out; its name differs from that of r only in its "
        "capitals"
    ]


def test_sky_levels_of_other_bands(run):
    run.settings |= {"tweak_background": "tweakbg", "tweakbg": {"g": 0.1, "G": 0.2}}
    assert run.problems() == [
        "run.yml: tweakbg.G: found a sky level of band G, expected a band of the exposures: g, r"
    ]
    run.settings |= {"tweakbg": {"g": 0.1}, "bandlist": ["r"]}
    assert notes(run) == ["run.yml: tweakbg.g: found a sky level of band g, which is not in bandlist"]
    del run.settings["tweak_background"]
    assert notes(run)[-1] == (
        "run.yml: tweakbg: these sky levels are not subtracted unless tweak_background is tweakbg"
    )


def test_exposure_that_no_source_reaches(run):
    run.edit(lambda hdus: hdus["SCI"].header.update(CRVAL2=DEC + 1), "r.fits")
    assert notes(run) == ["r.fits: exposure r1 of band r: no source of peaks.ecsv reaches it"]


def test_stage_says_what_is_to_be_known(run):
    run.edit(lambda hdus: hdus.append(fits.ImageHDU(np.ones(SHAPE, "f4"), name="WHT")))
    report = stage(Settings.from_yaml(run.write()))
    assert list(report.tables["exposures"]["read as"]) == [
        "no BUNIT: nJy, WHT, FILTER, ICRS",
        "no BUNIT: nJy, no mask, FILTER, ICRS",
    ]
    assert list(report.tables["notes"]["note"]) == [
        f"{run.folder}/g.fits: extension WHT is the mask (bad: not above 0)",
        f"{run.folder}/peaks.ecsv: read as fphojax's layout (keyword FPHOJAX)",
    ]
    assert f"Note: {run.folder}/g.fits: extension WHT is the mask (bad: not above 0); " in report.verdict


def test_real_exposures(data_dir, request):
    config = request.config.rootpath / "tests" / "data_configs" / "decam_g3r2z3.yml"
    folder = data_dir / "decam_g3r2z3"
    settings = Settings.from_yaml(
        config, {"fitsfiles": f"{folder}/[grz]_*.fits", "raw_catalog": f"{folder}/peaks.fits"}
    )
    report = check_inputs(settings)
    assert report.problems == []
    assert sorted(exposure.band for exposure in report.exposures) == list("gggrrzzz")
    assert report.catalog.bands == ("g", "r", "z")


def test_convention_of_the_catalogue_is_said(run):
    result, _ = run.check()
    assert "peaks.ecsv: read as fphojax's layout (keyword FPHOJAX)" in result.stdout
    table = Table.read(run.folder / "peaks.ecsv")
    table["pa"].unit, table["g"].unit = None, "nmgy"
    table["label"] = ["a", "β"]
    table.write(run.folder / "peaks.ecsv", overwrite=True)
    lines = run.check()[0].stdout.replace(f"{run.folder}/", "").splitlines()
    assert (
        "note: peaks.ecsv: read as fphojax's layout (keyword FPHOJAX); pa has no unit: degrees; g from nmgy to nJy"
        in lines
    )
    assert (
        "note: peaks.ecsv: label: left out, as FITS files of a run cannot hold it: row 1: 'β' is not ASCII"
        in lines
    )


def test_ten_lines_and_a_count(run):
    catalog = run.catalog()
    far = catalog[np.arange(5000) % 2].replace(dec=np.linspace(10, 11, 5000), id=np.arange(5000))
    run.write_catalog(far)
    lines = run.problems()
    assert len(lines) == 11
    assert all(line.startswith("peaks.ecsv: row ") for line in lines[:10])
    assert lines[10] == "peaks.ecsv: sources outside all exposures: and 4,990 more like these"
    run.write_catalog(catalog[np.arange(30) % 2].replace(sersic=np.full(30, 7.0), id=np.arange(30)))
    lines = run.problems()
    assert len(lines) == 11
    assert lines[10] == "peaks.ecsv: values outside the bounds: and 20 more like these"


def test_prior_of_pa_is_in_radians(run):
    run.settings["priors"] = {"pa": {"distribution": "Normal", "loc": 40.0, "scale": 5.0}}
    assert run.problems() == [
        "run.yml: priors.pa: prior of pa: found loc = 40, expected radians (east of north) within 2 pi: priors are "
        "those of the model's parameter"
    ]


def test_the_catalogue_is_no_exposure(run):
    run.catalog().write(run.folder / "peaks.fits")
    run.settings["raw_catalog"], run.settings["fitsfiles"] = "peaks.fits", "*.fits"
    assert run.check()[0].exit_code == 0
