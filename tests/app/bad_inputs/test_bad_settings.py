"""Settings that are refused: text of the file, and what the one line about it says."""

import math
import os
from typing import NamedTuple

import pytest
import yaml
from astropy.table import Table
from standard_error import problems
from typer.testing import CliRunner

from fphojax.app.cli import app
from fphojax.app.settings.schema import Settings
from fphojax.errors import InputError

LONG = "x" * 300
KEY = "expected a name, the number of an HDU, or a pair of name and EXTVER such as [SCI, 2]"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)


class File(NamedTuple):
    name: str
    text: str | bytes  # of the whole file
    said: str  # part of the line


class Value(NamedTuple):
    key: str
    text: str  # behind the key
    said: str  # the line behind the name of the file, or its beginning


FILES = [
    File("empty", "", "found nothing, expected a mapping of settings"),
    File("a list", "- g\n- r\n", "found a list, expected a mapping of settings"),
    File("a word", "bandlist\n", "found text, expected a mapping of settings"),
    File("a number", "3\n", "found a number, expected a mapping of settings"),
    File("open bracket", "bandlist: [g\n", "expected ',' or ']'"),
    File("open quote", "raw_catalog: 'peaks\n", "found unexpected end of stream"),
    File("tab", "bandlist:\n\t- g\n", "found character '\\t' that cannot start any token"),
    File("two colons", "outbase: a: b\n", "mapping values are not allowed here in line 1"),
    File("two documents", "seed: 1\n---\nseed: 2\n", "expected a single document"),
    File("unknown anchor", "seed: *one\n", "found undefined alias 'one'"),
    File("key twice", "seed: 1\nseed: 2\n", "seed: found 2 times, expected once"),
    File("nested key twice", "nuisance: {sky: none, sky: none}\n", "sky: found 2 times, expected once"),
    File("key in a list twice", "warmup: [{a: 1, a: 2}]\n", "a: found 2 times, expected once"),
    File("key that is a number", "12: g\n", "12: unknown key, expected a name"),
    File("key that is null", "~: g\n", "None: unknown key, expected a name"),
    File("key that is a list", "? [a, b]\n: 1\n", "found unhashable key"),
    File("tag of Python", "seed: !!python/object/apply:os.getcwd []\n", "found the tag"),
    File("tag", "seed: !!int '3'\n", "found the tag"),
    File("laughs", LAUGHS, "anchors that expand to more than 1000000 values"),
    File("anchor of itself", "tweakbg: &a {g: *a}\n", "an anchor that contains itself in line 1"),
    File("merge of itself", "nuisance: &a\n  <<: *a\n", "an anchor that contains itself"),
    File("deep", "seed: " + 5000 * "[" + 5000 * "]" + "\n", "more than 20 levels"),
    File("deep mappings", "seed: " + 5000 * "{a: " + "1" + 5000 * "}" + "\n", "more than 20 levels"),
    File("digits", "seed: " + 5000 * "9" + "\n", "a value that cannot be understood"),
    File("NUL", "seed: 1\0\n", "unacceptable character #x0000"),
    File("bytes", b"bandlist: [\xff\xfe]\n", "found bytes that are not UTF-8, expected a YAML file"),
    File("UTF-16", "seed: 1\n".encode("utf-16"), "found bytes that are not UTF-8, expected a YAML file"),
    File("large", 9_000_000 * "#", "found 9 MB, expected a YAML file of at most 8 MB"),
]


@pytest.mark.parametrize("row", FILES, ids=[row.name for row in FILES])
def test_file(tiny, row):
    tiny.write("field.yml", row.text)
    tiny.refused(said=[["field.yml: ", row.said]])


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("absent", "no such file, expected a YAML file"),
        ("folder", "found a folder, expected a YAML file"),
        ("pipe", "found a named pipe, expected a YAML file"),
        ("device", "found a device, expected a YAML file"),
        ("loop", "found too many levels of symbolic links, expected a YAML file"),
        ("noise", "found bytes that are not UTF-8, expected a YAML file"),
    ],
)
def test_no_file(tiny, kind, said):
    tiny.become("field.yml", kind)
    tiny.refused(said=[[f"field.yml: {said}"]])


