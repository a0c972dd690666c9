"""Settings: defaults, paths, shell variables, and what is said about mistakes."""

import json
import os
from pathlib import Path

import pytest

from fphojax.app.settings.schema import ParameterName, Settings
from fphojax.errors import InputError
from fphojax.inputs.bounds import PARAMETERS

MINIMAL = {"bandlist": "[g]", "raw_catalog": "peaks.fits", "fitsfiles": "g_*.fits"}


@pytest.fixture
def write(tmp_path):
    """Write a configuration beside two exposures; keywords are keys and their YAML."""
    for name in ("g_2.fits", "g_1.fits"):
        (tmp_path / name).touch()

    def write(**keys):
        path = tmp_path / "run.yml"
        given = {key: value for key, value in (MINIMAL | keys).items() if value is not None}
        path.write_text("".join(f"{key}: {value}\n" for key, value in given.items()))
        return path

    return write


def message(path):
    """What is said about a configuration, without the name of the file."""
    with pytest.raises(InputError) as caught:
        Settings.from_yaml(path)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


@pytest.mark.parametrize("kind", [Path, str])
def test_paths_may_be_objects(tmp_path, kind):
    for name in ("g_2.fits", "g_1.fits", "peaks.fits"):
        (tmp_path / name).touch()
    settings = Settings(
        bandlist=["g"],
        fitsfiles=[kind(tmp_path / "g_2.fits")],
        raw_catalog=kind(tmp_path / "peaks.fits"),
        pixelstorefile=kind("p.h5"),
        metastorefile=kind("m.json"),
        frame_search_pattern=[kind("sci_*.fits")],
        preprocess={"error_pattern": kind("err_*.fits")},
    )
    assert settings.fitsfiles == [tmp_path / "g_2.fits"]
    assert settings.frame_search_pattern == [str(Path("sci_*.fits").absolute())]
    assert settings.preprocess.error_pattern == str(Path("err_*.fits").absolute())
    several = settings.changed(fitsfiles=kind(tmp_path / "g_*.fits"))
    assert several.fitsfiles == [tmp_path / "g_1.fits", tmp_path / "g_2.fits"]


def test_paths_are_relative_to_the_file(write, tmp_path):
    settings = Settings.from_yaml(write())
    assert settings.raw_catalog == tmp_path / "peaks.fits"
    assert settings.fitsfiles == [tmp_path / "g_1.fits", tmp_path / "g_2.fits"]
    assert settings.outbase == tmp_path / "output"


def test_override_wins(write, tmp_path):
    settings = Settings.from_yaml(write(seed=1), {"seed": 2, "outbase": tmp_path / "elsewhere"})
    assert settings.seed == 2
    assert settings.outbase == tmp_path / "elsewhere"


def test_shell_variables_are_expanded(write, tmp_path, monkeypatch):
    monkeypatch.setenv("FIELD", "north")
    settings = Settings.from_yaml(write(raw_catalog="${FIELD}/peaks.fits", psfstorefile="$FIELD.h5"))
    assert settings.raw_catalog == tmp_path / "north/peaks.fits"
    assert settings.psfstorefile == tmp_path / "north.h5"


def test_forcepho_spellings_are_read(write):
    path = write(warmup="[100, 200]", strict=1, gtol="1e-6", big_catalog="", max_snr=0, bandlist="[g, y]")
    settings = Settings.from_yaml(path)
    assert (settings.warmup, settings.strict, settings.gtol) == (300, True, 1e-6)
    assert settings.big_catalog is None
    assert settings.bandlist == ["g", "y"]


def test_ties_take_ids_of_any_type(write):
    ties = Settings.from_yaml(write(ties="{x: {12: 11}, y: {'12': 11, b1: a1}}")).ties
    assert ties == {"x": {"12": "11"}, "y": {"12": "11", "b1": "a1"}}
    assert message(write(ties="{x: {12: [11]}}")) == ["ties.x.12: found [11], expected a valid string"]


def test_written_settings_read_back_the_same(write, tmp_path):
    settings = Settings.from_yaml(write(priors="{sersic: {distribution: Normal, loc: 2, scale: 1}}"))
    copy = tmp_path / "copy.yml"
    copy.write_text(settings.dump_yaml())
    assert Settings.from_yaml(copy).model_dump() == settings.model_dump()
    assert json.loads(settings.to_json())["fitsfiles"] == [os.fspath(path) for path in settings.fitsfiles]


def test_written_settings_can_be_moved_with_their_inputs(write, tmp_path):
    settings = Settings.from_yaml(write())
    (tmp_path / "steps").mkdir()
    text = settings.dump_yaml(tmp_path / "steps")
    assert str(tmp_path) not in text
    (tmp_path / "steps" / "copy.yml").write_text(text)
    assert Settings.from_yaml(tmp_path / "steps" / "copy.yml").model_dump() == settings.model_dump()