VALUES = [
    Value("bandlist", "g", "bandlist: found 'g', expected a valid list"),
    Value("bandlist", "[]", "bandlist: found [], expected"),
    Value("bandlist", "[[g]]", "bandlist.0: found ['g'], expected a valid string"),
    Value("bandlist", "[g, true]", "bandlist: found true, expected text"),
    Value("bandlist", "[g, 1.5]", "bandlist.1: found 1.5, expected a valid string"),
    Value("bandlist", "[g, g]", "bandlist: found g more than once, expected each once"),
    Value("bandlist", '["g\\nr"]', "bandlist: found 'g\\\\nr', expected text without control characters"),
    Value("bandlist", "{g: 1}", "bandlist: found {'g': 1}, expected a valid list"),
    Value("chains", "yes", "chains: found 'yes', expected a valid integer"),
    Value("chains", "true", "chains: found true, expected a number"),
    Value("chains", "0", "chains: found 0, expected greater than 0"),
    Value("chains", "-1", "chains: found -1, expected greater than 0"),
    Value("chains", "0250", "chains: found '0250', expected a number without leading zeros"),
    Value("chains", "0o17", "chains: found '0o17', expected a valid integer"),
    Value("chains", "1_000", "chains: found '1_000', expected a number without leading zeros"),
    Value("chains", "1:30", "chains: found '1:30', expected a number without leading zeros"),
    Value("chains", "4.5", "chains: found 4.5, expected a valid integer"),
    Value("chains", "1000000000000", "chains: found 1000000000000, expected less than or equal to 1000"),
    Value("chains", "[4]", "chains: found [4], expected a valid integer"),
    Value("chains", "{n: 4}", "chains: found {'n': 4}, expected a valid integer"),
    Value("chains", ".inf", "chains: found inf, expected a finite number"),
    Value(
        "sampling_draws",
        "1000000000000",
        "sampling_draws: found 1000000000000, expected less than or equal to",
    ),
    Value("warmup", "[100, -3000]", "warmup: found -2900, expected greater than 0"),
    Value("warmup", "[100, true]", "warmup: found true, expected a number"),
    Value("warmup", "[100, [200]]", "warmup: found [100, [200]], expected a valid integer"),
    Value("warmup", "10000000", "warmup: found 10000000, expected less than or equal to 1000000"),
    Value("target_niter", "0", "target_niter: found 0, expected greater than 0"),
    Value("n_gauss_psf", "1000", "n_gauss_psf: found 1000, expected less than or equal to 40"),
    Value(
        "maxactive_per_patch", "1000000", "maxactive_per_patch: found 1000000, expected less than or equal"
    ),
    Value(
        "super_pixel_size", "1000000", "super_pixel_size: found 1000000, expected less than or equal to 1024"
    ),
    Value("nside_full", "[16, 12]", "nside_full: found [16, 12], expected multiples of super_pixel_size = 8"),
    Value("nside_full", "[16, 16, 16]", "nside_full: found [16, 16, 16], expected 2 values"),
    Value("max_treedepth", "25", "max_treedepth: found 25, expected less than or equal to 20"),
    Value("rounds", "1000", "rounds: found 1000, expected less than or equal to 100"),
    Value("optimize_passes", "0", "optimize_passes: found 0, expected greater than 0"),
    Value("seed", "-1", "seed: found -1, expected greater than or equal to 0"),
    Value("seed", "99999999999999999999", "seed: found 99999999999999999999, expected"),
    Value("seed", "seven", "seed: found 'seven', expected a valid integer"),
    Value("gtol", ".nan", "gtol: found nan, expected a finite number"),
    Value("gtol", "1e400", "gtol: found inf, expected a finite number"),
    Value("gtol", "0", "gtol: found 0, expected greater than 0"),
    Value("gtol", "1.000.0", "gtol: found '1.000.0', expected a valid number"),
    Value("gtol", "1,5", "gtol: found '1,5', expected a valid number"),
    Value("tolerance", "-1e-4", "tolerance: found -0.0001, expected greater than or equal to 0"),
    Value("patch_maxradius", "0", "patch_maxradius: found 0, expected greater than 0"),
    Value("patch_maxradius", "1e300", "patch_maxradius: found 1e+300, expected less than or equal to 36000"),
    Value("buffer", "-1", "buffer: found -1, expected greater than or equal to 0"),
    Value("max_active_fraction", "0", "max_active_fraction: found 0, expected greater than 0"),
    Value("max_active_fraction", "1.1", "max_active_fraction: found 1.1, expected less than or equal to 1"),
    Value("max_snr", "-5", "max_snr: found -5, expected greater than or equal to 0"),
    Value("bitmask", "-1", "bitmask: found -1, expected greater than or equal to 0"),
    Value("strict", "maybe", "strict: found 'maybe', expected a valid boolean"),
    Value("strict", "2", "strict: found 2, expected a valid boolean"),
    Value("use_gradients", "false", "use_gradients: found false, expected true"),
    Value("sampler", "emcee", "sampler: found 'emcee', expected 'nuts', 'laplace', 'importance' or 'auto'"),
    Value("sampler", "true", "sampler: found true, expected text"),
    Value("sampler", "[nuts]", "sampler: found ['nuts'], expected 'nuts', 'laplace', 'importance' or 'auto'"),
    Value("pixel_response", "none", "pixel_response: found 'none', expected 'variance', 'quartic' or"),
    Value("optimize_start", "0", "optimize_start: found 0, expected 'catalog' or 'prior'"),
    Value("tweak_background", "true", "tweak_background: found true, expected text"),
    Value("tweakbg", "0.5", "tweakbg: found 0.5, expected a mapping"),
    Value("tweakbg", "{g: none}", "tweakbg.g: found 'none', expected a valid number"),
    Value("tweakbg", "{g: true}", "tweakbg: found true, expected a number"),
    Value("tweakbg", "{g: 00.5}", "tweakbg: found '00.5', expected a number without leading zeros"),
    Value("tweakbg", "{g: [1, 2]}", "tweakbg.g: found [1, 2], expected a valid number"),
    Value("scene_catalog", "a/scene.fits", "scene_catalog: found 'a/scene.fits', expected"),
    Value("scene_catalog", "scene.h5", "scene_catalog: found 'scene.h5', expected"),
    Value("scene_catalog", f"{LONG}.fits", "scene_catalog: found"),
    Value("outbase", "peaks.ecsv", "outbase: found the file peaks.ecsv, expected a folder"),
    Value("outbase", "peaks.ecsv/run", "outbase: found peaks.ecsv/run, expected a folder below peaks.ecsv"),
    Value("outbase", LONG, "outbase: found"),
    Value("outbase", ".", "outbase: found ., which holds the image g1.fits, expected a folder of its own"),
    Value("outbase", "/".join(2000 * ["abc"]), "outbase: found"),
    Value(
        "outbase", "~nosuchuser/run", "outbase: found '~nosuchuser/run', expected ~ before the name of a user"
    ),
    Value("outbase", '"a\\0b"', "outbase: found 'a\\\\x00b', expected text without control characters"),
    Value("outbase", "3", "outbase: found 3, expected a path"),
    Value("outbase", "[run]", "outbase: found ['run'], expected a path"),
    Value("outbase", "$NO_SUCH_NAME/run", "outbase: found $NO_SUCH_NAME, expected a shell variable"),
    Value("outbase", "5$", "outbase: found '5$', expected $ before names of shell variables only"),
    Value("raw_catalog", "true", "raw_catalog: found true, expected text"),
    Value("raw_catalog", "~nosuchuser/peaks.fits", "raw_catalog: found '~nosuchuser/peaks.fits', expected ~"),
    Value("raw_catalog", LONG, "raw_catalog: found"),
    Value(
        "fitsfiles", "no_*.fits", "fitsfiles: found no file that matches 'no_*.fits', expected at least one"
    ),
    Value("fitsfiles", "~nosuchuser/*.fits", "fitsfiles: found '~nosuchuser/*.fits', expected ~"),
    Value("fitsfiles", "[g1.fits, 3]", "fitsfiles: found ['g1.fits', 3], expected a path or glob"),
    Value("fitsfiles", "[g1.fits, g1.fits]", "fitsfiles: found"),
    Value("fitsfiles", "{g: g1.fits}", "fitsfiles: found {'g': 'g1.fits'}, expected a path or glob"),
    Value("fitsfiles", "[]", "fitsfiles: found nothing, expected exposures: paths or globs"),
    Value("pixelstorefile", "pixels.h5", "metastorefile: expected pixelstorefile and metastorefile together"),
    Value(
        "frame_search_pattern",
        "{a: b}",
        "frame_search_pattern: found {'a': 'b'}, expected a glob, or a list of them",
    ),
    Value("extensions", "SCI", "extensions: found 'SCI', expected a mapping"),
    Value("extensions", "{sci: true}", "extensions.sci: found true, expected a number"),
    Value("extensions", "{science: SCI}", "extensions.science: unknown key, did you mean sci?"),
    Value(
        "bounds_kwargs", "{sersic_range: [0.6]}", "bounds_kwargs.sersic_range: found [0.6], expected 2 values"
    ),
    Value("bounds_kwargs", "{sersic_range: 0.6}", "bounds_kwargs.sersic_range: found"),
    Value("bounds_kwargs", "{sersic_range: []}", "bounds_kwargs.sersic_range: found [], expected 2 values"),
    Value("bounds_kwargs", "{sersic_range: [0.6, 2, 3]}", "bounds_kwargs.sersic_range: found"),
    Value("bounds_kwargs", "{sersic_range: [0.6, [2]]}", "bounds_kwargs.sersic_range.1: found [2], expected"),
    Value(
        "bounds_kwargs", "{sersic_range: [2, 1]}", "bounds_kwargs.sersic_range: found [2.0, 1.0], expected"
    ),
    Value(
        "bounds_kwargs",
        "{sersic_range: [true, 2]}",
        "bounds_kwargs.sersic_range: found true, expected a number",
    ),
    Value("bounds_kwargs", "{sersic_range: {low: 1}}", "bounds_kwargs.sersic_range: found"),
    Value("bounds_kwargs", "{n_pix: -1}", "bounds_kwargs.n_pix: found -1, expected greater than 0"),
    Value("bounds_kwargs", "{npix: 1}", "bounds_kwargs.npix: unknown key, did you mean n_pix?"),
    Value("bounds_kwargs", "[1, 2]", "bounds_kwargs: found [1, 2], expected a mapping"),
    Value("nuisance", "{sky: level}", "nuisance.sky: found 'level', expected 'none', 'constant' or 'plane'"),
    Value("nuisance", "{sky_sigma: 0}", "nuisance.sky_sigma: found 0, expected greater than 0"),
    Value("nuisance", "constant", "nuisance: found 'constant', expected a mapping"),
    Value("ties", "{x: 3}", "ties.x: found 3, expected a mapping"),
    Value("ties", "{ra: {'7': '8'}}", "ties.ra: found 'ra', expected"),
    Value("ties", "{x: {7: null}}", "ties.x.7: found None, expected a valid string"),
    Value("tweakbg", "{g: }", "tweakbg.g: found None, expected a valid number"),
    Value("ties", "[x]", "ties: found ['x'], expected a mapping"),
    Value("preprocess", "{wcs: fits}", "preprocess.wcs: found 'fits', expected 'header' or 'gwcs'"),
    Value(
        "preprocess",
        "{error_kind: variance}",
        "preprocess: found error_kind without pixelstorefile, expected pixelstorefile and metastorefile",
    ),
    Value(
        "preprocess",
        "{calibration: MAGZERO, mask_pattern: '*.fits', edge: cut}",
        "preprocess: found calibration, mask_pattern without pixelstorefile, expected",
    ),
    Value("preprocess", "{error_kind: rms}", "preprocess.error_kind: found 'rms', expected"),
    Value(
        "preprocess",
        "{calibration: ''}",
        "preprocess.calibration: found '', expected text of at least 1 character",
    ),
    Value("priors", "{n: {distribution: Normal}}", "priors.n: found 'n', expected"),
    Value("priors", "{q: Normal}", "priors.q: found 'Normal', expected a mapping"),
    Value("priors", "{q: {loc: 1}}", "priors.q.distribution: found nothing, expected name of a distribution"),
    Value("priors", "{q: {distribution: Normal, loc: true}}", "priors.q: found true, expected a number"),
    Value(
        "priors", "{q: {distribution: Normal, loc: [1]}}", "priors.q.loc: found [1], expected a valid number"
    ),
    Value(
        "priors",
        "{q: {distribution: Normal, loc: .nan}}",
        "priors.q.loc: found nan, expected a finite number",
    ),
    Value(
        "priors", "{q: {distribution: Normal, loc: 01}}", "priors.q: found '01', expected a number without"
    ),
    Value("priors", "{q: {distribution: 3}}", "priors.q.distribution: found 3, expected a valid string"),
    Value("priors", "{q: {distribution: Nomal}}", "priors.q: found 'Nomal', expected a name in numpyro"),
    Value(
        "priors", "{q: {distribution: Normal, scale: -1}}", "priors.q: found Normal(scale=-1), expected its"
    ),
    Value("priors", "{q: {distribution: Normal, sigma: 1}}", "priors.q: found Normal(sigma=1), expected its"),
    Value(
        "priors",
        "{rhalf: {distribution: Poisson, rate: 3}}",
        "priors.rhalf: found Poisson(rate=3), expected a cont",
    ),
    Value(
        "priors",
        "{rhalf: {distribution: Delta, v: 0.2}}",
        "priors.rhalf: found Delta(v=0.2), expected a continu",
    ),
    Value(
        "priors",
        "{rhalf: {distribution: Bernoulli, probs: 0.2}}",
        "priors.rhalf: found Bernoulli(probs=0.2), exp",
    ),
    Value("priors", "{rhalf: {distribution: Distribution}}", "priors.rhalf: found Distribution(), expected"),
    Value(
        "priors",
        "{rhalf: {distribution: LKJ, dimension: 3}}",
        "priors.rhalf: found LKJ(dimension=3), expected a",
    ),
    Value(
        "priors",
        "{rhalf: {distribution: Uniform, low: 5, high: 9}}",
        "priors.rhalf: found Uniform(low=5, high=9), of which nothing lies within the bounds [0.01, 1] of row 0",
    ),
    Value(
        "priors",
        "{rhalf: {distribution: Normal, loc: 4.3}}",
        "priors.rhalf: found Normal(loc=4.3), of which less than 0.1 % lies within the bounds [0.01, 1] of row 0",
    ),
    Value("sed", "1", "sed: unknown key, did you mean seed?"),
    Value("", "1", ": unknown key, expected one of bandlist"),
    Value("zzzzzzzzzz", "1", "zzzzzzzzzz: unknown key, expected one of bandlist"),
    Value(LONG, "1", f"'{69 * 'x'}... (302 characters): unknown key, expected one of bandlist"),
    Value("seed.x", "1", "seed.x: unknown key"),
    Value(
        "bounds_kwargs", "{sqrtq_range: [0.5, 1.5]}", "bounds_kwargs: sqrtq_range is [0.5, 1.5], expected two"
    ),
    Value(
        "bounds_kwargs",
        "{pa_range: [-30, 210]}",
        "bounds_kwargs: pa_range is [-30.0, 210.0], expected radians",
    ),
    Value(
        "bounds_kwargs", "{rhalf_range: [-1, 1]}", "bounds_kwargs: rhalf_range is [-1.0, 1.0], expected no"
    ),
    Value(
        "bounds_kwargs",
        "{sersic_range: [0, 9]}",
        "bounds_kwargs: sersic_range is [0.0, 9.0], expected positive",
    ),
    Value("bounds_kwargs", "{pixscale: 0}", "bounds_kwargs.pixscale: found 0, expected greater than 0"),
    Value(
        "priors",
        "{pa: {distribution: Normal, loc: 45, scale: 9}}",
        "priors.pa: prior of pa: found loc = 45, expected radians (east of north) within 2 pi",
    ),
    Value(
        "priors",
        "{x: {distribution: Normal, loc: 100, scale: 1}}",
        "priors.x: found Normal(loc=100, scale=1), of which nothing lies within the bounds [-0.3, 0.3] of row 0",
    ),
    Value("ties", "{x: {12: 7}}", "ties: x: found id 12, expected one in peaks.ecsv"),
    Value("ties", "{x: {7: 12}}", "ties: x: found id 12, expected one in peaks.ecsv"),
    Value(
        "ties",
        "{x: {7: 7}}",
        "ties: x: found id 7 with the value of id 7, which is tied itself, expected one",
    ),
    Value("ties", "{x: {7.5: 8}}", "ties.x.7.5: found 7.5, expected a valid string"),
    Value("ties", "{x: {7: [8]}}", "ties.x.7: found [8], expected a valid string"),
    Value("extensions", "{sci: [SCI]}", f"extensions.sci: found ('SCI',), {KEY}"),
    Value("extensions", "{sci: [1, 2]}", f"extensions.sci: found (1, 2), {KEY}"),
    Value("extensions", "{sci: {name: SCI}}", "extensions.sci: found {'name': 'SCI'}, " + KEY),
    Value("extensions", "{err: -1}", f"extensions.err: found -1, {KEY}"),
    Value("extensions", "{mask: ''}", f"extensions.mask: found '', {KEY}"),
    Value("extensions", "{psf: 1.5}", f"extensions.psf: found 1.5, {KEY}"),
    Value("band_keyword", "3", "band_keyword: found 3, expected a valid string"),
    Value("band_keyword", "[FILTER]", "band_keyword: found ['FILTER'], expected a valid string"),
    Value("band_patterns", "g*.fits", "band_patterns: found 'g*.fits', expected a mapping"),
    Value("band_patterns", "{g*.fits: 3}", "band_patterns.g*.fits: found 3, expected a valid string"),
    Value("psf_centre", "middle", "psf_centre: found 'middle', expected 'as it is' or 'recentre'"),
    Value("bitmask", "all", "bitmask: found 'all', expected a valid integer"),
]


@pytest.mark.parametrize("row", VALUES, ids=[f"{row.key[:20]}: {row.text[:50]}" for row in VALUES])
def test_value(tiny, row):
    settings = yaml.safe_load(tiny.config.read_text())
    settings.pop(row.key, None)
    tiny.write("field.yml", yaml.safe_dump(settings) + f"{row.key or repr(row.key)}: {row.text}\n")
    said = row.said.replace("\\\\", "\\").replace("found ., ", f"found {tiny.folder}, ")
    tiny.refused(said=[[f"field.yml: {said}"]])


@pytest.mark.parametrize("name", ["rhalf", "q", "pa", "sersic"])
@pytest.mark.parametrize("pair", [(7, 8), (8, 7)])
def test_tie_with_a_point_source(tiny, name, pair):
    """Its shape is held, and no one else's."""
    sources = Table.read(tiny.path("peaks.ecsv"))
    sources["profile"] = ["point", "sersic"]
    sources.write(tiny.path("peaks.ecsv"), overwrite=True)
    tiny.set(ties={name: dict([pair])})
    tiny.refused(
        said=[[f"field.yml: ties: {name}: found id 7 of the profile point, which holds {name}, expected"]]
    )


def test_no_value_of_any_key_is_a_traceback(good_field):
    """Each is taken or refused, in lines that name the key and are short enough to read."""
    odd = [-1, 10**30, 1.5, math.inf, math.nan, "", "text", "0250", "~", "[", LONG, "$", "\u2028", True, []]
    odd += [{}, [None], [1], ["a"], [[]], {"a": 1}, {"x": {"a": "b"}}, [0.5, "b"], {"a": {"a": {"a": {}}}}]
    path = good_field / "field.yml"
    nested = ("extensions", "bounds_kwargs", "nuisance", "preprocess")
    keys = [(key,) for key in Settings.model_fields]
    keys += [(key, name) for key in nested for name in Settings.model_fields[key].annotation.model_fields]
    n_refused = 0
    for key, *part in keys:
        for value in odd:
            try:
                Settings.from_yaml(path, {key: {part[0]: value} if part else value})
            except InputError as error:
                n_refused += 1
                for line in str(error).split("\n"):
                    assert line.startswith(f"{path}: ")
                    assert len(line) < 1200
                    assert line.isprintable()
    assert n_refused > 1000