def test_every_setting_is_described():
    for model in (
        Settings,
        *(Settings.model_fields[key].annotation for key in ("extensions", "bounds_kwargs")),
    ):
        assert all(field.description for field in model.model_fields.values())


def test_priors_are_of_the_parameters_of_the_model():
    assert set(ParameterName.__args__) == set(PARAMETERS)


def test_prior_is_a_numpyro_distribution(write):
    settings = Settings.from_yaml(write(priors="{rhalf: {distribution: LogNormal, loc: 0, scale: 0.5}}"))
    assert float(settings.priors["rhalf"].build().mean) == pytest.approx(1.1331484530668263)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [
        ("Norml, loc: 0", "found 'Norml', expected a name in numpyro.distributions"),
        ("Normal, loc: 0, scale: -1", "found Normal(loc=0, scale=-1), expected its arguments: "),
        ("Normal, sigma: 1", "found Normal(sigma=1), expected its arguments: "),
    ],
)
def test_impossible_prior(write, prior, expected):
    settings = Settings.from_yaml(write(priors=f"{{rhalf: {{distribution: {prior}}}}}"))
    with pytest.raises(InputError) as caught:
        settings.priors["rhalf"].build()
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sampling_drws": 3}, "sampling_drws: unknown key, did you mean sampling_draws?"),
        ({"bounds_kwargs": "{npix: 3}"}, "bounds_kwargs.npix: unknown key, did you mean n_pix?"),
        ({"extensions": "{science: X}"}, "extensions.science: unknown key, did you mean sci?"),
        ({"extensions": "{zzz: X}"}, "extensions.zzz: unknown key, expected one of sci, err, mask, psf"),
        (
            {"bandlist": None},
            "bandlist: found nothing, expected bands to fit, as given by the FILTER keyword of the images",
        ),
        (
            {"raw_catalog": "$NO_SUCH/x"},
            "raw_catalog: found $NO_SUCH, expected a shell variable that is defined",
        ),
        (
            {"raw_catalog": "5$/x"},
            "raw_catalog: found '5$/x', expected $ before names of shell variables only",
        ),
        (
            {"fitsfiles": "'r_*.fits'"},
            "fitsfiles: found no file that matches 'r_*.fits', expected at least one",
        ),
        ({"fitsfiles": 3}, "fitsfiles: found 3, expected a path or glob, or a list of them"),
        ({"bandlist": "[g, g]"}, "bandlist: found g more than once, expected each once"),
        ({"bandlist": "[444]"}, "bandlist.0: found 444, expected a valid string"),
        ({"chains": 2.5}, "chains: found 2.5, expected a valid integer, got a number with a fractional part"),
        ({"gtol": ".nan"}, "gtol: found nan, expected a finite number"),
        ({"max_active_fraction": 2}, "max_active_fraction: found 2, expected less than or equal to 1"),
        (
            {"pixel_response": "none"},
            "pixel_response: found 'none', expected 'variance', 'quartic' or 'second_order'",
        ),
        ({"extensions": 3}, "extensions: found 3, expected a mapping"),
        (
            {"bounds_kwargs": "{pa_range: [2, -2]}"},
            "bounds_kwargs.pa_range: found [2.0, -2.0], expected the lower limit first",
        ),
        (
            {"use_gradients": 0},
            "use_gradients: found false, expected true: the optimiser always uses derivatives",
        ),
        (
            {"priors": "{n: {distribution: Normal}}"},
            "priors.n: found 'n', expected 'flux', 'x', 'y', 'q', 'pa', 'sersic' or 'rhalf'",
        ),
        (
            {"priors": "{q: {loc: 1}}"},
            "priors.q.distribution: found nothing, expected name of a distribution in numpyro.distributions",
        ),
    ],
)
def test_mistake_is_told_in_one_line(write, keys, expected):
    assert message(write(**keys)) == [expected]


def test_all_mistakes_are_told(write):
    lines = message(write(seed="x", chains=0, strct=1, raw_catalog="$NO_SUCH"))
    assert sorted(line.split(":")[0] for line in lines) == ["chains", "raw_catalog", "seed", "strct"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\nseed: 2\n", "seed: found 2 times, expected once"),
        ("- g\n", "found a list, expected a mapping of settings"),
        ("", "found nothing, expected a mapping of settings"),
    ],
)
def test_file_that_is_no_mapping(tmp_path, text, expected):
    path = tmp_path / "run.yml"
    path.write_text(text)
    assert message(path) == [expected]


def test_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "run.yml"
    path.write_text("bandlist: [g\n")
    (line,) = message(path)
    assert line.startswith("found while parsing a flow sequence")
    assert line.endswith("expected YAML")


def test_missing_file(tmp_path):
    assert message(tmp_path / "run.yml") == ["no such file, expected a YAML file"]