def test_check_goes_on_where_no_image_is_found(tiny):
    """And where a setting is wrong that has nothing to do with the inputs: all problems at once."""
    missing = {"raw_catalog": "no.ecsv", "psfstorefile": "no.h5", "big_catalog": "peaks.fits"}
    tiny.set(fitsfiles="none/*.fits", chains=0, **missing)
    tiny.refused(
        said=[
            ["field.yml: fitsfiles: found no file that matches"],
            ["field.yml: chains: found 0, expected greater than 0"],
            ["no.ecsv: no such file"],
            ["no.h5: no such file"],
        ]
    )


def test_check_of_the_catalogue_where_no_image_is_found(tiny):
    tiny.set(fitsfiles="none/*.fits", splinedatafile="peaks.ecsv")
    tiny.replace("peaks.ecsv", "150.0 ", "150.x ")
    tiny.refused(said=[["field.yml: fitsfiles:"], ["peaks.ecsv: "], ["peaks.ecsv: "]])


def test_check_ends_where_what_is_wrong_decides_how_the_rest_is_read(tiny):
    tiny.set(fitsfiles="none/*.fits", psfstorfile="psfs.h5", raw_catalog="no.ecsv")
    tiny.refused(said=[["field.yml: fitsfiles:"], ["field.yml: psfstorfile: unknown key"]])


COMMANDS = [
    (["run", "--set", "chains"], "--set: found 'chains', expected KEY=VALUE"),
    (["run", "--set", "=3"], "--set: found '=3', expected KEY=VALUE"),
    (["run", "--set", "chains=[3"], "--set: chains: found while parsing a flow sequence"),
    (["run", "--set", "chains=3", "--set", "chains=4"], "--set: found chains more than once"),
    (
        ["run", "--set", "chains.of=3"],
        "--set: found chains.of, expected chains without a part, as it is no mapping of settings",
    ),
    (
        ["run", "--set", "nuisance.sky=plane", "--set", "nuisance={sky: none}"],
        "--set: found nuisance beside nuisance.sky, expected each setting once",
    ),
    (["run", "--set", "nuisance.sly=plane"], "field.yml: nuisance.sly: unknown key, did you mean sky?"),
    (
        ["check", "--set", "bounds_kwargs.n_pix=-1"],
        "field.yml: bounds_kwargs.n_pix: found -1, expected greater",
    ),
    (
        ["sample", "--out", "{}/a", "--set", "outbase=b"],
        "--set: found outbase beside --out, expected one of them",
    ),
    (["run", "--set", "chans=3"], "field.yml: chans: unknown key, did you mean chains?"),
    (["run", "--set", "chains=yes"], "field.yml: chains: found 'yes', expected a valid integer"),
    (["run", "--set", "chains=!!python/none"], "--set: chains: found the tag"),
    (["run", "--stages", "nothing"], "--stages: found nothing, expected one of check"),
    (["run", "--stages", "check,psff"], "--stages: found psff, expected one of check"),
    (["run", "--stages", "sample..optimize"], "--stages: found sample..optimize, expected optimize..sample"),
    (["run", "--from", "nothing"], "--from: found nothing, expected one of check"),
    (
        ["run", "--stages", "check", "--from", "sample"],
        "--from: found sample, which comes after --stages check",
    ),
    (["sample", "--resume", "--overwrite"], "found --resume and --overwrite, expected one of them"),
    (["sample", "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"], "found both workers and a scheduler"),
    (
        ["optimize", "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"],
        "found both workers and a scheduler",
    ),
    (["detect", "--images", "--run", "{}"], "found --images and --run, expected one of them"),
    (["detect", "--background-box", "16"], "found --background-box without --images"),
    (["detect", "--run", "{}/nowhere"], "nowhere: no such folder, expected the folder of a run"),
    (["background", "--run", "{}/peaks.ecsv"], "peaks.ecsv: no such folder, expected the folder of a run"),
    (["postop"], "output: contains no fit, expected one"),
    (
        ["preprocess"],
        "field.yml: found no pixelstorefile, expected the names of the stores to write",
    ),
]


@pytest.mark.parametrize(("command", "said"), COMMANDS, ids=[" ".join(row[0]) for row in COMMANDS])
def test_command(tiny, command, said):
    name, *options = command
    tiny.refused(name, "{}/field.yml", *options, said=[[said]])


def test_catalogue_that_the_run_would_replace(tiny):
    tiny.path("output").mkdir()
    tiny.path("peaks.fits").rename(tiny.path("output/scene.fits"))
    tiny.set(raw_catalog="output/scene.fits")
    said = "raw_catalog: found output/scene.fits, which a run with this outbase writes itself (scene_catalog)"
    tiny.refused(said=[[f"field.yml: {said}, expected another file"]])


def test_folder_that_may_not_be_written(tiny, monkeypatch):
    """The superuser may write everywhere: the system is asked, and says no."""
    monkeypatch.setattr("os.access", lambda _, mode, **__: not mode & os.W_OK)
    tiny.refused(said=[["field.yml: outbase: found output, expected a writable folder: "]])


def test_names_with_brackets_are_printed_as_they_are(tiny, monkeypatch):
    """They are those of rich's markup, and of globs."""
    monkeypatch.setenv("COLUMNS", "200")
    tiny.fits(lambda hdus: hdus["SCI"].header.update(EXPID="[bold]e[/bold]:star:"))
    tiny.path("g1.fits").rename(tiny.path("[g]1.fits"))
    tiny.set(fitsfiles=["[g]1.fits", "r1.fits"])
    result = tiny.call("check", "{}/field.yml")
    assert result.exit_code == 0, result.output
    assert "[bold]e[/bold]:star:" in result.stdout
    moved = tiny.folder.rename(tiny.folder.with_name("[dir]"))
    tiny.folder, tiny.config = moved, moved / "field.yml"
    tiny.set(fitsfiles="*1.fits")
    result = tiny.call("check", "{}/field.yml")
    assert result.exit_code == 0, result.output


def test_words_of_yaml_1_1_are_names(tmp_path):
    """Bands named y, N, no or on are bands, also after the settings were written and read again."""
    bands = [
        "Y",
        "y",
        "N",
        "no",
        "on",
        "off",
        "0250",
        "1_0",
        "1:30",
        "2024-01-01",
        "1e5",
        "null",
        "true",
        "3.5",
    ]
    text = "bandlist: [Y, y, N, no, on, off, 0250, 1_0, 1:30, 2024-01-01, '1e5', 'null', 'true', '3.5']\n"
    path = tmp_path / "field.yml"
    path.write_text(text + "fitsfiles: g.fits\ntweakbg: {on: 1, N: 2.5}\nstrict: no\noutbase: a$$b\n")
    settings = Settings.from_yaml(path)
    assert settings.bandlist == bands
    assert settings.tweakbg == {"on": 1.0, "N": 2.5}
    assert settings.strict is False
    assert settings.outbase == tmp_path / "a$b"
    path.write_text(settings.dump_yaml())
    assert Settings.from_yaml(path).model_dump() == settings.model_dump()


def test_what_no_one_expected_is_one_line(tiny, monkeypatch):
    def broken(*_, **__):
        raise TypeError("unsupported\noperand")

    monkeypatch.setattr("fphojax.app.stages.input_checks.check_inputs", broken)
    result = tiny.call("check", "{}/field.yml")
    assert result.exit_code == 1
    (line,) = problems(result.stderr)
    assert line.startswith("error: internal error: TypeError: unsupported operand; please report it")
    with pytest.raises(TypeError):
        CliRunner().invoke(app, ["--debug", "check", str(tiny.config)], catch_exceptions=False)
